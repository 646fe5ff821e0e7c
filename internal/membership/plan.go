package membership

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/tanodb/tanodb/internal/planted"
	"github.com/tanodb/tanodb/internal/ring"
)

// Plan is what a commit of the staged changes would do now.
type Plan struct {
	ID         string      `json:"id"` // which a Commit must name
	Epoch      uint64      `json:"epoch"`
	Partitions int         `json:"partitions"`
	Changes    []Change    `json:"changes"`
	Shares     []Share     `json:"shares"` // by name
	Moves      []PairMoves `json:"moves"`  // by name of From, then of To
	Warnings   Warnings    `json:"warnings"`
}

// Share is a member's part of the ring before and after.
type Share struct {
	Name   string `json:"name"`
	Status Status `json:"status"` // after the commit
	Before int    `json:"before"` // partitions that it owns now
	After  int    `json:"after"`  // partitions that it will own when all is done
}

// PairMoves is how many partitions move from one node to another.
type PairMoves struct {
	From       string `json:"from"`
	To         string `json:"to"`
	Partitions int    `json:"partitions"`
}

// Warnings are those of a claim. In JSON they are their texts.
type Warnings []ring.Warning

// MarshalJSON is the list of texts.
func (w Warnings) MarshalJSON() ([]byte, error) {
	texts := make([]string, len(w))
	for i := range w {
		texts[i] = w[i].String()
	}
	return json.Marshal(texts)
}

// Plan is what a commit would do now. The error is a *ChangeError.
func (s *State) Plan() (*Plan, error) {
	d := s.draft()
	target, err := d.carryOut()
	if err != nil {
		return nil, err
	}
	return s.plan(d, target), nil
}

// commit carries out the staged changes, if their plan still has the id.
func (d *draft) commit(id string) *ChangeError {
	before := d.State
	target, err := d.carryOut()
	if err != nil {
		return err
	}
	if p := before.plan(d, target); p.ID != id && !planted.Is(planted.AnyPlan) {
		return refused(codePlanChanged, "the plan has changed since it was shown; look at it again, and commit it if it is still what you want")
	}
	return nil
}

// carryOut makes the staged changes, and the transfers towards the ring they
// lead to, which it returns. None of them begins yet.
func (d *draft) carryOut() (*ring.Ring, *ChangeError) {
	if len(d.staged) == 0 {
		return nil, refused(codeNothingPlanned, "nothing is staged; stage a change first")
	}
	staged := d.staged
	for i, c := range staged {
		d.staged = slices.Delete(slices.Clone(staged), i, i+1)
		if err := d.refuses(c); err != nil {
			return nil, err
		}
	}
	planned := d.target()
	d.staged = nil
	for _, c := range staged {
		d.change(c)
	}
	if len(d.claimers()) == 0 {
		return nil, refused(codeOnlyMember, "no member would be left; let another one join first")
	}
	d.adjust()
	target, err := d.claim(planned, staged)
	if err != nil {
		return nil, err
	}
	d.aim(target)
	return target, nil
}

// target is the ring when all transfers are over.
func (s *State) target() *ring.Ring {
	owners := make([]string, s.ring.Size())
	for p := range owners {
		owners[p] = s.ring.Owner(ring.Partition(p))
	}
	for i := range s.transfers {
		owners[s.transfers[i].Partition] = s.transfers[i].To // the one that waits comes last
	}
	r, err := ring.New(owners)
	if err != nil {
		panic(err) // the size is that of a ring, and no member's name is empty
	}
	return r
}

// change makes a staged change among the members.
func (d *draft) change(c Change) {
	m := d.member(c.Node)
	switch c.Kind {
	case ChangeJoin:
		m.Status = StatusValid
	case ChangeSet:
		m.Zone, m.Weight = cmp.Or(c.Zone, m.Zone), cmp.Or(c.Weight, m.Weight)
	case ChangeLeave, ChangeReplace:
		m.stand(StatusLeaving)
	case ChangeForceReplace, ChangeForceRemove:
		d.depart(m)
	}
}

