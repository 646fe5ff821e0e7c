package object

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// modelMerge is the rule of Merge, word for word, on sets.
func modelMerge(a, b Object) (seen, siblings set) {
	siblings = set{}
	for d := range alive(a).union(alive(b)) {
		both := alive(a)[d] && alive(b)[d]
		unseen := !covered(a.Clock)[d] || !covered(b.Clock)[d]
		if both || unseen {
			siblings[d] = true
		}
	}
	return covered(a.Clock).union(covered(b.Clock)), siblings
}

func TestMergeAgreesWithSets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := genObject(t, "a"), genObject(t, "b")
		m := Merge(a, b)
		checkInvariants(t, m)
		seen, siblings := modelMerge(a, b)
		if !covered(m.Clock).equal(seen) || !alive(m).equal(siblings) {
			t.Fatalf("merge of\n%v and\n%v is\n%v", a, b, m)
		}
		for _, s := range m.Siblings {
			if want := sib(s.Dot); s.String() != want.String() || string(s.Body) != string(want.Body) || s.Request != want.Request {
				t.Fatalf("sibling %v changed to %v", want, s)
			}
		}
	})
}

func TestMergeLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := genObject(t, "a"), genObject(t, "b"), genObject(t, "c")
		before := string(a.Encode()) + string(b.Encode())
		ab := Merge(a, b)
		if !same(ab, Merge(b, a)) {
			t.Errorf("not commutative: %v, %v", a, b)
		}
		if !same(Merge(ab, c), Merge(a, Merge(b, c))) {
			t.Errorf("not associative: %v, %v, %v", a, b, c)
		}
		if !same(Merge(a, a), a) || !same(Merge(ab, b), ab) {
			t.Errorf("not idempotent: %v, %v", a, b)
		}
		if !same(Merge(a, Object{}), a) {
			t.Errorf("merging nothing changes %v", a)
		}
		if r := Compare(ab, a); r != Newer && r != Equal {
			t.Errorf("not monotone: the merge of %v and %v is %v", a, b, r)
		}
		if before != string(a.Encode())+string(b.Encode()) {
			t.Errorf("an operand was changed")
		}
	})
}

// spoil gives some siblings another content under the same dot, as no correct
// node ever does.
func spoil(t *rapid.T, o Object) Object {
	o.Siblings = slices.Clone(o.Siblings)
	for i := range o.Siblings {
		s := &o.Siblings[i]
		switch rapid.IntRange(0, 6).Draw(t, "fault") {
		case 1:
			s.Stamp++
		case 2:
			s.Expires--
		case 3:
			s.Request[15]++
		case 4:
			s.Deleted = !s.Deleted
		case 5:
			s.Body = append(slices.Clone(s.Body), 'x')
			s.Size++
		case 6:
			s.Body = slices.Clone(s.Body)
			for j := range s.Body {
				s.Body[j]++
			}
		}
	}
	return o
}

func TestMergeLawsHoldForSpoiltSiblings(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := spoil(t, genObject(t, "a")), spoil(t, genObject(t, "b")), spoil(t, genObject(t, "c"))
		ab := Merge(a, b)
		if !same(ab, Merge(b, a)) || !same(Merge(ab, c), Merge(a, Merge(b, c))) || !same(Merge(ab, a), ab) {
			t.Errorf("order matters for\n%v\n%v\n%v", a, b, c)
		}
	})
}

func TestCompareForetellsMerge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := genObject(t, "a"), genObject(t, "b")
		if rapid.Bool().Draw(t, "make one contain the other") {
			b = Merge(a, b)
		}
		if rapid.Bool().Draw(t, "spoil") {
			b = head(spoil(t, b))
			a = head(a)
			for _, o := range []Object{a, b} { // so that same can encode them
				for i := range o.Siblings {
					o.Siblings[i].Body = make([]byte, o.Siblings[i].Size)
				}
			}
		}
		m := Merge(a, b)
		want := Concurrent
		switch isA, isB := same(m, a), same(m, b); {
		case isA && isB:
			want = Equal
		case isA:
			want = Newer
		case isB:
			want = Older
		}
		if got := Compare(a, b); got != want {
			t.Errorf("%v is %v to %v, want %v", a, got, b, want)
		}
		if got := Compare(head(a), head(b)); got != want {
			t.Errorf("heads: %v is %v to %v, want %v", a, got, b, want)
		}
		if got := Compare(a, head(b)); got != want {
			t.Errorf("an object and a head: %v is %v to %v, want %v", a, got, b, want)
		}
	})
}

