package httpd

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tanodb/tanodb/internal/server/api"
	"github.com/tanodb/tanodb/kv"
)

// indexQuery is a query of an index on Riak's routes.
type indexQuery struct {
	kv.IndexQuery
	most   int  // matches in the answer; 0: all
	terms  bool // tell by what terms keys were found
	stream bool
}

// listsKeys reports whether the query is a list of a bucket's keys by another name, and of
// more of them than a page.
func (q *indexQuery) listsKeys() bool {
	return q.ListsKeys() && (q.most == 0 || q.most > kv.MaxPage)
}

// parseIndex reads a query. The terms are shown of ranges only, and not those that are the
// keys or the bucket, as in Riak: its client for Java looks for the keys apart then.
func parseIndex(t target, p *params) (q indexQuery, err error) {
	q.IndexQuery = t.indexQuery()
	q.TermRegex, q.Token, q.Timeout = p.query.Get("term_regex"), p.query.Get("continuation"), p.timeout
	if q.Sort, err = parseFlag("pagination_sort", p.query.Get("pagination_sort")); err != nil {
		return q, err
	}
	if q.terms, err = parseFlag("return_terms", p.query.Get("return_terms")); err != nil {
		return q, err
	}
	q.terms = q.terms && q.Range && !q.ListsKeys()
	q.stream = p.query.Get("stream") == "true"
	if most := p.query.Get("max_results"); most != "" {
		n, err := strconv.ParseInt(most, 10, 64)
		if err != nil {
			most = strconv.Quote(most)
		}
		if err != nil || n < 1 || n > maxCount {
			return q, badRequest(`Invalid "max_results". ` + most + " is not a positive integer\n")
		}
		q.most = int(n)
	}
	q.Sort = q.Sort || q.most > 0 || q.Token != "" // a page is of something in order
	return q, nil
}

// indexQuery is what the path says of a query.
func (t target) indexQuery() kv.IndexQuery {
	return kv.IndexQuery{Field: t.field, Start: t.start, End: t.end, Range: t.ranged}
}

func parseFlag(name, value string) (bool, error) {
	switch strings.ToLower(value) {
	case "", "false":
		return false, nil
	case "true":
		return true, nil
	}
	return false, badRequest("Invalid " + strconv.Quote(name) + ". " + strconv.Quote(value) + " is not a boolean\n")
}

// riakMatches is what a query has found, on Riak's routes. What is not UTF-8, which no
// JSON string can hold, stands apart.
type riakMatches struct {
	Keys          []string            `json:"keys,omitzero"`
	Base64        [][]byte            `json:"keys_base64,omitempty"`
	Results       []map[string]string `json:"results,omitzero"`
	ResultsBase64 []base64Match       `json:"results_base64,omitempty"`
	Continuation  string              `json:"continuation,omitempty"`
}

type base64Match struct {
	Term []byte `json:"term"`
	Key  []byte `json:"key"`
}

func newRiakMatches(terms bool) *riakMatches {
	if terms {
		return &riakMatches{Results: []map[string]string{}}
	}
	return &riakMatches{Keys: []string{}}
}

func (l *riakMatches) add(matches []kv.IndexMatch) {
	for _, m := range matches {
		text := utf8.ValidString(m.Key) && (l.Results == nil || utf8.ValidString(m.Term))
		switch {
		case l.Results == nil && text:
			l.Keys = append(l.Keys, m.Key)
		case l.Results == nil:
			l.Base64 = append(l.Base64, []byte(m.Key))
		case text:
			l.Results = append(l.Results, map[string]string{m.Term: m.Key})
		default:
			l.ResultsBase64 = append(l.ResultsBase64, base64Match{[]byte(m.Term), []byte(m.Key)})
		}
	}
}

// index answers a query.
func (h *handler) index(w http.ResponseWriter, r *http.Request, t target) {
	p, err := h.params(r, t)
	if err != nil {
		h.refuse(w, t, err)
		return
	}
	if t.own {
		h.indexPage(w, r, t, p)
		return
	}
	q, err := parseIndex(t, p)
	switch {
	case err != nil:
		h.refuse(w, t, err)
	case q.listsKeys() && !h.o.AllowsLists():
		h.refuse(w, t, forbidden("secondary_index", q.stream))
	case q.stream:
		h.indexStream(w, r, t, q)
	default:
		h.indexAll(w, r, t, q)
	}
}

// pages asks for page after page of a query until there are as many matches as are
// wanted, and hands each on. It returns where the query goes on; empty: nowhere.
func (h *handler) pages(r *http.Request, t target, q indexQuery, page int, fn func([]kv.IndexMatch) error) (next string, err error) {
	for left := q.most; ; {
		q.Limit = page
		if q.most > 0 {
			q.Limit = min(left, page)
		}
		got, err := h.node.Index(r.Context(), t.bucket(), q.IndexQuery)
		if errors.Is(err, kv.ErrInvalid) && q.Inverted() {
			err = nil // and nothing is found
		}
		if err == nil {
			err = fn(got.Matches)
		}
		if err != nil {
			return "", err
		}
		left -= len(got.Matches)
		if got.Next == "" || q.most > 0 && left <= 0 {
			return got.Next, nil
		}
		q.Token = got.Next
	}
}

