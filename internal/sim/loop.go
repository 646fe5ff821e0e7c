package sim

import "time"

// loop is simulated time, and what will happen in it. Events of one instant
// happen in the order in which they were scheduled, so that a run is a function
// of its seed.
type loop struct {
	now  time.Duration
	seq  uint64
	heap []event // a binary heap, by (at, seq)
	done uint64  // events that have happened
}

type event struct {
	at  time.Duration
	seq uint64
	run func()
}

func (e *event) before(o *event) bool {
	return e.at < o.at || e.at == o.at && e.seq < o.seq
}

// at schedules fn for an instant; one that has passed means now.
func (l *loop) at(t time.Duration, fn func()) {
	l.seq++
	l.heap = append(l.heap, event{max(t, l.now), l.seq, fn})
	for i := len(l.heap) - 1; i > 0; {
		up := (i - 1) / 2
		if !l.heap[i].before(&l.heap[up]) {
			return
		}
		l.heap[i], l.heap[up] = l.heap[up], l.heap[i]
		i = up
	}
}

// after schedules fn for a time from now on.
func (l *loop) after(d time.Duration, fn func()) { l.at(l.now+d, fn) }

// pop removes the next event and moves time on to it.
func (l *loop) pop() (event, bool) {
	if len(l.heap) == 0 {
		return event{}, false
	}
	first := l.heap[0]
	last := len(l.heap) - 1
	l.heap[0] = l.heap[last]
	l.heap[last] = event{} // so that what it holds can be collected
	l.heap = l.heap[:last]
	l.sift()
	l.now = first.at
	l.done++
	return first, true
}

// sift moves the heap's first event down to its place.
func (l *loop) sift() {
	for i := 0; ; {
		least := i
		for _, child := range [...]int{2*i + 1, 2*i + 2} {
			if child < len(l.heap) && l.heap[child].before(&l.heap[least]) {
				least = child
			}
		}
		if least == i {
			return
		}
		l.heap[i], l.heap[least] = l.heap[least], l.heap[i]
		i = least
	}
}
