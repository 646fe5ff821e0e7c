package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"syscall"

	"github.com/tanodb/tanodb/internal/server/api"
	"github.com/tanodb/tanodb/kv"
)

// exchangeFlags are those of export and import.
type exchangeFlags struct {
	Format   string    `help:"jsonl or csv." enum:"jsonl,csv" default:"jsonl"`
	Parallel int       `help:"Keys that are worked on at once, 1 to 64." default:"8" placeholder:"N"`
	Rate     byteCount `help:"Bytes of values in a second, such as 20MB; 0: no limit." default:"0" placeholder:"BYTES"`
}

func (f exchangeFlags) check() error { return paceFlags{Parallel: f.Parallel}.check() }

type exportCmd struct {
	File   string  `arg:"" optional:"" help:"The file to write; none, or -: standard output." placeholder:"FILE"`
	Bucket *string `help:"Only this bucket; none: all buckets of the type." placeholder:"BUCKET"`
	Resume string  `help:"Go on where an export of this bucket has ended, as it has said, and append to the file." placeholder:"TOKEN"`
	nameFlags
	exchangeFlags
}

// Help is the long part of the command's help.
func (*exportCmd) Help() string {
	return `Each value is a line: a JSON document, or a row of CSV whose first line names the columns. Values that were written concurrently are as many lines. What is not UTF-8 is in base64: {"base64":"…"} in JSON; in CSV the column base64 names the columns that are. Buckets of data types cannot be exported: back them up.

An export is no backup: it has what clients see, without clocks and tombstones, and keys that are written meanwhile are in it as they were at some moment.

Example:

    tanodb export carts.jsonl --bucket carts
    tanodb export --format csv --type sessions > sessions.csv`
}

// Run exports.
func (c *exportCmd) Run(a *app) error {
	if err := c.check(); err != nil {
		return err
	}
	if c.Resume != "" && c.Bucket == nil {
		return usagef("--resume is of one bucket: name it with --bucket")
	}
	ctx, release := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer release()
	context.AfterFunc(ctx, release) // a second signal ends it at once
	return c.export(ctx, a)
}

// export exports until the context ends.
func (c *exportCmd) export(ctx context.Context, a *app) error {
	buckets, err := c.buckets(a)
	if err != nil {
		return a.told(err)
	}
	out, done, err := openOutput(a, c.File, c.Resume != "")
	if err != nil {
		return err
	}
	w, err := newLineWriter(out, c.Format, c.Resume == "")
	if err != nil {
		return err
	}
	e := &exporting{app: a, cmd: c, w: w, limit: newLimiter(int64(c.Rate)), bar: newProgress(a.stderr, "keys", 0)}
	for _, b := range buckets {
		if err == nil {
			err = e.bucket(ctx, b)
		}
	}
	e.bar.end()
	if err = errors.Join(err, w.flush(), done()); err != nil {
		return err
	}
	return a.summary(c.File, e.out)
}

// summary prints what was done: to standard error where standard output has the data.
func (a *app) summary(file string, v fmt.Stringer) error {
	if file == "" || file == "-" {
		_, err := io.WriteString(a.stderr, v.String())
		return err
	}
	return a.print(v)
}

// openOutput opens the file to write. Done closes it, durably.
func openOutput(a *app, name string, more bool) (w io.Writer, done func() error, err error) {
	if name == "" || name == "-" {
		return a.stdout, func() error { return nil }, nil
	}
	mode := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if more {
		mode = os.O_WRONLY | os.O_APPEND
	}
	f, err := os.OpenFile(name, mode, 0o600)
	if err != nil {
		return nil, nil, err
	}
	return f, func() error { return errors.Join(f.Sync(), f.Close()) }, nil
}

// buckets are those to export.
func (c *exportCmd) buckets(a *app) ([]kv.Bucket, error) {
	typ, err := c.decode("bucket type", c.Type)
	if err != nil {
		return nil, err
	}
	typ = kv.PlainType(typ)
	if err := a.refuseDataType(typ); err != nil {
		return nil, err
	}
	if c.Bucket != nil {
		b, err := c.bucket(*c.Bucket)
		b.Type = kv.PlainType(b.Type)
		return []kv.Bucket{b}, err
	}
	path := ownPrefix
	if typ != "" {
		path += "/types/" + escape(typ)
	}
	var all []kv.Bucket
	err = a.listPages(path+"/buckets", url.Values{}, 0, func(ans answer) (int, string, error) {
		var page api.Buckets
		err := ans.decode(&page)
		for _, b := range page.Buckets {
			all = append(all, kv.Bucket{Type: typ, Name: string(b)})
		}
		return len(page.Buckets), page.Next, err
	})
	return all, err
}

