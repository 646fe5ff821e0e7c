package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/tanodb/tanodb/internal/server/api"
	"github.com/tanodb/tanodb/kv"
)

// ownPrefix is where TanoDB's own routes are, the ones that tell of replies.
const ownPrefix = "/_tanodb"

// replies is the story of a write.
type replies struct {
	Replies []api.Reply `json:"replies"`
}

// String is a line each reply.
func (r replies) String() string { return replyTable(r.Replies) }

// replyTable lays out replies, or nothing if there are none.
func replyTable(rs []api.Reply) string {
	if len(rs) == 0 {
		return ""
	}
	t := newTable("PARTITION", "NODE", "ROLE", "RESULT", "ELAPSED")
	for _, r := range rs {
		note := r.Error
		if r.Repaired {
			note = strings.TrimSpace("repaired " + note)
		}
		cells := []string{r.Partition, r.Node, string(r.Role), string(r.Result), micros(r.ElapsedUS)}
		if note != "" {
			cells = append(cells, note)
		}
		t.row(cells...)
	}
	return t.String()
}

// told shows an error's replies, or with --json all that it says, before the
// error itself is reported.
func (a *app) told(err error) error {
	var e *remoteError
	if !errors.As(err, &e) {
		return err
	}
	switch {
	case a.json:
		if perr := a.printJSON(e.body); perr != nil {
			return perr
		}
	case len(e.body.Replies) > 0:
		if perr := a.print(replies{e.body.Replies}); perr != nil {
			return perr
		}
	}
	return err
}

type putCmd struct {
	keyArgs
	source
	writeFlags
	sloppyFlag
	NodeConfirms int           `help:"Distinct nodes that must store it." placeholder:"N"`
	ContentType  string        `help:"MIME type of the value." default:"application/octet-stream" placeholder:"TYPE"`
	TTL          time.Duration `name:"ttl" help:"The value is gone after this long; none: never." placeholder:"DURATION"`
	Index        []string      `help:"An index entry of the value; the flag may be repeated." placeholder:"FIELD=TERM" sep:"none"`
	Context      string        `xor:"seen" help:"What this write replaces: the context that get has printed." placeholder:"CONTEXT"`
	Replace      bool          `xor:"seen" help:"Read the key first, and replace all that it holds."`
	ReturnBody   bool          `help:"Print what the key holds now, with --json."`
}

// Help is the long part of the command's help.
func (*putCmd) Help() string {
	return `A write without --context or --replace replaces nothing: if the key holds a value, the new one becomes its sibling.

Example, and the same from a file and from standard input:

    tanodb put mybucket k1 42
    tanodb put mybucket photo @photo.jpg --content-type image/jpeg
    gzip -c notes | tanodb put mybucket notes.gz -

A value that begins with a dash comes after two: tanodb put mybucket k1 -- -42`
}

// Run writes the value and prints the replicas' replies.
func (c *putCmd) Run(a *app) error {
	key, err := c.key()
	if err != nil {
		return err
	}
	if c.TTL < 0 {
		return usagef("--ttl is %v; it cannot be negative", c.TTL)
	}
	seen, err := c.seen(a, key)
	if err != nil {
		return a.told(err)
	}
	value, err := c.read(a.stdin)
	if err != nil {
		return err
	}
	receipt, err := c.write(a, key, value, seen)
	if err != nil {
		return a.told(err)
	}
	if c.ReturnBody && a.json {
		return a.printJSON(receipt)
	}
	return a.print(replies{receipt.Replies})
}

// seen is the context that the write carries.
func (c *putCmd) seen(a *app, key kv.Key) (kv.Context, error) {
	if c.Replace {
		o, err := fetch(a, key, readFlags{}, url.Values{"head": {"true"}})
		if errors.Is(err, kv.ErrNotFound) {
			return o.Context, nil
		}
		return o.Context, err
	}
	return parseContext(c.Context)
}

