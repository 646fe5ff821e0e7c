// Package membership says who belongs to the cluster, and who of them is up.
//
// State is the first of these: an immutable value, folded from the entries of
// the topology log one by one, so that all nodes that have read the same entries
// have the same State. It holds the members, who owns which partition, the
// transfers by which that changes, and what an operator has staged:
//
//	Stage, Stage, …  ─▶  Plan  ─▶  Commit  ─▶  transfers  ─▶  Filled, Settled
//
// Log is the replicated log that the entries come from.
//
// Detector is the other one: one node's own view of its peers, which changes
// with every message that comes, or does not come. Two nodes may differ in it,
// and no data is at risk when they do.
package membership

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/kv"
)

// Bootstrap is the state of a cluster of these members from the start, with
// this many replicas of each key. The ring is that of ring.Claim, and its errors
// are passed on; other errors are *kv.InvalidError as well, and name the bad member. No
// two members may have the same name, or the same address other than none.
//
// Nodes that are given different addresses for a member agree on all else.
func Bootstrap(members []Member, partitions, targetN, replicas int) (*State, error) {
	return BootstrapNamed("", members, partitions, targetN, replicas)
}

// BootstrapNamed is Bootstrap for a cluster that has a name: another one than that of any other name, or of none,
// though it has the same members.
func BootstrapNamed(name string, members []Member, partitions, targetN, replicas int) (*State, error) {
	if name != "" {
		if problem := nameProblem(name); problem != "" {
			return nil, &kv.InvalidError{What: "name of the cluster", Problem: problem}
		}
	}
	return found(name, members, partitions, targetN, replicas, nil)
}

// Alone is the state of a new cluster of one member. The cluster's id is chance: no other cluster may
// have it.
func Alone(name string, id [16]byte, address string, cluster [16]byte, partitions, targetN, replicas int) (*State, error) {
	return found("", []Member{{Name: name, ID: id, Address: address}}, partitions, targetN, replicas, &cluster)
}

// found makes the first state of a cluster. If no id is given for it, it
// follows from the rest.
func found(name string, members []Member, partitions, targetN, replicas int, cluster *[16]byte) (*State, error) {
	if err := validate(members); err != nil {
		return nil, err
	}
	if replicas < 1 || replicas > MaxReplicas {
		return nil, &kv.InvalidError{What: "number of replicas", Problem: fmt.Sprintf("is %d; it must be from 1 to %d", replicas, MaxReplicas)}
	}
	s := &State{epoch: 1, targetN: targetN, replicas: replicas}
	for _, m := range members {
		m.Status = StatusValid
		s.members = append(s.members, member{Member: m})
	}
	slices.SortFunc(s.members, func(a, b member) int { return strings.Compare(a.Name, b.Name) })
	var err error
	if s.ring, s.warnings, err = ring.Claim(partitions, targetN, nil, s.claimers()); err != nil {
		return nil, err
	}
	s.next = s.ring
	s.since = slices.Repeat([]uint64{1}, partitions)
	if s.cluster = clusterID(name, s.members, partitions, targetN, replicas); cluster != nil {
		s.cluster = *cluster
	}
	for i := range s.members {
		s.members[i].Raft = RaftID(s.cluster, s.members[i].Name, [16]byte{})
	}
	return s, s.index()
}

// idVersion is the version of the cluster id. It stands for all that nodes with
// the same list must do alike, so that nodes which would make another ring of
// it are of another cluster: it changes whenever ring.Claim does.
const idVersion = 2

// clusterID is the start of the SHA-256 of
//
//	"tanodb cluster" | idVersion u8 | partitions u32 | targetN u8 | replicas u8 | members
//
// where the members are, in the order of their names: len u8 | name. A cluster that has a name has it
// behind them: 0 u8 | name. No member's name is empty.
//
// Addresses are not in it: they may change at any restart.
func clusterID(name string, members []member, partitions, targetN, replicas int) (id [16]byte) {
	b := append([]byte("tanodb cluster"), idVersion)
	b = binary.BigEndian.AppendUint32(b, uint32(partitions))
	b = append(b, byte(targetN), byte(replicas))
	for _, m := range members {
		b = append(b, byte(len(m.Name)))
		b = append(b, m.Name...)
	}
	if name != "" {
		b = append(append(b, 0), name...)
	}
	hash := sha256.Sum256(b)
	copy(id[:], hash[:])
	return id
}
