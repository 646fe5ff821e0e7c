package antientropy

import "time"

// Status is how it stands with all pairs of a Manager.
type Status struct {
	Paused  bool
	Pairs   int           // that this node compares
	Due     int           // that are to be compared now
	Blocked int           // of those, whose other node is down
	Never   int           // that have not been compared yet
	Oldest  time.Duration // when the pair was compared that was so the longest ago; 0: none has been
	Failing int           // whose last comparison was broken off, or could not mend all
	Limits  Limits
	Totals  Totals
	Running []Running
	Errors  []Trouble // the first of the failing
}

// Running is an exchange at work.
type Running struct {
	Pair  Pair
	Begun time.Duration
	Tally Tally
}

// Trouble is why a pair could not be compared.
type Trouble struct {
	Pair  Pair
	Error string
	Retry time.Duration // when it is tried again
}

// maxTrouble is how many pairs a Status names.
const maxTrouble = 10

// Status is how it stands now.
func (m *Manager) Status() Status {
	s := Status{Paused: m.paused, Pairs: len(m.pairs), Limits: m.limits, Totals: m.totals}
	for _, w := range m.pairs {
		if m.now >= w.due {
			s.Due++
			if !m.isUp(w.There.Node) {
				s.Blocked++
			}
		}
		switch {
		case w.last == 0:
			s.Never++
		case s.Oldest == 0 || w.last < s.Oldest:
			s.Oldest = w.last
		}
		if w.err != "" {
			s.Failing++
			if len(s.Errors) < maxTrouble {
				s.Errors = append(s.Errors, Trouble{w.Pair, w.err, w.due})
			}
		}
	}
	for _, r := range m.running {
		s.Running = append(s.Running, Running{r.work.Pair, r.begun, r.exchange.Tally()})
		s.Totals.add(r.exchange.Tally())
	}
	return s
}
