package ring

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tanodb/tanodb/kv"
)

// The limits of how many successive partitions a claim keeps apart, and how
// many it does when nothing else is asked: one more than the usual three
// replicas, so that a fallback, too, is seldom on a node that has a replica
// already.
const (
	MaxTargetN     = 16
	DefaultTargetN = 4
)

// MaxWeight is the limit of a member's weight.
const MaxWeight = 1_000_000

// Member is a node that may own partitions.
type Member struct {
	Name   string
	Zone   string // nodes of one zone fail together; empty is a zone as well
	Weight int    // its share compared with the others' weights; 0 means 1; at most MaxWeight
}

// Claim says which member owns which of size partitions. It aims, in this
// order:
//
//  1. Any targetN successive partitions, around the wrap too, are on distinct
//     nodes: as many as there are nodes, if these are fewer.
//  2. They are in distinct zones: as many as there are zones, if these are fewer
//     and no node has to break rule 1 for it.
//  3. Every node owns its fair share, which is in proportion to its weight,
//     rounded up or down. A share that rules 1 or 2 do not permit is cut down to
//     what they do, and the rest is shared by the others.
//  4. As few partitions as possible change their owner. Old is the ring so far;
//     nil: there is none.
//
// Rule 1 is kept whenever size and nodes permit it. For the others the search
// is bounded, so that a claim of 1000 nodes ends within seconds. A node that
// takes the place of another needs no claim: see Ring.Rename.
//
// What could not be had is said in the warnings. The same arguments give the
// same ring; the order of the members does not matter. Errors are
// *kv.InvalidError: no member, an empty name or two the same, a negative or too
// large weight, a targetN that is not from 1 to MaxTargetN, a size that New
// refuses or that is not old's.
func Claim(size, targetN int, old *Ring, members []Member) (*Ring, []Warning, error) {
	if err := validClaim(size, targetN, old, members); err != nil {
		return nil, nil, err
	}
	p := newPlan(size, targetN, old, members)
	owner := p.best()
	return p.ring(owner), p.warnings(owner), nil
}

func validClaim(size, targetN int, old *Ring, members []Member) error {
	if err := validSize(size); err != nil {
		return err
	}
	if old != nil && old.Size() != size {
		return &kv.InvalidError{What: "number of partitions", Problem: fmt.Sprintf("is %d; the ring has %d for ever", size, old.Size())}
	}
	if targetN < 1 || targetN > MaxTargetN {
		return &kv.InvalidError{What: "target_n", Problem: fmt.Sprintf("is %d; it must be from 1 to %d", targetN, MaxTargetN)}
	}
	if len(members) == 0 {
		return &kv.InvalidError{What: "list of members", Problem: "is empty"}
	}
	seen := make(map[string]bool, len(members))
	for _, m := range members {
		if m.Name == "" {
			return &kv.InvalidError{What: "name of a member", Problem: "is empty"}
		}
		if seen[m.Name] {
			return &kv.InvalidError{What: "member " + m.Name, Problem: "is named twice"}
		}
		seen[m.Name] = true
		if m.Weight < 0 || m.Weight > MaxWeight {
			return &kv.InvalidError{What: "weight of " + m.Name, Problem: fmt.Sprintf("is %d; it must be from 0 to %d", m.Weight, MaxWeight)}
		}
	}
	return nil
}

// nobody stands for an owner that is not a member any more.
const nobody = -1

// plan is a claim in the making. Members and zones go by their index.
type plan struct {
	size       int
	members    []Member // sorted by name, weights at least 1
	zones      []string // sorted, distinct
	zone       []int    // by member
	target     int      // successive partitions to be on distinct nodes
	zoneTarget int      // successive partitions to be in distinct zones
	asked      int      // the target that was asked for
	nodeCap    int      // partitions that one node may own so that the target can be kept
	zoneCap    int      // the same for a zone
	crowded    bool     // no node can have less than others: the caps leave no room
	old        []int    // by partition: the owner so far, or nobody
	had        []int    // by member, how many partitions it owned so far
	count      []int    // by member, how many partitions it is to own
	looks      int      // how many owners the search has looked at; tests hold its work within bounds
}

func newPlan(size, targetN int, old *Ring, members []Member) *plan {
	p := &plan{size: size, asked: targetN, members: slices.Clone(members)}
	slices.SortFunc(p.members, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
	for i, m := range p.members {
		p.members[i].Weight = max(1, m.Weight)
		p.zones = append(p.zones, m.Zone)
	}
	slices.Sort(p.zones)
	p.zones = slices.Compact(p.zones)
	for _, m := range p.members {
		z, _ := slices.BinarySearch(p.zones, m.Zone)
		p.zone = append(p.zone, z)
	}
	p.setOld(old)
	p.setTargets()
	p.count = p.counts(p.shares())
	return p
}

// ring is the ring of these owners.
func (p *plan) ring(owner []int) *Ring {
	names := make([]string, p.size)
	for i, m := range owner {
		names[i] = p.members[m].Name
	}
	return build(names)
}

func (p *plan) setOld(old *Ring) {
	p.had = make([]int, len(p.members))
	p.old = make([]int, p.size)
	for i := range p.old {
		p.old[i] = nobody
		if old == nil {
			continue
		}
		name := old.Owner(Partition(i))
		m, ok := slices.BinarySearchFunc(p.members, name, func(m Member, name string) int { return strings.Compare(m.Name, name) })
		if ok {
			p.old[i] = m
			p.had[m]++
		}
	}
}

// setTargets finds the widest spread that these nodes and zones can have.
//
// A circle of size partitions has room for size/target occurrences of one node
// that are target apart, and layout finds a place for all nodes once none has
// more. So the rule about spreading is a cap on what one node may own.
//
// If not even this is enough, as at the wrap of three nodes, some have one more,
// and as few as can be: all others have what the cap was.
func (p *plan) setTargets() {
	p.target = min(p.asked, len(p.members), p.size)
	p.nodeCap = p.size / p.target
	floor := 0
	if p.nodeCap*len(p.members) < p.size {
		p.crowded = true
		floor = p.nodeCap
		p.nodeCap++
	}
	for p.zoneTarget = min(p.asked, len(p.zones), p.size); p.zoneTarget > 1; p.zoneTarget-- {
		p.zoneCap = p.size / p.zoneTarget
		if p.zoneCap*len(p.zones) < p.size {
			p.zoneCap++
		}
		if p.room() >= p.size && p.largestZone()*floor <= p.zoneCap {
			return
		}
	}
	p.zoneTarget, p.zoneCap = 1, p.size
}

// largestZone is how many members the zone has that has most.
func (p *plan) largestZone() int {
	n := make([]int, len(p.zones))
	for _, z := range p.zone {
		n[z]++
	}
	return slices.Max(n)
}

// weight is what counts for the share of a member.
func (p *plan) weight(m int) int64 {
	if p.crowded {
		return 1
	}
	return int64(p.members[m].Weight)
}

// room is how many partitions the members may own together within the caps.
func (p *plan) room() int {
	byZone := make([]int, len(p.zones))
	for m := range p.members {
		z := p.zone[m]
		byZone[z] = min(byZone[z]+p.nodeCap, p.zoneCap)
	}
	return sum(byZone)
}

func sum(list []int) int {
	total := 0
	for _, n := range list {
		total += n
	}
	return total
}
