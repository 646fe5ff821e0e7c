package ring

import "github.com/tanodb/tanodb/kv"

// Preflist is the list of the n replicas of a key with this home, in the order
// of their partitions, as far as their nodes are up. For a partition whose
// owner is down another node stands in, as a fallback with the same partition:
// the node that holds the fewest other replicas of this list, so that a node
// which holds none comes first; among equals, the first one clockwise after the
// n primaries. While any node is up, there are n entries; when none is, the
// list is empty.
func (r *Ring) Preflist(home Partition, n int, up func(node string) bool) []Replica {
	list := r.Primaries(home, n)
	down := 0
	for i := range list {
		if !up(list[i].Node) {
			list[i].Node, list[i].Role = "", kv.Fallback
			down++
		}
	}
	if down == 0 {
		return list
	}
	spare := r.spare(r.Next(list[len(list)-1].Partition, 1), list, down, up)
	if len(spare) == 0 {
		return nil
	}
	for i := range list {
		if list[i].Node == "" {
			list[i].Node = leastUsed(spare, list)
		}
	}
	return list
}

// spare are the nodes that may stand in: those which are up, clockwise from the
// given partition on, until want of them hold nothing in the list or there are
// no more.
func (r *Ring) spare(from Partition, list []Replica, want int, up func(node string) bool) []string {
	var spare []string
	seen := make([]bool, len(r.nodes))
	unseen := len(r.nodes)
	for p := from; want > 0 && unseen > 0; p = r.Next(p, 1) {
		i := r.owners[p]
		if seen[i] {
			continue
		}
		seen[i] = true
		unseen--
		node := r.nodes[i]
		if !up(node) {
			continue
		}
		spare = append(spare, node)
		if uses(list, node) == 0 {
			want--
		}
	}
	return spare
}

// leastUsed is the first of the nodes that holds the fewest replicas of the
// list.
func leastUsed(nodes []string, list []Replica) string {
	best, least := "", len(list)+1
	for _, node := range nodes {
		if n := uses(list, node); n < least {
			best, least = node, n
		}
	}
	return best
}

func uses(list []Replica, node string) int {
	n := 0
	for i := range list {
		if list[i].Node == node {
			n++
		}
	}
	return n
}

// First are n of the replicas of a list, for a key that has fewer than the
// cluster's: those on distinct nodes first, as many as there are, and otherwise
// the ones closest to home. Their order stays.
func First(list []Replica, n int) []Replica {
	if n >= len(list) {
		return list
	}
	n = max(0, n)
	first := make([]Replica, 0, n)
	missing := distinctNodes(list, n)
	for _, x := range list {
		if len(first) == n {
			break
		}
		if uses(first, x.Node) == 0 {
			missing--
		} else if n-len(first) <= missing {
			continue
		}
		first = append(first, x)
	}
	return first
}

// distinctNodes counts the nodes of the list; it stops at limit.
func distinctNodes(list []Replica, limit int) int {
	n := 0
	for i, x := range list {
		if n == limit {
			break
		}
		if uses(list[:i], x.Node) == 0 {
			n++
		}
	}
	return n
}

// Place is a replica during a transfer: one that the owners now call for, or
// the next ones, or both. Its role is Primary if the owners now do, or else
// Incoming.
type Place struct {
	Replica
	Now, Next bool
}

// Places are where a key with this home and n replicas is written: the first n
// of the replicas by the owners now, in their order, and then those which only
// the next owners add. All is the number of replicas that the cluster is laid
// out for. When nothing is being transferred, next is nil or the same ring, and
// every place is both.
func Places(now, next *Ring, home Partition, all, n int) []Place {
	list := First(now.Primaries(home, all), n)
	same := next == nil || next == now
	places := make([]Place, len(list), len(list)+1)
	for i, x := range list {
		places[i] = Place{Replica: x, Now: true, Next: same}
	}
	if same {
		return places
	}
	for _, x := range First(next.Primaries(home, all), n) {
		if i := indexPlace(places, x); i >= 0 {
			places[i].Next = true
			continue
		}
		x.Role = kv.Incoming
		places = append(places, Place{Replica: x, Next: true})
	}
	return places
}

func indexPlace(places []Place, x Replica) int {
	for i := range places {
		if places[i].Partition == x.Partition && places[i].Node == x.Node {
			return i
		}
	}
	return -1
}

// Standins are the nodes that may stand in for a replica of a key with this
// home: those that are up and not to be skipped, each once, clockwise from
// after the n primaries. Neither function is asked about a node twice.
func (r *Ring) Standins(home Partition, n int, up, skip func(node string) bool) []string {
	from := home
	if list := r.Primaries(home, n); len(list) > 0 {
		from = r.Next(list[len(list)-1].Partition, 1)
	}
	var nodes []string
	seen := make([]bool, len(r.nodes))
	unseen := len(r.nodes)
	for p := from; unseen > 0; p = r.Next(p, 1) {
		i := r.owners[p]
		if seen[i] {
			continue
		}
		seen[i] = true
		unseen--
		if node := r.nodes[i]; !skip(node) && up(node) {
			nodes = append(nodes, node)
		}
	}
	return nodes
}
