package vnode_test

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/storage"
)

// indexedPut is a put of a value with index entries: names and terms by turns.
func indexedPut(name string, seen object.Vector, id byte, expires int64, pairs ...string) *vnode.Coordinate {
	v := kv.Value{Data: []byte{id}}
	for i := 0; i < len(pairs); i += 2 {
		v.Indexes = append(v.Indexes, kv.Pair{Name: pairs[i], Value: pairs[i+1]})
	}
	return &vnode.Coordinate{Home: 1, Key: kv.Key{Bucket: "b", Name: name}, Seen: seen, Request: kv.RequestID{id},
		Write: vnode.Write{Indexed: len(pairs) > 0, Expires: expires, Body: object.AppendBody(nil, &v)}}
}

const indexField = "w_bin"

// queried is all that a range query finds, in pieces of a few.
func queried(t require, store storage.Reader, latest bool, at int64, piece int) []string {
	q := vnode.Query{Home: 1, Bucket: kv.Bucket{Name: "b"}, Field: indexField, End: "\xff\xff", Limit: piece, At: at, Latest: latest}
	var all []string
	for {
		m, ok := vnode.Read(store, 3, at, &q).(*vnode.Matched)
		if !ok {
			t.Fatalf("a query is not answered")
		}
		for _, x := range m.Matches {
			all = append(all, x.Term+"/"+x.Key)
		}
		if !m.More {
			return all
		}
		q.AfterTerm, q.AfterKey = m.LastTerm, m.LastKey
	}
}

type require interface{ Fatalf(string, ...any) }

// found is what it should find, by what readers see of the objects.
func found(t require, store storage.Reader, latest bool, at int64) []string {
	var all []string
	after := []byte(nil)
	for {
		p := vnode.Read(store, 3, at, &vnode.Pull{Home: 1, After: after, Limit: 1 << 20}).(*vnode.Pulled)
		for _, it := range p.Items {
			o, err := object.Decode(it.Object)
			if err != nil {
				t.Fatalf("%v", err)
			}
			if latest {
				o = o.Latest()
			}
			values, err := o.Values(it.Key, at, false, true)
			if err != nil {
				t.Fatalf("%v", err)
			}
			for _, v := range values {
				for _, p := range v.Indexes {
					if p.Name == indexField {
						all = append(all, p.Value+"/"+it.Key.Name)
					}
				}
			}
		}
		if after = p.Last; !p.More {
			break
		}
	}
	slices.SortFunc(all, func(a, b string) int { // by term, then by key: no term here has a slash
		at, ak, _ := strings.Cut(a, "/")
		bt, bk, _ := strings.Cut(b, "/")
		return cmp.Or(strings.Compare(at, bt), strings.Compare(ak, bk))
	})
	return slices.Compact(all)
}

func rightIndex(t require, store storage.Reader) {
	v, err := vnode.Verify(store, 3, 1)
	if err != nil || !v.Right() {
		t.Fatalf("verified %+v, %v", v, err)
	}
	for _, at := range []int64{1, 600, 2_000} {
		for _, latest := range []bool{false, true} {
			if got, want := queried(t, store, latest, at, 3), found(t, store, latest, at); !slices.Equal(got, want) {
				t.Fatalf("at %d, latest %v: the query finds %q; the objects have %q", at, latest, got, want)
			}
		}
	}
}

// writer draws commands to two vnodes that hold the same keys.
type writer struct {
	*rapid.T
	engines [2]*storage.Memory
	vnodes  [2]*vnode.Vnode
	id      byte
}

func (w *writer) stored(i int, k kv.Key) []byte {
	f := vnode.Read(w.engines[i], 3, 1, &vnode.Fetch{Home: 1, Key: k}).(*vnode.Fetched)
	return f.Object
}

