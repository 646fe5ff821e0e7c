package kvtest

import (
	"errors"
	"strings"
	"time"

	"github.com/tanodb/tanodb/kv"
)

var readOptions = []testCase{
	{"every quorum that can be met is met", func(r *run) {
		k := r.key("k")
		r.put(k, "a", nil)
		for _, q := range quorums(r.o.Replicas) {
			r.get(k, kv.ReadOptions{R: q})
			r.get(k, kv.ReadOptions{PR: q})
			_, err := r.store.Get(r.Context(), r.key("never"), kv.ReadOptions{R: q, PR: q})
			r.wants(err, kv.ErrNotFound)
		}
	}},
	{"more replicas than there are is refused by name", func(r *run) {
		n := r.o.Replicas
		r.refusesRead("R", kv.ReadOptions{R: kv.Quorum(n + 1)})
		r.refusesRead("PR", kv.ReadOptions{PR: kv.Quorum(n + 1)})
		r.refusesRead("node_confirms", kv.ReadOptions{NodeConfirms: n + 1})
		r.refusesRead("N", kv.ReadOptions{N: n + 1})
		r.refusesRead("R", kv.ReadOptions{N: 1, R: 2})
	}},
	{"options that cannot be meant are refused by name", func(r *run) {
		r.refusesRead("R", kv.ReadOptions{R: -99})
		r.refusesRead("PR", kv.ReadOptions{PR: -99})
		r.refusesRead("N", kv.ReadOptions{N: -1})
		r.refusesRead("node_confirms", kv.ReadOptions{NodeConfirms: -1})
		r.refusesRead("timeout", kv.ReadOptions{Timeout: -1})
		r.refusesRead("timeout", kv.ReadOptions{Timeout: kv.MaxTimeout + 1})
		r.refusesRead("linger", kv.ReadOptions{Linger: -1})
		r.refusesRead("linger", kv.ReadOptions{Linger: kv.MaxLinger + 1})
	}},
	{"fewer replicas are asked with N", func(r *run) {
		k := r.key("k")
		r.put(k, "a", nil)
		obj := r.get(k, kv.ReadOptions{N: 1, R: kv.All, Linger: enough, SloppyQuorum: kv.Off})
		if len(obj.Replies) != 1 {
			r.Fatalf("N=1 asked %d replicas", len(obj.Replies))
		}
	}},
	{"distinct nodes confirm, as many as there are", func(r *run) {
		k := r.key("k")
		r.put(k, "a", nil)
		r.get(k, kv.ReadOptions{NodeConfirms: r.o.Nodes})
		if r.o.Nodes == r.o.Replicas {
			return
		}
		_, err := r.store.Get(r.Context(), k, kv.ReadOptions{NodeConfirms: r.o.Nodes + 1})
		r.wantsQuorum(err, "node_confirms", r.o.Nodes+1)
	}},
	{"a read of the head has everything but the data", func(r *run) {
		k := r.key("k")
		v := kv.Value{Data: []byte("data"), ContentType: "text/plain", Meta: []kv.Pair{{Name: "m", Value: "1"}}, Indexes: []kv.Pair{{Name: "i_bin", Value: "x"}}}
		r.putValue(k, v, kv.WriteOptions{})
		full := r.get(k, kv.ReadOptions{})
		head := r.get(k, kv.ReadOptions{Head: true})
		if len(head.Values[0].Data) != 0 {
			r.Fatalf("a read of the head has the data %q", head.Values[0].Data)
		}
		sameHead(r, head.Values[0], v)
		if head.Values[0].VTag != full.Values[0].VTag || !head.Values[0].Modified.Equal(full.Values[0].Modified) {
			r.Fatalf("head %+v of %+v", head.Values[0], full.Values[0])
		}
		r.put(k, "next", head.Context)
		r.holds(k, "next")
	}},
	{"tombstones beside live values are shown when asked for", func(r *run) {
		k := r.key("k")
		r.put(k, "old", nil)
		seen := r.holds(k, "old")
		r.put(k, "new", seen)
		r.delete(k, seen)
		if got := r.get(k, kv.ReadOptions{}).Values; len(got) != 1 || got[0].Deleted {
			r.Fatalf("without tombstones: %+v", got)
		}
		obj := r.get(k, kv.ReadOptions{Tombstones: true})
		dead := 0
		for _, v := range obj.Values {
			if v.Deleted {
				dead++
			}
		}
		if len(obj.Values) != 2 || dead != 1 {
			r.Fatalf("with tombstones: %+v", obj.Values)
		}
	}},
	{"an absent key is not found whether that counts or not", func(r *run) {
		for _, ok := range []kv.Toggle{kv.Unset, kv.On, kv.Off} {
			for _, basic := range []kv.Toggle{kv.Unset, kv.On, kv.Off} {
				for _, q := range []kv.Quorum{kv.Default, kv.One, kv.All} {
					_, err := r.store.Get(r.Context(), r.key("never"), kv.ReadOptions{R: q, NotFoundOK: ok, BasicQuorum: basic})
					r.wants(err, kv.ErrNotFound)
				}
			}
		}
	}},
	{"a present key is found whether not found counts or not", func(r *run) {
		k := r.key("k")
		r.put(k, "a", nil)
		for _, ok := range []kv.Toggle{kv.Unset, kv.On, kv.Off} {
			for _, basic := range []kv.Toggle{kv.Unset, kv.On, kv.Off} {
				r.get(k, kv.ReadOptions{R: kv.One, NotFoundOK: ok, BasicQuorum: basic})
			}
		}
	}},
}