func TestMergeOfHeads(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := genObject(t, "a"), genObject(t, "b")
		m := Merge(a, b)
		heads := Merge(head(a), head(b))
		if heads.String() != head(m).String() {
			t.Errorf("merge of heads is %v, of objects %v", heads, m)
		}
		// What only a has is missing; all that b has is there.
		half := Merge(head(a), b)
		complete := alive(b).contains(alive(m).minus(empty(m)))
		if half.Complete() != complete {
			t.Errorf("complete: %v, want %v: %v and %v", half.Complete(), complete, a, b)
		}
		if complete && !same(half, m) {
			t.Errorf("bodies were lost: %v", half)
		}
	})
}

// empty are the dots of siblings without a body.
func empty(o Object) set {
	s := set{}
	for _, x := range o.Siblings {
		if x.Size == 0 {
			s[x.Dot] = true
		}
	}
	return s
}

func TestMergeKeepsAndDrops(t *testing.T) {
	a1, a2, b1, b2 := dot(1, 1), dot(1, 2), dot(2, 1), dot(2, 2)
	for _, c := range []struct {
		name string
		a, b Object
		want Object
	}{
		{"nothing with nothing", Object{}, Object{}, Object{}},
		{"a replica that has nothing", obj(vec(1), a1), Object{}, obj(vec(1), a1)},
		{"concurrent writes stay", obj(vec(1), a1), obj(vec(0, 1), b1), obj(vec(1, 1), a1, b1)},
		{"a replaced value goes", obj(vec(2), a2), obj(vec(1), a1), obj(vec(2), a2)},
		{"a replaced value goes by another actor", obj(vec(1, 1), b1), obj(vec(1), a1), obj(vec(1, 1), b1)},
		{"a covered dot goes, although the clocks are concurrent",
			obj(vec(2, 1), a2, b1), obj(vec(1, 2), a1, b2), obj(vec(2, 2), a2, b2)},
		{"what both have stays", obj(vec(2), a1, a2), obj(vec(1, 1), a1, b1), obj(vec(2, 1), a1, a2, b1)},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Merge(c.a, c.b); !same(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestWriteReplacesWhatItHasSeen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		local, seen := genObject(t, "local"), genVector(t, "seen")
		n := rapid.IntRange(1, modelActors+1).Draw(t, "actor")
		d := dot(n, max(local.Clock.Counter(actor(n)), seen.Counter(actor(n)))+rapid.Uint64Range(1, 3).Draw(t, "step"))
		s := sib(d)
		s.Size = 0 // Write sets it
		before := string(local.Encode())
		got := Write(local, seen, s)
		checkInvariants(t, got)
		if !got.Complete() || before != string(local.Encode()) {
			t.Errorf("Write spoils an object")
		}
		if !got.Clock.Equal(local.Clock.Join(seen).Join(Vector{d})) {
			t.Errorf("clock %v of %v, %v, %v", got.Clock, local, seen, d)
		}
		if want := alive(local).minus(covered(seen)).union(set{d: true}); !alive(got).equal(want) {
			t.Errorf("siblings %v of %v, seen %v, new %v", got, local, seen, d)
		}
		if r := Compare(got, local); r != Newer {
			t.Errorf("the new object is %v", r)
		}
		// A write is the same as merging in what the writer made of what it
		// saw.
		alone := Object{Clock: seen.With(d), Siblings: []Sibling{sib(d)}}
		if seen.Counter(actor(n)) >= local.Clock.Counter(actor(n)) && !same(Merge(local, alone), got) {
			t.Errorf("merge %v, write %v", Merge(local, alone), got)
		}
	})
}

func TestPutPathAllocatesLittle(t *testing.T) {
	local, sent := obj(vec(3, 2, 5), dot(3, 5)), obj(vec(4, 2, 5), dot(1, 4))
	s := sib(dot(1, 4))
	for _, c := range []struct {
		name string
		most float64
		do   func()
	}{
		{"compare", 0, func() { Compare(local, sent) }},
		{"write", 2, func() { Write(local, local.Clock, s) }},
		{"merge with an equal one", 0, func() { Merge(local, local) }},
		{"merge with a newer one", 0, func() { Merge(local, sent) }},
		{"encode", 1, func() { sent.Encode() }},
	} {
		if got := testing.AllocsPerRun(100, c.do); got > c.most {
			t.Errorf("%s: %v allocations, want %v at most", c.name, got, c.most)
		}
	}
}

