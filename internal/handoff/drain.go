package handoff

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
)

// drain hands what is stray in one vnode, of one home, over to its targets.
type drain struct {
	*tally
	q, home ring.Partition
	targets []ring.Replica

	after []byte
	page  *vnode.Pulled // in hand

	// Of the page in hand:
	target   int             // the one that is asked
	asked    bool            // it has said what it wants
	wanted   []vnode.Item    // what it has said
	held     []bool          // by item: no target that was asked has refused it
	refusals []vnode.BadItem // what cannot be read, and what a target does not take

	more bool // something has come since this round began
	kept int  // objects of this round that have changed since they were pulled
	left int  // objects of this round that some target does not take, or that cannot be read
}

func newDrain(t *tally, q, home ring.Partition, targets []ring.Replica) *drain {
	t.done, t.total = 0, 1
	return &drain{tally: t, q: q, home: home, targets: targets}
}

func (d *drain) peer(m *Manager) string {
	if d.target < len(d.targets) {
		return d.targets[d.target].Node
	}
	return m.self
}

func (d *drain) next(m *Manager) (request, bool) {
	if d.page == nil {
		if d.done == d.total {
			return request{}, false
		}
		for _, t := range d.targets {
			if !m.isUp(t.Node) {
				return request{node: t.Node}, true // to wait for it: no round ends before all have answered
			}
		}
		if len(d.targets) == 0 {
			return request{wait: "no node that should hold it is there yet"}, true
		}
		return request{node: m.self, to: d.q, msg: &vnode.Pull{Home: d.home, After: d.after, Limit: m.limits.PageBytes}}, true
	}
	if d.target < len(d.targets) {
		t := d.targets[d.target]
		r := request{node: t.Node, to: t.Partition, paced: true}
		if d.asked {
			r.msg = &vnode.Deliver{Home: d.home, Items: d.wanted}
			r.cost = price(d.wanted)
		} else {
			r.msg = &vnode.Deliver{Home: d.home, Items: bare(d.page.Items)}
		}
		return r, true
	}
	return request{node: m.self, to: d.q, msg: &vnode.Drop{Home: d.home, Items: d.confirmed()}}, true
}

func bare(items []vnode.Item) []vnode.Item {
	hashes := slices.Clone(items)
	for i := range hashes {
		hashes[i].Object = nil
	}
	return hashes
}

// confirmed are the items that all targets hold.
func (d *drain) confirmed() []vnode.Item {
	var items []vnode.Item
	for i, it := range d.page.Items {
		if d.held[i] {
			it.Object = nil
			items = append(items, it)
		}
	}
	return items
}

func (d *drain) took(_ *Manager, _, msg vnode.Message) error {
	switch msg := msg.(type) {
	case *vnode.Pulled:
		return d.pulled(msg)
	case *vnode.Delivered:
		if d.asked {
			return d.delivered(msg)
		}
		return d.offered(msg)
	case *vnode.Dropped:
		d.kept += msg.Kept
		d.endPage()
	}
	return nil
}

func (d *drain) pulled(msg *vnode.Pulled) error {
	if msg.More && bytes.Compare(msg.Last, d.after) <= 0 {
		return errors.New("the page ends before it begins")
	}
	if d.after == nil { // the first page of a round
		d.skipped, d.bad = 0, nil
	}
	d.page, d.refusals = msg, msg.Bad
	if len(msg.Items) == 0 {
		d.endPage()
		return nil
	}
	d.held = make([]bool, len(msg.Items))
	for i := range d.held {
		d.held[i] = true
	}
	d.target, d.asked = 0, false
	return nil
}

// offered takes a target's answer to the hashes of the page.
func (d *drain) offered(msg *vnode.Delivered) error {
	if len(msg.Results) != len(d.page.Items) {
		return fmt.Errorf("%d results for %d items", len(msg.Results), len(d.page.Items))
	}
	d.wanted = nil
	for i, r := range msg.Results {
		switch r {
		case vnode.ItemHeld:
		case vnode.ItemWanted:
			d.wanted = append(d.wanted, d.page.Items[i])
		default:
			d.refused(i)
		}
	}
	if d.asked = true; len(d.wanted) == 0 {
		d.nextTarget()
	}
	return nil
}

// delivered takes a target's answer to the objects that it wanted.
func (d *drain) delivered(msg *vnode.Delivered) error {
	if len(msg.Results) != len(d.wanted) {
		return fmt.Errorf("%d results for %d objects", len(msg.Results), len(d.wanted))
	}
	n := 0
	for i, it := range d.page.Items {
		if n == len(d.wanted) || it.Key != d.wanted[n].Key {
			continue
		}
		if msg.Results[n] == vnode.ItemHeld {
			d.objects++
			d.bytes += int64(len(it.Object))
		} else {
			d.refused(i)
		}
		n++
	}
	d.nextTarget()
	return nil
}

// refused takes note that the target asked does not hold the item.
func (d *drain) refused(i int) {
	if d.held[i] {
		d.refusals = append(slices.Clip(d.refusals), vnode.BadItem{Key: d.page.Items[i].Key, Text: "is not taken by " + d.targets[d.target].Node})
	}
	d.held[i] = false
}

func (d *drain) nextTarget() {
	d.target++
	d.asked, d.wanted = false, nil
	if d.target == len(d.targets) && !slices.Contains(d.held, true) {
		d.endPage()
	}
}

// endPage goes on to the next page, or ends the round.
func (d *drain) endPage() {
	for _, b := range d.refusals {
		d.skip(b)
	}
	d.left += len(d.refusals)
	if d.after = d.page.Last; !d.page.More {
		d.done, d.after = d.total, nil
	}
	d.reset()
}

func (d *drain) between() bool { return d.page == nil }

// reset lets go of the page and of all that was confirmed of it.
func (d *drain) reset() {
	d.page, d.held, d.wanted, d.refusals = nil, nil, nil, nil
	d.target, d.asked = 0, false
}

// again begins another round.
func (d *drain) again() {
	d.reset()
	d.done, d.after, d.kept, d.left, d.more = 0, nil, 0, 0, false
}
