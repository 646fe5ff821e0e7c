package tanodb

import (
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/sketch"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
)

const (
	// hotSample is of how many requests one is looked at.
	hotSample = 16

	// hotRoom is for how many keys a node has counts, and highRoom for how many the sizes,
	// and the siblings. Of names at their limit they are 24 MiB, of usual ones some 50 KiB.
	hotRoom  = 128
	highRoom = 64

	hotHalfLife = time.Minute
	highKeep    = 24 * time.Hour
)

// HotKeys is what stands out among the keys of a node.
type HotKeys struct {
	Node    string        `json:"node"`
	Sample  int           `json:"sampled_one_in"` // requests, of which one is counted
	Life    time.Duration `json:"half_life_ns"`   // of what is counted
	Rate    float64       `json:"requests_per_second"`
	Hot     []HotKey      `json:"hot"`      // asked for most through this node, of late
	Largest []HighKey     `json:"largest"`  // bytes of objects that this node has written or read
	Most    []HighKey     `json:"siblings"` // values beside each other
}

// HotKey is a key that many ask for.
type HotKey struct {
	Key   kv.Key
	Rate  float64 // requests a second, about, of the last minutes
	Error float64 // by so much it may be too high
}

// HighKey is a key with a high value.
type HighKey struct {
	Key   kv.Key
	Value int64
	Age   time.Duration // since it was seen
}

// sketches find the keys that stand out. Each request costs a random number, and one in
// hotSample a lock.
type sketches struct {
	node *Node
	seen atomic.Int64 // requests that were looked at

	mu      sync.Mutex
	hot     *sketch.Counts[kv.Key]
	largest *sketch.Highest[kv.Key]
	most    *sketch.Highest[kv.Key]

	// What is below is told by its size alone, without the lock.
	sizeFloor, siblingFloor atomic.Int64
}

func newSketches(n *Node) *sketches {
	return &sketches{
		node: n, hot: sketch.NewCounts[kv.Key](hotRoom, hotHalfLife),
		largest: sketch.NewHighest[kv.Key](highRoom, highKeep), most: sketch.NewHighest[kv.Key](highRoom, highKeep),
	}
}

// asked counts a request for a key.
func (s *sketches) asked(k kv.Key) {
	if !sampled() {
		return
	}
	s.seen.Add(1)
	k = own(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hot.Add(s.node.elapsed(), k, hotSample)
}

// sampled is true once in hotSample times.
func sampled() bool { return rand.Uint32N(hotSample) == 0 }

// own is the key with memory of its own: it may stay for long, and keep no request alive.
func own(k kv.Key) kv.Key {
	return kv.Key{Type: strings.Clone(k.Type), Bucket: strings.Clone(k.Bucket), Name: strings.Clone(k.Name)}
}

// read notes what a client has read.
func (s *sketches) read(k kv.Key, values []kv.Value) {
	size := 0
	for i := range values {
		size += len(values[i].Data)
	}
	s.note(k, int64(size), int64(len(values)))
}

// minted notes what a vnode of this node has made of a key.
func (s *sketches) minted(k kv.Key, enc []byte) {
	if int64(len(enc)) <= s.sizeFloor.Load() && !sampled() {
		return // how many siblings there are is looked at in time
	}
	head, err := object.DecodeHead(enc)
	if err != nil {
		return // who reads it will say so
	}
	s.note(k, int64(len(enc)), int64(len(head.Siblings)))
}

// note keeps the size and the siblings of a key, if they are among the highest. Now and
// then it looks at others too: they may have been.
func (s *sketches) note(k kv.Key, size, siblings int64) {
	if size <= s.sizeFloor.Load() && siblings <= max(s.siblingFloor.Load(), 1) && !sampled() {
		return
	}
	if siblings == 1 {
		siblings = 0 // no news
	}
	now := s.node.elapsed()
	k = own(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.largest.Note(now, k, size)
	s.most.Note(now, k, siblings)
	s.sizeFloor.Store(s.largest.Floor())
	s.siblingFloor.Store(s.most.Floor())
}

// minted is what the vnode has made of a key, as the early answers tell.
func (w *worker) minted(t *tenant) {
	if !measured {
		return
	}
	for _, a := range t.out.Early {
		m, ok := a.Msg.(*vnode.Minted)
		if !ok {
			continue
		}
		if c, ok := t.msgs[a.Cmd].(*vnode.Coordinate); ok {
			w.node.sketches.minted(c.Key, m.Object)
		}
	}
}

// HotKeys are the keys that stand out on this node: at most so many of each kind.
func (n *Node) HotKeys(most int) HotKeys {
	s, now := n.sketches, n.elapsed()
	s.mu.Lock()
	defer s.mu.Unlock()
	out := HotKeys{
		Node: n.self, Sample: hotSample, Life: hotHalfLife, Rate: s.hot.Rate(now, s.hot.Total(now)),
		Hot: []HotKey{}, Largest: high(s.largest, now, most), Most: high(s.most, now, most),
	}
	for _, c := range s.hot.Top(now, most) {
		out.Hot = append(out.Hot, HotKey{Key: c.Key, Rate: s.hot.Rate(now, c.Count), Error: s.hot.Rate(now, c.Error)})
	}
	return out
}

func high(h *sketch.Highest[kv.Key], now time.Duration, most int) []HighKey {
	out := []HighKey{}
	for _, v := range h.Top(now, most) {
		out = append(out, HighKey{Key: v.Key, Value: v.Value, Age: now - v.Seen})
	}
	return out
}
