package check

import (
	"cmp"
	"slices"
	"time"
)

// Graph is a history with the relation "replaces" worked out.
type Graph struct {
	*History
	writes map[ID]*Op
	lines  map[string]*line
}

// line is the writes of one key, numbered in the order of the history.
type line struct {
	ops     []*Op
	number  map[ID]int
	seen    [][]int         // seen[w]: what w replaces
	present []bool          // in Final
	visited []int           // by write, the last round that has come to it
	round   int             // the searches so far
	rest    []int           // what the present one has still to look at
	deleted []time.Duration // when it may be gone: a delete began that replaces it, step by step, or it, or what replaces it, expires; never: 1<<63-1
}

const never = time.Duration(1<<63 - 1)

func newGraph(h *History) *Graph {
	g := &Graph{History: h, writes: make(map[ID]*Op), lines: make(map[string]*line)}
	for i := range h.Ops {
		if op := &h.Ops[i]; op.Write != 0 {
			g.writes[op.Write] = op
			g.line(op.Key).add(op)
		}
	}
	for _, key := range sortedKeys(g.lines) {
		g.lines[key].connect(h.Final[key])
	}
	return g
}

func (g *Graph) line(key string) *line {
	l := g.lines[key]
	if l == nil {
		l = &line{number: make(map[ID]int)}
		g.lines[key] = l
	}
	return l
}

func (l *line) add(op *Op) {
	l.number[op.Write] = len(l.ops)
	l.ops = append(l.ops, op)
}

// connect works out who replaces whom.
func (l *line) connect(final []ID) {
	n := len(l.ops)
	l.seen, l.visited = make([][]int, n), make([]int, n)
	l.present, l.deleted = make([]bool, n), make([]time.Duration, n)
	for w, op := range l.ops {
		l.seen[w] = l.numbers(op.Seen)
	}
	for _, v := range l.numbers(final) {
		l.present[v] = true
	}
	for v := range l.deleted {
		l.deleted[v] = never
	}
	l.end()
}

// end works out when each write may be gone. What ends first is looked at first: whatever it has
// replaced needs no second look.
func (l *line) end() {
	type ending struct {
		op   int
		when time.Duration
	}
	var ends []ending
	for d, op := range l.ops {
		switch {
		case op.Kind == Put && op.Expires != 0:
			l.deleted[d] = max(op.Start, op.Expires)
			ends = append(ends, ending{d, l.deleted[d]})
		case op.Kind == Delete:
			ends = append(ends, ending{d, op.Start})
		}
	}
	slices.SortStableFunc(ends, func(a, b ending) int { return cmp.Compare(a.when, b.when) })
	l.round++
	for _, e := range ends {
		for _, v := range l.reach([]int{e.op}) {
			l.deleted[v] = min(l.deleted[v], e.when)
		}
	}
}

// numbers are the numbers of the writes that the line has.
func (l *line) numbers(ids []ID) []int {
	var ns []int
	for _, id := range ids {
		if n, ok := l.number[id]; ok {
			ns = append(ns, n)
		}
	}
	return ns
}

// replaced are the writes that those given replace, step by step: what can be reached from
// them in one step or more.
func (l *line) replaced(by []int) []int {
	l.round++
	return l.reach(by)
}

// reach is replaced without what this round has come to before.
func (l *line) reach(by []int) []int {
	var found []int
	l.rest = append(l.rest[:0], by...)
	for len(l.rest) > 0 {
		from := l.rest[len(l.rest)-1]
		l.rest = l.rest[:len(l.rest)-1]
		for _, to := range l.seen[from] {
			if l.visited[to] != l.round {
				l.visited[to] = l.round
				found, l.rest = append(found, to), append(l.rest, to)
			}
		}
	}
	return found
}
