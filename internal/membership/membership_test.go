package membership_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/kv"
)

func three() []membership.Member {
	return []membership.Member{{Name: "n2", Address: "h2:8099"}, {Name: "n1", Address: "h1:8099"}, {Name: "n3"}}
}

func bootstrap(t *testing.T, members []membership.Member, partitions, targetN int) *membership.State {
	t.Helper()
	s, err := membership.Bootstrap(members, partitions, targetN, 3)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestBootstrap(t *testing.T) {
	given := three()
	s := bootstrap(t, given, 64, 4)
	sorted := []membership.Member{{Name: "n1", Address: "h1:8099"}, {Name: "n2", Address: "h2:8099"}, {Name: "n3"}}
	for i := range sorted {
		sorted[i].Status = membership.StatusValid
		sorted[i].Raft = membership.RaftID(s.Cluster(), sorted[i].Name, [16]byte{})
	}
	given[0].Name = "changed"
	s.Members()[0].Name = "changed"
	if diff := cmp.Diff(sorted, s.Members()); diff != "" {
		t.Error(diff)
	}
	if m, ok := s.Member("n2"); !ok || m != sorted[1] {
		t.Errorf("n2 is %v, %v", m, ok)
	}
	if m, ok := s.Member("n4"); ok || m != (membership.Member{}) {
		t.Errorf("n4, which is no member, is %v", m)
	}
	if s.Epoch() != 1 {
		t.Errorf("epoch is %d, want 1", s.Epoch())
	}
	if got, want := s.String(), "epoch 1, 64 partitions: n1 (h1:8099) 22, n2 (h2:8099) 21, n3 21"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestRingIsThatOfTheClaim(t *testing.T) {
	s := bootstrap(t, three(), 64, 4)
	r, warnings, err := ring.Claim(64, 4, nil, []ring.Member{{Name: "n1"}, {Name: "n2"}, {Name: "n3"}})
	if err != nil {
		t.Fatal(err)
	}
	for p := range ring.Partition(64) {
		if got, want := s.Ring().Owner(p), r.Owner(p); got != want {
			t.Errorf("partition %d is on %s, want %s", p, got, want)
		}
	}
	if diff := cmp.Diff(warnings, s.Warnings()); diff != "" || len(warnings) == 0 {
		t.Errorf("warnings %v: %s", warnings, diff)
	}
}

func TestSingleNodeNeedsNoAddress(t *testing.T) {
	s := bootstrap(t, []membership.Member{{Name: "tanodb"}}, 64, 4)
	if got, want := s.String(), "epoch 1, 64 partitions: tanodb 64"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// Nodes that differ in the id do not talk to each other: it follows from what
// decides where data is, and from nothing else. The value is fixed, since nodes
// keep it on disk.
func TestClusterID(t *testing.T) {
	id := bootstrap(t, three(), 64, 4).Cluster()
	if got, want := hex.EncodeToString(id[:]), "8ce09b0041acb62bfb2f4a0005728f94"; got != want {
		t.Errorf("id is %s, want %s", got, want)
	}
	moved := three()
	moved[0], moved[1] = moved[1], moved[0]
	moved[0].Address = "elsewhere:1"
	if bootstrap(t, moved, 64, 4).Cluster() != id {
		t.Error("another order and another address made another cluster")
	}
	renamed := three()
	renamed[0].Name = "n4"
	for name, other := range map[string]*membership.State{
		"a name":     bootstrap(t, renamed, 64, 4),
		"a member":   bootstrap(t, three()[:2], 64, 4),
		"partitions": bootstrap(t, three(), 128, 4),
		"the target": bootstrap(t, three(), 64, 3),
		"replicas":   replicated(t, three(), 2),
		"boundaries": bootstrap(t, []membership.Member{{Name: "n1n"}, {Name: "2"}, {Name: "n3"}}, 64, 4),
	} {
		if other.Cluster() == id {
			t.Errorf("%s is not in the id", name)
		}
	}
}

func replicated(t *testing.T, members []membership.Member, replicas int) *membership.State {
	t.Helper()
	s, err := membership.Bootstrap(members, 64, 4, replicas)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Clusters of the same members are different ones if their names are, and a name is no member.
func TestAClusterHasAName(t *testing.T) {
	seen := map[[16]byte]string{}
	for _, x := range []struct {
		name    string
		members []membership.Member
	}{
		{"", three()},
		{"test", three()},
		{"live", three()},
		{"", append(three(), membership.Member{Name: "test"})},
		{"live", append(three(), membership.Member{Name: "test"})},
	} {
		s, err := membership.BootstrapNamed(x.name, x.members, 64, 4, 3)
		if err != nil {
			t.Fatal(err)
		}
		again, err := membership.BootstrapNamed(x.name, x.members, 64, 4, 3)
		if err != nil || again.Cluster() != s.Cluster() {
			t.Errorf("%q: %x, then %x, %v", x.name, s.Cluster(), again.Cluster(), err)
		}
		what := fmt.Sprintf("%q of %d", x.name, len(x.members))
		if other, known := seen[s.Cluster()]; known {
			t.Errorf("%s is the cluster %s", what, other)
		}
		seen[s.Cluster()] = what
	}
	if s, err := membership.Bootstrap(three(), 64, 4, 3); err != nil || seen[s.Cluster()] != `"" of 3` {
		t.Errorf("without a name: %v, %v", s, err)
	}
	if _, err := membership.BootstrapNamed("my cluster", three(), 64, 4, 3); !errors.Is(err, kv.ErrInvalid) || !strings.Contains(err.Error(), "name of the cluster") {
		t.Errorf("a bad name: %v", err)
	}
}

func TestBootstrapRefusesReplicas(t *testing.T) {
	for _, n := range []int{-1, 0, 65} {
		_, err := membership.Bootstrap(three(), 64, 4, n)
		if want := fmt.Sprintf("number of replicas is %d; it must be from 1 to 64", n); !errors.Is(err, kv.ErrInvalid) || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// A node that was alone from its start is of a cluster of its own, though its
// name and ring are like those of others.
func TestAlone(t *testing.T) {
	id, cluster := [16]byte{1}, [16]byte{2}
	s, err := membership.Alone("n1", id, "h:1", cluster, 64, 4, 3)
	if err != nil {
		t.Fatal(err)
	}
	want := []membership.Member{{Name: "n1", ID: id, Address: "h:1", Status: membership.StatusValid, Raft: membership.RaftID(cluster, "n1", [16]byte{})}}
	if diff := cmp.Diff(want, s.Members()); diff != "" || s.Cluster() != cluster || s.Epoch() != 1 {
		t.Errorf("cluster %x, epoch %d: %s", s.Cluster(), s.Epoch(), diff)
	}
	if _, err := membership.Alone("n 1", id, "h:1", cluster, 64, 4, 3); !errors.Is(err, kv.ErrInvalid) {
		t.Errorf("a bad name: %v", err)
	}
}

func TestRaftIDsDiffer(t *testing.T) {
	seen := map[uint64]bool{0: true}
	for _, cluster := range [][16]byte{{1}, {2}} {
		for _, name := range []string{"n1", "n2"} {
			for _, id := range [][16]byte{{}, {1}, {2}} {
				raft := membership.RaftID(cluster, name, id)
				if seen[raft] {
					t.Errorf("%s with id %x has the id %d, as another", name, id, raft)
				}
				seen[raft] = true
			}
		}
	}
}

func TestBootstrapRefuses(t *testing.T) {
	for _, tc := range []struct {
		name       string
		members    []membership.Member
		partitions int
		want       string
	}{
		{"nobody", nil, 64, "list of members is empty"},
		{"a nameless member", []membership.Member{{Name: "a"}, {Address: "h:1"}}, 64, `member 2, "", has no name`},
		{"a name twice", []membership.Member{{Name: "a"}, {Name: "a"}}, 64, `member 2, "a", is named twice`},
		{"a zone that is none", []membership.Member{{Name: "a", Zone: "x y"}}, 64, `member 1, "a", has a zone with other characters than A-Z a-z 0-9 . _ -`},
		{"a negative weight", []membership.Member{{Name: "a", Weight: -1}}, 64, `member 1, "a", has the weight -1; it must be from 1 to 1000000`},
		{"an address twice", []membership.Member{{Name: "a", Address: "h:1"}, {Name: "b"}, {Name: "c", Address: "h:1"}}, 64, `member 3, "c", has the address "h:1", which is that of a`},
		{"an address without a port", []membership.Member{{Name: "a", Address: "h"}}, 64, `member 1, "a", has the address "h", which has no port`},
		{"too few partitions", three(), 4, "number of partitions is 4; it must be a power of two from 8 to 65536"},
		{"no power of two", three(), 100, "number of partitions is 100; it must be a power of two from 8 to 65536"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, err := membership.Bootstrap(tc.members, tc.partitions, 4, 3)
			if s != nil || !errors.Is(err, kv.ErrInvalid) || err.Error() != tc.want {
				t.Errorf("got  %v\nwant %s", err, tc.want)
			}
		})
	}
}