// write sends the value.
func (c *putCmd) write(a *app, key kv.Key, value []byte, seen kv.Context) (api.Receipt, error) {
	query := a.timing()
	c.writeFlags.set(query)
	setInt(query, "node_confirms", c.NodeConfirms)
	c.sloppyFlag.set(query)
	if c.ReturnBody {
		query.Set("returnbody", "true")
	}
	header := http.Header{"Content-Type": {c.ContentType}}
	for _, entry := range c.Index {
		field, term, found := strings.Cut(entry, "=")
		if !found {
			return api.Receipt{}, usagef("--index %q is not FIELD=TERM", entry)
		}
		header.Add("X-Riak-Index-"+field, term)
	}
	if c.TTL > 0 {
		header.Set(headerExpires, time.Now().Add(c.TTL).UTC().Format(time.RFC3339Nano))
	}
	if len(seen) > 0 {
		header.Set(headerContext, base64.StdEncoding.EncodeToString(seen))
	}
	ctx, cancel := a.requestContext()
	defer cancel()
	var receipt api.Receipt
	ans, err := a.ask(ctx, request{method: http.MethodPut, path: keyPath(ownPrefix, key), query: query, header: header, body: value})
	if err != nil {
		return receipt, err
	}
	return receipt, ans.decode(&receipt)
}

// parseContext reads a context as get prints it.
func parseContext(s string) (kv.Context, error) {
	b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(s))
	if err != nil {
		return nil, usagef("the context is not one that get has printed: %v", err)
	}
	return b, nil
}

type getCmd struct {
	keyArgs
	readFlags
	Sibling string `help:"Write the sibling of this vtag." placeholder:"VTAG"`
	Context bool   `help:"Write the context for put --context instead of the value."`
	Explain bool   `help:"Write what each replica answered instead of the value."`
}

// Help is the long part of the command's help.
func (*getCmd) Help() string {
	return `The value is written to standard output as it is, without a line end of its own. If the key holds several values that were written concurrently (siblings), they are listed with what tells them apart; choose one with --sibling.

Example:

    tanodb get mybucket k1
    tanodb get mybucket photo > photo.jpg
    tanodb put mybucket k1 43 --context "$(tanodb get mybucket k1 --context)"`
}

// Run reads the key and writes what was asked for.
func (c *getCmd) Run(a *app) error {
	key, err := c.key()
	if err != nil {
		return err
	}
	o, err := fetch(a, key, c.readFlags, nil)
	if errors.Is(err, kv.ErrNotFound) && c.Context {
		// A deleted key has a context too: that of its tombstone.
		_, perr := fmt.Fprintln(a.stdout, base64.StdEncoding.EncodeToString(o.Context))
		return errors.Join(err, perr)
	}
	if err != nil {
		err = fmt.Errorf("%v: %w", key, err)
		if a.json || c.Explain {
			return a.told(err)
		}
		return err // standard output is for the value alone
	}
	if c.Sibling != "" {
		if o.Values, err = choose(o.Values, c.Sibling); err != nil {
			return fmt.Errorf("%v: %w", key, err)
		}
	}
	return c.show(a, key, o)
}

// show writes the object in the form that was asked for.
func (c *getCmd) show(a *app, key kv.Key, o api.Object) error {
	switch {
	case a.json:
		return a.printJSON(o)
	case c.Context:
		_, err := fmt.Fprintln(a.stdout, base64.StdEncoding.EncodeToString(o.Context))
		return err
	case c.Explain:
		return a.print(replies{o.Replies})
	case len(o.Values) == 1:
		_, err := a.stdout.Write(o.Values[0].Data)
		return err
	}
	return a.print(siblings{key, o.Values})
}

