package object

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
)

// Actor names one incarnation of a vnode: 8 random bytes. A vnode that may have
// forgotten something it has issued takes a new one.
type Actor [8]byte

// Compare orders actors by their bytes.
func (a Actor) Compare(b Actor) int {
	return cmp.Compare(binary.BigEndian.Uint64(a[:]), binary.BigEndian.Uint64(b[:]))
}

// String is the actor in hexadecimal.
func (a Actor) String() string { return hex.EncodeToString(a[:]) }

// Dot names one write: the actor's write number Counter, from 1 on. An actor
// counts the writes of all its keys together, so a key sees gaps.
type Dot struct {
	Actor   Actor
	Counter uint64
}

// Compare orders dots by actor, then by counter. Only among dots of one actor
// does the order mean earlier and later.
func (d Dot) Compare(e Dot) int {
	if c := d.Actor.Compare(e.Actor); c != 0 {
		return c
	}
	return cmp.Compare(d.Counter, e.Counter)
}

// String is actor:counter.
func (d Dot) String() string { return d.Actor.String() + ":" + strconv.FormatUint(d.Counter, 10) }

// Vector is a version vector: for each actor, the counter up to which its
// writes have been seen. An actor that is not in it has counter 0. Nil has seen
// nothing.
//
// Invariant: ordered by actor, each at most once, counters above 0. A vector is
// never changed in place, so it may be shared.
type Vector []Dot

// find returns where the actor is, or would be, and whether it is there.
func (v Vector) find(a Actor) (int, bool) {
	lo, hi := 0, len(v)
	for lo < hi {
		mid := (lo + hi) / 2
		switch c := v[mid].Actor.Compare(a); {
		case c == 0:
			return mid, true
		case c < 0:
			lo = mid + 1
		default:
			hi = mid
		}
	}
	return lo, false
}

// Counter is the counter up to which the actor's writes have been seen.
func (v Vector) Counter(a Actor) uint64 {
	if i, ok := v.find(a); ok {
		return v[i].Counter
	}
	return 0
}

// Covers reports whether the write has been seen.
func (v Vector) Covers(d Dot) bool { return d.Counter <= v.Counter(d.Actor) }

// Descends reports whether v has seen everything that o has. Each vector
// descends from itself and from nil.
func (v Vector) Descends(o Vector) bool {
	if len(v) < len(o) {
		return false
	}
	i := 0
	for _, d := range o {
		for i < len(v) && v[i].Actor.Compare(d.Actor) < 0 {
			i++
		}
		if i == len(v) || v[i].Actor != d.Actor || v[i].Counter < d.Counter {
			return false
		}
		i++
	}
	return true
}

// Equal reports whether both have seen the same.
func (v Vector) Equal(o Vector) bool { return slices.Equal(v, o) }

// Join is what v and o have seen together. If one descends from the other, the
// result is that one itself and nothing is allocated.
func (v Vector) Join(o Vector) Vector {
	if v.Descends(o) {
		return v
	}
	if o.Descends(v) {
		return o
	}
	out := make(Vector, 0, len(v)+len(o))
	for len(v) > 0 && len(o) > 0 {
		c := v[0].Actor.Compare(o[0].Actor)
		switch {
		case c < 0:
			out, v = append(out, v[0]), v[1:]
		case c > 0:
			out, o = append(out, o[0]), o[1:]
		default:
			out = append(out, Dot{v[0].Actor, max(v[0].Counter, o[0].Counter)})
			v, o = v[1:], o[1:]
		}
	}
	out = append(out, v...)
	return append(out, o...)
}

// With is v that has seen d, and so all earlier writes of its actor. If v
// covers d, the result is v itself.
func (v Vector) With(d Dot) Vector {
	i, found := v.find(d.Actor)
	if d.Counter == 0 || found && v[i].Counter >= d.Counter {
		return v
	}
	rest := v[i:]
	if found {
		rest = v[i+1:]
	}
	out := make(Vector, 0, i+1+len(rest))
	out = append(out, v[:i]...)
	out = append(out, d)
	return append(out, rest...)
}

// String shows the entries in order: (actor:counter actor:counter).
func (v Vector) String() string {
	var b strings.Builder
	b.WriteByte('(')
	for i, d := range v {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(d.String())
	}
	b.WriteByte(')')
	return b.String()
}