// refuseDataType refuses a bucket type of which the values are states of data types. The
// default one never is, and of others the type alone is asked for: who exports a bucket need
// not be an administrator.
func (a *app) refuseDataType(typ string) error {
	if typ == "" {
		return nil
	}
	ctx, cancel := a.requestContext()
	defer cancel()
	ans, err := a.ask(ctx, request{method: http.MethodGet, path: "/types/" + escape(typ) + "/props"})
	if ans.status == http.StatusNotFound {
		return nil // the listing of its keys says so
	}
	if err != nil {
		return err
	}
	var found struct {
		Props kv.Properties `json:"props"`
	}
	if err := ans.decode(&found); err != nil {
		return err
	}
	if kind := found.Props.Lookup("datatype"); kind != "" {
		return fmt.Errorf("the buckets of type %s hold data of type %s, which have no lines: use tanodb backup", typ, kind)
	}
	return nil
}

// exporting is an export that goes on.
type exporting struct {
	*app
	cmd   *exportCmd
	w     lineWriter
	limit *limiter
	bar   *progress
	out   exported
}

// exported is what it has done.
type exported struct {
	Keys   int64 `json:"keys"`
	Values int64 `json:"values"`
	Bytes  int64 `json:"bytes"`
}

// String tells of it.
func (e exported) String() string {
	return fmt.Sprintf("%s and %s, %s, are exported\n", plural(int(e.Keys), "key"), plural(int(e.Values), "value"), bytesText(float64(e.Bytes)))
}

// bucket exports a bucket, page after page.
func (e *exporting) bucket(ctx context.Context, b kv.Bucket) error {
	token := e.cmd.Resume
	for {
		next, err := e.page(ctx, b, token)
		if err != nil {
			if ctx.Err() != nil {
				err = errInterrupted // whatever it was that has not gone on
			}
			if err = errors.Join(err, e.w.flush()); token != "" {
				err = fmt.Errorf("%w; to go on: %s --resume %s", err, bucketFlags(b), token)
			}
			return err
		}
		if next == "" {
			return nil
		}
		token = next
	}
}

// bucketFlags name a bucket to a command.
func bucketFlags(b kv.Bucket) string {
	flags := "--bucket " + percentEncode(b.Name)
	if b.Type != "" {
		flags += " --type " + percentEncode(b.Type)
	}
	if percentEncode(b.Type+b.Name) != b.Type+b.Name {
		flags += " --encoded"
	}
	return flags
}

// page exports a page of keys, in order, and returns the token of the next one.
func (e *exporting) page(ctx context.Context, b kv.Bucket, token string) (string, error) {
	var page api.Keys
	err := retried(ctx, func(int) (err error) {
		query := url.Values{"timeout": e.timing()["timeout"]}
		if token != "" {
			query.Set("token", token)
		}
		page, err = askKeys(e.app, b, query)
		return err
	})
	if err != nil {
		return "", err
	}
	type read struct {
		o   api.Object
		err error
	}
	reads := make([]chan read, len(page.Keys))
	for i := range reads {
		reads[i] = make(chan read, 1)
	}
	begun := 0
	begin := func() { // never more than so many ahead of what is written
		if begun < len(reads) {
			i := begun
			begun++
			go func() {
				o, err := e.read(ctx, kv.Key{Type: b.Type, Bucket: b.Name, Name: string(page.Keys[i])})
				reads[i] <- read{o, err}
			}()
		}
	}
	for range e.cmd.Parallel {
		begin()
	}
	for i := range reads {
		r := <-reads[i]
		if err := ctx.Err(); err != nil {
			return "", err
		}
		if r.err != nil {
			return "", r.err
		}
		if err := e.write(ctx, kv.Key{Type: b.Type, Bucket: b.Name, Name: string(page.Keys[i])}, r.o); err != nil {
			return "", err
		}
		begin()
	}
	return page.Next, nil
}

// read reads a key. One that is gone by now has no values.
func (e *exporting) read(ctx context.Context, k kv.Key) (o api.Object, err error) {
	err = retried(ctx, func(int) error {
		o, err = fetch(e.app, k, readFlags{}, url.Values{"linger": nil})
		if errors.Is(err, kv.ErrNotFound) {
			o = api.Object{}
			return nil
		}
		return err
	})
	return o, err
}

// write writes the lines of a key.
func (e *exporting) write(ctx context.Context, k kv.Key, o api.Object) error {
	size := 0
	for _, x := range exchangedOf(k, o) {
		if err := e.w.write(x); err != nil {
			return &finalError{err}
		}
		size += len(x.Value)
		e.out.Values++
	}
	if len(o.Values) > 0 {
		e.out.Keys++
	}
	e.out.Bytes += int64(size)
	e.bar.add(1, bytesText(float64(e.out.Bytes)))
	return e.limit.wait(ctx, size)
}