// fetch reads a key. If it is not found, the object still has the context of its
// tombstone.
func fetch(a *app, key kv.Key, f readFlags, query url.Values) (api.Object, error) {
	all := a.timing()
	f.set(all)
	for name, values := range query {
		all[name] = values
	}
	ctx, cancel := a.requestContext()
	defer cancel()
	ans, err := a.ask(ctx, request{method: http.MethodGet, path: keyPath(ownPrefix, key), query: all})
	var e *remoteError
	if errors.As(err, &e) {
		return api.Object{Context: e.body.Context}, err
	}
	if err != nil {
		return api.Object{}, err
	}
	var o api.Object
	return o, ans.decode(&o)
}

// choose is the one sibling of this vtag.
func choose(vs []api.Value, vtag string) ([]api.Value, error) {
	i := slices.IndexFunc(vs, func(v api.Value) bool { return v.VTag == vtag })
	if i < 0 {
		var have []string
		for _, v := range vs {
			have = append(have, v.VTag)
		}
		return nil, fmt.Errorf("sibling %q: %w; there is %s", vtag, kv.ErrNotFound, strings.Join(have, ", "))
	}
	return vs[i : i+1], nil
}

// siblings are several values of a key.
type siblings struct {
	key    kv.Key
	values []api.Value
}

// String lists the values: what tells them apart, and how they begin.
func (s siblings) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v holds %d siblings: values that were written concurrently.\n", s.key, len(s.values))
	t := newTable("VTAG", "MODIFIED", "BYTES", "CONTENT TYPE", "VALUE")
	for _, v := range s.values {
		t.row(v.VTag, v.Modified.UTC().Format(time.RFC3339), fmt.Sprint(len(v.Data)), showText(string(v.ContentType)), preview(v.Data))
	}
	b.WriteString(t.String())
	b.WriteString("Read one with --sibling VTAG; replace all of them with put --replace.\n")
	return b.String()
}

// preview is how a value begins, on one line.
func preview(b []byte) string {
	const most = 40 // bytes
	if len(b) <= most {
		return showText(string(b))
	}
	return showText(strings.ToValidUTF8(string(b[:most]), "")) + " …"
}

type delCmd struct {
	keyArgs
	readFlags
	writeFlags
	Context string `help:"What this delete replaces: the context that get has printed; none: the key is read first." placeholder:"CONTEXT"`
}

// Help is the long part of the command's help.
func (*delCmd) Help() string {
	return `Without --context the key is read first. If it holds no value, nothing is written and the exit code is 3. Each reply says whether the replica held a value before.

Example:

    tanodb del mybucket k1`
}

// Run deletes the key and prints the replicas' replies.
func (c *delCmd) Run(a *app) error {
	key, err := c.key()
	if err != nil {
		return err
	}
	seen, err := parseContext(c.Context)
	if err != nil {
		return err
	}
	query := a.timing()
	c.readFlags.set(query)
	c.writeFlags.set(query)
	header := http.Header{}
	if len(seen) > 0 {
		header.Set(headerContext, base64.StdEncoding.EncodeToString(seen))
	}
	ctx, cancel := a.requestContext()
	defer cancel()
	ans, err := a.ask(ctx, request{method: http.MethodDelete, path: keyPath(ownPrefix, key), query: query, header: header})
	var e *remoteError
	if errors.Is(err, kv.ErrNotFound) && errors.As(err, &e) {
		// Not found is an outcome, told in the same form as the others.
		if perr := a.print(replies{e.body.Replies}); perr != nil {
			return perr
		}
		return fmt.Errorf("%v: %w", key, err)
	}
	if err != nil {
		return a.told(err)
	}
	var receipt api.Receipt
	if err := ans.decode(&receipt); err != nil {
		return err
	}
	return a.print(replies{receipt.Replies})
}

type keysCmd struct {
	Bucket string `arg:"" help:"The bucket."`
	nameFlags
	Replicas bool `help:"Ask every vnode, and show each one's own answer."`
	Limit    int  `help:"Stop after this many keys; 0: list all." placeholder:"N"`
}

