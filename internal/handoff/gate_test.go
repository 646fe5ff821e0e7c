package handoff

import (
	"testing"

	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
)

// staged is a cluster of n1 to n4 in which n5 has joined, with its first
// transfers being copied.
func staged(t *testing.T) (*membership.State, membership.Transfer) {
	t.Helper()
	var members []membership.Member
	for _, name := range []string{"n1", "n2", "n3", "n4"} {
		members = append(members, membership.Member{Name: name})
	}
	s, err := membership.Bootstrap(members, 64, 4, replicas)
	if err != nil {
		t.Fatal(err)
	}
	s = s.Apply(membership.CommandID{1}, membership.Stage{Change: membership.Change{Kind: "join", Node: "n5", ID: [16]byte{5}, Address: "10.0.0.5:8099"}})
	plan, err := s.Plan()
	if err != nil {
		t.Fatal(err)
	}
	s = s.Apply(membership.CommandID{2}, membership.Commit{Plan: plan.ID})
	if err, known := s.Result(membership.CommandID{2}); err != nil || !known {
		t.Fatal(err)
	}
	for _, x := range s.Transfers() {
		if x.Phase == membership.Copying {
			return s, x
		}
	}
	t.Fatal("no transfer is being copied")
	return nil, membership.Transfer{}
}

// Each message at each epoch: what goes by changed places is stale, what is
// given away needs the knowledge of the change, and what should be held is not
// dropped.
func TestWhatANodeObjectsTo(t *testing.T) {
	s, x := staged(t)
	home := x.Partition
	since, now := s.Since(home), s.Epoch()
	if since == 0 || since > now {
		t.Fatalf("home %d has changed at %d, and now it is %d", home, since, now)
	}
	for _, tc := range []struct {
		name  string
		self  string
		epoch uint64
		m     vnode.Message
		want  vnode.Code // 0: no objection
	}{
		{"a write by the old places", x.From, since - 1, &vnode.Store{Home: home}, vnode.CodeStale},
		{"a write by the new places", x.From, since, &vnode.Store{Home: home}, 0},
		{"a write by places of the future", x.From, now + 1, &vnode.Coordinate{Home: home}, 0},
		{"a new version by the old places", x.From, since - 1, &vnode.Coordinate{Home: home}, vnode.CodeStale},
		{"a read by the old places", x.From, since - 1, &vnode.Fetch{Home: home}, vnode.CodeStale},
		{"a listing by the old places", x.From, since - 1, &vnode.List{Home: home}, vnode.CodeStale},
		{"a read of a home that is none", x.From, now, &vnode.Fetch{Home: 64}, vnode.CodeInvalid},
		{"a pull by one who knows less", x.From, since - 1, &vnode.Pull{Home: home}, 0},
		{"a pull by one who knows as much", x.From, now, &vnode.Pull{Home: home}, 0},
		{"a pull by one who knows more", x.From, now + 1, &vnode.Pull{Home: home}, vnode.CodeStale},
		{"a pull of a home that is none", x.From, now, &vnode.Pull{Home: 64}, vnode.CodeInvalid},
		{"a drop by the owner", x.From, now, &vnode.Drop{Home: home}, vnode.CodeStale},
		{"a drop by the next owner", x.To, now, &vnode.Drop{Home: home}, vnode.CodeStale},
		{"a drop by a stand-in", other(s, home), now, &vnode.Drop{Home: home}, 0},
		{"a drop of a home that is none", x.From, now, &vnode.Drop{Home: 64}, vnode.CodeInvalid},
		{"what is handed over, by the old places", x.To, since - 1, &vnode.Deliver{Home: home}, 0},
		{"a comparison by the old places", x.From, since - 1, &vnode.Sums{Home: home}, vnode.CodeStale},
		{"a comparison with the owner", x.From, now, &vnode.Sums{Home: home}, 0},
		{"a comparison with the next owner", x.To, now, &vnode.Versions{Home: home}, 0},
		{"a comparison with a stand-in", other(s, home), now, &vnode.Pick{Home: home}, vnode.CodeStale},
		{"a comparison of a home that is none", x.From, now, &vnode.Sums{Home: 64}, vnode.CodeInvalid},
		{"a mending by the old places", x.From, since - 1, &vnode.Deliver{Home: home, Placed: true}, vnode.CodeStale},
		{"a mending of a stand-in", other(s, home), now, &vnode.Deliver{Home: home, Placed: true}, vnode.CodeStale},
		{"a mending of the owner", x.From, now, &vnode.Deliver{Home: home, Placed: true}, 0},
	} {
		got := vnode.Code(0)
		if r, ok := Objection(s, tc.self, x.Partition, tc.epoch, tc.m).(*vnode.Refusal); ok {
			got = r.Code
			if r.Text == "" || r.Code == vnode.CodeStale && r.Epoch != now {
				t.Errorf("%s: %+v", tc.name, r)
			}
		}
		if got != tc.want {
			t.Errorf("%s: code %d; want %d", tc.name, got, tc.want)
		}
	}
	if r, ok := Objection(s, x.From, 64, now, &vnode.Ping{}).(*vnode.Refusal); !ok || r.Code != vnode.CodeInvalid {
		t.Errorf("vnode 64 of 64: %+v", r)
	}
}

// other is a node that holds nothing of the home.
func other(s *membership.State, home ring.Partition) string {
	places := ring.Places(s.Ring(), s.Next(), home, replicas, replicas)
	for _, m := range s.Members() {
		holds := false
		for _, p := range places {
			holds = holds || p.Node == m.Name
		}
		if !holds {
			return m.Name
		}
	}
	return "a stranger"
}