// adjust sees to the active transfers that have to do with nodes which have
// just left. Those that wait are planned anew in any case.
//
// What is being copied to such a node goes no further, and neither does what
// involves it because a key's replicas shift; what is copied from it is copied
// from the other replicas. A transfer to it that is settling goes back, since
// the old owner still has everything, unless that one has left as well.
func (d *draft) adjust() {
	active := d.transfers[:0]
	for _, t := range d.transfers {
		switch {
		case t.Phase == Waiting:
			continue
		case t.Phase == Copying && (d.left(t.To) || !d.left(t.From) && d.meetsLeft(&t)):
			continue
		case t.Phase == Copying && d.left(t.From) && !t.Forced:
			t = d.forced(t)
		case t.Phase == Settling && d.left(t.To) && !d.left(t.From):
			t = d.reversed(t)
		}
		active = append(active, t)
	}
	d.transfers = active
	for i := range d.transfers {
		if t := &d.transfers[i]; t.Phase == Copying {
			d.flip(t, d.Receivers(*t))
		}
	}
}

// forced is the transfer that goes on where From has died. It has an id of its
// own, so that nobody goes on with what was begun.
func (d *draft) forced(t Transfer) Transfer {
	return Transfer{ID: d.nextID(), Partition: t.Partition, From: t.From, To: t.To, Phase: Copying, Forced: true, Epoch: d.epoch}
}

// reversed makes the old owner the owner again, which the new one must not be.
func (d *draft) reversed(t Transfer) Transfer {
	back := Transfer{ID: d.nextID(), Partition: t.Partition, From: t.To, To: t.From, Phase: Settling, Forced: true, Epoch: d.epoch}
	d.ring = d.ring.With(t.Partition, back.To)
	return back
}

func (d *draft) nextID() uint64 {
	d.lastID++
	return d.lastID
}

// claim is the ring that the changes lead to. Planned is the one that the
// transfers so far would have led to. If nodes are only replaced by others, it
// stays what it is; otherwise the partitions are shared out anew, from the ring
// as it will be after the active transfers.
func (d *draft) claim(planned *ring.Ring, staged []Change) (*ring.Ring, *ChangeError) {
	base, replaced := d.target(), true
	for _, c := range staged {
		if c.With != "" {
			planned, base = planned.Rename(c.Node, c.With), base.Rename(c.Node, c.With)
			continue
		}
		joins := c.Kind == ChangeJoin && slices.ContainsFunc(staged, func(x Change) bool { return x.With == c.Node })
		replaced = replaced && joins
	}
	if replaced {
		base = planned
	}
	r, warnings, err := ring.Claim(d.ring.Size(), d.targetN, base, d.claimers())
	if err != nil {
		return nil, refused(codeInvalid, "the ring cannot be shared out: %v", err)
	}
	d.warnings = warnings
	if replaced && r.Moves(planned) != nil {
		r, d.warnings = planned, lacks(planned, d.targetN, d.claimers())
	}
	return r, nil
}

// lacks are the warnings of a ring that is not the one which a claim would
// make.
func lacks(r *ring.Ring, targetN int, members []ring.Member) []ring.Warning {
	zones := make(map[string]bool)
	zone := make(map[string]string) // by node
	weights := 0
	for _, m := range members {
		zones[m.Zone], zone[m.Name] = true, m.Zone
		weights += m.Weight
	}
	var list []ring.Warning
	if len(members) < targetN {
		list = append(list, ring.FewNodes{Nodes: len(members), Target: targetN})
	}
	if len(zones) > 1 && len(zones) < targetN {
		list = append(list, ring.FewZones{Zones: len(zones), Apart: len(zones), Target: targetN})
	}
	list = append(list, shared(r, min(targetN, len(members)), min(targetN, len(zones)), zone)...)
	for _, m := range members {
		if off := r.Owned(m.Name)*weights - r.Size()*m.Weight; off > weights || off < -weights {
			fair := (2*r.Size()*m.Weight + weights) / (2 * weights)
			list = append(list, ring.UnfairShare{Node: m.Name, Owned: r.Owned(m.Name), Fair: fair})
		}
	}
	return list
}

