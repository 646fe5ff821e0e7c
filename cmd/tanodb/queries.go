package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/tanodb/tanodb/internal/server/api"
	"github.com/tanodb/tanodb/kv"
)

type indexCmd struct {
	Bucket string `arg:"" help:"The bucket."`
	Field  string `arg:"" help:"The index: a name that ends in _int or _bin, or $$key or $$bucket."`
	Value  string `arg:"" optional:"" help:"The term that is wanted, or the first one."`
	End    string `arg:"" optional:"" help:"The last term of a range."`
	nameFlags
	Regex string `help:"Only terms in which this expression is found." placeholder:"REGEX"`
	Limit int    `help:"Stop after this many matches; 0: list all." placeholder:"N"`
	Terms bool   `help:"Print the term before each key."`
}

// Help is the long part of the command's help.
func (*indexCmd) Help() string {
	return `The keys whose values have an index entry are printed one on a line, in the order of their terms. Numbers are in the order of numbers.

    tanodb put people anna 42 --index age_int=42 --index name_bin=anna
    tanodb index people age_int 42
    tanodb index people age_int 18 65 --terms
    tanodb index people '$key' a b`
}

// Run asks for page after page and prints the keys.
func (c *indexCmd) Run(a *app) error {
	b, err := c.bucket(c.Bucket)
	if err != nil {
		return err
	}
	if c.Limit < 0 {
		return usagef("--limit is %d; it cannot be negative", c.Limit)
	}
	path := strings.TrimSuffix(bucketPath(ownPrefix, b), "keys") + "index/" + escape(c.Field)
	terms := []string{c.Value, c.End}
	if c.End == "" {
		terms = terms[:1]
	}
	for _, term := range terms {
		if term, err = c.decode("term", term); err != nil {
			return err
		}
		path += "/" + escape(term)
	}
	query := url.Values{"sort": {"true"}}
	if c.Regex != "" {
		query.Set("regex", c.Regex)
	}
	all := []api.Match{}
	err = a.listPages(path, query, c.Limit, func(ans answer) (int, string, error) {
		var page api.Matches
		if err := ans.decode(&page); err != nil {
			return 0, "", err
		}
		if a.json {
			all = append(all, page.Matches...)
			return len(page.Matches), page.Next, nil
		}
		return len(page.Matches), page.Next, c.print(a, page.Matches)
	})
	if err == nil && a.json {
		return a.printJSON(all)
	}
	return a.told(err)
}

func (c *indexCmd) print(a *app, matches []api.Match) error {
	var out strings.Builder
	for _, m := range matches {
		if c.Terms {
			out.WriteString(c.show(string(m.Term)) + "\t")
		}
		out.WriteString(c.show(string(m.Key)) + "\n")
	}
	_, err := io.WriteString(a.stdout, out.String())
	return err
}

type bucketsCmd struct {
	nameFlags
	Limit int `help:"Stop after this many buckets; 0: list all." placeholder:"N"`
}

// Help is the long part of the command's help.
func (*bucketsCmd) Help() string {
	return `The buckets of a type that have any key are printed one on a line, those with shorter names first.

    tanodb buckets
    tanodb buckets --type sessions`
}

// Run asks for page after page and prints the buckets.
func (c *bucketsCmd) Run(a *app) error {
	typ, err := c.decode("bucket type", c.Type)
	if err != nil {
		return err
	}
	if c.Limit < 0 {
		return usagef("--limit is %d; it cannot be negative", c.Limit)
	}
	path := ownPrefix
	if typ != "" {
		path += "/types/" + escape(typ)
	}
	all := []api.Text{}
	err = a.listPages(path+"/buckets", url.Values{}, c.Limit, func(ans answer) (int, string, error) {
		var page api.Buckets
		if err := ans.decode(&page); err != nil {
			return 0, "", err
		}
		if a.json {
			all = append(all, page.Buckets...)
			return len(page.Buckets), page.Next, nil
		}
		var out strings.Builder
		for _, b := range page.Buckets {
			out.WriteString(c.show(string(b)) + "\n")
		}
		_, err := io.WriteString(a.stdout, out.String())
		return len(page.Buckets), page.Next, err
	})
	if err != nil || !a.json {
		return a.told(err)
	}
	line, err := json.Marshal(all)
	if err != nil {
		return err
	}
	_, err = a.stdout.Write(append(line, '\n'))
	return err
}

// listPages asks for page after page, up to a limit, 0 being none. Page takes one, and
// says how many it had and the token of the next; empty: there is none.
func (a *app) listPages(path string, query url.Values, limit int, page func(answer) (n int, next string, err error)) error {
	query["timeout"] = a.timing()["timeout"]
	for left := limit; ; {
		setInt(query, "limit", min(left, kv.MaxPage))
		n, next, err := a.listPage(path, query, page)
		if err != nil {
			return err
		}
		left -= n
		if next == "" || limit > 0 && left <= 0 {
			return nil
		}
		query.Set("token", next)
	}
}

func (a *app) listPage(path string, query url.Values, page func(answer) (int, string, error)) (int, string, error) {
	ctx, cancel := a.requestContext()
	defer cancel()
	ans, err := a.ask(ctx, request{method: http.MethodGet, path: path, query: query})
	if err != nil {
		return 0, "", err
	}
	return page(ans)
}
