package object

import "github.com/tanodb/tanodb/kv"

// Term is one index entry of an object: what its values have under a field.
type Term struct {
	Field string // as kv.ParseIndex gives it
	Term  string // as it sorts: see kv.Index
	Until int64  // gone from this instant on, in Unix milliseconds; 0: never

	// Last says that the sibling has it whose write was the last: the only one
	// that is seen where the last write wins. LastUntil is its Until.
	Last      bool
	LastUntil int64
}

// Indexed reports whether any value has index entries. It needs no bodies.
func (o Object) Indexed() bool {
	for i := range o.Siblings {
		if s := &o.Siblings[i]; s.Indexed && !s.Deleted {
			return true
		}
	}
	return false
}

// Terms are the index entries of an object, each once, in no order. It depends on
// the object alone, so that replicas which are equal are found by the same queries:
// what cannot be read or is past a limit is left out everywhere.
func (o Object) Terms() []Term {
	if !o.Indexed() {
		return nil
	}
	last := o.Latest()
	var found terms
	for i := range o.Siblings {
		s := &o.Siblings[i]
		if !s.Indexed || s.Deleted {
			continue
		}
		v, err := DecodeBody(s.Body)
		if err != nil {
			continue
		}
		shown := s.Dot == last.Siblings[0].Dot
		for _, p := range v.Indexes {
			index, err := kv.ParseIndex(p)
			if err != nil {
				continue
			}
			found.of(index, s.Expires).add(s.Expires, shown)
		}
	}
	return found.all
}

// fewTerms is how many terms are looked through faster than a map is made.
const fewTerms = 16

// terms are those of an object, each once.
type terms struct {
	all []Term
	at  map[kv.Index]int // nil while they are few
}

// of is the term of an entry; a new one is gone with the sibling that has it.
func (t *terms) of(index kv.Index, expires int64) *Term {
	if t.at == nil {
		for i := range t.all {
			if x := &t.all[i]; x.Term == index.Sorts && x.Field == index.Field {
				return x
			}
		}
	} else if i, ok := t.at[index]; ok {
		return &t.all[i]
	}
	t.all = append(t.all, Term{Field: index.Field, Term: index.Sorts, Until: expires})
	if t.at == nil && len(t.all) > fewTerms {
		t.at = make(map[kv.Index]int)
		for i := range t.all[:len(t.all)-1] {
			t.at[kv.Index{Field: t.all[i].Field, Sorts: t.all[i].Term}] = i
		}
	}
	if t.at != nil {
		t.at[index] = len(t.all) - 1
	}
	return &t.all[len(t.all)-1]
}

// add says that a sibling has the entry.
func (t *Term) add(expires int64, shown bool) {
	if expires == 0 || t.Until != 0 && expires > t.Until {
		t.Until = expires
	}
	if shown {
		t.Last, t.LastUntil = true, expires
	}
}
