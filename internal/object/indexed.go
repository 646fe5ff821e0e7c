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
	var terms []Term
	at := make(map[kv.Pair]int)
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
			pair := kv.Pair{Name: index.Field, Value: index.Sorts}
			n, found := at[pair]
			if !found {
				n = len(terms)
				at[pair] = n
				terms = append(terms, Term{Field: index.Field, Term: index.Sorts, Until: s.Expires})
			}
			terms[n].add(s.Expires, shown)
		}
	}
	return terms
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
