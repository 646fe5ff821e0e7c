package crdt

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tanodb/tanodb/internal/object"
	"pgregory.net/rapid"
)

// actor is the n-th test actor; the order of actors is that of n.
func actor(n int) (a object.Actor) {
	binary.BigEndian.PutUint64(a[:], uint64(n)<<56|0x0102030405)
	return a
}

func dot(n int, counter uint64) object.Dot { return object.Dot{Actor: actor(n), Counter: counter} }

// vec makes a vector of counters for actors 1, 2, …; 0 leaves the actor out.
func vec(counters ...uint64) object.Vector {
	var v object.Vector
	for i, c := range counters {
		if c > 0 {
			v = append(v, dot(i+1, c))
		}
	}
	return v
}

func elems(all ...string) [][]byte {
	var out [][]byte
	for _, e := range all {
		out = append(out, []byte(e))
	}
	return out
}

// The model is the second, simple implementation: the history itself. A copy
// knows a set of operations, each of which has effects at paths, and the value
// is worked out anew from all of them:
//
//   - a removal kills, at its path and all below it, what it has seen;
//   - an element, an enable or a field is there while one that put it there is
//     not killed by anything known;
//   - a later assignment replaces those that its coordinator knew;
//   - an actor's increments of a counter go on from its earlier ones, unless the
//     actor knew these to be killed; the last one counts for all it goes on from.

// effect is what one operation does at one path.
type effect struct {
	path   string // parts, each ended by a zero byte
	does   string // "add", "remove", "increment", "assign" or "touch"
	number int64
	text   string
}

// event is one operation of the history.
type event struct {
	dot     object.Dot
	stamp   object.Stamp
	effects []effect
	covers  known // of its removals
	knew    known // what its coordinator knew before
}

// known is a set of operations, by their dots.
type known map[object.Dot]*event

func (k known) with(more known) known {
	all := known{}
	for d, e := range k {
		all[d] = e
	}
	for d, e := range more {
		all[d] = e
	}
	return all
}

// seen are the operations that a vector covers.
func (k known) seen(v object.Vector) known {
	part := known{}
	for d, e := range k {
		if v.Covers(d) {
			part[d] = e
		}
	}
	return part
}

// vector is what the operations known come to.
func (k known) vector() (v object.Vector) {
	for d := range k {
		v = v.With(d)
	}
	return v
}

// ordered are the operations in the order of their dots.
func (k known) ordered() []*event {
	var all []*event
	for _, e := range k {
		all = append(all, e)
	}
	slices.SortFunc(all, func(x, y *event) int { return x.dot.Compare(y.dot) })
	return all
}

// killed reports whether a removal that is known kills what the dot did at the
// path.
func (k known) killed(d object.Dot, path string) bool {
	for _, e := range k {
		for _, f := range e.effects {
			if f.does == "remove" && strings.HasPrefix(path, f.path) && e.covers[d] != nil {
				return true
			}
		}
	}
	return false
}

// effects writes out an operation. One without a context removes also the elements that
// it has itself added to sets.
func effects(op Op, given bool) []effect {
	all := effectsOf(op, "")
	if given {
		return all
	}
	return settle(all)
}

// settle drops the additions of elements of sets that are removed in the same operation.
func settle(all []effect) []effect {
	var out []effect
	for i, e := range all {
		if e.does != "add" || !undone(all[i+1:], e.path) {
			out = append(out, e)
		}
	}
	return out
}

func undone(all []effect, path string) bool {
	return strings.Contains(path, "=") && slices.ContainsFunc(all, func(e effect) bool { return e.does == "remove" && e.path == path })
}

