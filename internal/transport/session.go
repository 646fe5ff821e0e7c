package transport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
)

// wire carries messages to one peer and back, in order. Send and recv may run
// at the same time, each on one goroutine.
type wire interface {
	// send sends one message, and takes the buffer. It may block.
	send(b *[]byte) error

	// recv returns the next message, in memory that is never used again.
	recv() ([]byte, error)

	// received grows with whatever comes, be it a part of a message.
	received() uint64

	// allow lets so many bytes come in all. An accepted wire breaks when there
	// are more; before the first call, when there is more than a hello.
	allow(bytes uint64)

	// close ends both directions, so that send and recv return. It does not
	// block. From an accepted wire the peer still gets what was sent before.
	close()

	// release closes the wire and waits until it has gone.
	release()
}

// head is what stands before the frames of a batch. A batch without frames is a
// heartbeat.
type head struct {
	waited time.Duration // in the sender's queue, of which the timeouts of its requests do not know; whole milliseconds
	epoch  uint64        // that the sender has when it writes
	clock  Said          // of the sender's wall clock
}

// Said is what a node says of clocks: see membership.Clocks.
type Said struct {
	Wall  int64 // the sender's wall clock in Unix milliseconds; 0: it says nothing
	Ahead int64 // how far the receiver's seems ahead of it, in milliseconds; Unsaid: the sender cannot tell
}

// Unsaid is the Ahead of a sender that cannot tell.
const Unsaid = math.MinInt64

// clockEvery is how often a connection says something of clocks, at most.
const clockEvery = 200 * time.Millisecond

// batchHead is the size of a head.
const batchHead = 4 + 8 + 8 + 8

// headOf reads the head of a batch.
func headOf(b []byte) (h head, frames []byte, err error) {
	if len(b) < batchHead {
		return h, nil, fmt.Errorf("%w: a batch of %d bytes", ErrFrame, len(b))
	}
	h.waited = time.Duration(binary.BigEndian.Uint32(b)) * time.Millisecond
	h.epoch = binary.BigEndian.Uint64(b[4:])
	h.clock = Said{Wall: int64(binary.BigEndian.Uint64(b[12:])), Ahead: int64(binary.BigEndian.Uint64(b[20:]))}
	return h, b[batchHead:], nil
}

// seal writes the head of a batch.
func seal(b []byte, h head) {
	binary.BigEndian.PutUint32(b, uint32(h.waited.Milliseconds()))
	binary.BigEndian.PutUint64(b[4:], h.epoch)
	binary.BigEndian.PutUint64(b[12:], uint64(h.clock.Wall))
	binary.BigEndian.PutUint64(b[20:], uint64(h.clock.Ahead))
}

// batch is frames on their way to be sent as one message.
type batch struct {
	b      *[]byte // batchHead, then frames
	number uint64
	frames uint64
	born   time.Time
}

// pending is a request that waits for its answer.
type pending struct {
	batch    uint64 // the number of the batch that carries it
	deadline time.Time
	done     func(vnode.Message, error)
}

// session is one connection to a peer while it lasts. Two goroutines serve it,
// read and write; a third, the mesh's, calls tick.
type session struct {
	mesh    *Mesh
	peer    *peer
	theirs  hello
	class   Class
	dialled bool   // by this node: requests go out and answers come in
	address string // that was dialled
	moves   uint64 // how often the peer had moved when it was
	wire    wire
	roomOf  func() <-chan struct{} // room, for the frames
	since   time.Time
	lastID  atomic.Uint64
	said    atomic.Uint64 // the epoch in what was written last
	epoch   atomic.Uint64 // the epoch in what came last

	wake chan struct{} // there is something to write; holds one
	over chan struct{} // closed when the session has ended

	mu        sync.Mutex
	batches   []batch // to be written, oldest first
	queued    int     // bytes in them
	numbered  uint64  // the number of the newest batch
	taken     uint64  // the number of the newest batch that was handed to the wire. Invariant: taken <= numbered
	asks      map[uint64]pending
	soonest   time.Time     // no deadline in asks is before it
	roomy     chan struct{} // to be closed when there is room for answers; nil: nobody waits for that
	finishing bool          // end when all is written
	cause     error         // why it has ended; nil: it has not

	// The rest belongs to the goroutine that calls tick.

	heard     uint64    // wire.received when it last grew
	heardAt   time.Time // when that was
	lastTaken uint64    // taken when it last grew
	sentAt    time.Time // when that was
}

// newSession makes an accepted session from the other's hello.
func newSession(m *Mesh, p *peer, theirs hello, w wire) *session {
	now := time.Now()
	s := &session{
		mesh: m, peer: p, theirs: theirs, class: theirs.class, wire: w, since: now,
		wake: make(chan struct{}, 1), over: make(chan struct{}),
		asks: map[uint64]pending{}, heardAt: now, sentAt: now,
	}
	s.roomOf = s.room
	s.epoch.Store(theirs.epoch)
	p.spoke.Store(int64(s.protocol()))
	p.shows(&s.theirs, theirs.epoch)
	return s
}

