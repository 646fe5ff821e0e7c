package transport

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"
)

// Stats is what a mesh has counted since it began.
type Stats struct {
	Peers         []PeerStats // in order of their names
	Rejected      uint64      // connections of others that were refused
	LastRejection string      // why the last of them was; empty: there was none
}

// PeerStats is one peer's part, over both classes and both directions.
type PeerStats struct {
	Node      string
	Address   string    // that is dialled
	Epoch     uint64    // that it had when it was last heard; 0: it was not
	Protocol  int       // the highest that both know; 0: it was never heard
	Connected bool      // for requests, this node to the peer
	Since     time.Time // when that connection was made; zero: there is none
	LastError string    // why the last one ended or failed; empty: none did

	FramesOut, FramesIn   uint64
	BatchesOut, BatchesIn uint64
	BytesOut, BytesIn     uint64

	Queued  int    // bytes that wait to be written
	Asks    int    // requests that wait for an answer
	Lost    uint64 // requests that ended with ErrLost
	Expired uint64 // requests that ended with ErrExpired
	Strays  uint64 // answers that nobody waited for

	Connects uint64 // connections that this node has made, of both classes: each but the first of a class is a reconnect
}

// counters are what many goroutines count of a peer.
type counters struct {
	framesOut, framesIn   atomic.Uint64
	batchesOut, batchesIn atomic.Uint64
	bytesOut, bytesIn     atomic.Uint64
	lost, expired, strays atomic.Uint64
	connects              atomic.Uint64
}

func (c *counters) sent(frames uint64, bytes int) {
	c.framesOut.Add(frames)
	c.batchesOut.Add(1)
	c.bytesOut.Add(uint64(bytes))
}

func (c *counters) received(frames uint64, bytes int) {
	c.framesIn.Add(frames)
	c.batchesIn.Add(1)
	c.bytesIn.Add(uint64(bytes))
}

// Stats reads the counters.
func (m *Mesh) Stats() Stats {
	m.mu.Lock()
	st := Stats{Rejected: m.rejected, LastRejection: m.why}
	m.mu.Unlock()
	for _, p := range *m.peers.Load() {
		st.Peers = append(st.Peers, p.stats())
	}
	slices.SortFunc(st.Peers, func(a, b PeerStats) int { return cmp.Compare(a.Node, b.Node) })
	sessions := m.open()
	for i := range st.Peers {
		st.Peers[i].add(sessions)
	}
	return st
}

func (p *peer) stats() PeerStats {
	st := PeerStats{
		Node: p.name, Address: p.where.Load().first(), Epoch: p.epoch.Load(), Protocol: int(p.spoke.Load()),
		FramesOut: p.framesOut.Load(), FramesIn: p.framesIn.Load(),
		BatchesOut: p.batchesOut.Load(), BatchesIn: p.batchesIn.Load(),
		BytesOut: p.bytesOut.Load(), BytesIn: p.bytesIn.Load(),
		Lost: p.lost.Load(), Expired: p.expired.Load(), Strays: p.strays.Load(),
		Connects: p.connects.Load(),
	}
	l := p.links[Requests]
	if s := l.session.Load(); s != nil {
		st.Connected, st.Since, st.Address = true, s.since, s.address
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lastErr != nil {
		st.LastError = l.lastErr.Error()
	}
	return st
}

// add adds what waits in the peer's sessions.
func (st *PeerStats) add(sessions []*session) {
	for _, s := range sessions {
		if s.peer.name != st.Node {
			continue
		}
		s.mu.Lock()
		st.Queued += s.queued
		st.Asks += len(s.asks)
		s.mu.Unlock()
	}
}
