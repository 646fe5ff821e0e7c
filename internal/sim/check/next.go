package check

import (
	"slices"
	"time"
)

// Next is the history that goes on where this one has ended, at the instant given,
// with all replicas equal. Of what was written it begins with what was there then:
// that must be there or be replaced from now on, whatever its client was told, but for
// tombstones of which some replica has removed its own. All else must never be seen
// again but by a read that may be stale.
func (h *History) Next(now time.Duration) History {
	next := History{Stored: make(map[ID]bool), Reaped: make(map[string][]ID), Past: h.Past, Known: h.Known, Settled: true}
	if next.Past == nil {
		next.Past, next.Known = make(map[ID]string), make(map[string]bool)
	}
	for i := range h.Ops {
		op := h.Ops[i]
		switch {
		case op.Write == 0:
			continue
		case slices.Contains(h.Final[op.Key], op.Write):
			next.Ops = append(next.Ops, op.carried(now))
			next.Stored[op.Write] = true
			if slices.Contains(h.Reaped[op.Key], op.Write) {
				next.Reaped[op.Key] = append(next.Reaped[op.Key], op.Write)
			}
		case h.Stored[op.Write]:
			next.Past[op.Write] = op.Key
		}
		if op.Kind == Put {
			next.Known[op.Key] = true
		}
	}
	return next
}

// carried is a write that all replicas hold now, as the next history begins with it. A
// value that expires may be hidden already.
func (op Op) carried(now time.Duration) Op {
	op.Outcome, op.End, op.Due, op.Gone = Done, now, now, false
	op.Seen, op.Read, op.Error = nil, nil, ""
	op.Fresh, op.Spread = true, true
	if op.Expires != 0 {
		op.Expires = 1
	}
	return op
}
