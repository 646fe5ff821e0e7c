package storage

import (
	"bytes"
	"encoding/binary"
	"slices"
	"sync"

	"github.com/tidwall/btree"
)

// maxVolatile is how many applied batches may wait to become durable. It
// stands for the interval of an engine with a disk: Memory has no clock, so it
// counts batches, and one more makes the oldest durable.
const maxVolatile = 4096

// Memory is an Engine without files, for tests, for simulations and for data
// that need not outlive the process. It keeps the promises of Engine about
// crashes for a crash that somebody asks for: Crash loses what is not yet
// durable, except for a prefix of the caller's choice.
//
// A batch becomes durable when somebody waits for its Commit, when MakeDurable
// says so, or when 4096 later ones have been applied. Memory is deterministic:
// it has no clock, no goroutine and no chance of its own.
type Memory struct {
	mu      sync.Mutex
	tree    *btree.BTreeG[pair]
	scans   int    // go over tree as it is, so a write leaves it to them and takes a copy
	applied uint64 // sequence number of the last batch applied; the first has 1
	undo    []undo // what takes the volatile batches back, oldest first

	closed error // ErrClosed after Close or Crash
	failed error // what Fail was told
}

// pair is a key and its value. Neither slice changes once it is in the tree.
type pair struct {
	key, value []byte
}

// undo holds the pairs that a batch wrote or removed, as they were before it
// and in the order of the batch.
type undo []before

// before is a key, and its value if there was one.
type before struct {
	pair
	present bool
}

var (
	_ Engine      = (*Memory)(nil)
	_ Snapshotter = (*Memory)(nil)
)

// NewMemory returns an empty engine.
func NewMemory() *Memory {
	less := func(a, b pair) bool { return bytes.Compare(a.key, b.key) < 0 }
	return &Memory{tree: btree.NewBTreeGOptions(less, btree.Options{NoLocks: true})}
}

// Get implements Reader.
func (m *Memory) Get(key []byte) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.broken(); err != nil {
		return nil, err
	}
	p, ok := m.tree.Get(pair{key: key})
	if !ok {
		return nil, ErrNotFound
	}
	return append([]byte{}, p.value...), nil
}

// Scan implements Reader. It holds no lock while fn runs, so fn may use the
// engine.
func (m *Memory) Scan(lower, upper []byte, fn func(key, value []byte) bool) error {
	moment, err := m.beginScan()
	if err != nil {
		return err
	}
	defer m.endScan(moment)
	scan(moment, lower, upper, fn)
	return nil
}

// beginScan returns the tree as it is now, which stays so until endScan.
func (m *Memory) beginScan() (*btree.BTreeG[pair], error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.broken(); err != nil {
		return nil, err
	}
	m.scans++
	return m.tree, nil
}

func (m *Memory) endScan(moment *btree.BTreeG[pair]) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.tree == moment {
		m.scans--
	}
}

// part gives the scans that are going on the tree to themselves. Most scans are over
// before the next write, so that nothing is copied for them.
func (m *Memory) part() {
	if m.scans > 0 {
		m.tree, m.scans = m.tree.Copy(), 0
	}
}

func scan(tree *btree.BTreeG[pair], lower, upper []byte, fn func(key, value []byte) bool) {
	tree.Ascend(pair{key: lower}, func(p pair) bool {
		if len(upper) > 0 && bytes.Compare(p.key, upper) >= 0 {
			return false
		}
		return fn(p.key, p.value)
	})
}

// Snapshot implements Snapshotter.
func (m *Memory) Snapshot() (Snapshot, error) {
	moment, err := m.snapshot()
	if err != nil {
		return nil, err
	}
	return &memorySnapshot{tree: moment}, nil
}

// memorySnapshot is a moment of Memory. It outlives the engine.
type memorySnapshot struct {
	tree *btree.BTreeG[pair] // nil: closed
}

// Get implements Reader.
func (s *memorySnapshot) Get(key []byte) ([]byte, error) {
	if s.tree == nil {
		return nil, ErrClosed
	}
	p, ok := s.tree.Get(pair{key: key})
	if !ok {
		return nil, ErrNotFound
	}
	return append([]byte{}, p.value...), nil
}

// Scan implements Reader.
func (s *memorySnapshot) Scan(lower, upper []byte, fn func(key, value []byte) bool) error {
	if s.tree == nil {
		return ErrClosed
	}
	scan(s.tree, lower, upper, fn)
	return nil
}

// Close implements Snapshot.
func (s *memorySnapshot) Close() error {
	s.tree = nil
	return nil
}

// snapshot returns the tree as it is now. Later writes copy the nodes that
// they change.
func (m *Memory) snapshot() (*btree.BTreeG[pair], error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.broken(); err != nil {
		return nil, err
	}
	return m.tree.Copy(), nil
}

// Apply implements Engine. Whether sync is set makes no difference here.
func (m *Memory) Apply(b *Batch, _ bool) (Commit, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.broken(); err != nil {
		return nil, err
	}
	m.part()
	u := make(undo, 0, len(b.Ops))
	for i, p := range copyOps(b.Ops) {
		if b.Ops[i].Merge {
			m.merge(p.pair)
		}
		u = append(u, m.change(p))
	}
	m.applied++
	m.undo = append(m.undo, u)
	if len(m.undo) > maxVolatile {
		m.makeDurable(m.applied - maxVolatile)
	}
	return &memoryCommit{engine: m, seq: m.applied}, nil
}