// indexAll answers with all matches at once, or an error.
func (h *handler) indexAll(w http.ResponseWriter, r *http.Request, t target, q indexQuery) {
	all, size := newRiakMatches(q.terms), inMemory{h: h}
	defer size.release()
	next, err := h.pages(r, t, q, kv.MaxPage, func(matches []kv.IndexMatch) error {
		n := 0
		for _, m := range matches {
			n += len(m.Term) + len(m.Key)
		}
		if err := size.add(n, errIndexLarge); err != nil {
			return err
		}
		all.add(matches)
		return nil
	})
	if err != nil {
		h.refuse(w, t, err)
		return
	}
	all.Continuation = next
	writeJSON(w, http.StatusOK, all)
}

// indexStream answers with parts of multipart/mixed as they come; the last one has the
// continuation. An error after the first part is the last one, and the connection
// breaks off there.
func (h *handler) indexStream(w http.ResponseWriter, r *http.Request, t target, q indexQuery) {
	out := newParts(w)
	next, err := h.pages(r, t, q, listPage, func(matches []kv.IndexMatch) error {
		if len(matches) == 0 && out.begun {
			return nil
		}
		piece := newRiakMatches(q.terms)
		piece.add(matches)
		return out.json(piece)
	})
	if err != nil && !out.begun {
		h.refuse(w, t, err)
		return
	}
	if err == nil && next != "" {
		err = out.json(riakMatches{Continuation: next})
	}
	if err == nil {
		err = out.end()
	}
	if err != nil {
		out.breakOff(map[string]string{"error": err.Error()})
	}
}

// indexPage answers with a page of matches, on our own routes.
func (h *handler) indexPage(w http.ResponseWriter, r *http.Request, t target, p *params) {
	q := t.indexQuery()
	q.Limit, q.Token, q.Sort, q.TermRegex, q.Timeout = p.limit, p.token, p.sort, p.regex, p.timeout
	page, err := h.node.Index(r.Context(), t.bucket(), q)
	if err != nil {
		h.refuse(w, t, err)
		return
	}
	writeJSON(w, http.StatusOK, api.NewMatches(page))
}

// riakBuckets is a listing of buckets on Riak's routes, as of keys.
type riakBuckets struct {
	Buckets []string `json:"buckets"`
	Base64  [][]byte `json:"buckets_base64,omitempty"`
}

func (l *riakBuckets) add(names []string) {
	for _, name := range names {
		if utf8.ValidString(name) {
			l.Buckets = append(l.Buckets, name)
			continue
		}
		l.Base64 = append(l.Base64, []byte(name))
	}
}

// buckets lists the buckets of a type.
func (h *handler) buckets(w http.ResponseWriter, r *http.Request, t target) {
	p, err := h.params(r, t)
	switch {
	case err != nil:
		h.refuse(w, t, err)
	case t.own:
		page, err := h.node.Buckets(r.Context(), t.key.Type, p.list())
		if err != nil {
			h.refuse(w, t, err)
			return
		}
		writeJSON(w, http.StatusOK, api.NewBuckets(page))
	case (p.buckets == keysAll || p.buckets == keysStream) && !h.o.AllowsLists():
		h.refuse(w, t, forbidden("list_buckets", p.buckets == keysStream))
	case p.buckets == keysAll || p.buckets == keysStream:
		h.bucketsAll(w, r, t, p)
	default:
		h.refuse(w, t, errBucketsParam)
	}
}

// bucketsAll answers ?buckets=true with all at once, or an error, and ?buckets=stream
// with pieces as they come, as of keys.
func (h *handler) bucketsAll(w http.ResponseWriter, r *http.Request, t target, p *params) {
	all, size := riakBuckets{Buckets: []string{}}, inMemory{h: h}
	defer size.release()
	o := kv.ListOptions{Limit: listPage, Timeout: p.timeout}
	for begun := false; ; {
		page, err := h.node.Buckets(r.Context(), t.key.Type, o)
		if err == nil && p.buckets == keysAll {
			n := 0
			for _, name := range page.Buckets {
				n += len(name)
			}
			err = size.add(n, errBucketsLarge)
		}
		all.add(page.Buckets)
		if err != nil && !begun {
			h.refuse(w, t, err)
			return
		}
		if p.buckets == keysStream {
			w.Header()["Content-Type"] = applicationJSON
			begun = true
			if err != nil {
				breakOff(w, err)
			}
			writePiece(w, all)
			all = riakBuckets{Buckets: []string{}}
		}
		if o.Token = page.Next; o.Token == "" {
			break
		}
	}
	if p.buckets == keysAll {
		writeJSON(w, http.StatusOK, all)
	}
}