// protocol is the one that is spoken: the highest that both know.
func (s *session) protocol() uint16 { return min(s.theirs.high, s.mesh.most()) }

// run serves the session until it ends, and returns why.
func (s *session) run() error {
	var writer sync.WaitGroup
	writer.Go(s.write)
	s.end(s.read())
	writer.Wait()
	return s.cause
}

// ask sends a request. Whatever comes of it, done is called once.
func (s *session) ask(f Frame, deadline time.Time, done func(vnode.Message, error)) {
	now := time.Now()
	left := deadline.Sub(now)
	if left <= 0 {
		done(nil, fmt.Errorf("%w: the deadline has passed", ErrNotSent))
		return
	}
	f.ID = s.lastID.Add(1)
	f.Response = false
	if f.Epoch == 0 {
		f.Epoch = s.mesh.cfg.Epoch()
	}
	f.Timeout = min(left, kv.MaxTimeout)
	if s.protocol() < tracedProtocol {
		f.Trace = Trace{} // it could not read the frame
	}
	b, err := encodeBatch(&f)
	if err == nil {
		err = s.push(b, now, f.ID, pending{deadline: deadline, done: done})
	}
	if err != nil {
		done(nil, fmt.Errorf("%w: %w", ErrNotSent, err))
	}
}

// reply sends an answer. If the peer does not take its answers, the session
// ends: whoever made them has not looked for room, or made too many at once.
func (s *session) reply(to Frame, m vnode.Message) {
	if s.ended() {
		return // and spare the work of encoding
	}
	f := Frame{ID: to.ID, Response: true, Epoch: s.mesh.cfg.Epoch(), To: to.To, Msg: m}
	b, err := encodeBatch(&f)
	if err != nil {
		f.Msg = &vnode.Failure{Code: vnode.CodeInternal, Text: err.Error()}
		if b, err = encodeBatch(&f); err != nil {
			s.end(err)
			return
		}
	}
	if err := s.push(b, time.Now(), 0, pending{}); errors.Is(err, errFull) {
		s.end(fmt.Errorf("does not take its answers: %w", err))
	}
}

// ended is true once the session has ended.
func (s *session) ended() bool {
	select {
	case <-s.over:
		return true
	default:
		return false
	}
}

// encodeBatch encodes one frame as a batch of its own.
func encodeBatch(f *Frame) (*[]byte, error) {
	b := buffers.get()
	var err error
	if *b, err = AppendFrame((*b)[:batchHead], f); err != nil {
		buffers.Put(b)
		return nil, err
	}
	return b, nil
}

var errFull = errors.New("queue full")

// push queues an encoded frame for the writer, and keeps its request if it is
// one. It takes the buffer.
func (s *session) push(b *[]byte, now time.Time, id uint64, ask pending) error {
	s.mu.Lock()
	if err := s.admits(len(*b), ask.done != nil); err != nil {
		s.mu.Unlock()
		buffers.Put(b)
		return err
	}
	s.enqueue(b, now)
	if ask.done != nil {
		ask.batch = s.numbered
		s.asks[id] = ask
		if len(s.asks) == 1 || ask.deadline.Before(s.soonest) {
			s.soonest = ask.deadline
		}
	}
	s.mu.Unlock()
	s.rouse()
	return nil
}

// rouse makes the writer look at the queue.
func (s *session) rouse() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// admits says whether a frame may join the queue. One always may join an empty
// one. An answer has more room than a request: who makes it has looked for room before.
func (s *session) admits(size int, isAsk bool) error {
	most := s.mesh.cfg.MaxQueue
	if !isAsk {
		most *= answersBeyond
	}
	switch limit := s.mesh.cfg.MaxAsks; {
	case s.cause != nil:
		return s.cause
	case isAsk && len(s.asks) >= limit:
		return fmt.Errorf("%w: %d requests wait for their answers", errFull, limit)
	case s.queued > 0 && s.queued+size > most:
		return fmt.Errorf("%w: %d bytes wait to be written", errFull, s.queued)
	}
	return nil
}

// room is Frame.Room.
func (s *session) room() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cause != nil || s.hasRoom() {
		return nil
	}
	if s.roomy == nil {
		s.roomy = make(chan struct{})
	}
	return s.roomy
}

// hasRoom is true while few bytes wait to be written. The lock is held.
func (s *session) hasRoom() bool { return s.queued <= s.mesh.cfg.MaxQueue/roomPart }

// tellOfRoom lets go on who waits for room. The lock is held.
func (s *session) tellOfRoom() {
	if s.roomy != nil {
		close(s.roomy)
		s.roomy = nil
	}
}