// effectsOf writes out an operation, in the order in which it is carried out without a context.
func effectsOf(op Op, path string) []effect {
	switch o := op.(type) {
	case CounterOp:
		return []effect{{path: path, does: "increment", number: int64(o)}}
	case RegisterOp:
		return []effect{{path: path, does: "assign", text: string(o)}}
	case FlagOp:
		if o {
			return []effect{{path: path, does: "add"}}
		}
		return []effect{{path: path + "on\x00", does: "remove"}, {path: path, does: "touch"}}
	case SetOp:
		var all []effect
		for _, e := range o.Adds {
			all = append(all, effect{path: path + "=" + string(e) + "\x00", does: "add"})
		}
		for _, e := range o.Removes {
			all = append(all, effect{path: path + "=" + string(e) + "\x00", does: "remove"})
		}
		return all
	case MapOp:
		var all []effect
		for _, f := range o.Removes {
			all = append(all, effect{path: fieldPath(path, f), does: "remove"})
		}
		for _, u := range o.Updates {
			p := fieldPath(path, u.Field)
			all = append(all, effect{path: p, does: "touch"})
			if u.Field.Kind == Flag {
				if on := u.Op.(FlagOp); on {
					all = append(all, effect{path: p + "on\x00", does: "add"})
				} else {
					all = append(all, effect{path: p + "on\x00", does: "remove"})
				}
				continue
			}
			all = append(all, effectsOf(u.Op, p)...)
		}
		return all
	}
	panic(fmt.Sprintf("no model of %T", op))
}

func fieldPath(path string, f Field) string { return path + f.Name + "/" + f.Kind.String() + "\x00" }

// has reports whether something at the path or below it is there.
func (k known) has(path string) bool {
	for d, e := range k {
		for _, f := range e.effects {
			if f.does != "remove" && strings.HasPrefix(f.path, path) && !k.killed(d, f.path) {
				return true
			}
		}
	}
	return false
}

// value is what the operations known come to.
func (k known) value(kind Kind, path string) Value {
	v := Value{Kind: kind}
	switch kind {
	case Counter:
		v.Counter = k.count(path)
	case Register:
		v.Register = k.assigned(path)
	case Flag:
		v.Flag = k.has(path + "on\x00")
	case Set:
		for _, name := range k.below(path) {
			v.Set = append(v.Set, []byte(strings.TrimPrefix(name, "=")))
		}
	case Map:
		for _, name := range k.below(path) {
			i := strings.LastIndexByte(name, '/')
			for f := Counter; f <= Map; f++ {
				if name[i+1:] == f.String() {
					v.Map = append(v.Map, FieldValue{Field: Field{Name: name[:i], Kind: f}, Value: k.value(f, path+name+"\x00")})
				}
			}
		}
		slices.SortFunc(v.Map, func(x, y FieldValue) int { return compareFields(x.Field, y.Field) })
	}
	return v
}

