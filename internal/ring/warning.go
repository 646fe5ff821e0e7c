package ring

import "fmt"

// Warning is something that a claim could not give. Its text is for the
// operator.
type Warning interface {
	String() string
	warning()
}

// FewNodes warns that there are fewer nodes than successive partitions to keep
// apart.
type FewNodes struct{ Nodes, Target int }

// FewZones warns that only so many successive partitions can be kept in
// distinct zones, not the target.
type FewZones struct{ Zones, Apart, Target int }

// SharedNode warns that two partitions that are closer than the target are on
// one node. Last is clockwise of First.
type SharedNode struct {
	First, Last Partition
	Node        string
}

// SharedZone warns that a zone has pairs of partitions that are closer than the
// number to be kept apart.
type SharedZone struct {
	Zone  string
	Pairs int
	First Partition // the first partition of the first pair
}

// UnfairShare warns that a node owns more or less than its weight's share, give
// or take one.
type UnfairShare struct {
	Node  string
	Owned int
	Fair  int // the share, rounded to the nearest
}

func (FewNodes) warning()    {}
func (FewZones) warning()    {}
func (SharedNode) warning()  {}
func (SharedZone) warning()  {}
func (UnfairShare) warning() {}

func (w FewNodes) String() string {
	if w.Nodes == 1 {
		return "one node holds all replicas: 1 distinct copy"
	}
	return fmt.Sprintf("%d nodes: not all of %d successive partitions are on distinct nodes", w.Nodes, w.Target)
}

func (w FewZones) String() string {
	return fmt.Sprintf("%d zones: only %d of %d successive partitions are in distinct zones", w.Zones, w.Apart, w.Target)
}

func (w SharedNode) String() string {
	return fmt.Sprintf("replicas of partitions %d..%d share node %s", w.First, w.Last, w.Node)
}

func (w SharedZone) String() string {
	if w.Pairs == 1 {
		return fmt.Sprintf("replicas near partition %d share zone %q", w.First, w.Zone)
	}
	return fmt.Sprintf("replicas in %d places, first near partition %d, share zone %q", w.Pairs, w.First, w.Zone)
}

func (w UnfairShare) String() string {
	return fmt.Sprintf("node %s owns %d partitions; its fair share is %d", w.Node, w.Owned, w.Fair)
}

// warnings says what these owners lack.
func (p *plan) warnings(owner []int) []Warning {
	var list []Warning
	if p.target < p.asked {
		list = append(list, FewNodes{Nodes: len(p.members), Target: p.asked})
	}
	if len(p.zones) > 1 && p.zoneTarget < p.asked {
		list = append(list, FewZones{Zones: len(p.zones), Apart: p.zoneTarget, Target: p.asked})
	}
	list = append(list, p.sharedWarnings(owner)...)
	return append(list, p.shareWarnings(owner)...)
}

// sharedWarnings names the pairs of partitions on one node, and then sums up
// those in one zone but on two nodes.
func (p *plan) sharedWarnings(owner []int) []Warning {
	var list []Warning
	byZone := make([]SharedZone, len(p.zones))
	for i, m := range owner {
		for d := 1; d < p.target; d++ {
			last := (i + d) % p.size
			n, z := owner[last], p.zone[m]
			if n == m {
				list = append(list, SharedNode{First: Partition(i), Last: Partition(last), Node: p.members[m].Name})
				continue
			}
			if d >= p.zoneTarget || p.zone[n] != z {
				continue
			}
			if byZone[z].Pairs == 0 {
				byZone[z] = SharedZone{Zone: p.zones[z], First: Partition(i)}
			}
			byZone[z].Pairs++
		}
	}
	for _, w := range byZone {
		if w.Pairs > 0 {
			list = append(list, w)
		}
	}
	return list
}

// shareWarnings names the nodes that the rules about spreading keep from their
// fair share by more than one partition.
func (p *plan) shareWarnings(owner []int) []Warning {
	weights := 0
	for _, m := range p.members {
		weights += m.Weight
	}
	owned := make([]int, len(p.members))
	for _, m := range owner {
		owned[m]++
	}
	var list []Warning
	for i, m := range p.members {
		off := owned[i]*weights - p.size*m.Weight
		if off > weights || off < -weights {
			fair := (2*p.size*m.Weight + weights) / (2 * weights)
			list = append(list, UnfairShare{Node: m.Name, Owned: owned[i], Fair: fair})
		}
	}
	return list
}