// enqueue adds a frame to the newest batch, or makes it a batch of its own.
func (s *session) enqueue(b *[]byte, now time.Time) {
	s.queued += len(*b)
	if n := len(s.batches); n > 0 {
		last := &s.batches[n-1]
		if len(*last.b)+len(*b) <= maxBatch && now.Sub(last.born) < maxBatchAge {
			*last.b = append(*last.b, (*b)[batchHead:]...)
			last.frames++
			s.queued -= batchHead
			buffers.Put(b)
			return
		}
	}
	s.numbered++
	s.batches = append(s.batches, batch{b: b, number: s.numbered, frames: 1, born: now})
}

// write sends batches until the session ends.
func (s *session) write() {
	var said time.Time // when it last said something of clocks
	for {
		b, ok := s.take()
		if !ok {
			return
		}
		epoch := s.mesh.cfg.Epoch()
		seal(*b.b, head{waited: time.Since(b.born), epoch: epoch, clock: s.say(&said)})
		s.said.Store(epoch)
		s.peer.sent(b.frames, len(*b.b))
		err := s.wire.send(b.b)
		if errors.Is(err, io.EOF) {
			return // the peer has closed: the reader takes what it has said before, and ends the session
		}
		if err != nil {
			s.end(err)
			return
		}
	}
}

// say is what is to be said of clocks now, which is nothing if that was last done a
// moment ago.
func (s *session) say(last *time.Time) Said {
	now := time.Now()
	if s.mesh.cfg.Clocks == nil || s.class != Requests || now.Sub(*last) < clockEvery {
		return Said{}
	}
	*last = now
	return s.mesh.cfg.Clocks.Say(s.peer.name)
}

// take waits for the oldest batch; false: the session has ended.
func (s *session) take() (batch, bool) {
	for {
		s.mu.Lock()
		if s.cause != nil {
			s.mu.Unlock()
			return batch{}, false
		}
		if len(s.batches) > 0 {
			b := s.batches[0]
			s.batches = s.batches[1:]
			s.queued -= len(*b.b)
			s.taken = b.number
			if s.hasRoom() {
				s.tellOfRoom()
			}
			s.mu.Unlock()
			return b, true
		}
		finishing := s.finishing
		s.mu.Unlock()
		if finishing {
			s.end(ErrClosed)
			return batch{}, false
		}
		select {
		case <-s.wake:
			runtime.Gosched() // let those who are about to send join the batch
		case <-s.over:
		}
	}
}

// finish ends the session when all that is queued has been written.
func (s *session) finish() {
	s.mu.Lock()
	s.finishing = true
	s.mu.Unlock()
	s.rouse()
}

// end ends the session for the first reason given, and all its requests with it:
// with ErrNotSent if their batch was not yet handed to the wire, else with
// ErrLost.
func (s *session) end(cause error) {
	s.mu.Lock()
	if s.cause != nil {
		s.mu.Unlock()
		return
	}
	s.cause = cause
	asks, taken, waiting := s.asks, s.taken, s.batches
	s.asks, s.batches, s.queued = nil, nil, 0
	s.tellOfRoom()
	s.mu.Unlock()

	close(s.over)
	s.wire.close()
	for _, b := range waiting {
		buffers.Put(b.b)
	}
	notSent := fmt.Errorf("%w: %w", ErrNotSent, cause)
	lost := fmt.Errorf("%w: %w", ErrLost, cause)
	for _, a := range asks {
		if a.batch > taken {
			a.done(nil, notSent)
			continue
		}
		s.peer.lost.Add(1)
		a.done(nil, lost)
	}
}

// answer is what came for a request, by its number.
type answer struct {
	id   uint64
	msg  vnode.Message
	err  error
	done func(vnode.Message, error) // nil: nobody waits for it
}

// read receives batches until one cannot be read, and returns why.
func (s *session) read() error {
	var answers []answer
	for {
		b, err := s.wire.recv()
		if err != nil {
			return err
		}
		answers, err = s.receive(b, answers[:0])
		s.settle(answers)
		clear(answers) // do not keep the messages
		if err != nil {
			return err
		}
	}
}

// receive serves the requests of a batch and appends its answers to out.
func (s *session) receive(b []byte, out []answer) ([]answer, error) {
	size := len(b)
	h, b, err := headOf(b)
	if err != nil {
		return out, err
	}
	s.hear(h)
	var frames uint64
	for ; len(b) > 0 && !s.ended(); frames++ {
		f, rest, err := DecodeFrame(b)
		var unknown *UnknownKindError
		if err != nil && !errors.As(err, &unknown) {
			return out, err
		}
		b = rest
		switch {
		case f.Response:
			if err != nil {
				err = fmt.Errorf("%w: %w", ErrLost, err)
			}
			out = append(out, answer{id: f.ID, msg: f.Msg, err: err})
		case s.dialled:
			return out, fmt.Errorf("%w: a request where only answers come", ErrFrame)
		case err != nil:
			s.reply(f, &vnode.Refusal{Code: vnode.CodeUnsupported, Text: err.Error()})
		default:
			s.serve(f, h.waited)
		}
	}
	s.peer.received(frames, size)
	return out, nil
}

