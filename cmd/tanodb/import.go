package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/tanodb/tanodb/internal/server/api"
	"github.com/tanodb/tanodb/kv"
)

type importCmd struct {
	File   string  `arg:"" optional:"" help:"The file to read; none, or -: standard input." placeholder:"FILE"`
	Bucket *string `help:"Write all keys to this bucket, whatever the lines say." placeholder:"BUCKET"`
	Type   *string `help:"Write all keys to this bucket type, whatever the lines say." placeholder:"TYPE"`
	exchangeFlags
}

// Help is the long part of the command's help.
func (*importCmd) Help() string {
	return `The lines are those of tanodb export. A line replaces what its key holds when it is read; further lines of the same key that follow it, with a sibling number above 1, are put beside it. A line that cannot be read or written is told of on standard error, and the others go on; then the exit code is 1. To import a file twice does no harm.

Of CSV the first line names the columns, in any order: a key and a value must be there, and the others of tanodb export may be.

Example:

    tanodb import carts.jsonl
    tanodb import --format csv --bucket carts < carts.csv`
}

// Run imports.
func (c *importCmd) Run(a *app) error {
	if err := c.check(); err != nil {
		return err
	}
	in := a.stdin
	if c.File != "" && c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	lines, err := newLineReader(in, c.Format)
	if err != nil {
		return err
	}
	i := &importing{app: a, cmd: c, limit: newLimiter(int64(c.Rate)), bar: newProgress(a.stderr, "keys", 0)}
	err = i.all(context.Background(), lines)
	i.bar.end()
	if err = errors.Join(err, a.print(&i.out)); err != nil {
		return err
	}
	if i.out.Failed > 0 {
		return fmt.Errorf("%s failed", plural(int(i.out.Failed), "line"))
	}
	return nil
}

// importing is an import that goes on.
type importing struct {
	*app
	cmd   *importCmd
	limit *limiter
	bar   *progress

	mu  sync.Mutex
	out imported
}

// imported is what it has done.
type imported struct {
	Keys   int64 `json:"keys"`
	Values int64 `json:"values"`
	Failed int64 `json:"failed"` // lines
}

// String tells of it.
func (i *imported) String() string {
	return fmt.Sprintf("%s and %s are imported, and %s failed\n", plural(int(i.Keys), "key"), plural(int(i.Values), "value"), plural(int(i.Failed), "line"))
}

// numbered is a line with its number.
type numbered struct {
	exchanged
	line int
}

// maxShown is how many failed lines are shown; more are counted only.
const maxShown = 20

// failed tells of a line.
func (i *importing) failed(line int, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.out.Failed++
	switch {
	case i.out.Failed <= maxShown:
		fmt.Fprintf(i.stderr, "line %d: %v\n", line, err)
	case i.out.Failed == maxShown+1:
		fmt.Fprintln(i.stderr, "more lines fail, and are counted only")
	}
}

// all reads the lines, and has the lines of each key written together. Lines of one key are
// always written one after the other: by the same worker.
func (i *importing) all(ctx context.Context, lines lineReader) error {
	work := make([]chan []numbered, i.cmd.Parallel)
	var wg sync.WaitGroup
	for n := range work {
		work[n] = make(chan []numbered)
		wg.Go(func() {
			for group := range work[n] {
				i.key(ctx, group)
			}
		})
	}
	defer wg.Wait()
	defer func() {
		for _, w := range work {
			close(w)
		}
	}()
	var group []numbered
	for {
		x, line, err := lines.read()
		var bad *lineError
		if errors.As(err, &bad) {
			i.failed(line, err)
			continue
		}
		if err != nil || len(group) > 0 && (x.name() != group[0].name() || x.Sibling <= 1) {
			if len(group) > 0 {
				work[i.worker(group[0].name())] <- group
			}
			group = nil
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("after line %d: %w", line, err)
		}
		group = append(group, numbered{x, line})
	}
}

// worker is the number of the one who writes a key.
func (i *importing) worker(k kv.Key) int {
	h := fnv.New32a()
	_, _ = io.WriteString(h, k.Type+"\x00"+k.Bucket+"\x00"+k.Name) // never fails
	return int(h.Sum32() % uint32(i.cmd.Parallel))
}

// key writes the lines of one key.
func (i *importing) key(ctx context.Context, group []numbered) {
	defer i.bar.add(1, "")
	k := group[0].name()
	if i.cmd.Bucket != nil {
		k.Bucket = *i.cmd.Bucket
	}
	if i.cmd.Type != nil {
		k.Type = kv.PlainType(*i.cmd.Type)
	}
	var seen kv.Context
	err := k.Validate()
	if err == nil {
		err = retried(ctx, func(int) error {
			o, err := fetch(i.app, k, readFlags{}, url.Values{"head": {"true"}, "linger": nil})
			if seen = o.Context; errors.Is(err, kv.ErrNotFound) {
				return nil
			}
			return err
		})
	}
	stored := int64(0)
	for _, x := range group {
		lineErr := err
		if lineErr == nil {
			lineErr = i.value(ctx, k, &x.exchanged, seen)
		}
		if lineErr != nil {
			i.failed(x.line, lineErr)
			continue
		}
		stored++
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.out.Values += stored
	if stored > 0 {
		i.out.Keys++
	}
}

// value writes one value.
func (i *importing) value(ctx context.Context, k kv.Key, x *exchanged, seen kv.Context) error {
	header, err := headerOf(x)
	if err != nil {
		return err
	}
	if len(seen) > 0 {
		header.Set(headerContext, base64.StdEncoding.EncodeToString(seen))
	}
	if err := i.limit.wait(ctx, len(x.Value)); err != nil {
		return err
	}
	id, err := requestID()
	if err != nil {
		return err
	}
	header.Set("X-Tanodb-Request-Id", id) // tried again, it is one write
	return retried(ctx, func(int) error {
		ctx, cancel := i.requestContext()
		defer cancel()
		_, err := i.ask(ctx, request{
			method: http.MethodPut, path: keyPath(ownPrefix, k), query: url.Values{"timeout": i.timing()["timeout"]},
			header: header, body: []byte(x.Value),
		})
		return err
	})
}

// headerOf are the headers that carry what a value has besides its bytes. What would come to
// the server in another form than it is written here is refused.
func headerOf(x *exchanged) (http.Header, error) {
	h := http.Header{}
	kind := string(x.ContentType)
	if kind == "" {
		kind = "application/octet-stream"
	}
	if x.Charset != "" {
		kind += "; charset=" + string(x.Charset)
	}
	h.Set("Content-Type", kind)
	if x.ContentEncoding != "" {
		h.Set("Content-Encoding", string(x.ContentEncoding))
	}
	if !x.Expires.IsZero() {
		h.Set(headerExpires, x.Expires.UTC().Format(time.RFC3339Nano))
	}
	for prefix, pairs := range map[string][]api.Pair{"X-Riak-Meta-": x.Meta, "X-Riak-Index-": x.Indexes} {
		for _, p := range pairs {
			name, value := string(p.Name), string(p.Value)
			index := prefix == "X-Riak-Index-"
			if name != strings.ToLower(name) || value != strings.TrimSpace(value) || index && strings.Contains(value, ", ") {
				return nil, fmt.Errorf("%s%s: %q cannot stand in a header as it is", strings.ToLower(prefix), name, value)
			}
			h.Add(prefix+name, value)
		}
	}
	return h, nil
}

// requestID names a write, by chance.
func requestID() (string, error) {
	var id kv.RequestID
	if _, err := rand.Read(id[:]); err != nil {
		return "", err
	}
	return hex.EncodeToString(id[:]), nil
}
