package crdt

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/tanodb/tanodb/internal/object"
)

// Decode reads what Append has written. It is strict: what it accepts keeps the
// invariants, and encodes to the same bytes again. It allocates no more than a
// small multiple of the length of b, which the state aliases. The errors are
// ErrCorrupt and ErrVersion.
//
// It sets no limit to the number of elements: copies within the limits may merge
// to one past them, which must still be read.
func Decode(b []byte) (State, error) {
	r := reader{b: b, part: "state"}
	r.version()
	s := State{kind: Kind(r.byte("the kind"))}
	if r.err == nil && !s.kind.TopLevel() {
		r.fail("it is of no kind that an object can have")
	}
	s.context = r.vector()
	r.context = s.context
	s.store = r.store(s.kind, 1)
	if err := r.end(); err != nil {
		return State{}, err
	}
	return s, nil
}

// DecodeOp reads what AppendOp has written, and refuses what it would not have.
// The operation aliases b. The errors are ErrCorrupt, ErrVersion and those of
// the limits.
func DecodeOp(b []byte) (Op, error) {
	r := reader{b: b, part: "operation"}
	r.version()
	k := Kind(r.byte("the kind"))
	if r.err == nil && !k.TopLevel() && !k.InMap() {
		r.fail("it is of no known kind")
	}
	op := r.op(k, 1)
	if err := r.end(); err != nil {
		return nil, err
	}
	if err := Check(op); err != nil {
		return nil, err
	}
	return op, nil
}

// reader takes what was encoded off the front of b. After the first error it
// gives zeros only and keeps that error, so that callers check once, at the
// end.
type reader struct {
	b    []byte
	at   int    // how far b is read
	part string // of CorruptError
	err  error

	context object.Vector
	arena   []add // cut into the lists of dots, so that not each is allocated
}

// left is how many bytes are not read yet.
func (r *reader) left() int { return len(r.b) - r.at }

func (r *reader) fail(problem string) {
	if r.err == nil {
		r.err = &CorruptError{Part: r.part, Offset: r.at, Problem: problem}
	}
}

// end checks that nothing is left.
func (r *reader) end() error {
	if r.err == nil && r.left() > 0 {
		r.fail("bytes are left over")
	}
	return r.err
}

func (r *reader) version() {
	if v := r.byte("the version"); r.err == nil && v != version {
		r.err = fmt.Errorf("%w: the %s has version %d", ErrVersion, r.part, v)
	}
}

// bytes takes n bytes. They alias b.
func (r *reader) bytes(n int, what string) []byte {
	if r.err == nil && r.left() < n {
		r.fail(what + " is cut short")
	}
	if r.err != nil {
		return nil
	}
	r.at += n
	return r.b[r.at-n : r.at : r.at]
}

// byte takes one byte.
func (r *reader) byte(what string) byte {
	if b := r.bytes(1, what); b != nil {
		return b[0]
	}
	return 0
}

// uvarint takes an unsigned number of 1 to 10 bytes in its shortest form.
func (r *reader) uvarint(what string) uint64 {
	if r.err != nil {
		return 0
	}
	v, n := binary.Uvarint(r.b[r.at:])
	switch {
	case n == 0:
		r.fail(what + " is cut short")
		return 0
	case n < 0:
		r.fail(what + " is past 64 bits")
		return 0
	case n > 1 && r.b[r.at+n-1] == 0:
		r.fail(what + " is not in its shortest form")
		return 0
	}
	r.at += n
	return v
}

// varint takes a signed number.
func (r *reader) varint(what string) int64 {
	u := r.uvarint(what)
	return int64(u>>1) ^ -int64(u&1)
}

// count takes the number of what follows, each of at least size bytes, and so
// bounds what a decoder allocates by the bytes that are there.
func (r *reader) count(size int, what string) int { return r.fits(r.uvarint(what), size, what) }

// fits checks a number of what follows.
func (r *reader) fits(n uint64, size int, what string) int {
	if n > uint64(r.left()/size) {
		r.fail(what + " is more than the bytes can hold")
		return 0
	}
	return int(n)
}

// text takes a length and as many bytes.
func (r *reader) text(what string) []byte { return r.bytes(r.count(1, what), what) }

// vector takes what appendVector has written.
func (r *reader) vector() object.Vector {
	n := r.count(minEntry, "the number of actors")
	if n == 0 {
		return nil
	}
	v := make(object.Vector, n)
	for i := range v {
		copy(v[i].Actor[:], r.bytes(len(object.Actor{}), "an actor"))
		if i > 0 && v[i-1].Actor.Compare(v[i].Actor) >= 0 {
			r.fail("actors are out of order")
		}
		if v[i].Counter = r.uvarint("an actor's counter"); v[i].Counter == 0 {
			r.fail("an actor's counter is zero")
		}
		if r.err != nil {
			return nil
		}
	}
	return v
}

