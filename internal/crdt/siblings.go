package crdt

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/planted"
	"github.com/tanodb/tanodb/kv"
)

// Held is what the siblings of an object hold of one data type, merged.
type Held struct {
	State    State          // of no kind if no sibling holds any
	Requests []kv.RequestID // the named operations that are in it, the oldest first
	Others   []int          // the live siblings that hold values, or states of other kinds
	Latest   int            // the sibling that was written last, of those that hold the state
}

// Hold merges the states of a kind that the siblings of an object hold and that
// are alive at this instant, in Unix milliseconds. Tombstones hold nothing, and neither
// does what has expired.
func Hold(o object.Object, k Kind, nowMs int64) (Held, error) {
	h := Held{Latest: -1}
	for _, i := range byStamp(o) {
		s := &o.Siblings[i]
		if !s.Live(nowMs) {
			continue
		}
		body, state, err := stateOf(s)
		switch {
		case err != nil:
			return Held{}, fmt.Errorf("sibling %s: %w", s.Dot, err)
		case state.kind != k:
			h.Others = append(h.Others, i)
			continue
		case h.Latest < 0:
			h.State = state
		case planted.Is(planted.FirstStateOnly):
		default:
			if h.State, err = Merge(h.State, state); err != nil {
				return Held{}, err
			}
		}
		h.Latest = i
		h.remember(body.Requests)
	}
	slices.Sort(h.Others)
	return h, nil
}

// stateOf is the state of a sibling; of no kind: it holds a value.
func stateOf(s *object.Sibling) (object.State, State, error) {
	if !object.HoldsState(s.Body) {
		return object.State{}, State{}, nil
	}
	body, err := object.DecodeState(s.Body)
	if err != nil {
		return object.State{}, State{}, err
	}
	state, err := Decode(body.Bytes)
	return body, state, err
}

// byStamp are the numbers of the siblings in the order of their writes, as far as
// stamps tell.
func byStamp(o object.Object) []int {
	order := make([]int, len(o.Siblings))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(o.Siblings[i].Stamp, o.Siblings[j].Stamp) })
	return order
}

// remember adds the operations that another sibling has.
func (h *Held) remember(ids []kv.RequestID) {
	for _, id := range ids {
		if !slices.Contains(h.Requests, id) {
			h.Requests = append(h.Requests, id)
		}
	}
}

// Body is the body of the sibling that replaces what was held: the state after an
// operation, which this id names if it is not zero.
func (h *Held) Body(s State, id kv.RequestID) []byte {
	ids := h.Requests
	if planted.Is(planted.NamesForgotten) {
		ids = nil
	}
	if id != (kv.RequestID{}) {
		ids = append(slices.Clip(ids), id)
	}
	ids = ids[max(0, len(ids)-kv.MaxRemembered):]
	return object.AppendState(nil, object.State{Requests: ids, Bytes: s.Append(nil)})
}

// Shown is the object as readers see it: siblings that hold states of one kind are
// one, under the name of the last of them.
func Shown(o object.Object, nowMs int64) (object.Object, error) {
	states := 0
	for i := range o.Siblings {
		if object.HoldsState(o.Siblings[i].Body) {
			states++
		}
	}
	if states < 2 {
		return o, nil
	}
	for _, k := range []Kind{Counter, Set, Map, GSet, HLL} {
		h, err := Hold(o, k, nowMs)
		if err != nil {
			return o, err
		}
		if h.Latest >= 0 {
			o = merged(o, &h)
		}
	}
	return o, nil
}

// merged is the object with one sibling in the place of those that hold a state.
func merged(o object.Object, h *Held) object.Object {
	out := object.Object{Clock: o.Clock}
	for i := range o.Siblings {
		s := o.Siblings[i]
		switch {
		case i == h.Latest:
			s.Body = h.Body(h.State, kv.RequestID{})
			s.Size = len(s.Body)
		case !slices.Contains(h.Others, i) && object.HoldsState(s.Body):
			continue
		}
		out.Siblings = append(out.Siblings, s)
	}
	return out
}