func (w *writer) command(i int) vnode.Message {
	k := kv.Key{Bucket: "b", Name: rapid.SampledFrom([]string{"k", "l", "kk"}).Draw(w.T, "key")}
	here, there := w.stored(i, k), w.stored(1-i, k)
	seen := object.Vector(nil)
	if o, err := object.Decode(here); here != nil && err == nil && rapid.Bool().Draw(w.T, "seen") {
		seen = o.Clock
	}
	item := vnode.Item{Key: k, Hash: vnode.HashOf(there), Object: there}
	w.id++
	kind := rapid.SampledFrom([]string{"put", "put", "plain", "delete", "store", "deliver", "fill", "drop", "reap", "sweep", "wipe"}).Draw(w.T, "command")
	switch {
	case kind == "put":
		term := rapid.SampledFrom([]string{"", "a", "\x00", "a\x00", "a\x00\x01", "ab", "\xff"})
		return indexedPut(k.Name, seen, w.id, rapid.SampledFrom([]int64{0, 500, 1_500}).Draw(w.T, "expires"),
			indexField, term.Draw(w.T, "term"), indexField, term.Draw(w.T, "other"), "n_int", "7")
	case kind == "plain":
		return indexedPut(k.Name, seen, w.id, 0)
	case kind == "delete":
		c := indexedPut(k.Name, seen, w.id, 0)
		c.Write = vnode.Write{Deleted: true}
		return c
	case kind == "store" && there != nil:
		return &vnode.Store{Home: 1, Key: k, Object: there}
	case kind == "deliver" && there != nil:
		return &vnode.Deliver{Home: 1, Items: []vnode.Item{item}}
	case kind == "fill" && there != nil:
		return &vnode.Fill{Home: 1, Items: []vnode.Item{item}}
	case kind == "drop" && here != nil:
		return &vnode.Drop{Home: 1, Items: []vnode.Item{{Key: k, Hash: vnode.HashOf(here)}}}
	case kind == "reap" && here != nil:
		return &vnode.Reap{Home: 1, Items: []vnode.Item{{Key: k, Hash: vnode.HashOf(here)}}}
	case kind == "wipe":
		return &vnode.Wipe{Home: 1, Partook: rapid.Uint64Range(0, 2).Draw(w.T, "partook"), Limit: 1_000}
	}
	return &vnode.Sweep{Before: 600, Limit: 10}
}

func newWriter(t *rapid.T) *writer {
	w := &writer{T: t}
	for i := range w.vnodes {
		w.engines[i] = storage.NewMemory()
		w.vnodes[i] = vnode.New(vnode.Config{Partition: 3, Actor: object.Actor{byte(i + 1)}, Life: 2, HeadCache: 600}, w.engines[i])
	}
	return w
}

// batch lets one of the vnodes carry out some commands.
func (w *writer) batch() int {
	i := rapid.IntRange(0, 1).Draw(w.T, "vnode")
	var cmds []vnode.Message
	for range rapid.IntRange(1, 3).Draw(w.T, "commands") {
		c := w.command(i)
		if _, ok := c.(*vnode.Wipe); ok && len(cmds) > 0 {
			break // it reads the engine, and comes alone
		}
		if cmds = append(cmds, c); fmt.Sprintf("%T", c) == "*vnode.Wipe" {
			break
		}
	}
	var b storage.Batch
	w.vnodes[i].Handle(1_000, cmds, &b)
	if _, err := w.engines[i].Apply(&b, true); err != nil {
		w.Fatal(err)
	}
	return i
}

// Whatever becomes of objects, queries find what a read would see.
func TestTheIndexIsThatOfTheObjects(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWriter(t)
		for range rapid.IntRange(1, 25).Draw(t, "batches") {
			rightIndex(t, w.engines[w.batch()])
		}
	})
}

// Index entries are in the batch of the value that has them: wherever a crash cuts,
// the query finds what is there, and nothing that is not.
func TestScenario38ACrashKeepsAValueAndItsIndexEntries(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWriter(t)
		durable := rapid.IntRange(0, 20).Draw(t, "durable")
		batches := rapid.IntRange(1, 20).Draw(t, "batches")
		for range batches {
			w.batch()
		}
		for _, e := range w.engines {
			e.MakeDurable(uint64(durable))
			after := e.Crash(rapid.IntRange(0, batches).Draw(t, "kept"))
			rightIndex(t, after)
			v := vnode.New(vnode.Config{Partition: 3, Actor: object.Actor{9}}, after)
			var b storage.Batch
			v.Handle(1_000, []vnode.Message{indexedPut("k", nil, 200, 0, indexField, "after")}, &b)
			if _, err := after.Apply(&b, true); err != nil {
				t.Fatal(err)
			}
			rightIndex(t, after)
		}
	})
}

// An object whose values have rotted tells nothing of its entries; they go all the
// same when something takes its place, by whatever way.
func TestEntriesOfWhatHasRottedGo(t *testing.T) {
	other := minted(t, newBench(t, 2).handle(indexedPut("k", nil, 9, 0, indexField, "new")))
	for name, replace := range map[string]vnode.Message{
		"a version from elsewhere": &vnode.Store{Home: 1, Key: key, Object: other},
		"a write that has seen it": indexedPut("k", object.Vector{{Actor: object.Actor{1}, Counter: 1}}, 2, 0, indexField, "new"),
	} {
		for _, bit := range []int{5 * 8, -1} { // in the head, and in the last checksum
			b := newBench(t, 1)
			b.handle(indexedPut("k", nil, 1, 0, indexField, "old"), indexedPut("l", nil, 3, 0, indexField, "old"))
			if bit < 0 {
				bit = len(b.bytes())*8 - 1
			}
			if !b.engine.Damage(vnode.DataKey(3, 1, key), bit) {
				t.Fatal("nothing to damage")
			}
			b.handle(replace)
			if got := queried(t, b.engine, true, 1, 10); !slices.Equal(got, []string{"new/k", "old/l"}) {
				t.Errorf("%s, bit %d: the query finds %q", name, bit, got)
			}
		}
	}
}