// hear notes the peer's epoch, and tells of a new one, and what it says of clocks.
func (s *session) hear(h head) {
	epoch := h.epoch
	if h.clock.Wall != 0 && s.mesh.cfg.Clocks != nil {
		s.mesh.cfg.Clocks.Hear(s.peer.name, h.clock)
	}
	if s.epoch.Swap(epoch) != epoch {
		s.peer.shows(&s.theirs, epoch)
	}
	if s.counts() && epoch > s.peer.epoch.Load() {
		s.peer.tell(time.Now(), epoch)
	}
}

// counts is true if what comes says that the peer is there: a node that can only
// be heard, and not asked, is of no use.
func (s *session) counts() bool { return s.dialled && s.class == Requests }

// serve hands a request to the handler, unless its time is over.
func (s *session) serve(f Frame, waited time.Duration) {
	f.Timeout -= waited
	if f.Timeout <= 0 {
		s.reply(f, &vnode.Refusal{Code: vnode.CodeExpired, Text: "the deadline had passed on arrival"})
		return
	}
	f.Room = s.roomOf
	s.mesh.cfg.Handler.Serve(s.peer.name, f, func(m vnode.Message) { s.reply(f, m) })
}

// settle ends the requests that were answered. An answer that nobody waits
// for, as after an expiry, is counted and forgotten.
func (s *session) settle(answers []answer) {
	s.mu.Lock()
	for i := range answers {
		a := &answers[i]
		a.done = s.asks[a.id].done
		delete(s.asks, a.id)
	}
	s.mu.Unlock()
	for _, a := range answers {
		if a.done == nil {
			s.peer.strays.Add(1)
			continue
		}
		a.done(a.msg, a.err)
	}
}

// tick does what is due: it tells of a peer that was heard, ends a session that is
// silent, keeps an idle one alive, and ends requests whose deadline has passed. Awake is
// when this process last began to run after it had stood still: silence before it
// proves nothing.
func (s *session) tick(now, awake time.Time) {
	t := &s.mesh.cfg.Timing
	if heard := s.wire.received(); heard != s.heard {
		s.heard, s.heardAt = heard, now
		if s.counts() {
			s.peer.tell(now, s.epoch.Load())
		}
	}
	if now.Sub(s.heardAt) > t.Silence && now.Sub(awake) > t.Silence {
		s.end(fmt.Errorf("silent for %v", t.Silence))
		return
	}
	if least := s.mesh.least(); s.theirs.high < least { // it was not when they met
		s.end(fmt.Errorf("speaks protocol %d, this node %d by now", s.theirs.high, least))
		return
	}
	if err := s.mesh.stillGood(s.wire); err != nil {
		s.end(err)
		return
	}
	s.beat(now)
	s.expire(now)
}

// beat queues a heartbeat if nothing waits to be written, and nothing was for a
// while, or nothing that had this node's epoch.
func (s *session) beat(now time.Time) {
	news := s.mesh.cfg.Epoch() > s.said.Load()
	s.mu.Lock()
	if s.taken != s.lastTaken {
		s.lastTaken, s.sentAt = s.taken, now
	}
	if s.cause != nil || len(s.batches) > 0 || !news && now.Sub(s.sentAt) < s.mesh.cfg.Timing.Heartbeat {
		s.mu.Unlock()
		return
	}
	b := buffers.get()
	*b = (*b)[:batchHead]
	s.numbered++
	s.queued += batchHead
	s.batches = append(s.batches, batch{b: b, number: s.numbered, born: now})
	s.sentAt = now
	s.mu.Unlock()
	s.rouse()
}

// expire ends the requests whose deadline has passed.
func (s *session) expire(now time.Time) {
	s.mu.Lock()
	if len(s.asks) == 0 || now.Before(s.soonest) {
		s.mu.Unlock()
		return
	}
	var late []func(vnode.Message, error)
	s.soonest = time.Time{}
	for id, a := range s.asks {
		if !now.Before(a.deadline) {
			late = append(late, a.done)
			delete(s.asks, id)
			continue
		}
		if s.soonest.IsZero() || a.deadline.Before(s.soonest) {
			s.soonest = a.deadline
		}
	}
	s.mu.Unlock()
	s.peer.expired.Add(uint64(len(late)))
	for _, done := range late {
		done(nil, ErrExpired)
	}
}
