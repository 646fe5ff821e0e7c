package tanodb

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/storage"
	"github.com/tanodb/tanodb/storage/disk"
)

const (
	// scrubRate is how many bytes a second the node reads to look for damage.
	scrubRate = 4 << 20

	// scrubPage is how many bytes it looks at at once.
	scrubPage = 1 << 20

	// scrubRest is how many times as long as a page of a suspect has taken the scrubber
	// rests after it. One damaged table makes all vnodes suspects that it has keys of,
	// and to look at them must not cost the clients what the disk and the processors have.
	scrubRest = 3

	// scrubAgain is the least time between two looks at a vnode that is suspected:
	// a look that finds damage makes the vnode a suspect itself.
	scrubAgain = time.Minute

	// rebuildAgain is the least time between two times that a vnode is rebuilt
	// because of objects that cannot be read. What no other replica has is there
	// afterwards as well.
	rebuildAgain = time.Hour
)

// scrubber looks for damage on the disk, and has vnodes rebuilt in which there
// is any. It goes through all that the node holds, slowly, over and over; a vnode
// in which a reader has met damage it looks at at once. It is a suture.Service.
//
//	a read, a compaction, a vnode's turn ──▶ suspect ─┐
//	                                                  ▼
//	the next page of the round ───────────────────▶ look ── damage ──▶ rebuild
//
// To rebuild a vnode: it is marked as one that lacks data, so that nobody reads
// from it; what the engine cannot read is erased; and hand-off brings all that its
// other replicas have, those objects among it.
type scrubber struct {
	node *Node
	wake chan struct{}

	mu       sync.Mutex
	suspects map[ring.Partition]time.Time // when to look
	looked   map[ring.Partition]time.Time // when a suspect was looked at last
	rebuilt  map[ring.Partition]time.Time // when it was rebuilt last
	damage   map[ring.Partition]int       // that the last look has found, where there was any
	round    round
	finished time.Time // the last round
}

// round is how far the slow look has come.
type round struct {
	vnodes []ring.Partition // still to be looked at
	from   []byte           // in the first of them
	damage []vnode.Damage   // found in it
}

func newScrubber(n *Node) *scrubber {
	return &scrubber{node: n, wake: make(chan struct{}, 1), suspects: make(map[ring.Partition]time.Time),
		looked: make(map[ring.Partition]time.Time), rebuilt: make(map[ring.Partition]time.Time), damage: make(map[ring.Partition]int)}
}

// suspect says that a read of the vnode has met damage. It never waits.
func (s *scrubber) suspect(p ring.Partition) {
	s.mu.Lock()
	if _, known := s.suspects[p]; !known {
		at := time.Now()
		if last, ok := s.looked[p]; ok && last.Add(scrubAgain).After(at) {
			at = last.Add(scrubAgain)
		}
		s.suspects[p] = at
	}
	s.mu.Unlock()
	s.rouse()
}

func (s *scrubber) rouse() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// damaged takes an event of the engine: damage in the files that hold these keys.
func (s *scrubber) damaged(e disk.Event) {
	n := s.node
	select {
	case <-n.joined:
	default:
		return // the node is not open yet, and will look at all that it holds
	}
	first, last, ok := vnode.Within(e.Lower, e.Upper, n.state().Ring().Size())
	if !ok {
		return
	}
	for p := first; p <= last; p++ {
		s.suspect(p)
	}
}

// Serve looks until the context ends.
func (s *scrubber) Serve(ctx context.Context) error {
	pause := time.NewTicker(time.Second * scrubPage / scrubRate)
	defer pause.Stop()
	for {
		select {
		case <-s.wake:
		case <-pause.C:
			s.step(ctx)
		case <-ctx.Done():
			return ctx.Err()
		}
		for p, ok := s.next(); ok && ctx.Err() == nil; p, ok = s.next() {
			s.lookAt(ctx, p)
		}
	}
}

// next is a suspect whose time has come.
func (s *scrubber) next() (ring.Partition, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for p, at := range s.suspects {
		if !at.After(now) {
			delete(s.suspects, p)
			s.looked[p] = now
			return p, true
		}
	}
	return 0, false
}

// lookAt looks at all of a vnode, in a quarter of its time.
func (s *scrubber) lookAt(ctx context.Context, p ring.Partition) {
	var found []vnode.Damage
	for from := []byte(nil); ctx.Err() == nil; {
		begun := time.Now()
		next, damage, err := s.page(p, from)
		if err != nil {
			s.failed(p, err)
			return
		}
		found = append(found, damage...)
		rest(ctx, scrubRest*time.Since(begun))
		if next == nil {
			s.judge(ctx, p, found)
			return
		}
		from = next
	}
}