// dot takes a dot that follows another one of its list, and that no removal
// pending there has killed. Killed covers all of an actor's dots or none, since
// it is above the context.
func (r *reader) dot(before object.Dot, first bool, killed object.Vector) object.Dot {
	i, counter := r.uvarint("a dot's actor"), r.uvarint("a dot's counter")
	if r.err != nil {
		return object.Dot{}
	}
	if i >= uint64(len(r.context)) || counter == 0 || counter > r.context[i].Counter {
		r.fail("a dot is not in the context")
		return object.Dot{}
	}
	d := object.Dot{Actor: r.context[i].Actor, Counter: counter}
	if !first && before.Actor.Compare(d.Actor) >= 0 {
		r.fail("dots are out of order")
	}
	if killed.Covers(d) {
		r.fail("a dot is there that a removal has killed")
	}
	return d
}

// place takes what appendPlace has written, at a place where these removals are
// pending above.
func (r *reader) place(killed object.Vector) (adds []add, pending object.Vector) {
	head := r.uvarint("the number of dots")
	n := r.fits(head>>1, minDot, "the number of dots")
	if n > len(r.arena) {
		r.arena = make([]add, max(n, min(512, r.left()/minDot)))
	}
	if n > 0 {
		adds, r.arena = r.arena[:n:n], r.arena[n:]
	}
	for i := range adds {
		adds[i] = add(r.dot(object.Dot(adds[max(i-1, 0)]), i == 0, killed))
		if r.err != nil {
			return nil, nil
		}
	}
	if head&1 == 0 {
		return adds, nil
	}
	if pending = r.vector(); len(pending) == 0 {
		r.fail("nothing is pending where something should be")
	}
	for _, d := range pending {
		if r.context.Covers(d) {
			r.fail("what is pending was seen")
		}
	}
	for _, a := range adds {
		if pending.Covers(a.born()) {
			r.fail("a dot is there that a removal has killed")
		}
	}
	return adds, pending
}

// store takes the store of a state.
func (r *reader) store(k Kind, depth int) store { return r.under(k, depth, nil) }

// under takes a store at a place where these removals are pending.
func (r *reader) under(k Kind, depth int, killed object.Vector) store {
	if r.err != nil {
		return nil
	}
	switch k {
	case Counter:
		return r.counter(killed)
	case Set:
		return r.set(killed)
	case Register:
		return r.register(killed)
	case Flag:
		adds, pending := r.place(killed)
		return enables{adds, pending}
	case Map:
		return r.fields(depth, killed)
	case GSet:
		return r.gset()
	}
	return r.hll()
}

func (r *reader) counter(killed object.Vector) (c counter) {
	n := r.count(minDot+1, "the number of shares")
	if n == 0 {
		return nil
	}
	c = make(counter, n)
	for i := range c {
		c[i].dot = r.dot(c[max(i-1, 0)].dot, i == 0, killed)
		c[i].sum = r.varint("a share")
	}
	return c
}

func (r *reader) register(killed object.Vector) register {
	n := r.count(minDot+8+1, "the number of assignments")
	if n == 0 {
		return nil
	}
	a := make(register, n)
	for i := range a {
		a[i].dot = r.dot(a[max(i-1, 0)].dot, i == 0, killed)
		if stamp := r.bytes(8, "a stamp"); stamp != nil {
			a[i].stamp = object.Stamp(binary.BigEndian.Uint64(stamp))
		}
		a[i].bytes = r.text("a value")
	}
	return a
}

func (r *reader) set(killed object.Vector) set {
	n := r.count(1+1+minDot, "the number of elements")
	if n == 0 {
		return nil
	}
	s := make(set, n)
	for i := range s {
		m := &s[i]
		m.elem = r.text("an element")
		m.adds, m.pending = r.place(killed)
		if i > 0 && bytes.Compare(s[i-1].elem, m.elem) >= 0 {
			r.fail("elements are out of order")
		}
		if m.empty() {
			r.fail("an element has no dot")
		}
		if r.err != nil {
			return nil
		}
	}
	return s
}

func (r *reader) gset() gset {
	g := r.elems()
	for i := 1; i < len(g); i++ {
		if bytes.Compare(g[i-1], g[i]) >= 0 {
			r.fail("elements are out of order")
		}
	}
	return g
}

