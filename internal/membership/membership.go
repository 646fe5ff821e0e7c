// Package membership says who belongs to the cluster, and who of them is up.
//
// State is the first of these: an immutable value, the members and the ring
// that follows from them. All nodes that are given the same list come to the
// same State, and recognise each other by its Cluster id.
//
// Detector is the second: one node's own view of its peers, which changes with
// every message that comes, or does not come. Two nodes may differ in it, and
// no data is at risk when they do.
package membership

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/tanodb/tanodb/internal/ring"
)

// State is who belongs to the cluster, and the ring. It is immutable, and may
// be read by many goroutines at once.
type State struct {
	members  []Member // sorted by name
	ring     *ring.Ring
	warnings []ring.Warning
	cluster  [16]byte
}

// Bootstrap is the state of a cluster of these members from the start. The ring
// is that of ring.Claim, and its errors are passed on; other errors are
// *kv.InvalidError as well, and name the bad member. No two members may have
// the same name, or the same address other than none.
func Bootstrap(members []Member, partitions, targetN int) (*State, error) {
	if err := validate(members); err != nil {
		return nil, err
	}
	s := &State{members: slices.Clone(members)}
	slices.SortFunc(s.members, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
	claim := make([]ring.Member, len(s.members))
	for i, m := range s.members {
		claim[i] = ring.Member{Name: m.Name}
	}
	var err error
	s.ring, s.warnings, err = ring.Claim(partitions, targetN, nil, claim)
	if err != nil {
		return nil, err
	}
	s.cluster = clusterID(s.members, partitions, targetN)
	return s, nil
}

// idVersion is the version of the cluster id. It stands for all that nodes with
// the same list must do alike, so that nodes which would make another ring of
// it are of another cluster: it changes whenever ring.Claim does.
const idVersion = 1

// clusterID is the start of the SHA-256 of
//
//	"tanodb cluster" | idVersion u8 | partitions u32 | targetN u8 | members
//
// where the members are, in the order of their names: len u8 | name.
//
// Addresses are not in it: they may change at any restart.
func clusterID(members []Member, partitions, targetN int) (id [16]byte) {
	b := append([]byte("tanodb cluster"), idVersion)
	b = binary.BigEndian.AppendUint32(b, uint32(partitions))
	b = append(b, byte(targetN))
	for _, m := range members {
		b = append(b, byte(len(m.Name)))
		b = append(b, m.Name...)
	}
	hash := sha256.Sum256(b)
	copy(id[:], hash[:])
	return id
}

// Members are all members, sorted by name.
func (s *State) Members() []Member { return slices.Clone(s.members) }

// Member is the member of that name, if there is one.
func (s *State) Member(name string) (Member, bool) {
	i, ok := slices.BinarySearchFunc(s.members, name, func(m Member, name string) int { return strings.Compare(m.Name, name) })
	if !ok {
		return Member{}, false
	}
	return s.members[i], true
}

// Ring says which member owns which partition.
func (s *State) Ring() *ring.Ring { return s.ring }

// Warnings are what the ring could not be given, for the operator.
func (s *State) Warnings() []ring.Warning { return slices.Clone(s.warnings) }

// Epoch counts the versions of the state of one cluster, from 1 on.
func (s *State) Epoch() uint64 { return 1 }

// Cluster is the id of the cluster. It is the same on all nodes that were given
// the same names and number of partitions, whatever their addresses.
func (s *State) Cluster() [16]byte { return s.cluster }

// String shows the members and what they own:
//
//	epoch 1, 64 partitions: n1 (10.0.0.1:8099) 22, n2 (10.0.0.2:8099) 21, n3 21
func (s *State) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "epoch %d, %d partitions", s.Epoch(), s.ring.Size())
	for i, m := range s.members {
		sep := ", "
		if i == 0 {
			sep = ": "
		}
		b.WriteString(sep + m.Name)
		if m.Address != "" {
			b.WriteString(" (" + m.Address + ")")
		}
		fmt.Fprintf(&b, " %d", s.ring.Owned(m.Name))
	}
	return b.String()
}