// Help is the long part of the command's help.
func (*keysCmd) Help() string {
	return `Keys are printed one on a line; those with characters that would not be seen are quoted. With --encoded all are percent-encoded, so that any key can be handed to another command:

    tanodb keys mybucket --encoded | while read k; do tanodb get --encoded mybucket "$k"; done

With --replicas, every vnode of the ring tells what it holds:

    tanodb keys mybucket --replicas`
}

// Run lists the keys.
func (c *keysCmd) Run(a *app) error {
	b, err := c.bucket(c.Bucket)
	if err != nil {
		return err
	}
	if c.Limit < 0 {
		return usagef("--limit is %d; it cannot be negative", c.Limit)
	}
	if c.Replicas {
		return c.replicas(a, b)
	}
	if a.json {
		return c.array(a, b)
	}
	err = c.pages(a, b, func(keys []api.Text) error {
		var out strings.Builder
		for _, k := range keys {
			out.WriteString(c.show(string(k)) + "\n")
		}
		_, err := io.WriteString(a.stdout, out.String())
		return err
	})
	return a.told(err)
}

// array prints the names as one JSON array, when all have come: half an array
// would be of no use.
func (c *keysCmd) array(a *app, b kv.Bucket) error {
	names := []api.Text{}
	err := c.pages(a, b, func(keys []api.Text) error {
		names = append(names, keys...)
		return nil
	})
	if err != nil {
		return a.told(err)
	}
	line, err := json.Marshal(names)
	if err != nil {
		return err
	}
	_, err = a.stdout.Write(append(line, '\n'))
	return err
}

// pages asks for page after page and hands each to fn.
func (c *keysCmd) pages(a *app, b kv.Bucket, fn func([]api.Text) error) error {
	token, left := "", c.Limit
	for {
		query := url.Values{"timeout": a.timing()["timeout"]}
		if token != "" {
			query.Set("token", token)
		}
		setInt(query, "limit", min(left, kv.MaxPage))
		page, err := askKeys(a, b, query)
		if err != nil {
			return err
		}
		if err := fn(page.Keys); err != nil {
			return err
		}
		left -= len(page.Keys)
		if page.Next == "" || c.Limit > 0 && left <= 0 {
			return nil
		}
		token = page.Next
	}
}

func askKeys(a *app, b kv.Bucket, query url.Values) (api.Keys, error) {
	ctx, cancel := a.requestContext()
	defer cancel()
	var page api.Keys
	ans, err := a.ask(ctx, request{method: http.MethodGet, path: bucketPath(ownPrefix, b), query: query})
	if err != nil {
		return page, err
	}
	return page, ans.decode(&page)
}

// replicas prints every vnode's own answer.
func (c *keysCmd) replicas(a *app, b kv.Bucket) error {
	query := url.Values{"timeout": a.timing()["timeout"], "replicas": {"true"}}
	ctx, cancel := a.requestContext()
	defer cancel()
	ans, err := a.ask(ctx, request{method: http.MethodGet, path: bucketPath(ownPrefix, b), query: query})
	if err != nil {
		return a.told(err)
	}
	census := census{flags: c.nameFlags}
	if err := ans.decode(&census.vnodes); err != nil {
		return err
	}
	return a.print(census)
}

// census is what each vnode holds of a bucket.
type census struct {
	vnodes []api.ReplicaKeys
	flags  nameFlags
}

// MarshalJSON is the array of the vnodes.
func (c census) MarshalJSON() ([]byte, error) { return json.Marshal(c.vnodes) }

// String is a line each vnode.
func (c census) String() string {
	t := newTable("PARTITION", "NODE", "KEYS")
	for _, v := range c.vnodes {
		var names []string
		for _, k := range v.Keys {
			names = append(names, c.flags.show(string(k)))
		}
		keys := strings.Join(names, " ")
		if v.More {
			keys += " …"
		}
		if v.Error != "" {
			keys = strings.TrimSpace(keys + " error: " + v.Error)
		}
		t.row(v.Partition, v.Node, keys)
	}
	return t.String()
}