// change makes one change and returns what takes it back.
func (m *Memory) change(to before) before {
	var old pair
	var was bool
	if to.present {
		old, was = m.tree.Set(to.pair)
	} else {
		old, was = m.tree.Delete(to.pair)
	}
	return before{pair: pair{key: to.key, value: old.value}, present: was}
}

// merge turns the word that is to be merged, in place, into what it comes to.
func (m *Memory) merge(word pair) {
	old, _ := m.tree.Get(pair{key: word.key})
	binary.BigEndian.PutUint64(word.value, Word(old.value)^Word(word.value))
}

// copyOps returns the changes with bytes of their own, in one allocation.
func copyOps(ops []Op) []before {
	size := 0
	for _, op := range ops {
		size += len(op.Key) + len(op.Value)
	}
	arena := make([]byte, 0, size)
	own := func(b []byte) []byte {
		start := len(arena)
		arena = append(arena, b...)
		return arena[start:len(arena):len(arena)]
	}
	changes := make([]before, 0, len(ops))
	for _, op := range ops {
		c := before{pair: pair{key: own(op.Key)}, present: !op.Delete}
		if !op.Delete {
			c.value = own(op.Value)
		}
		changes = append(changes, c)
	}
	return changes
}

// Close implements Engine. Crash brings the data of a closed engine back.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.broken(); err != nil {
		return err
	}
	m.makeDurable(m.applied)
	m.closed = ErrClosed
	return nil
}

// Applied returns the sequence number of the last batch applied. The first
// batch has number 1; 0 means none.
func (m *Memory) Applied() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.applied
}

// Durable returns the sequence number of the last batch that a crash cannot
// lose.
func (m *Memory) Durable() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.durable()
}

// MakeDurable makes the batches up to and with number seq durable, as a disk
// would that had just finished an fsync. A number beyond the last batch means
// all. It does nothing after Fail, Close or Crash.
func (m *Memory) MakeDurable(seq uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken() == nil {
		m.makeDurable(seq)
	}
}

// Crash returns the engine as it is found after a crash that kept the durable
// batches and the first keep of the others; a negative keep is 0, one that is
// too large keeps all. From now on the old engine answers ErrClosed, as do the
// Commits that were not durable. A fault set with Fail is gone.
//
// After Close, when everything is durable, Crash is how the same data is
// opened again.
func (m *Memory) Crash(keep int) *Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.part()
	keep = min(max(keep, 0), len(m.undo))
	for _, u := range slices.Backward(m.undo[keep:]) {
		for _, b := range slices.Backward(u) {
			m.change(b)
		}
	}
	after := &Memory{tree: m.tree, applied: m.durable() + uint64(keep)}
	m.tree = nil
	m.closed = ErrClosed
	return after
}

// Image returns a second engine with all that is applied and durable now: what a
// backup of the disk would hold. The two have nothing to do with each other
// from then on.
func (m *Memory) Image() *Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.tree == nil {
		return NewMemory()
	}
	image := &Memory{tree: m.tree.Copy(), applied: m.durable()}
	for _, u := range slices.Backward(m.undo) {
		for _, b := range slices.Backward(u) {
			image.change(b)
		}
	}
	return image
}

// Damage flips one bit of a value, as a disk may on which it has lain for long, and
// reports whether there is one. No checksum of this engine notices.
func (m *Memory) Damage(key []byte, bit int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken() != nil {
		return false
	}
	p, ok := m.tree.Get(pair{key: key})
	if !ok || len(p.value) == 0 {
		return false
	}
	p.value = bytes.Clone(p.value)
	p.value[bit/8%len(p.value)] ^= 1 << (bit % 8)
	m.part()
	m.tree.Set(p)
	return true
}

// Fail makes every later call, also the waiting for a batch that is not yet
// durable, answer err: a disk that broke. The first fault stays; only Crash
// ends it.
func (m *Memory) Fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failed == nil {
		m.failed = err
	}
}

// broken returns why the engine does nothing any more, or nil.
func (m *Memory) broken() error {
	if m.closed != nil {
		return m.closed
	}
	return m.failed
}

func (m *Memory) durable() uint64 { return m.applied - uint64(len(m.undo)) }

func (m *Memory) makeDurable(seq uint64) {
	seq = min(seq, m.applied)
	if seq <= m.durable() {
		return
	}
	n := int(seq - m.durable())
	clear(m.undo[:n]) // so that the old values can be collected
	m.undo = m.undo[n:]
}

// memoryCommit is a batch of Memory.
type memoryCommit struct {
	engine *Memory
	seq    uint64
}

// Wait implements Commit. It never blocks.
func (c *memoryCommit) Wait() error {
	m := c.engine
	m.mu.Lock()
	defer m.mu.Unlock()
	if c.seq <= m.durable() {
		return nil
	}
	if err := m.broken(); err != nil {
		return err
	}
	m.makeDurable(c.seq)
	return nil
}
