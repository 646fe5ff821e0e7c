package tanodb

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/transport"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/storage"
)

const (
	// momentLife is how long a moment is kept that nobody reads: it holds the space of
	// what is written over meanwhile.
	momentLife = 30 * time.Second

	// momentRenew is how often a backup says that it still wants one.
	momentRenew = momentLife / 3

	// maxMoments is how many a node keeps at once; one more is refused.
	maxMoments = 64
)

// The orders about moments.
const (
	orderMoment  = "moment"  // keep one
	orderRelease = "release" // let go of it
)

// momentOrder is the body of these orders.
type momentOrder struct {
	Number uint64         `json:"number"`
	Home   ring.Partition `json:"home"`
}

// momentHeld says what a node holds of a home at a moment.
type momentHeld struct {
	Vnodes  []ring.Partition `json:"vnodes"`  // that hold anything of it
	Lacking []ring.Partition `json:"lacking"` // those in the home's window that wait for data, whatever they hold
}

// moments are the snapshots of this node's engine that a backup reads.
type moments struct {
	node *Node

	mu     sync.Mutex
	kept   map[uint64]*moment
	closed bool
}

// moment is one of them.
type moment struct {
	reading sync.RWMutex // held for reading while it is read, and for writing when it ends
	at      storage.Snapshot
	timer   *time.Timer
	over    bool // under reading
}

// overloaded is an overload of a node that was given an order.
type overloaded string

func (o overloaded) Error() string { return string(o) }

func (overloaded) Unwrap() error { return kv.ErrOverload }

func newMoments(n *Node) *moments { return &moments{node: n, kept: make(map[uint64]*moment)} }

// keep keeps the present as a moment of that number, and says what it holds of a home.
func (m *moments) keep(o momentOrder) (held momentHeld, err error) {
	engine, ok := m.node.engine.(storage.Snapshotter)
	if !ok {
		return momentHeld{}, fmt.Errorf("the engine, a %T, cannot be read as it is at one moment", m.node.engine)
	}
	if m.node.wiping.Load() {
		return momentHeld{}, errors.New("the disk of the node is older than what was reaped, and is being erased")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.closed:
		return momentHeld{}, errors.New("the node is shutting down")
	case len(m.kept) >= maxMoments:
		return momentHeld{}, overloaded(fmt.Sprintf("it keeps %d moments already, its limit", maxMoments))
	case m.kept[o.Number] != nil:
		return momentHeld{}, errors.New("it keeps a moment of that number already")
	}
	at, err := engine.Snapshot()
	if err != nil {
		return momentHeld{}, err
	}
	x := &moment{at: at}
	kept := false
	defer func() {
		if !kept { // after a panic, too: the engine's Close waits for it
			err = errors.Join(err, at.Close())
		}
	}()
	if held, err = m.look(at, o.Home); err != nil {
		return held, err
	}
	kept = true
	x.timer = time.AfterFunc(momentLife, func() { m.release(o.Number) })
	m.kept[o.Number] = x
	return held, nil
}

// look finds out which vnodes hold anything of a home.
func (m *moments) look(at storage.Snapshot, home ring.Partition) (momentHeld, error) {
	s := m.node.state()
	held := momentHeld{Vnodes: []ring.Partition{}, Lacking: []ring.Partition{}}
	if int(home) >= s.Ring().Size() {
		return held, fmt.Errorf("the ring has no home %d", home)
	}
	// A key is in the window of its home, wherever its places were and will be.
	for i := range min(2*s.Replicas(), s.Ring().Size()) {
		p := s.Ring().Next(home, i)
		if m.node.lacking[p].Load() {
			held.Lacking = append(held.Lacking, p)
		}
		sums, ok := vnode.Read(at, p, 0, &vnode.Sums{Home: home, Branch: vnode.Root}).(*vnode.Summed)
		if !ok {
			return held, fmt.Errorf("the tree of home %d in vnode %d cannot be read", home, p)
		}
		if sums.Sum != 0 {
			held.Vnodes = append(held.Vnodes, p)
		}
	}
	return held, nil
}

// read asks a vnode for something as it was at a moment.
func (m *moments) read(p ring.Partition, q *transport.Moment) vnode.Message {
	if reads, _ := m.node.trouble(); reads != nil {
		return &vnode.Refusal{Code: vnode.CodeStorage, Text: reads.Error()}
	}
	m.mu.Lock()
	x := m.kept[q.Number]
	m.mu.Unlock()
	if x == nil {
		return &vnode.Refusal{Code: vnode.CodeInvalid, Text: fmt.Sprintf("this node keeps no such moment; one is kept for %v after it was read last", momentLife)}
	}
	x.reading.RLock()
	defer x.reading.RUnlock()
	if x.over {
		return &vnode.Refusal{Code: vnode.CodeInvalid, Text: "the moment has ended"}
	}
	x.timer.Reset(momentLife)
	if int(p) >= m.node.state().Ring().Size() {
		return &vnode.Refusal{Code: vnode.CodeInvalid, Text: fmt.Sprintf("the ring has no partition %d", p)}
	}
	answer := vnode.Read(x.at, p, m.node.o.Clock().UnixMilli(), q.Msg)
	x.timer.Reset(momentLife)
	return answer
}

// release lets go of a moment.
func (m *moments) release(number uint64) {
	m.mu.Lock()
	x := m.kept[number]
	delete(m.kept, number)
	m.mu.Unlock()
	if x == nil {
		return
	}
	x.timer.Stop()
	x.reading.Lock()
	defer x.reading.Unlock()
	x.over = true
	if err := x.at.Close(); err != nil {
		m.node.log.Warn("a moment of the engine could not be closed", "node", m.node.self, "error", err)
	}
}

// close lets go of all moments. No more are kept.
func (m *moments) close() {
	m.mu.Lock()
	m.closed = true
	var all []uint64
	for number := range m.kept {
		all = append(all, number)
	}
	m.mu.Unlock()
	for _, number := range all {
		m.release(number)
	}
}

// ordered carries out an order about a moment.
func (m *moments) ordered(o *transport.Order) (any, error) {
	var mo momentOrder
	if err := json.Unmarshal(o.Body, &mo); err != nil {
		return nil, fmt.Errorf("the order is not understood: %w", err)
	}
	if o.Do == orderRelease {
		m.release(mo.Number)
		return struct{}{}, nil
	}
	return m.keep(mo)
}
