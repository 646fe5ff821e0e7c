package check

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// model is one perfect copy of a few keys: what it does is right by
// construction.
type model struct {
	rnd  *rand.Rand
	h    History
	now  time.Duration
	next ID
	has  map[string][]ID   // what is there, tombstones included
	gone map[ID]bool       // deletes, which no read shows
	ctx  map[string][][]ID // contexts that were handed out
}

var modelKeys = []string{"a/1", "a/2", "b/1"}

// generate returns the history of so many operations on a perfect store.
func generate(seed uint64, n int) *History {
	m := &model{
		rnd:  rand.New(rand.NewPCG(seed, 1)),
		has:  make(map[string][]ID),
		gone: make(map[ID]bool),
		ctx:  make(map[string][][]ID),
	}
	m.h.Stored = make(map[ID]bool)
	for range n {
		key := modelKeys[m.rnd.IntN(len(modelKeys))]
		switch m.rnd.IntN(8) {
		case 0, 1, 2:
			m.get(key)
		case 3:
			m.write(key, Delete)
		case 4:
			m.list(key[:2])
		default:
			m.write(key, Put)
		}
	}
	m.h.Final = m.has
	return &m.h
}

func (m *model) begin(kind Kind, key string) Op {
	m.now += 700 * time.Millisecond
	return Op{
		Client: m.rnd.IntN(3), Node: "n1", Kind: kind, Key: key, Fresh: true, Overlaps: true, Spread: true,
		Start: m.now, End: m.now + 10*time.Millisecond, Due: m.now + time.Second, Outcome: Done,
	}
}

// shown is what a read of the key shows.
func (m *model) shown(key string) []ID {
	return slices.DeleteFunc(slices.Clone(m.has[key]), func(id ID) bool { return m.gone[id] })
}

func (m *model) get(key string) {
	op := m.begin(Get, key)
	op.Read = m.shown(key)
	m.ctx[key] = append(m.ctx[key], slices.Clone(m.has[key]))
	m.h.Ops = append(m.h.Ops, op)
}

func (m *model) list(prefix string) {
	op := m.begin(List, prefix)
	for _, key := range modelKeys {
		if inBucket(key, prefix) && len(m.shown(key)) > 0 {
			op.Listed = append(op.Listed, key)
		}
	}
	m.h.Ops = append(m.h.Ops, op)
}

// write puts or deletes, with some context that was handed out, or none. Some
// writes fail, and of some nobody hears.
func (m *model) write(key string, kind Kind) {
	op := m.begin(kind, key)
	m.next++
	op.Write = m.next
	if all := m.ctx[key]; len(all) > 0 && m.rnd.IntN(4) > 0 {
		op.Seen = all[m.rnd.IntN(len(all))]
	}
	applied := true
	switch m.rnd.IntN(8) {
	case 0:
		op.Outcome, op.Error, applied = Failed, "refused", false
	case 1:
		op.Outcome, op.Error, applied = Doubt, "who knows", m.rnd.IntN(2) == 0
	case 2:
		op.Outcome, op.Gone, applied = Open, true, m.rnd.IntN(2) == 0
	}
	if applied {
		m.has[key] = slices.DeleteFunc(m.has[key], func(id ID) bool { return contains(op.Seen, id) })
		m.has[key] = append(m.has[key], op.Write)
		m.gone[op.Write] = kind == Delete
		m.h.Stored[op.Write] = true
	}
	m.h.Ops = append(m.h.Ops, op)
}

func contains(ids []ID, id ID) bool { return slices.Contains(ids, id) }

// find is the first operation that fits, from a place drawn by the seed on.
func find(h *History, seed uint64, fits func(*Op) bool) *Op {
	n := uint64(len(h.Ops))
	for i := range n {
		if op := &h.Ops[(i+seed)%n]; fits(op) {
			return op
		}
	}
	return nil
}

// story shows a history, for a test that fails.
func story(h *History) string {
	s := fmt.Sprintf("at the end %v\n", h.Final)
	for i := range h.Ops {
		s += h.Ops[i].String() + "\n"
	}
	return s
}
