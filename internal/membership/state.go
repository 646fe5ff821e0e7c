package membership

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/tanodb/tanodb/internal/ring"
)

// State is one version of the topology: the members, who owns what, and what
// is to change. It is immutable, and may be read by many goroutines at once.
type State struct {
	epoch     uint64
	cluster   [16]byte
	targetN   int
	replicas  int
	members   []member // sorted by name
	gone      []gone   // the members that left, latest last; at most maxGone
	ring      *ring.Ring
	next      *ring.Ring     // Invariant: ring with each active transfer's partition on its other side; the same pointer if there is none
	since     []uint64       // by home
	transfers []Transfer     // sorted by partition, an active one before a waiting one; at most one of each for a partition
	lastID    uint64         // of a transfer
	staged    []Change       // in the order of staging; at most one for a node
	settings  []Setting      // sorted by key
	results   []result       // of the last commands, latest last; at most maxResults
	warnings  []ring.Warning // of the last plan
	reaping   reaping

	properties properties
	security   *Security // nil: nobody is known, and everybody may do everything
}

// The limits of what a state remembers.
const (
	maxGone    = 1024
	maxResults = 64
)

// member is a Member and what it was before it was down.
type member struct {
	Member
	before Status // Invariant: empty unless Status is StatusDown
}

// standing is what the member is apart from being down.
func (m *member) standing() Status { return cmp.Or(m.before, m.Status) }

// gone is a node that has left. Its id is refused for as long as it is
// remembered.
type gone struct {
	Name string
	ID   [16]byte
}

// Setting is something that an operator has set for the whole cluster.
type Setting struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// result is how a command ended.
type result struct {
	id  CommandID
	err *ChangeError // nil: well
}

// Epoch counts the commands that led here, from 1 on.
func (s *State) Epoch() uint64 { return s.epoch }

// Cluster is the id of the cluster. It is the same on all nodes that were given
// the same first members, number of partitions and replicas, and name of the cluster, whatever their
// addresses.
func (s *State) Cluster() [16]byte { return s.cluster }

// Ring says which member owns which partition.
func (s *State) Ring() *ring.Ring { return s.ring }

// Next is the ring in which each active transfer is on its other side: the new
// one while it is being copied, then the old one. It is Ring, the same pointer,
// while no transfer is active.
func (s *State) Next() *ring.Ring { return s.next }

// Replicas is N, how many vnodes hold each key.
func (s *State) Replicas() int { return s.replicas }

// TargetN is how many successive partitions the ring is to keep on distinct
// nodes.
func (s *State) TargetN() int { return s.targetN }

// Since is the epoch of the last change of the primaries of a home, in Ring or
// in Next.
func (s *State) Since(home ring.Partition) uint64 { return s.since[home] }

// Members are all members, sorted by name, with those that have left as long as
// they are remembered.
func (s *State) Members() []Member {
	list := make([]Member, len(s.members))
	for i, m := range s.members {
		list[i] = m.Member
	}
	return list
}

// Member is the member of that name, if there is one.
func (s *State) Member(name string) (Member, bool) {
	if m := s.member(name); m != nil {
		return m.Member, true
	}
	return Member{}, false
}

// member is nil if there is none of that name.
func (s *State) member(name string) *member {
	i, ok := s.search(name)
	if !ok {
		return nil
	}
	return &s.members[i]
}

func (s *State) search(name string) (int, bool) {
	return slices.BinarySearchFunc(s.members, name, func(m member, name string) int { return strings.Compare(m.Name, name) })
}

// left reports whether the node of that name has left for ever.
func (s *State) left(name string) bool {
	m := s.member(name)
	return m == nil || m.Status == StatusLeft
}

// claimers are the members that are to own partitions.
func (s *State) claimers() []ring.Member {
	var list []ring.Member
	for i := range s.members {
		if m := &s.members[i]; m.standing() == StatusValid {
			list = append(list, ring.Member{Name: m.Name, Zone: m.Zone, Weight: cmp.Or(m.Weight, DefaultWeight)})
		}
	}
	return list
}

// Transfers are the changes of ownership that are not over, sorted by
// partition. A partition has at most one that is active, and after it one that
// waits.
func (s *State) Transfers() []Transfer {
	list := slices.Clone(s.transfers)
	for i := range list {
		list[i].Filled = slices.Clone(list[i].Filled)
	}
	return list
}

// Staged are the changes that the next commit will carry out, in the order in
// which they were staged.
func (s *State) Staged() []Change { return slices.Clone(s.staged) }

// Settings are what has been set, sorted by key.
func (s *State) Settings() []Setting { return slices.Clone(s.settings) }

// Setting is the value of a setting, its default if it has not been set, or
// empty.
func (s *State) Setting(key string) string {
	i := slices.IndexFunc(s.settings, func(x Setting) bool { return x.Key == key })
	if i >= 0 {
		return s.settings[i].Value
	}
	return settingDefaults[key]
}

// Warnings are what the last plan could not give the ring, for the operator.
func (s *State) Warnings() []ring.Warning { return slices.Clone(s.warnings) }

// Result is how the command ended, if it is one of the last that were applied.
// The error is a *ChangeError.
func (s *State) Result(id CommandID) (err error, known bool) {
	for i := len(s.results) - 1; i >= 0; i-- {
		if r := s.results[i]; r.id == id {
			if r.err == nil {
				return nil, true
			}
			return r.err, true
		}
	}
	return nil, false
}

// Jump is the same state with an epoch that is greater by that much, for a log
// that begins anew and must not repeat an epoch.
func (s *State) Jump(by uint64) *State {
	c := *s
	c.epoch += by
	return &c
}

// String shows the members and what they own:
//
//	epoch 1, 64 partitions: n1 (10.0.0.1:8099) 22, n2 (10.0.0.2:8099) 21, n3 21
//
// with the status of those that are not simply valid, and the transfers.
func (s *State) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "epoch %d, %d partitions", s.epoch, s.ring.Size())
	sep := ": "
	for _, m := range s.members {
		b.WriteString(sep + m.Name)
		sep = ", "
		if m.Address != "" {
			b.WriteString(" (" + m.Address + ")")
		}
		fmt.Fprintf(&b, " %d", s.ring.Owned(m.Name))
		if m.Status != StatusValid {
			b.WriteString(" " + string(m.Status))
		}
	}
	for _, t := range s.transfers {
		fmt.Fprintf(&b, "; %v", t)
	}
	return b.String()
}