var writeOptions = []testCase{
	{"every quorum that can be met is met", func(r *run) {
		k := r.key("k")
		for _, q := range quorums(r.o.Replicas) {
			for _, o := range []kv.WriteOptions{{W: q}, {DW: q}, {PW: q}} {
				o.Context = r.contextOf(k)
				r.putValue(k, kv.Value{Data: []byte(q.String())}, o)
				o.Context, o.R = nil, kv.All // a smaller R may not see the write
				if _, err := r.store.Delete(r.Context(), k, o); err != nil {
					r.Fatalf("delete with %+v: %v", o, err)
				}
			}
		}
	}},
	{"no requirement at all still writes", func(r *run) {
		k := r.key("k")
		r.putValue(k, kv.Value{Data: []byte("a")}, kv.WriteOptions{W: kv.None, DW: kv.None, PW: kv.None})
		r.get(k, kv.ReadOptions{R: kv.All})
	}},
	{"more replicas than there are is refused by name and writes nothing", func(r *run) {
		n := r.o.Replicas
		r.refusesWrite("W", kv.WriteOptions{W: kv.Quorum(n + 1)})
		r.refusesWrite("DW", kv.WriteOptions{DW: kv.Quorum(n + 1)})
		r.refusesWrite("PW", kv.WriteOptions{PW: kv.Quorum(n + 1)})
		r.refusesWrite("node_confirms", kv.WriteOptions{NodeConfirms: n + 1})
		r.refusesWrite("N", kv.WriteOptions{N: n + 1})
		r.refusesWrite("W", kv.WriteOptions{N: 1, W: 2})
	}},
	{"options that cannot be meant are refused by name and write nothing", func(r *run) {
		r.refusesWrite("W", kv.WriteOptions{W: -99})
		r.refusesWrite("DW", kv.WriteOptions{DW: -99})
		r.refusesWrite("PW", kv.WriteOptions{PW: -99})
		r.refusesWrite("N", kv.WriteOptions{N: -1})
		r.refusesWrite("node_confirms", kv.WriteOptions{NodeConfirms: -1})
		r.refusesWrite("timeout", kv.WriteOptions{Timeout: -1})
		r.refusesWrite("timeout", kv.WriteOptions{Timeout: kv.MaxTimeout + 1})
		r.refusesWrite("linger", kv.WriteOptions{Linger: -1})
		r.refusesWrite("linger", kv.WriteOptions{Linger: kv.MaxLinger + 1})
	}},
	{"the read of a delete has its own quorum, refused by name", func(r *run) {
		k := r.key("k")
		r.put(k, "a", nil)
		tooMany := kv.Quorum(r.o.Replicas + 1)
		_, err := r.store.Delete(r.Context(), k, kv.WriteOptions{R: tooMany})
		r.wants(err, kv.ErrInvalid, "R")
		_, err = r.store.Delete(r.Context(), k, kv.WriteOptions{PR: tooMany})
		r.wants(err, kv.ErrInvalid, "PR")
		r.holds(k, "a")
	}},
	{"fewer replicas are written with N", func(r *run) {
		k := r.key("k")
		receipt := r.putValue(k, kv.Value{Data: []byte("a")}, kv.WriteOptions{N: 1, Linger: enough, SloppyQuorum: kv.Off})
		r.replied(receipt.Replies, kv.OK, 1)
		if len(receipt.Replies) != 1 {
			r.Fatalf("N=1 wrote %d replicas", len(receipt.Replies))
		}
		r.get(k, kv.ReadOptions{R: kv.All})
	}},
	{"distinct nodes confirm, as many as there are", func(r *run) {
		k := r.key("k")
		r.putValue(k, kv.Value{Data: []byte("a")}, kv.WriteOptions{NodeConfirms: r.o.Nodes})
		if r.o.Nodes == r.o.Replicas {
			return
		}
		_, err := r.store.Put(r.Context(), k, kv.Value{Data: []byte("b")}, kv.WriteOptions{NodeConfirms: r.o.Nodes + 1})
		r.wantsQuorum(err, "node_confirms", r.o.Nodes+1)
	}},
	{"the body is returned when asked for", func(r *run) {
		k := r.key("k")
		v := kv.Value{Data: []byte("a"), ContentType: "text/plain"}
		receipt := r.putValue(k, v, kv.WriteOptions{ReturnBody: true})
		if len(receipt.Values) != 1 || receipt.Values[0].VTag == "" || receipt.Values[0].Modified.IsZero() {
			r.Fatalf("returned %+v", receipt.Values)
		}
		sameValue(r, receipt.Values[0], v)
		if got := r.put(k, "b", receipt.Context); len(got.Values) != 0 {
			r.Fatalf("returned %+v without being asked", got.Values)
		}
		r.holds(k, "b")
	}},
	{"the returned body has the siblings, and its context covers them", func(r *run) {
		k := r.key("k")
		r.put(k, "a", nil)
		receipt := r.putValue(k, kv.Value{Data: []byte("b")}, kv.WriteOptions{ReturnBody: true, W: kv.All})
		if got := texts(receipt.Values); len(got) != 2 || got[0] != "a" || got[1] != "b" {
			r.Fatalf("returned %q, want a and b", got)
		}
		r.put(k, "c", receipt.Context)
		r.holds(k, "c")
	}},
	{"a write repeated with its request id is shown once", func(r *run) {
		k := r.key("k")
		o := kv.WriteOptions{RequestID: kv.RequestID{1, 2, 3}, W: kv.All}
		for range 3 {
			r.putValue(k, kv.Value{Data: []byte("once")}, o)
		}
		r.holds(k, "once")
		o.RequestID = kv.RequestID{4, 5, 6}
		r.putValue(k, kv.Value{Data: []byte("other")}, o)
		r.holds(k, "once", "other")
	}},
	{"a timeout that is long enough does no harm", func(r *run) {
		k := r.key("k")
		r.putValue(k, kv.Value{Data: []byte("a")}, kv.WriteOptions{Timeout: kv.MaxTimeout})
		r.get(k, kv.ReadOptions{Timeout: time.Hour})
	}},
}