// below are the next parts of the paths under this one at which something is
// there.
func (k known) below(path string) []string {
	var names []string
	for _, e := range k {
		for _, f := range e.effects {
			if rest, ok := strings.CutPrefix(f.path, path); ok && rest != "" {
				name, _, _ := strings.Cut(rest, "\x00")
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	return slices.DeleteFunc(names, func(n string) bool { return !k.has(path + n + "\x00") })
}

// count is the value of the counter at a path.
func (k known) count(path string) (total int64) {
	type run struct {
		last object.Dot
		sum  int64
	}
	runs := map[object.Actor]run{}
	for _, e := range k.ordered() {
		for _, f := range e.effects {
			if f.does != "increment" || f.path != path {
				continue
			}
			r, begun := runs[e.dot.Actor]
			before := e.knew.with(known{e.dot: e})
			if begun && r.last != e.dot && before.killed(r.last, path) {
				r.sum = 0
			}
			runs[e.dot.Actor] = run{e.dot, r.sum + f.number}
		}
	}
	for _, r := range runs {
		if !k.killed(r.last, path) {
			total += r.sum
		}
	}
	return total
}

// assigned is the value of the register at a path.
func (k known) assigned(path string) []byte {
	var best *event
	var text []byte
	for _, e := range k.ordered() {
		for _, f := range e.effects {
			if f.does != "assign" || f.path != path || k.killed(e.dot, path) || k.replaced(e.dot, path) {
				continue
			}
			if best == nil || best.dot == e.dot || cmp.Or(cmp.Compare(best.stamp, e.stamp), best.dot.Compare(e.dot)) < 0 {
				best, text = e, []byte(f.text)
			}
		}
	}
	return text
}

// replaced reports whether a later assignment knew this one.
func (k known) replaced(d object.Dot, path string) bool {
	for _, e := range k {
		for _, f := range e.effects {
			if f.does == "assign" && f.path == path && e.knew[d] != nil {
				return true
			}
		}
	}
	return false
}

// copyOf is one copy of an object in a history: the state, and what the model
// knows.
type copyOf struct {
	state State
	known known
}

// history drives copies of one object at random.
type history struct {
	kind    Kind
	copies  []copyOf
	actors  []int           // of each copy; a restart takes a new one
	last    map[int]uint64  // dot counter of each actor
	reads   []object.Vector // what clients have read: the clocks of objects
	past    []copyOf        // messages: whole copies, that arrive late, again, or never
	actorsN int
	stamp   object.Stamp

	refused, deferred int // how often, to see that the histories have it
}

func newHistory(kind Kind, copies int) *history {
	h := &history{kind: kind, last: map[int]uint64{}, stamp: 1}
	for range copies {
		s, err := New(kind, 0)
		if err != nil {
			panic(err)
		}
		h.actorsN++
		h.copies = append(h.copies, copyOf{s, known{}})
		h.actors = append(h.actors, h.actorsN)
	}
	return h
}

// step does one thing, and compares the copy it was done to with the model.
func (h *history) step(t *rapid.T) {
	i := rapid.IntRange(0, len(h.copies)-1).Draw(t, "copy")
	switch rapid.IntRange(0, 9).Draw(t, "what") {
	case 0, 1, 2, 3, 4:
		h.write(t, i)
	case 5, 6:
		h.receive(t, i, h.copies[rapid.IntRange(0, len(h.copies)-1).Draw(t, "from")])
	case 7:
		if len(h.past) > 0 {
			h.receive(t, i, h.past[rapid.IntRange(0, len(h.past)-1).Draw(t, "late message")])
		}
	case 8:
		h.actorsN++
		h.actors[i] = h.actorsN // a restart
	case 9:
		h.other(i)
	}
	h.check(t, h.copies[i])
}

// mint is a new dot of the copy's actor. Other keys take dots as well, so there
// are gaps.
func (h *history) mint(t *rapid.T, i int) object.Dot {
	a := h.actors[i]
	h.last[a] += rapid.Uint64Range(1, 2).Draw(t, "gap")
	return dot(a, h.last[a])
}

// other is a write of the key that leaves no trace in the state, such as a
// tombstone that was replaced: the object's clock covers it, and the
// coordinator says so.
func (h *history) other(i int) {
	a, c := h.actors[i], &h.copies[i]
	h.last[a]++
	e := &event{dot: dot(a, h.last[a])}
	c.known = c.known.with(known{e.dot: e})
	c.state = c.state.Seen(c.known.vector())
	h.remember(*c)
}

func (h *history) remember(c copyOf) {
	h.past = append(h.past, c)
	h.reads = append(h.reads, c.known.vector())
}

func (h *history) write(t *rapid.T, i int) {
	c := &h.copies[i]
	op := genOp(h.kind, 2).Draw(t, "op")
	var ctx object.Vector
	for n := rapid.IntRange(0, 2).Draw(t, "reads"); n > 0 && len(h.reads) > 0; n-- {
		ctx = ctx.Join(h.reads[rapid.IntRange(0, len(h.reads)-1).Draw(t, "read")])
	}
	e := &event{dot: h.mint(t, i), stamp: h.stamp + object.Stamp(rapid.IntRange(0, 3).Draw(t, "clock")), knew: c.known, effects: effects(op, len(ctx) > 0)}
	h.stamp++
	e.covers = c.known
	if len(ctx) > 0 {
		e.covers = h.everything().seen(ctx)
		if !c.state.Context().Descends(ctx) {
			h.deferred++
		}
	}
	before := string(c.state.Append(nil))
	after, err := c.state.Apply(op, e.dot, e.stamp, ctx)
	if wrong := c.known.refuses(op, "", len(ctx) > 0); (err != nil) != wrong {
		t.Fatalf("%v on %v with context %v: error %v; the model refuses: %v", op, c.state, ctx, err, wrong)
	}
	if string(c.state.Append(nil)) != before {
		t.Fatalf("%v has changed the state it was applied to", op)
	}
	if err != nil {
		h.refused++
		return
	}
	c.state, c.known = after, c.known.with(known{e.dot: e})
	h.remember(*c)
}

// refuses reports whether an operation removes what is not there, without a
// context.
func (k known) refuses(op Op, path string, given bool) bool {
	if given {
		return false
	}
	switch o := op.(type) {
	case SetOp:
		return slices.ContainsFunc(o.Removes, func(e []byte) bool {
			added := slices.ContainsFunc(o.Adds, func(a []byte) bool { return string(a) == string(e) })
			return !added && !k.has(path+"="+string(e)+"\x00")
		})
	case MapOp:
		if slices.ContainsFunc(o.Removes, func(f Field) bool { return !k.has(fieldPath(path, f)) }) {
			return true
		}
		return k.refusesUpdates(o, path)
	}
	return false
}

// refusesUpdates judges the updates of a map one after the other, each with what
// those before it have done.
func (k known) refusesUpdates(o MapOp, path string) bool {
	now := &event{dot: dot(99, 1), covers: k}
	for _, f := range o.Removes {
		now.effects = append(now.effects, effect{path: fieldPath(path, f), does: "remove"})
	}
	for _, u := range o.Updates {
		p := fieldPath(path, u.Field)
		if k.with(known{now.dot: now}).refuses(u.Op, p, false) {
			return true
		}
		now.effects = settle(append(now.effects, effectsOf(MapOp{Updates: []Update{u}}, path)...))
	}
	return false
}

func (h *history) everything() known {
	all := known{}
	for _, c := range append(h.past, h.copies...) {
		all = all.with(c.known)
	}
	return all
}

func (h *history) receive(t *rapid.T, i int, from copyOf) {
	c := &h.copies[i]
	merged, err := Merge(c.state, from.state)
	if err != nil {
		t.Fatal(err)
	}
	c.state, c.known = merged, c.known.with(from.known)
	h.remember(*c)
}

// check compares a copy with the model, and its encoding with itself.
func (h *history) check(t *rapid.T, c copyOf) {
	want := c.known.value(h.kind, "")
	if got := c.state.Value(); got.String() != want.String() {
		t.Fatalf("the value is\n%v, the model says\n%v", got, want)
	}
	if !c.known.vector().Descends(c.state.Context()) {
		t.Fatalf("the context %v has seen more than %v", c.state.Context(), c.known.vector())
	}
	enc := c.state.Append(nil)
	again, err := Decode(enc)
	if err != nil {
		t.Fatalf("%v does not decode: %v", c.state, err)
	}
	if !bytes.Equal(again.Append(nil), enc) || again.Value().String() != want.String() {
		t.Fatalf("%v decodes to %v", c.state, again)
	}
}

// converge brings all copies together, in the order that is drawn, and checks
// that they become the same, byte for byte.
func (h *history) converge(t *rapid.T) {
	all := slices.Clone(h.copies)
	var want []byte
	for i := range h.copies {
		for _, j := range rapid.Permutation(indexes(len(all))).Draw(t, "order") {
			h.receive(t, i, all[j])
		}
		h.check(t, h.copies[i])
		got := h.copies[i].state.Append(nil)
		if want == nil {
			want = got
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("copies differ after they have exchanged everything:\n%v\n%v", h.copies[0].state, h.copies[i].state)
		}
	}
}

func indexes(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

var (
	genElem = rapid.SampledFrom(elems("x", "y", ""))
	genName = rapid.SampledFrom([]string{"f", "g"})
)

func genElems(atMost int) *rapid.Generator[[][]byte] {
	return rapid.SliceOfN(genElem, 0, atMost)
}

// genOp draws operations of a kind of the small world: few names and elements,
// and maps of few levels.
func genOp(k Kind, depth int) *rapid.Generator[Op] {
	return rapid.Custom(func(t *rapid.T) Op {
		switch k {
		case Counter:
			return CounterOp(rapid.Int64Range(-3, 5).Draw(t, "increment"))
		case Register:
			return RegisterOp(genElem.Draw(t, "value"))
		case Flag:
			return FlagOp(rapid.Bool().Draw(t, "flag"))
		case Set:
			return SetOp{Adds: genElems(2).Draw(t, "adds"), Removes: genElems(1).Draw(t, "removes")}
		case GSet:
			return GSetOp(genElems(2).Draw(t, "adds"))
		case HLL:
			return HLLOp(genElems(2).Draw(t, "adds"))
		}
		var o MapOp
		for range rapid.SampledFrom([]int{0, 0, 1, 2}).Draw(t, "removes") {
			o.Removes = append(o.Removes, genField(t, depth))
		}
		for range rapid.IntRange(0, 2).Draw(t, "updates") {
			f := genField(t, depth)
			o.Updates = append(o.Updates, Update{Field: f, Op: genOp(f.Kind, depth-1).Draw(t, "update")})
		}
		return o
	})
}

func genField(t *rapid.T, depth int) Field {
	kinds := []Kind{Counter, Set, Register, Flag}
	if depth > 0 {
		kinds = append(kinds, Map)
	}
	return Field{Name: genName.Draw(t, "name"), Kind: rapid.SampledFrom(kinds).Draw(t, "kind")}
}

// removable are the kinds that the model of removals is about.
var removable = []Kind{Counter, Set, Map}

func TestHistoriesAgreeWithTheModel(t *testing.T) {
	for _, k := range removable {
		refused, deferred, runs := 0, 0, 0
		t.Run(k.String(), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				h := newHistory(k, 3)
				for range rapid.IntRange(1, 25).Draw(t, "steps") {
					h.step(t)
				}
				h.converge(t)
				refused, deferred, runs = refused+h.refused, deferred+h.deferred, runs+1
			})
			t.Logf("%d histories with %d operations refused and %d whose context was ahead", runs, refused, deferred)
			if k != Counter && (refused == 0 || deferred == 0) {
				t.Error("the histories do not reach what they are to test")
			}
		})
	}
}

// reached are states that a random history has reached.
func reached(t *rapid.T, kind Kind) []State {
	h := newHistory(kind, 3)
	for range rapid.IntRange(1, 15).Draw(t, "steps") {
		h.stepOf(t)
	}
	states := make([]State, 0, len(h.past)+len(h.copies))
	for _, c := range append(h.past, h.copies...) {
		states = append(states, c.state)
	}
	return states
}

// stepOf is step for all kinds: without the model.
func (h *history) stepOf(t *rapid.T) {
	i := rapid.IntRange(0, len(h.copies)-1).Draw(t, "copy")
	c := &h.copies[i]
	switch rapid.IntRange(0, 5).Draw(t, "what") {
	case 0, 1, 2, 3:
		var ctx object.Vector
		if len(h.reads) > 0 && rapid.Bool().Draw(t, "with context") {
			ctx = h.reads[rapid.IntRange(0, len(h.reads)-1).Draw(t, "read")]
		}
		after, err := c.state.Apply(genOp(h.kind, 2).Draw(t, "op"), h.mint(t, i), h.stamp, ctx)
		if err != nil {
			return
		}
		h.stamp++
		c.state = after
	case 4:
		h.receive(t, i, h.copies[rapid.IntRange(0, len(h.copies)-1).Draw(t, "from")])
		return
	case 5:
		h.actorsN++
		h.actors[i] = h.actorsN
	}
	h.past = append(h.past, *c)
	h.reads = append(h.reads, c.state.Context())
}

func must(t rapid.TB, s State, err error) State {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestMergeLaws(t *testing.T) {
	for _, k := range []Kind{Counter, Set, Map, GSet, HLL} {
		t.Run(k.String(), func(t *testing.T) { rapid.Check(t, func(t *rapid.T) { checkLaws(t, k) }) })
	}
}

func checkLaws(t *rapid.T, k Kind) {
	merge := func(a, b State) State {
		s, err := Merge(a, b)
		return must(t, s, err)
	}
	same := func(law string, a, b State) {
		if !bytes.Equal(a.Append(nil), b.Append(nil)) {
			t.Fatalf("merging is not %s:\n%v\n%v", law, a, b)
		}
	}
	states := reached(t, k)
	pick := rapid.IntRange(0, len(states)-1)
	a, b, c := states[pick.Draw(t, "a")], states[pick.Draw(t, "b")], states[pick.Draw(t, "c")]
	if rapid.Bool().Draw(t, "seen more") {
		a = a.Seen(b.Context())
	}
	ab := merge(a, b)
	same("commutative", ab, merge(b, a))
	same("associative", merge(ab, c), merge(a, merge(b, c)))
	same("idempotent", merge(a, a), a)
	same("monotone", merge(ab, a), ab)
	empty, err := New(k, 0)
	same("neutral to nothing", merge(a, must(t, empty, err)), a)
	same("a step that seeing more keeps", merge(a, a.Seen(c.Context())), a.Seen(c.Context()))
	for _, s := range []State{ab, merge(ab, c)} {
		d, err := Decode(s.Append(nil))
		same("readable", must(t, d, err), s)
	}
}
