// Package kvtest is what every kv.Store must do, as a test suite: each sentence
// of the interface and each option is a subtest. The node in a process, clients
// over the network and the simulated cluster all pass it.
//
//	func TestStore(t *testing.T) {
//		kvtest.Test(t, func(t *testing.T) kv.Store { return open(t) }, kvtest.Options{})
//	}
//
// The suite expects a healthy cluster: all nodes up, all replicas reachable, and the
// bucket types that Types lists.
package kvtest

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tanodb/tanodb/kv"
)

// Options say what the store under test can do. The zero value is a single node
// with three replicas.
type Options struct {
	// Replicas is N of its buckets. 0: 3.
	Replicas int

	// Nodes is how many distinct nodes hold each key. 0: 1.
	Nodes int

	// Sequential stores serve one call at a time, like the simulated cluster:
	// the subtest with concurrent clients is left out.
	Sequential bool

	// TextMeta stores carry metadata and index entries in headers of HTTP: as
	// text, sorted by name, and the names are lower case.
	TextMeta bool

	// Large adds the subtest of an object that would grow past kv.MaxObject. It
	// needs about 500 MB of memory.
	Large bool

	// Parallel lets the themes run side by side, as far as go test's -parallel
	// allows: open must then be able to do so too.
	Parallel bool

	// Pass lets this much time pass on the store's wall clocks. Nil: they
	// cannot be moved, and a value that expires later is not tested.
	Pass func(time.Duration)
}

// enough is how long a request lingers for all replies: a healthy cluster
// answers much sooner.
const enough = kv.MaxLinger

// Test runs the suite. Open is called once for each theme and returns a store
// that may hold data, but none in buckets whose name begins with the name of
// the test; it closes the store through t.Cleanup.
func Test(t *testing.T, open func(t *testing.T) kv.Store, o Options) {
	if o.Replicas == 0 {
		o.Replicas = 3
	}
	if o.Nodes == 0 {
		o.Nodes = 1
	}
	themes := []struct {
		name  string
		cases []testCase
	}{
		{"values", values},
		{"contexts", contexts},
		{"deletes", deletes},
		{"read options", readOptions},
		{"write options", writeOptions},
		{"conditions", conditions},
		{"replies", replies},
		{"expiry", expiry},
		{"limits", limits},
		{"keys", keys},
		{"last write wins", latest},
		{"indexes", indexes},
		{"calls", calls},
	}
	for _, theme := range themes {
		t.Run(theme.name, func(t *testing.T) {
			if o.Parallel {
				t.Parallel()
			}
			store := open(t)
			for _, c := range theme.cases {
				t.Run(c.name, func(t *testing.T) {
					c.test(&run{T: t, store: store, o: o})
				})
			}
		})
	}
}

// testCase is one subtest. Its name is a sentence about the store.
type testCase struct {
	name string
	test func(*run)
}

// run is one subtest at work. Its bucket is its own.
type run struct {
	*testing.T
	store kv.Store
	o     Options
}

func (r *run) bucket() kv.Bucket { return kv.Bucket{Name: r.Name()} }

func (r *run) key(name string) kv.Key { return kv.Key{Bucket: r.Name(), Name: name} }

// put writes a text, on all replicas, and must succeed.
func (r *run) put(k kv.Key, text string, c kv.Context) kv.Receipt {
	r.Helper()
	return r.putValue(k, kv.Value{Data: []byte(text)}, kv.WriteOptions{Context: c, W: kv.All, SloppyQuorum: kv.Off})
}

func (r *run) putValue(k kv.Key, v kv.Value, o kv.WriteOptions) kv.Receipt {
	r.Helper()
	receipt, err := r.store.Put(r.Context(), k, v, o)
	if err != nil {
		r.Fatalf("put %v: %v", k, err)
	}
	return receipt
}

// get reads a key that must hold a live value.
func (r *run) get(k kv.Key, o kv.ReadOptions) kv.Object {
	r.Helper()
	obj, err := r.store.Get(r.Context(), k, o)
	if err != nil {
		r.Fatalf("get %v: %v", k, err)
	}
	if len(obj.Values) == 0 {
		r.Fatalf("get %v: no error and no value", k)
	}
	return obj
}

// delete removes a key that must hold a live value, on all replicas.
func (r *run) delete(k kv.Key, c kv.Context) kv.Receipt {
	r.Helper()
	receipt, err := r.store.Delete(r.Context(), k, kv.WriteOptions{Context: c, W: kv.All, SloppyQuorum: kv.Off})
	if err != nil {
		r.Fatalf("delete %v: %v", k, err)
	}
	return receipt
}

// holds checks the texts of a key, in any order, and returns its context.
func (r *run) holds(k kv.Key, want ...string) kv.Context {
	r.Helper()
	obj := r.get(k, kv.ReadOptions{})
	if got := texts(obj.Values); !slices.Equal(got, sorted(want)) {
		r.Fatalf("%v holds %q, want %q", k, got, sorted(want))
	}
	return obj.Context
}

// absent checks that a key holds no live value, and returns what a read says.
func (r *run) absent(k kv.Key) kv.Object {
	r.Helper()
	obj, err := r.store.Get(r.Context(), k, kv.ReadOptions{})
	r.wants(err, kv.ErrNotFound)
	if len(obj.Values) != 0 {
		r.Fatalf("get %v: not found, and yet it holds %q", k, texts(obj.Values))
	}
	return obj
}

// wants checks that an error matches a target, and that its text has these
// parts.
func (r *run) wants(err, target error, parts ...string) {
	r.Helper()
	if !errors.Is(err, target) {
		r.Fatalf("error %v, want one that is %q", err, target)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			r.Fatalf("error %q does not name %q", err, part)
		}
	}
}

// texts are the data of the values, sorted.
func texts(vs []kv.Value) []string {
	var out []string
	for _, v := range vs {
		out = append(out, string(v.Data))
	}
	return sorted(out)
}

func sorted(s []string) []string {
	s = slices.Clone(s)
	slices.Sort(s)
	return s
}
