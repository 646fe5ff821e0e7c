package httpd

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"testing"
	"time"

	"github.com/tanodb/tanodb/internal/server/api"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/kv/kvtest"
)

// A store over our own routes is a kv.Store like the one behind it.
func TestStoreOverHTTP(t *testing.T) {
	now := time.Now()
	kvtest.Test(t, func(t *testing.T) kv.Store {
		f := newFake()
		f.Now = func() time.Time { return now }
		base := "http://" + serve(t, f, Options{}) + "/_tanodb"
		transport := &http.Transport{ExpectContinueTimeout: time.Minute}
		t.Cleanup(transport.CloseIdleConnections)
		return &remote{base: base, http: &http.Client{Transport: transport}}
	}, kvtest.Options{TextMeta: true, Pass: func(d time.Duration) { now = now.Add(d) }})
}

// remote is a kv.Store over our own routes.
type remote struct {
	base string
	http *http.Client
}

func (s *remote) Get(ctx context.Context, k kv.Key, o kv.ReadOptions) (kv.Object, error) {
	q := query{}
	q.quorum("r", o.R)
	q.quorum("pr", o.PR)
	q.number("n_val", o.N)
	q.number("node_confirms", o.NodeConfirms)
	q.toggle("notfound_ok", o.NotFoundOK)
	q.toggle("basic_quorum", o.BasicQuorum)
	q.flag("head", o.Head)
	q.flag("tombstones", o.Tombstones)
	q.millis("timeout", o.Timeout)
	q.millis("linger", o.Linger)
	var obj api.Object
	c, replies, err := s.do(ctx, "GET", keyPath(k), q, nil, nil, &obj)
	if err != nil {
		return kv.Object{Context: c, Replies: replies}, err
	}
	return obj.KV()
}

func (s *remote) Put(ctx context.Context, k kv.Key, v kv.Value, o kv.WriteOptions) (kv.Receipt, error) {
	h := writeHeader(o)
	if v.ContentType != "" {
		h.Set("Content-Type", contentType(&v))
	}
	if v.ContentEncoding != "" {
		h.Set("Content-Encoding", v.ContentEncoding)
	}
	if !v.Expires.IsZero() {
		h.Set("X-Tanodb-Expires", v.Expires.Format(time.RFC3339Nano))
	}
	for _, p := range v.Meta {
		h.Add(metaPrefix+p.Name, p.Value)
	}
	for _, p := range v.Indexes {
		h.Add(indexPrefix+p.Name, p.Value)
	}
	if v.Data == nil {
		v.Data = []byte{}
	}
	return s.write(ctx, "PUT", k, writeQuery(o), h, v.Data)
}

func (s *remote) Delete(ctx context.Context, k kv.Key, o kv.WriteOptions) (kv.Receipt, error) {
	q := writeQuery(o)
	q.quorum("r", o.R)
	q.quorum("pr", o.PR)
	return s.write(ctx, "DELETE", k, q, writeHeader(o), nil)
}

func (s *remote) write(ctx context.Context, method string, k kv.Key, q query, h http.Header, body []byte) (kv.Receipt, error) {
	var receipt api.Receipt
	c, replies, err := s.do(ctx, method, keyPath(k), q, h, body, &receipt)
	if err != nil {
		return kv.Receipt{Context: c, Replies: replies}, err
	}
	return receipt.KV()
}

func (s *remote) Keys(ctx context.Context, b kv.Bucket, o kv.ListOptions) (kv.KeyPage, error) {
	q := query{}
	q.number("limit", o.Limit)
	q.millis("timeout", o.Timeout)
	if o.Token != "" {
		q["token"] = []string{o.Token}
	}
	var page api.Keys
	_, _, err := s.do(ctx, "GET", ownBucketPath(b), q, nil, nil, &page)
	return page.KV(), err
}

// do sends a request. Of an error it returns the context and the replies, too.
func (s *remote) do(ctx context.Context, method, path string, q query, h http.Header, body []byte, into any) (kv.Context, []kv.Reply, error) {
	r, err := http.NewRequestWithContext(ctx, method, s.base+path+"?"+url.Values(q).Encode(), bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	if h != nil {
		r.Header = h
	}
	resp, err := s.http.Do(r)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, nil, err
	}
	if resp.StatusCode == http.StatusOK {
		return nil, nil, json.Unmarshal(b, into)
	}
	var e api.Error
	if err := json.Unmarshal(b, &e); err != nil {
		return nil, nil, err
	}
	replies, err := api.KVReplies(e.Replies, e.Partitions)
	if err != nil {
		return nil, nil, err
	}
	return e.Context, replies, e.Err()
}

func keyPath(k kv.Key) string {
	return ownBucketPath(kv.Bucket{Type: k.Type, Name: k.Bucket}) + "/" + url.PathEscape(k.Name)
}

func ownBucketPath(b kv.Bucket) string {
	p := "/buckets/" + url.PathEscape(b.Name) + "/keys"
	if b.Type != "" {
		p = "/types/" + url.PathEscape(b.Type) + p
	}
	return p
}

func writeHeader(o kv.WriteOptions) http.Header {
	h := http.Header{"Expect": {"100-continue"}}
	if len(o.Context) > 0 {
		h.Set("X-Riak-Vclock", base64.StdEncoding.EncodeToString(o.Context))
	}
	if o.RequestID != (kv.RequestID{}) {
		h.Set("X-Tanodb-Request-Id", hex.EncodeToString(o.RequestID[:]))
	}
	return h
}

func writeQuery(o kv.WriteOptions) query {
	q := query{}
	q.quorum("w", o.W)
	q.quorum("dw", o.DW)
	q.quorum("pw", o.PW)
	q.number("n_val", o.N)
	q.number("node_confirms", o.NodeConfirms)
	q.flag("returnbody", o.ReturnBody)
	q.flag("if_none_match", o.IfNoneMatch)
	q.flag("if_not_modified", o.IfNotModified)
	q.millis("timeout", o.Timeout)
	q.millis("linger", o.Linger)
	return q
}

// query collects parameters that are not at their default.
type query url.Values

func (q query) quorum(name string, v kv.Quorum) {
	if v != kv.Default {
		q[name] = []string{v.String()}
	}
}

func (q query) number(name string, n int) {
	if n != 0 {
		q[name] = []string{strconv.Itoa(n)}
	}
}

func (q query) flag(name string, on bool) {
	if on {
		q[name] = []string{"true"}
	}
}

func (q query) toggle(name string, t kv.Toggle) {
	if t != kv.Unset {
		q[name] = []string{strconv.FormatBool(t == kv.On)}
	}
}

// millis rounds away from zero, so that what is past a limit stays past it.
func (q query) millis(name string, d time.Duration) {
	if d == 0 {
		return
	}
	ms := d / time.Millisecond
	switch {
	case d < 0:
		ms--
	case d%time.Millisecond != 0:
		ms++
	}
	q[name] = []string{strconv.FormatInt(int64(ms), 10)}
}
