package tanodb

import (
	"github.com/tanodb/tanodb/internal/transport"
	"github.com/tanodb/tanodb/storage"
)

// MemoryStorage opens engines that forget: for tests and caches. With it a node
// uses no directory.
func MemoryStorage() storage.Opener {
	return func(string) (storage.Engine, error) { return storage.NewMemory(), nil }
}

// MemoryNetwork connects nodes of one process without sockets, for tests. Its
// messages are encoded and decoded as on a real network.
type MemoryNetwork struct {
	network *transport.Network
}

// NewMemoryNetwork returns a network that no node is on yet.
func NewMemoryNetwork() *MemoryNetwork {
	return &MemoryNetwork{network: transport.NewMemory()}
}

// Cut stops all messages from node a to node b, and back.
func (m *MemoryNetwork) Cut(a, b string) { m.network.Cut(a, b, true) }

// CutOneWay stops all messages from node a to node b, but not those back.
func (m *MemoryNetwork) CutOneWay(a, b string) { m.network.Cut(a, b, false) }

// SpeakAtMost has a node that is opened later speak no higher protocol than this, as one of
// an earlier version does.
func (m *MemoryNetwork) SpeakAtMost(node string, protocol int) {
	m.network.SpeakAtMost(node, protocol)
}

// Heal ends all cuts.
func (m *MemoryNetwork) Heal() { m.network.Heal() }