// What is wrong with an index is found, and set right, also in a batch that changes
// the objects.
func TestRetreeSetsIndexesRight(t *testing.T) {
	b := newBench(t, 1)
	b.handle(indexedPut("k", nil, 1, 0, indexField, "x"), indexedPut("l", nil, 2, 0, indexField, "y", "n_int", "7"), indexedPut("m", nil, 3, 0))
	var entries [][]byte
	r := vnode.Ranges(3)
	index := r[len(r)-1]
	if err := b.engine.Scan(index[0], index[1], func(key, _ []byte) bool {
		entries = append(entries, bytes.Clone(key))
		return true
	}); err != nil || len(entries) != 3 {
		t.Fatalf("%d entries, %v", len(entries), err)
	}
	var wrong storage.Batch
	wrong.Delete(entries[0])
	wrong.Set(append(bytes.Clone(entries[1]), "ghost"...), nil)
	wrong.Set(entries[2], bytes.Repeat([]byte{1}, 17))
	if _, err := b.engine.Apply(&wrong, true); err != nil {
		t.Fatal(err)
	}
	v, err := vnode.Verify(b.engine, 3, 1)
	if err != nil || v.Right() || len(v.Segments) != 0 || len(v.Indexed) != 2 { // that of l, and one of an object that there is not
		t.Fatalf("verified %+v, %v", v, err)
	}
	out := b.handle(indexedPut("k", nil, 4, 0, indexField, "z"), &vnode.Retree{Home: 1, Indexed: v.Indexed})
	if d := out.Durable[1].Msg.(*vnode.Retreed); d.Indexed == 0 {
		t.Errorf("set right: %+v", d)
	}
	rightIndex(t, b.engine)
}

// A vnode that lacks data answers no query.
func TestQueriesOfAVnodeThatLacks(t *testing.T) {
	for _, m := range []vnode.Message{&vnode.Query{}, &vnode.Buckets{}} {
		if vnode.Lacks(3, m) == nil {
			t.Errorf("%T is answered", m)
		}
	}
}

// counted counts what a scan has read.
type counted struct {
	storage.Reader
	read int
}

func (c *counted) Scan(lower, upper []byte, fn func(key, value []byte) bool) error {
	return c.Reader.Scan(lower, upper, func(key, value []byte) bool {
		c.read++
		return fn(key, value)
	})
}

// bucketsOf is all buckets that are found, in pieces; a name that is not of the last
// write only has a question mark.
func bucketsOf(t *testing.T, store storage.Reader, piece int) []string {
	t.Helper()
	m := vnode.Buckets{Home: 1, Limit: piece, At: 1_000}
	var all []string
	for {
		found, ok := vnode.Read(store, 3, 1_000, &m).(*vnode.BucketsFound)
		if !ok {
			t.Fatal("a listing of buckets is not answered")
		}
		for _, f := range found.Found {
			if !f.Latest {
				f.Name += "?"
			}
			all = append(all, f.Name)
		}
		if !found.More {
			return all
		}
		m.After, m.Inside = found.Last, found.Inside
	}
}

// Buckets are found without reading all their keys, and only if one of them is alive.
func TestBucketsAreJumpedTo(t *testing.T) {
	b := newBench(t, 1)
	put := func(bucket, name string, id byte, deleted bool) *vnode.Coordinate {
		c := indexedPut(name, nil, id, 0)
		c.Key.Bucket = bucket
		if deleted {
			c.Write = vnode.Write{Deleted: true}
		}
		return c
	}
	for i := range 200 {
		b.handle(put("full", fmt.Sprint(i), 1, false), put("dead", fmt.Sprint(i), 2, true), put("z", fmt.Sprint(i), 3, i != 150))
	}
	typed := put("typed", "k", 4, false)
	typed.Key.Type = "t"
	b.handle(typed, put("sib", "k", 5, false))
	b.handle(put("sib", "k", 6, true))
	c := &counted{Reader: b.engine}
	for _, piece := range []int{1, 2, 10} {
		if got := bucketsOf(t, c, piece); !slices.Equal(got, []string{"z", "sib?", "full"}) {
			t.Errorf("by %d: %q", piece, got)
		}
	}
	c.read = 0
	bucketsOf(t, c, 10)
	if c.read > 420 { // all of the dead one, most of z, and few of the full one
		t.Errorf("%d keys were read of 602", c.read)
	}
}
