package handoff

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"

	"github.com/tanodb/tanodb/internal/planted"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
)

// copying pulls parts into vnodes of this node, for a fill or a repair.
type copying struct {
	*tally
	parts  []part
	pulls  []pull
	cursor func(*pull) uint64 // the job under which a cursor is kept; nil: none is
	repair *ring.Partition    // the vnode to mark as lacking meanwhile; nil: none
	marked bool

	// Invariant: at is -1, or the pull that is being worked on.
	at   int
	from int           // where the search for the next one begins, so that none holds up the others
	page *vnode.Pulled // in hand, to be filled in
}

// pull is the copying of one home from one place into another.
type pull struct {
	home, to ring.Partition
	source   ring.Replica
	known    bool // how far it is
	done     bool
	after    []byte
}

func newCopying(t *tally, parts []part, pageOf func(*pull) uint64) *copying {
	c := &copying{tally: t, parts: parts, cursor: pageOf, at: -1}
	for _, p := range parts {
		for _, s := range p.sources {
			c.pulls = append(c.pulls, pull{home: p.home, to: p.to, source: s, known: pageOf == nil})
		}
	}
	t.done, t.total = 0, len(c.pulls)
	return c
}

// choose picks the pull to go on with: one whose source is up, or else one
// that is left; -1: all are done.
func (c *copying) choose(m *Manager) int {
	if c.at >= 0 {
		return c.at
	}
	left := -1
	for n := range c.pulls {
		i := (c.from + n) % len(c.pulls)
		p := &c.pulls[i]
		if p.done {
			continue
		}
		if m.isUp(p.source.Node) {
			return i
		}
		if left < 0 {
			left = i
		}
	}
	return left
}

func (c *copying) peer(m *Manager) string {
	if i := c.choose(m); i >= 0 {
		return c.pulls[i].source.Node
	}
	return m.self
}

func (c *copying) next(m *Manager) (request, bool) {
	if c.repair != nil && !c.marked {
		return request{node: m.self, to: *c.repair, msg: &vnode.SetLacking{On: true}}, true
	}
	i := c.choose(m)
	if i < 0 {
		if c.repair != nil {
			return request{node: m.self, to: *c.repair, msg: &vnode.SetLacking{}}, true
		}
		return request{}, false
	}
	c.at = i
	p := &c.pulls[i]
	switch {
	case m.dropping(p.to, p.home):
		return request{wait: "objects of the same home are still being dropped here"}, true
	case !p.known:
		return request{node: m.self, to: p.to, msg: &vnode.Resume{Home: p.home, Job: c.cursor(p)}}, true
	case c.page == nil:
		return request{node: p.source.Node, to: p.source.Partition, paced: true, msg: &vnode.Pull{
			Home: p.home, After: p.after, Limit: m.limits.PageBytes, Whole: c.repair == nil,
		}}, true
	}
	fill := &vnode.Fill{Home: p.home, Items: c.page.Items}
	if c.cursor != nil {
		fill.Job = c.cursor(p)
		fill.Cursor = encodeCursor(!c.page.More, c.page.Last)
	}
	return request{node: m.self, to: p.to, msg: fill}, true
}

func (c *copying) took(m *Manager, asked, msg vnode.Message) error {
	if set, ok := asked.(*vnode.SetLacking); ok {
		c.marked = true
		if !set.On {
			c.repair = nil
		}
		return nil
	}
	p := &c.pulls[c.at]
	switch msg := msg.(type) {
	case *vnode.Resumed:
		p.known = true
		done, after := decodeCursor(msg.Cursor)
		if p.after = after; done {
			c.end(p)
		}
		return nil
	case *vnode.Pulled:
		if msg.More && bytes.Compare(msg.Last, p.after) <= 0 {
			return errors.New("the page ends before it begins")
		}
		m.charge(price(msg.Items))
		c.page = msg
		return nil
	case *vnode.Delivered:
		return c.filled(p, msg)
	}
	return nil
}

// filled counts the page in hand as copied.
func (c *copying) filled(p *pull, msg *vnode.Delivered) error {
	if len(msg.Results) != len(c.page.Items) {
		return fmt.Errorf("%d results for %d items", len(msg.Results), len(c.page.Items))
	}
	for i, r := range msg.Results {
		if r != vnode.ItemHeld {
			c.skip(vnode.BadItem{Key: c.page.Items[i].Key, Text: "was refused by the receiver"})
		}
	}
	for _, b := range c.page.Bad {
		c.skip(b)
	}
	c.objects += int64(len(c.page.Items))
	c.bytes += int64(pageSize(c.page.Items))
	if p.after = c.page.Last; !c.page.More {
		c.end(p)
	}
	c.page = nil
	if planted.Is(planted.FilledEarly) {
		for i := range c.pulls {
			c.pulls[i].done = true
		}
		c.at = -1
	}
	return nil
}

func (c *copying) end(p *pull) {
	p.done = true
	c.done++
	c.from, c.at = c.at, -1
}

func (c *copying) between() bool { return c.page == nil }

// reset lets go of the page, and lets another pull go first.
func (c *copying) reset() {
	c.page = nil
	if c.at >= 0 {
		c.from, c.at = c.at+1, -1
	}
}

// The bytes of a cursor: version 1, whether the pull is over, and the key
// that the last page ended with.
const cursorVersion = 1

func encodeCursor(done bool, last []byte) []byte {
	b := []byte{cursorVersion, 0}
	if done {
		b[1] = 1
	}
	return append(b, last...)
}

// decodeCursor begins anew with what it does not know.
func decodeCursor(b []byte) (done bool, after []byte) {
	if len(b) < 2 || b[0] != cursorVersion {
		return false, nil
	}
	if len(b) == 2 {
		return b[1] == 1, nil
	}
	return b[1] == 1, b[2:]
}

// fillJob names a pull of a transfer, for its cursor.
func fillJob(transfer, epoch uint64, p *pull) uint64 {
	h := fnv.New64a()
	b := binary.BigEndian.AppendUint64(nil, transfer)
	b = binary.BigEndian.AppendUint64(b, epoch)
	b = binary.BigEndian.AppendUint16(b, uint16(p.source.Partition))
	_, _ = h.Write(append(b, p.source.Node...)) // a hash takes everything
	return h.Sum64()
}

// objectPrice is what moving an object counts beside its bytes. To read, send,
// merge and sync one costs both sides about as much as so many bytes more.
const objectPrice = 1 << 10

// price is what moving the items takes of the budget of bytes.
func price(items []vnode.Item) int { return pageSize(items) + len(items)*objectPrice }

func pageSize(items []vnode.Item) int {
	n := 0
	for i := range items {
		n += len(items[i].Key.Name) + len(items[i].Object)
	}
	return n
}