// rest waits for so long, or until the context ends.
func rest(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// step looks at the next page of the round.
func (s *scrubber) step(ctx context.Context) {
	r := &s.round
	if len(r.vnodes) == 0 {
		held, err := vnode.Held(s.node.engine)
		if err != nil || len(held) == 0 {
			return
		}
		r.vnodes = held
	}
	p := r.vnodes[0]
	next, damage, err := s.page(p, r.from)
	r.damage, r.from = append(r.damage, damage...), next
	if err == nil && next != nil {
		return
	}
	found := r.damage
	r.vnodes, r.from, r.damage = r.vnodes[1:], nil, nil
	if err != nil {
		s.failed(p, err)
		return
	}
	s.judge(ctx, p, found)
	if len(r.vnodes) == 0 {
		s.mu.Lock()
		s.finished = time.Now()
		s.mu.Unlock()
	}
}

// page looks at a page of a vnode.
func (s *scrubber) page(p ring.Partition, from []byte) (next []byte, damage []vnode.Damage, err error) {
	got, err := vnode.Scrub(s.node.engine, p, from, scrubPage)
	if err != nil {
		return nil, nil, err
	}
	s.node.metrics.scrubbed.Add(float64(got.Bytes))
	return got.Next, got.Damage, nil
}

func (s *scrubber) failed(p ring.Partition, err error) {
	if errors.Is(err, storage.ErrClosed) || s.node.closing.Load() {
		return
	}
	s.node.log.Warn("a vnode cannot be looked through for damage", "node", s.node.self, "partition", int(p), "error", err)
}

// judge decides what becomes of a vnode that was looked at.
func (s *scrubber) judge(ctx context.Context, p ring.Partition, found []vnode.Damage) {
	n := s.node
	var spans []vnode.Span
	var rotten [][]byte
	beside := true
	for _, d := range found {
		n.metrics.damage.Inc()
		beside = beside && d.Beside
		if d.Span != nil {
			spans = append(spans, *d.Span)
		} else {
			rotten = append(rotten, d.At)
		}
	}
	s.mu.Lock()
	if s.damage[p] = len(found); len(found) == 0 {
		delete(s.damage, p)
	}
	last, before := s.rebuilt[p]
	if before && time.Since(last) < rebuildAgain && len(spans) > 0 {
		for i := range spans {
			spans[i] = spans[i].Whole() // to erase less has not helped
		}
	}
	again := len(found) > 0 && int(p) < len(n.lacking) && (len(spans) > 0 || !before || time.Since(last) > rebuildAgain)
	if again {
		s.rebuilt[p] = time.Now()
	}
	s.mu.Unlock()
	if !again {
		return
	}
	n.log.Error("a vnode has damage on the disk, and is rebuilt, from its other replicas if it is of objects",
		"node", n.self, "partition", int(p), "places", len(found), "first", describeDamage(found[0]))
	if err := n.vnodes.worker(p).rebuild(ctx, p, spans, rotten, !beside); err != nil {
		n.log.Error("a vnode cannot be rebuilt now", "node", n.self, "partition", int(p), "error", err)
		s.mu.Lock()
		delete(s.rebuilt, p)
		s.mu.Unlock()
		s.suspect(p)
		return
	}
	if len(spans) > 0 {
		n.menders.verify.regrow(p)
	}
	s.mu.Lock()
	delete(s.damage, p) // until the next look
	s.mu.Unlock()
	s.suspect(p) // has it helped?
}

func describeDamage(d vnode.Damage) string {
	if d.Span != nil {
		return d.Span.String() + ": " + d.Text
	}
	return d.Key.String() + ": " + d.Text
}

// state is what the scrubber knows, for people.
func (s *scrubber) state() (damaged []int, finished time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range s.damage {
		damaged = append(damaged, int(p))
	}
	slices.Sort(damaged)
	return damaged, s.finished
}

// rebuild makes a vnode lose what lies in the spans, and rotten tombstones, between two of its batches.
// If it lacks objects with that, it is marked so and has them filled again, and
// it begins anew: what it remembers of the objects is no more.
func (w *worker) rebuild(ctx context.Context, p ring.Partition, spans []vnode.Span, rotten [][]byte, lacks bool) error {
	done := make(chan error, 1)
	order := func() {
		var err error
		if lacks {
			err = w.quarantine(p, rotten)
		}
		if err == nil {
			w.erase(p, spans)
		}
		if lacks && err == nil {
			w.node.movers.lost(p)
		}
		done <- err
	}
	select {
	case w.orders <- order:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// quarantine makes a vnode one that lacks data, and a new incarnation, on the worker's own
// goroutine. Of the rotten objects those go that were dead.
func (w *worker) quarantine(p ring.Partition, rotten [][]byte) error {
	n := w.node
	var b storage.Batch
	out := vnode.New(vnode.Config{Partition: p}, n.engine).Handle(0, []vnode.Message{&vnode.SetLacking{On: true, Rotten: rotten}}, &b)
	for _, note := range out.Notes {
		n.metrics.vnodeNote(n, p, note)
	}
	b.Urgent = true
	commit, err := n.engine.Apply(&b, true)
	if err == nil {
		err = commit.Wait()
	}
	if err != nil {
		return fmt.Errorf("tanodb: marking the vnode: %w", err)
	}
	n.lacking[p].Store(true)
	n.reapers.lost.Add(1)
	w.mu.Lock()
	if t := w.vnodes[p]; t != nil {
		t.vnode = w.incarnate(p, incarnation{actor: freshActor()})
	}
	delete(w.resume, p)
	w.mu.Unlock()
	return nil
}

// erase lets go of what cannot be read.
func (w *worker) erase(p ring.Partition, spans []vnode.Span) {
	for _, s := range spans {
		if err := erase(w.node.engine, s); err != nil {
			w.node.log.Warn("what cannot be read is not erased: it answers no reads, and hinders compactions",
				"node", w.node.self, "partition", int(p), "span", s.String(), "error", err)
		}
	}
}

// erase lets the engine forget a span that it cannot read, with the last key
// before it: the block of that key is good, and cut in its middle, so that nobody
// who reads to its end comes to the damaged one behind it. If that cannot be
// done, all keys of the span's kind and vnode go.
func erase(e storage.Engine, s vnode.Span) error {
	eraser, ok := e.(storage.Eraser)
	if !ok {
		return nil // an engine without blocks
	}
	if s.Last != nil {
		s.From = s.Last
	}
	err := eraser.Erase(s.From, s.To)
	if errors.Is(err, storage.ErrCorrupt) {
		all := s.Whole()
		err = eraser.Erase(all.From, all.To)
	}
	return err
}