// shared are the warnings of partitions that are too near to each other: on one
// node, and, summed up by zone, on two nodes of one zone.
func shared(r *ring.Ring, nodes, zones int, zone map[string]string) []ring.Warning {
	var list []ring.Warning
	var byZone []ring.SharedZone
	for i := range r.Size() {
		first := ring.Partition(i)
		for d := 1; d < nodes; d++ {
			last := r.Next(first, d)
			a, b := r.Owner(first), r.Owner(last)
			if a == b {
				list = append(list, ring.SharedNode{First: first, Last: last, Node: a})
				continue
			}
			if d >= zones || zone[a] != zone[b] {
				continue
			}
			z, found := slices.BinarySearchFunc(byZone, zone[a], func(w ring.SharedZone, name string) int { return strings.Compare(w.Zone, name) })
			if !found {
				byZone = slices.Insert(byZone, z, ring.SharedZone{Zone: zone[a], First: first})
			}
			byZone[z].Pairs++
		}
	}
	for _, w := range byZone {
		list = append(list, w)
	}
	return list
}

// aim makes the transfers that lead to the target once the active ones are
// over.
func (d *draft) aim(target *ring.Ring) {
	base := d.target()
	active := d.transfers
	d.transfers = nil
	for _, m := range base.Moves(target) {
		for len(active) > 0 && active[0].Partition <= m.Partition {
			d.transfers, active = append(d.transfers, active[0]), active[1:]
		}
		d.transfers = append(d.transfers, Transfer{
			ID: d.nextID(), Partition: m.Partition, From: m.From, To: m.To, Phase: Waiting, Forced: d.left(m.From), Epoch: d.epoch,
		})
	}
	d.transfers = append(d.transfers, active...)
}

// plan describes what the draft, made of this state, does.
func (s *State) plan(d *draft, target *ring.Ring) *Plan {
	p := &Plan{Epoch: s.epoch, Partitions: target.Size(), Changes: slices.Clone(s.staged), Warnings: d.warnings}
	for i := range d.members {
		m := &d.members[i]
		share := Share{Name: m.Name, Status: m.Status, Before: s.ring.Owned(m.Name), After: target.Owned(m.Name)}
		if m.Status != StatusLeft || share.Before > 0 {
			p.Shares = append(p.Shares, share)
		}
	}
	for _, m := range s.ring.Moves(target) {
		pair := PairMoves{From: m.From, To: m.To}
		i, found := slices.BinarySearchFunc(p.Moves, pair, func(a, b PairMoves) int {
			return cmp.Or(strings.Compare(a.From, b.From), strings.Compare(a.To, b.To))
		})
		if !found {
			p.Moves = slices.Insert(p.Moves, i, pair)
		}
		p.Moves[i].Partitions++
	}
	p.ID = planID(p.Changes, target)
	return p
}

// planID is the start of the hash of the changes and of the ring they lead to.
func planID(changes []Change, target *ring.Ring) string {
	h := sha256.New()
	h.Write(encode(changes))
	for p := range target.Size() {
		h.Write(append([]byte{0}, target.Owner(ring.Partition(p))...))
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// Transfers is how many partitions change their owner.
func (p *Plan) Transfers() int {
	n := 0
	for _, m := range p.Moves {
		n += m.Partitions
	}
	return n
}

// String is the plan as an operator reads it.
func (p *Plan) String() string {
	var b strings.Builder
	b.WriteString(title("Staged Changes"))
	for _, c := range p.Changes {
		fmt.Fprintf(&b, "%v\n", c)
	}
	b.WriteString(title("Membership"))
	b.WriteString("Status     Ring     Pending    Node\n" + rule)
	for _, s := range p.Shares {
		fmt.Fprintf(&b, "%-8s %6.1f%%    %6.1f%%    %s\n", s.Status, p.percent(s.Before), p.percent(s.After), s.Name)
	}
	b.WriteString(rule)
	if len(p.Warnings) > 0 {
		b.WriteString("\nWARNING: Not all replicas will be on distinct nodes\n")
	}
	for _, w := range p.Warnings {
		fmt.Fprintf(&b, "  %v\n", w)
	}
	fmt.Fprintf(&b, "\nTransfers resulting from cluster changes: %d\n", p.Transfers())
	for _, m := range p.Moves {
		fmt.Fprintf(&b, "  %d transfers from %s to %s\n", m.Partitions, m.From, m.To)
	}
	return b.String()
}

func (p *Plan) percent(partitions int) float64 {
	return 100 * float64(partitions) / float64(p.Partitions)
}

const width = 79

var rule = strings.Repeat("-", width) + "\n"

// title is a line with the words in its middle.
func title(words string) string {
	side := (width - len(words) - 2) / 2
	return strings.Repeat("=", side) + " " + words + " " + strings.Repeat("=", width-side-len(words)-2) + "\n"
}