// history is a small cluster of copies of one key, beside a dumb record of what
// each copy knows: all dots ever seen and all dots ever replaced, in full.
type history struct {
	copies  []copyOf
	reads   []read // what clients have read and may write with
	actors  int    // actors used so far
	written set
}

type copyOf struct {
	Object
	actor          Actor
	counter        uint64
	seen, replaced set
}

type read struct {
	context Vector
	seen    set
}

func newHistory(n int) *history {
	h := &history{reads: []read{{}}, written: set{}}
	for range n {
		h.copies = append(h.copies, copyOf{seen: set{}, replaced: set{}})
		h.restart(len(h.copies) - 1)
	}
	return h
}

// restart gives the copy a new actor, as every start without a marker does.
func (h *history) restart(i int) {
	h.actors++
	h.copies[i].actor, h.copies[i].counter = actor(h.actors), 0
}

// forget is a lost disk.
func (h *history) forget(i int) {
	h.copies[i] = copyOf{seen: set{}, replaced: set{}}
	h.restart(i)
}

// write coordinates a write at copy i, by a client that has made read r. Writes
// of other keys have moved the actor's counter by gap.
func (h *history) write(i int, r read, gap uint64) {
	c := &h.copies[i]
	c.counter += 1 + gap
	d := Dot{c.actor, c.counter}
	c.Object = Write(c.Object, r.context, sib(d))
	c.seen = c.seen.union(r.seen).union(set{d: true})
	c.replaced = c.replaced.union(r.seen)
	h.written[d] = true
}

// send merges copy i, as it is, into copy j.
func (h *history) send(i, j int) {
	from, to := &h.copies[i], &h.copies[j]
	to.Object = Merge(to.Object, from.Object)
	to.seen = to.seen.union(from.seen)
	to.replaced = to.replaced.union(from.replaced)
}

// read merges two copies, as a client with R=2 sees them.
func (h *history) read(i, j int) {
	m := Merge(h.copies[i].Object, h.copies[j].Object)
	h.reads = append(h.reads, read{m.Clock, h.copies[i].seen.union(h.copies[j].seen)})
}

// check compares each copy with the record.
func (h *history) check(t *rapid.T) {
	t.Helper()
	for i, c := range h.copies {
		checkInvariants(t, c.Object)
		if want := c.seen.minus(c.replaced); !alive(c.Object).equal(want) {
			t.Fatalf("copy %d holds %v, want the dots %v", i, c.Object, slices.Collect(maps.Keys(want)))
		}
		for d := range h.written {
			if c.Clock.Covers(d) != c.seen[d] {
				t.Fatalf("copy %d with clock %v covers %v: %v, has seen it: %v", i, c.Clock, d, c.Clock.Covers(d), c.seen[d])
			}
		}
		for _, o := range h.copies {
			wantEqual := c.seen.equal(o.seen) && c.replaced.equal(o.replaced)
			if got := Compare(c.Object, o.Object) == Equal; got != wantEqual {
				t.Fatalf("%v equals %v: %v, want %v", c.Object, o.Object, got, wantEqual)
			}
		}
	}
}

// TestHistories plays a cluster with writers, messages, restarts and lost disks
// against the full record of who has seen what.
func TestHistories(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const copies = 3
		h := newHistory(copies)
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			i := rapid.IntRange(0, copies-1).Draw(t, "i")
			j := rapid.IntRange(0, copies-1).Draw(t, "j")
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0, 1, 2:
				r := rapid.IntRange(0, len(h.reads)-1).Draw(t, "which read")
				h.write(i, h.reads[r], rapid.Uint64Range(0, 2).Draw(t, "gap"))
			case 3, 4, 5:
				h.send(i, j)
			case 6, 7:
				h.read(i, j)
			case 8:
				h.restart(i)
			case 9:
				h.forget(i)
			}
			h.check(t)
		}
		h.heal()
		for _, c := range h.copies {
			if !same(c.Object, h.copies[0].Object) {
				t.Fatalf("after all is exchanged %v and %v differ", c.Object, h.copies[0].Object)
			}
		}
	})
}

// heal sends every copy to every other, twice.
func (h *history) heal() {
	for range 2 {
		for i := range h.copies {
			for j := range h.copies {
				h.send(i, j)
			}
		}
	}
}