func (r *reader) elems() [][]byte {
	n := r.count(1, "the number of elements")
	if n == 0 {
		return nil
	}
	all := make([][]byte, n)
	for i := range all {
		if all[i] = r.text("an element"); r.err != nil {
			return nil
		}
	}
	return all
}

func (r *reader) field() Field {
	f := Field{Name: string(r.text("a field's name")), Kind: Kind(r.byte("a field's kind"))}
	if r.err == nil && !f.Kind.InMap() {
		r.fail("a field is of no kind that a map can hold")
	}
	return f
}

func (r *reader) fields(depth int, killed object.Vector) fields {
	if depth > MaxDepth {
		r.fail("maps are too deep within each other")
	}
	n := r.count(1+1+1+1, "the number of fields")
	if n == 0 {
		return nil
	}
	fs := make(fields, n)
	for i := range fs {
		f := &fs[i]
		f.Field = r.field()
		f.adds, f.pending = r.place(killed)
		f.in = r.under(f.Kind, depth+1, killed.Join(f.pending))
		if r.err != nil {
			return nil
		}
		if i > 0 && byField(&fs[i-1], f) >= 0 {
			r.fail("fields are out of order")
		}
		if f.empty() {
			r.fail("a field is empty")
		}
	}
	return fs
}

func (r *reader) hll() hll {
	h := hll{precision: r.byte("the precision")}
	if r.err == nil && (h.precision < MinPrecision || h.precision > MaxPrecision) {
		r.fail("the precision is none that a HyperLogLog has")
	}
	form := r.byte("the form")
	switch {
	case r.err != nil:
	case form == formSparse:
		h.ranks = r.sparse(h.precision)
	case form == formDense:
		h.ranks = r.dense(h.precision)
	default:
		r.fail("the form is unknown")
	}
	if r.err == nil && h.dense() != (form == formDense) {
		r.fail("the registers are in the longer form")
	}
	return h
}

func (r *reader) sparse(precision uint8) []rank {
	n := r.count(1+1, "the number of registers")
	if n == 0 {
		return nil
	}
	ranks := make([]rank, n)
	next := uint64(0)
	for i := range ranks {
		skip := r.uvarint("a register's index")
		rank := int(r.byte("a register"))
		if size := uint64(1) << precision; skip >= size || next+skip >= size {
			r.fail("a register is not among those of the precision")
		}
		if rank == 0 || rank > maxRank(precision) {
			r.fail("a register holds what no hash has")
		}
		if r.err != nil {
			return nil
		}
		ranks[i] = makeRank(uint32(next+skip), rank)
		next += skip + 1
	}
	return ranks
}

func (r *reader) dense(precision uint8) []rank {
	packed := r.bytes(1<<precision/4*3, "the registers")
	ranks := make([]rank, 0, len(packed)/3*4)
	for i := 0; i < len(packed); i += 3 {
		four := uint32(packed[i])<<16 | uint32(packed[i+1])<<8 | uint32(packed[i+2])
		for j := range uint32(4) {
			rank := int(four >> (rankPacked * (3 - j)) & (1<<rankPacked - 1))
			if rank > maxRank(precision) {
				r.fail("a register holds what no hash has")
				return nil
			}
			if rank > 0 {
				ranks = append(ranks, makeRank(uint32(i/3*4)+j, rank))
			}
		}
	}
	return ranks
}

// op takes the content of an operation whose maps are at this depth.
func (r *reader) op(k Kind, depth int) Op {
	if r.err != nil {
		return nil
	}
	switch k {
	case Counter:
		return CounterOp(r.varint("the increment"))
	case Set:
		removes := r.elems()
		return SetOp{Removes: removes, Adds: r.elems()}
	case Register:
		return RegisterOp(r.text("the value"))
	case Flag:
		f := r.byte("the flag")
		if f > 1 {
			r.fail("the flag is neither on nor off")
		}
		return FlagOp(f == 1)
	case Map:
		return r.mapOp(depth)
	case GSet:
		return GSetOp(r.elems())
	}
	return HLLOp(r.elems())
}

func (r *reader) mapOp(depth int) Op {
	if depth > MaxDepth {
		r.fail("maps are too deep within each other")
	}
	var o MapOp
	if n := r.count(1+1, "the number of removals"); n > 0 {
		o.Removes = make([]Field, n)
	}
	for i := range o.Removes {
		if o.Removes[i] = r.field(); r.err != nil {
			return nil
		}
	}
	if n := r.count(1+1+1, "the number of updates"); n > 0 {
		o.Updates = make([]Update, n)
	}
	for i := range o.Updates {
		u := &o.Updates[i]
		u.Field = r.field()
		if u.Op = r.op(u.Field.Kind, depth+1); r.err != nil {
			return nil
		}
	}
	return o
}
