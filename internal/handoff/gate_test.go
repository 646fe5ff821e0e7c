package handoff

import (
	"testing"

	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/storage"
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
		{"what is handed over, by the old places", x.To, since - 1, &vnode.Deliver{Home: home}, vnode.CodeStale},
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

// What was read or made before the mark of a reaping is taken by nobody who knows of the
// mark, and what a reaping asks is answered only by those who know as much.
func TestWhatComesFromBeforeAMark(t *testing.T) {
	s, x := staged(t)
	s = s.Apply(membership.CommandID{}, membership.Mark{})
	home, mark := x.Partition, s.Epoch()
	place := s.Ring().Primaries(home, replicas)[0]
	for _, tc := range []struct {
		name  string
		to    ring.Partition
		epoch uint64
		m     vnode.Message
		want  vnode.Code // 0: no objection
	}{
		{"a version from before", home, mark - 1, &vnode.Store{Home: home}, vnode.CodeStale},
		{"a version from after", home, mark, &vnode.Store{Home: home}, 0},
		{"a hand-off from before", home, mark - 1, &vnode.Deliver{Home: home}, vnode.CodeStale},
		{"a hand-off from after", home, mark, &vnode.Deliver{Home: home}, 0},
		{"a page from before", home, mark - 1, &vnode.Fill{Home: home}, vnode.CodeStale},
		{"a write that is still to be made", home, mark - 1, &vnode.Coordinate{Home: home}, 0},
		{"a read", home, mark - 1, &vnode.Fetch{Home: home}, 0},
		{"a question of one who knows as much", place.Partition, mark, &vnode.Attest{Home: home}, 0},
		{"a question of one who knows more", place.Partition, mark + 1, &vnode.Attest{Home: home}, vnode.CodeStale},
		{"a question to a vnode that is no place", s.Ring().Next(home, -1), mark, &vnode.Attest{Home: home}, vnode.CodeStale},
		{"a reaping by one who knows more", place.Partition, mark + 1, &vnode.Reap{Home: home}, vnode.CodeStale},
		{"a reaping by one who knows as much", place.Partition, mark, &vnode.Reap{Home: home}, 0},
		{"a survey by one who knows more", 0, mark + 1, &vnode.Strays{}, vnode.CodeStale},
	} {
		t.Run(tc.name, func(t *testing.T) {
			code := vnode.Code(0)
			if r, ok := Objection(s, place.Node, tc.to, tc.epoch, tc.m).(*vnode.Refusal); ok {
				code = r.Code
			}
			if code != tc.want {
				t.Errorf("code %d, want %d", code, tc.want)
			}
		})
	}
}

// TestWhatIsErased: what others hold as well, and nothing else.
func TestWhatIsErased(t *testing.T) {
	s, _ := staged(t)
	engine := storage.NewMemory()
	mine := s.Ring().Primaries(5, replicas)[0]
	for _, p := range []ring.Partition{mine.Partition, 40} {
		var b storage.Batch
		vnode.New(vnode.Config{Partition: p}, engine).Handle(0, []vnode.Message{&vnode.Coordinate{Home: 5, Key: kv.Key{Bucket: "b", Name: "k"}, Write: vnode.Write{Body: object.AppendBody(nil, &kv.Value{})}}}, &b)
		if _, err := engine.Apply(&b, true); err != nil {
			t.Fatal(err)
		}
	}
	kinds := func(s *membership.State) (lacks, wipes int) {
		steps, err := Erasure(engine, mine.Node, s, 7)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range steps {
			switch m := x.Msg.(type) {
			case *vnode.SetLacking:
				lacks++
			case *vnode.Wipe:
				if wipes++; m.Partook != 7 {
					t.Errorf("it is erased as if life %d had taken part", m.Partook)
				}
			}
		}
		return lacks, wipes
	}
	if lacks, wipes := kinds(s); wipes != 2 || lacks < 1 {
		t.Errorf("%d vnodes lack data, %d homes are erased", lacks, wipes)
	}
	alone, err := membership.Bootstrap([]membership.Member{{Name: mine.Node}}, 64, 4, replicas)
	if err != nil {
		t.Fatal(err)
	}
	if lacks, wipes := kinds(alone); lacks+wipes != 0 {
		t.Errorf("of a node that has the only copy %d vnodes lack data, %d homes are erased", lacks, wipes)
	}
}

// TestAnErasureGoesOnWhereItHasEnded, and what was not carried out is done again.
func TestAnErasureGoesOnWhereItHasEnded(t *testing.T) {
	first := Step{3, &vnode.Wipe{Home: 1, Partook: 5, Limit: 10}}
	for _, c := range []struct {
		answer vnode.Message
		next   string // the After of the Wipe that follows; empty: none does
		failed bool
	}{
		{&vnode.Wiped{Last: []byte("a"), More: true}, "a", false},
		{&vnode.Wiped{Last: []byte("a")}, "", false},
		{&vnode.Stored{}, "", false},
		{&vnode.Refusal{Text: "no"}, "", true},
		{&vnode.Failure{Text: "no"}, "", true},
		{&vnode.Pong{}, "", true},
	} {
		next, more, err := first.Next(c.answer)
		w := next.Msg.(*vnode.Wipe)
		if string(w.After) != c.next || more != (c.next != "" || c.failed) || (err != nil) != c.failed || w.Home != 1 || w.Partook != 5 || w.Limit != 10 || next.Partition != 3 {
			t.Errorf("after %T it goes on with %+v, %v, %v", c.answer, next.Msg, more, err)
		}
	}
	if w := first.Msg.(*vnode.Wipe); w.After != nil {
		t.Errorf("the step itself is at %q", w.After)
	}
}
