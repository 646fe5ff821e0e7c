package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	goclient "github.com/tanodb/tanodb/client"
	"github.com/tanodb/tanodb/internal/server/api"
	"github.com/tanodb/tanodb/kv"
)

// carrier takes the requests of one worker to the cluster, by one protocol, one at
// a time.
type carrier interface {
	// get reads a key. Its values and its context are told only if they are wanted:
	// a load does not look at what it reads.
	get(deadline time.Time, key string, wanted bool) carried
	// put writes a key, on top of what the context has seen.
	put(deadline time.Time, key, context string, value []byte) carried
	close()
}

// carried is what came of a request.
type carried struct {
	kind, text string // of an error; an empty kind: there was none
	inDoubt    bool   // a write that failed and may take effect
	notFound   bool
	values     [][]byte
	context    string // as the protocol carries it; empty: none that the next write can use
}

// storeCarrier asks a store: the Go client, or a node in this process.
type storeCarrier struct {
	store  kv.Store
	bucket kv.Bucket
	r, w   kv.Quorum
	nodes  *nodeHealth
}

func (c *storeCarrier) key(name string) kv.Key {
	return kv.Key{Type: c.bucket.Type, Bucket: c.bucket.Name, Name: name}
}

func (c *storeCarrier) get(deadline time.Time, key string, _ bool) carried {
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	obj, err := c.store.Get(ctx, c.key(key), kv.ReadOptions{R: c.r})
	ans := carried{context: string(obj.Context)}
	if errors.Is(err, kv.ErrNotFound) {
		ans.notFound = true
		return ans
	}
	if err != nil {
		return c.failed(err)
	}
	for _, v := range obj.Values {
		ans.values = append(ans.values, v.Data)
	}
	return ans
}

func (c *storeCarrier) put(deadline time.Time, key, seen string, value []byte) carried {
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	o := kv.WriteOptions{Context: kv.Context(seen), W: c.w}
	receipt, err := c.store.Put(ctx, c.key(key), kv.Value{Data: value, ContentType: "application/octet-stream"}, o)
	if err != nil {
		return c.failed(err)
	}
	return carried{context: string(receipt.Context)}
}

// failed is the answer of a request that ended with an error. Where the Go client
// reached no node, the workers wait until nodeHealth knows of one.
func (c *storeCarrier) failed(err error) carried {
	if errors.Is(err, goclient.ErrUnreachable) {
		c.nodes.allFailed()
		return carried{kind: "connect", text: err.Error()}
	}
	ans := carried{kind: string(api.CodeOf(err)), text: err.Error(), inDoubt: !harmless(err)}
	var q *kv.QuorumError
	if errors.As(err, &q) {
		ans.kind += " " + q.Need
	}
	return ans
}

// harmless says whether a write that ended so has certainly changed nothing.
func harmless(err error) bool {
	if errors.Is(err, kv.ErrInDoubt) {
		return false
	}
	for _, sure := range []error{kv.ErrQuorum, kv.ErrOverload, kv.ErrInvalid, kv.ErrContext, kv.ErrTooManySiblings, kv.ErrTooLarge, kv.ErrBucketType, kv.ErrClock} {
		if errors.Is(err, sure) {
			return true
		}
	}
	return false
}

func (c *storeCarrier) close() {}

// httpCarrier sends requests over HTTP to the worker's own node, or to the next
// one that answers.
type httpCarrier struct {
	worker int
	nodes  *nodeHealth
	paths  benchPaths
	wire   *wire
	header []string
}

// get takes Riak's route for what is not looked at, and our own for the rest.
func (c *httpCarrier) get(deadline time.Time, key string, wanted bool) carried {
	path := c.paths.riak
	if wanted {
		path = c.paths.own
	}
	got, err := c.send(deadline, http.MethodGet, path+key+c.paths.get, nil, nil)
	switch {
	case err != nil:
		return carried{kind: wireKind(err), text: err.Error()}
	case wanted:
		return shownBy(got)
	case got.status == http.StatusNotFound:
		return carried{notFound: true}
	case got.status == http.StatusOK, got.status == http.StatusMultipleChoices:
		return carried{}
	}
	return carried{kind: statusKind(got), text: statusText(got)}
}

// shownBy reads what our own route says of a key.
func shownBy(got wireAnswer) carried {
	var err error
	switch got.status {
	case http.StatusNotFound:
		var e api.Error
		if err = json.Unmarshal(got.body, &e); err == nil {
			return carried{notFound: true, context: base64.StdEncoding.EncodeToString(e.Context)}
		}
	case http.StatusOK:
		var o api.Object
		if err = json.Unmarshal(got.body, &o); err == nil {
			ans := carried{context: base64.StdEncoding.EncodeToString(o.Context)}
			for _, v := range o.Values {
				ans.values = append(ans.values, v.Data)
			}
			return ans
		}
	default:
		return carried{kind: statusKind(got), text: statusText(got)}
	}
	return carried{kind: "unreadable answer", text: err.Error()}
}

// put takes our own route, whose answer has the context that the next write needs.
func (c *httpCarrier) put(deadline time.Time, key, seen string, value []byte) carried {
	c.header = c.header[:0]
	if seen != "" {
		c.header = append(c.header, headerContext+": "+seen)
	}
	got, err := c.send(deadline, http.MethodPut, c.paths.own+key+c.paths.put, c.header, value)
	switch {
	case err != nil:
		return carried{kind: wireKind(err), text: err.Error(), inDoubt: !errors.Is(err, errNotSent)}
	case got.status == http.StatusOK:
		return carried{context: contextOf(got.body)}
	}
	return carried{kind: statusKind(got), text: statusText(got), inDoubt: got.status >= http.StatusInternalServerError}
}

// contextOf finds the context in the JSON of a receipt, without decoding what is
// not needed; empty: it is not in there.
func contextOf(receipt []byte) string {
	_, rest, found := bytes.Cut(receipt, []byte(`"context":`))
	rest = bytes.TrimLeft(rest, " ")
	if !found || len(rest) == 0 || rest[0] != '"' {
		return ""
	}
	context, _, found := bytes.Cut(rest[1:], []byte(`"`))
	if !found {
		return ""
	}
	return string(context)
}

func (c *httpCarrier) send(deadline time.Time, method, path string, header []string, body []byte) (wireAnswer, error) {
	host := c.nodes.choose(c.worker)
	c.wire.to(c.nodes.bases[host])
	got, err := c.wire.do(deadline, method, path, header, body)
	if err != nil {
		c.nodes.failed(host)
	}
	return got, err
}

func (c *httpCarrier) close() { c.wire.close() }