// quorums are all that n replicas can meet.
func quorums(n int) []kv.Quorum {
	qs := []kv.Quorum{kv.Default, kv.None, kv.One, kv.Majority, kv.All}
	for i := 1; i <= n; i++ {
		qs = append(qs, kv.Quorum(i))
	}
	return qs
}

// contextOf reads the context of a key that may be absent.
func (r *run) contextOf(k kv.Key) kv.Context {
	r.Helper()
	obj, err := r.store.Get(r.Context(), k, kv.ReadOptions{})
	if err != nil && !errors.Is(err, kv.ErrNotFound) {
		r.Fatal(err)
	}
	return obj.Context
}

// refusesRead checks that a read with these options is invalid and that the
// error begins with the name of the option.
func (r *run) refusesRead(name string, o kv.ReadOptions) {
	r.Helper()
	_, err := r.store.Get(r.Context(), r.key("refused"), o)
	r.wantsInvalid(err, name)
}

// refusesWrite does the same for a write, which must leave no trace.
func (r *run) refusesWrite(name string, o kv.WriteOptions) {
	r.Helper()
	k := r.key("refused")
	_, err := r.store.Put(r.Context(), k, kv.Value{Data: []byte("wrong")}, o)
	r.wantsInvalid(err, name)
	r.absent(k)
	_, err = r.store.Delete(r.Context(), k, o)
	r.wantsInvalid(err, name)
}

// wantsInvalid checks that an error is about this argument. A store over the
// network may have only its text, with the name that the argument has there.
func (r *run) wantsInvalid(err error, what string) {
	r.Helper()
	r.wants(err, kv.ErrInvalid)
	var invalid *kv.InvalidError
	if errors.As(err, &invalid) && invalid.What != what {
		r.Fatalf("error %q is about %q, want %q", err, invalid.What, what)
	}
	if !strings.Contains(strings.ToLower(err.Error()), strings.ToLower(what)) {
		r.Fatalf("error %q does not name %q", err, what)
	}
}

func (r *run) wantsQuorum(err error, need string, want int) {
	r.Helper()
	var q *kv.QuorumError
	if !errors.As(err, &q) {
		r.Fatalf("error %v, want a *kv.QuorumError", err)
	}
	if q.Need != need || q.Want != want || q.Got >= want || q.Timeout {
		r.Fatalf("error %+v, want %s of %d, refused without waiting", q, need, want)
	}
	r.wants(err, kv.ErrQuorum, need)
}
