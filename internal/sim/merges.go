package sim

import (
	"cmp"
	"errors"
	"slices"
	"strconv"

	"github.com/tanodb/tanodb/internal/coordinator"
	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/sim/check"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
)

// merged checks that the context of a read covers all that it has heard.
func (r *request) merged(g *coordinator.Get) {
	obj, err := g.Result()
	if err != nil && !errors.Is(err, kv.ErrNotFound) || r.key == noKey {
		return
	}
	clock, err := object.DecodeContext(r.key, obj.Context)
	if err != nil {
		r.n.s.fail("context", r.key, "a read answers with a context that is refused: %v", err)
		return
	}
	r.covers("a read answers", clock)
	if r.n.s.latest(r.key) {
		r.lastWrite(obj)
	}
}

// lastWrite checks that a read shows the last write of all that it has heard of, or
// nothing if that was a delete.
func (r *request) lastWrite(obj kv.Object) {
	var all object.Object
	for _, f := range r.fetched {
		if f.err != nil {
			return // it is told elsewhere
		}
		all = object.Merge(all, f.head)
	}
	if len(all.Siblings) == 0 {
		return
	}
	last := slices.MaxFunc(all.Siblings, func(a, b object.Sibling) int {
		return cmp.Or(cmp.Compare(a.Stamp, b.Stamp), a.Dot.Compare(b.Dot))
	})
	if len(all.Siblings) > 1 {
		r.n.s.count("a last write has won")
	}
	if slices.ContainsFunc(obj.Values, func(v kv.Value) bool { return v.Deleted }) {
		return // they were asked for
	}
	switch id := idOf(last.Request); {
	case !r.n.s.known(id) || last.Expires != 0:
	case last.Deleted && len(obj.Values) > 0, !last.Deleted && len(obj.Values) != 1:
		r.n.s.fail("latest", r.key, "a read shows %d values; the last write is %v", len(obj.Values), last)
	case !last.Deleted && !slices.Contains(idsIn(obj.Values), id):
		r.n.s.fail("latest", r.key, "a read shows %v; the last write is %v", idsIn(obj.Values), last)
	}
}

// idsIn are the writes that the values say they are.
func idsIn(values []kv.Value) (ids []check.ID) {
	for _, v := range values {
		if len(v.Meta) == 1 {
			if n, err := strconv.ParseUint(v.Meta[0].Value, 10, 64); err == nil {
				ids = append(ids, check.ID(n))
			}
		}
	}
	return ids
}

// repairs checks that what a read sends to a replica contains all that it has heard.
func (r *request) repairs(to ring.Replica, m *vnode.Store) {
	if _, ok := r.m.(*coordinator.Get); !ok {
		return
	}
	head, err := object.DecodeHead(m.Object)
	if err != nil {
		r.n.s.fail("encoding", r.key, "a read repairs with an object that does not decode: %v", err)
		return
	}
	r.repaired = append(r.repaired, to)
	r.covers("a read repairs", head.Clock)
}

// repairedAll checks that a read that is over has sent something to every
// replica that was heard to have less than all together. Who stands in will hand
// over what it has, and needs no more.
func (r *request) repairedAll(g *coordinator.Get) {
	if _, err := g.Result(); err != nil && !errors.Is(err, kv.ErrNotFound) {
		return
	}
	var all object.Vector
	for _, f := range r.fetched {
		if f.err == nil {
			all = all.Join(f.head.Clock)
		}
	}
	for _, f := range r.fetched {
		to := r.asked[slices.IndexFunc(r.asked, func(a place) bool { return a.i == f.i })].to
		if f.err == nil && to.Role != kv.Fallback && !f.head.Clock.Descends(all) && !slices.Contains(r.repaired, to) {
			r.n.s.fail("repair", r.key, "a read leaves %s/%d with %v, though it knows %v", to.Node, to.Partition, f.head.Clock, all)
			return
		}
	}
}

// covers checks a clock against all that the request has heard.
func (r *request) covers(what string, clock object.Vector) {
	for _, f := range r.fetched {
		if f.err != nil {
			r.n.s.fail("encoding", r.key, "a replica has an object that does not decode: %v", f.err)
			return
		}
		if !clock.Descends(f.head.Clock) {
			r.n.s.fail("merge", r.key, "%s with %v, though it has heard %v", what, clock, f.head.Clock)
			return
		}
	}
}
