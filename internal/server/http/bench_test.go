package httpd

import (
	"bytes"
	"context"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tanodb/tanodb/kv"
)

// still is a node that answers at once with the same object, so that only the
// handler is measured.
type still struct {
	*fake
	obj     kv.Object
	receipt kv.Receipt
}

func (s *still) Get(context.Context, kv.Key, kv.ReadOptions) (kv.Object, error) { return s.obj, nil }

func (s *still) Put(context.Context, kv.Key, kv.Value, kv.WriteOptions) (kv.Receipt, error) {
	return s.receipt, nil
}

func newStill() *still {
	return &still{
		fake: &fake{registry: prometheus.NewRegistry()},
		obj: kv.Object{
			Values:  []kv.Value{{Data: make([]byte, 1024), ContentType: "application/octet-stream", VTag: "4OC3wNRBjxVkFGDvgX", Modified: time.Unix(1e9, 0)}},
			Context: make(kv.Context, 40),
		},
	}
}

// sink is a ResponseWriter that keeps nothing.
type sink struct{ header http.Header }

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) WriteHeader(int)             {}
func (s *sink) Write(b []byte) (int, error) { return len(b), nil }

func BenchmarkGet(b *testing.B) {
	h := New(newStill(), Options{})
	r := httptest.NewRequest("GET", "/buckets/bench/keys/key-000000042?r=2", nil)
	w := &sink{http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		clear(w.header)
		h.ServeHTTP(w, r)
	}
}

func BenchmarkPut(b *testing.B) {
	h := New(newStill(), Options{})
	body := bytes.NewReader(make([]byte, 1024))
	r := httptest.NewRequest("PUT", "/buckets/bench/keys/key-000000042?w=2", body)
	r.Header = http.Header{
		"Content-Type":  {"application/octet-stream"},
		"X-Riak-Vclock": {base64.StdEncoding.EncodeToString(make([]byte, 40))},
	}
	r.Body = io.NopCloser(body)
	w := &sink{http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		clear(w.header)
		body.Reset(body1k)
		h.ServeHTTP(w, r)
	}
}

var body1k = make([]byte, 1024)

// The whole way, over loopback, with net/http and the client in it.
func BenchmarkLoopback(b *testing.B) {
	s := httptest.NewServer(New(newStill(), Options{}))
	defer s.Close()
	client := s.Client()
	for _, method := range []string{"GET", "PUT"} {
		b.Run(method, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r, err := http.NewRequest(method, s.URL+"/buckets/bench/keys/key-000000042", bytes.NewReader(body1k))
				if err != nil {
					b.Fatal(err)
				}
				r.Header["Content-Type"] = []string{"application/octet-stream"}
				resp, err := client.Do(r)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, resp.Body); err != nil {
					b.Fatal(err)
				}
				resp.Body.Close()
			}
		})
	}
}
