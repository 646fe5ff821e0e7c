package membership_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/internal/ring"
)

// A transfer goes from phase to phase, and what is seen of it at each moment.
func TestTransfer(t *testing.T) {
	first := cluster(t, 4, 64)
	s := must(t, first, joins("n5"), stages(membership.ChangeReplace, "n4", "n5"), membership.Set{Key: membership.TransferLimit, Value: "1"}, commits{})
	x := s.Transfers()[0]
	p, home := x.Partition, x.Partition
	if x.Phase != membership.Copying || x.From != "n4" || x.To != "n5" || s.Ring().Owner(p) != "n4" || s.Next().Owner(p) != "n5" || s.Since(home) != s.Epoch() {
		t.Fatalf("begun: %v, home of epoch %d", s, s.Since(home))
	}
	if diff := cmp.Diff([]string{"n5"}, s.Receivers(x)); diff != "" {
		t.Error(diff)
	}
	if got := s.Settleable(map[string]uint64{"n1": 99, "n2": 99, "n3": 99, "n4": 99, "n5": 99}, everybody); got != nil {
		t.Errorf("copying, and yet settleable: %v", got)
	}
	if got, want := x.String(), fmt.Sprintf("partition %d from n4 to n5, copying", p); got != want {
		t.Errorf("got %s, want %s", got, want)
	}

	s = must(t, s, membership.Filled{Transfer: x.ID, Node: "n5"}, membership.Filled{Transfer: x.ID, Node: "n5"})
	x = s.Transfers()[0]
	if x.Phase != membership.Settling || x.Epoch != s.Epoch()-1 || s.Ring().Owner(p) != "n5" || s.Next().Owner(p) != "n4" || s.Since(home) != x.Epoch {
		t.Fatalf("filled: %v, home of epoch %d", s, s.Since(home))
	}

	s = must(t, s, membership.Settled{Transfer: x.ID})
	if s.Ring().Owner(p) != "n5" || s.Next().Owner(p) != "n5" || s.Since(home) != s.Epoch() || s.Transfers()[0].Partition == p {
		t.Fatalf("settled: %v, home of epoch %d", s, s.Since(home))
	}
	s = finish(t, s)
	if s.Next() != s.Ring() {
		t.Error("Next is not Ring though nothing moves")
	}
	for p := range ring.Partition(64) {
		want := first.Ring().Owner(p)
		if want == "n4" {
			want = "n5"
		}
		if got := s.Ring().Owner(p); got != want {
			t.Errorf("partition %d is on %s, want %s", p, got, want)
		}
	}
	if m, _ := s.Member("n4"); m.Status != membership.StatusExiting {
		t.Errorf("n4 is %s", m.Status)
	}
	s = must(t, s, membership.Left{Name: "n4"})
	if m, _ := s.Member("n4"); m.Status != membership.StatusLeft {
		t.Errorf("n4 is %s", m.Status)
	}
	again := membership.Change{Kind: membership.ChangeJoin, Node: "n4", Address: "h:1", ID: id("another")}
	s = must(t, s, membership.Stage{Change: again}, commits{})
	if m, _ := s.Member("n4"); m.Status != membership.StatusValid || m.ID != id("another") {
		t.Errorf("n4 is %+v", m)
	}
}

func everybody(string) bool { return true }

func TestSettleable(t *testing.T) {
	s := must(t, cluster(t, 5, 64), joins("n6"), stages(membership.ChangeReplace, "n1", "n6"), membership.Set{Key: membership.TransferLimit, Value: "1"}, commits{})
	s = must(t, step(t, s), membership.Down{Name: "n5"})
	x := s.Transfers()[0]
	// The old lists are those of homes whose list the partition is in.
	var old []string
	for i := range 3 {
		old = append(old, s.Next().Owner(s.Ring().Next(x.Partition, i-1)))
	}
	all := map[string]uint64{"n1": x.Epoch, "n2": x.Epoch + 1, "n3": x.Epoch, "n4": x.Epoch, "n5": 0, "n6": x.Epoch}
	without := func(names ...string) map[string]uint64 {
		m := map[string]uint64{}
		for name, epoch := range all {
			if !slices.Contains(names, name) {
				m[name] = epoch
			}
		}
		return m
	}
	but := func(names ...string) func(string) bool {
		return func(node string) bool { return !slices.Contains(names, node) }
	}
	for _, tc := range []struct {
		name   string
		state  *membership.State
		epochs map[string]uint64
		up     func(string) bool
		want   bool
	}{
		{"all know but the one that is down", s, all, everybody, true},
		{"nobody knows", s, nil, everybody, false},
		{"one that is up is not heard of", s, without("n6"), everybody, false},
		{"the same one is not up", s, without("n6"), but("n6"), true},
		{"two of an old list are not up and do not know", s, without(old[0], old[1]), but(old[0], old[1]), false},
	} {
		if got := len(tc.state.Settleable(tc.epochs, tc.up)) == 1; got != tc.want {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
}

// A member that is down is what it was when it is back.
func TestDownAndBack(t *testing.T) {
	s := must(t, cluster(t, 3, 64), stages(membership.ChangeLeave, "n3", ""), commits{}, membership.Down{Name: "n3"}, membership.Down{Name: "n2"})
	status := func(name string, want membership.Status) {
		t.Helper()
		if m, _ := s.Member(name); m.Status != want {
			t.Errorf("%s is %s, want %s", name, m.Status, want)
		}
	}
	status("n2", membership.StatusDown)
	status("n3", membership.StatusDown)
	s = must(t, s, membership.Announce{Name: "n2", ID: id("n2"), Address: "new:1"}, membership.Announce{Name: "n3", ID: id("n3")})
	status("n2", membership.StatusValid)
	status("n3", membership.StatusLeaving)
	if m, _ := s.Member("n2"); m.Address != "new:1" {
		t.Errorf("n2 is at %s", m.Address)
	}
	s = finish(t, must(t, s, membership.Down{Name: "n1"}, membership.Announce{Name: "n1", ID: id("n1")}))
	status("n3", membership.StatusExiting)
	s = must(t, s, membership.Down{Name: "n3"}, membership.Left{Name: "n3"})
	status("n3", membership.StatusLeft)
}

// Nothing begins to be copied from or to a node that is marked as down; it
// begins when the node is back.
func TestTransfersWaitForWhoIsDown(t *testing.T) {
	s := must(t, cluster(t, 4, 64), membership.Down{Name: "n4"}, joins("n5"), stages(membership.ChangeReplace, "n4", "n5"), commits{})
	for _, x := range s.Transfers() {
		if x.Phase != membership.Waiting || x.Forced {
			t.Fatalf("%v", x)
		}
	}
	s = must(t, s, membership.Announce{Name: "n4", ID: id("n4")})
	if x := s.Transfers()[0]; x.Phase != membership.Copying {
		t.Errorf("%v", x)
	}
}

// A dead node is out at once, but stays the owner until another one has its
// data.
func TestForceReplace(t *testing.T) {
	first := cluster(t, 4, 64)
	s := must(t, first, joins("n5"), stages(membership.ChangeForceReplace, "n4", "n5"), commits{})
	if m, _ := s.Member("n4"); m.Status != membership.StatusLeft {
		t.Errorf("n4 is %s", m.Status)
	}
	if diff := cmp.Diff(owners(first.Ring()), owners(s.Ring())); diff != "" {
		t.Error(diff)
	}
	for _, x := range s.Transfers() {
		if !x.Forced || x.From != "n4" || x.To != "n5" {
			t.Errorf("%v", x)
		}
	}
	s = finish(t, s)
	if got, want := s.Ring().Owned("n5"), first.Ring().Owned("n4"); got != want {
		t.Errorf("n5 owns %d partitions, want %d", got, want)
	}
}

// The one that copies from a node which then dies goes on with the others, as
// if it had not begun.
func TestSourceIsForcedOutWhileItIsCopied(t *testing.T) {
	s := must(t, cluster(t, 4, 64), joins("n5"), stages(membership.ChangeReplace, "n4", "n5"), commits{})
	was := s.Transfers()[0]
	s = must(t, s, stages(membership.ChangeForceRemove, "n4", ""), commits{})
	is := s.Transfers()[0]
	want := membership.Transfer{ID: is.ID, Partition: was.Partition, From: "n4", To: "n5", Phase: membership.Copying, Forced: true, Epoch: s.Epoch()}
	if diff := cmp.Diff(want, is); diff != "" || is.ID == was.ID {
		t.Errorf("id %d after %d: %s", is.ID, was.ID, diff)
	}
	finish(t, s)
}

// What is being copied to a node that dies is forgotten, and what it has been
// given and not all know of is the old owner's again: that one still has all of it.
func TestTargetIsForcedOut(t *testing.T) {
	s := must(t, cluster(t, 4, 64), joins("n5"), stages(membership.ChangeReplace, "n4", "n5"), commits{})
	copying := slices.DeleteFunc(s.Transfers(), func(x membership.Transfer) bool { return x.Phase != membership.Copying })
	first, second := copying[0], copying[1]
	s = must(t, s, membership.Filled{Transfer: first.ID, Node: "n5"}, joins("n6"), stages(membership.ChangeForceReplace, "n5", "n6"), commits{})
	if owner := s.Ring().Owner(first.Partition); owner != "n4" {
		t.Errorf("partition %d is on %s", first.Partition, owner)
	}
	list := slices.DeleteFunc(s.Transfers(), func(x membership.Transfer) bool {
		return x.Partition != first.Partition && x.Partition != second.Partition
	})
	if len(list) != 3 {
		t.Fatalf("%v", list)
	}
	want := []membership.Transfer{
		{ID: list[0].ID, Partition: first.Partition, From: "n5", To: "n4", Phase: membership.Settling, Forced: true, Epoch: s.Epoch()},
		{ID: list[1].ID, Partition: first.Partition, From: "n4", To: "n6", Phase: membership.Waiting, Epoch: s.Epoch()},
		{ID: list[2].ID, Partition: second.Partition, From: "n4", To: "n6", Phase: membership.Copying, Epoch: s.Epoch()},
	}
	if diff := cmp.Diff(want, list); diff != "" || list[2].ID == second.ID {
		t.Errorf("%d after %d: %s", list[2].ID, second.ID, diff)
	}
	s = finish(t, s)
	if s.Ring().Owned("n4")+s.Ring().Owned("n5") != 0 {
		t.Errorf("%v", s)
	}
}

// When both sides of a transfer die, the new one is the owner, and what it has
// goes on to another.
func TestBothSidesAreForcedOut(t *testing.T) {
	s := must(t, cluster(t, 5, 64), joins("n6"), stages(membership.ChangeReplace, "n5", "n6"), commits{})
	x := s.Transfers()[0]
	s = must(t, s, membership.Filled{Transfer: x.ID, Node: "n6"}, stages(membership.ChangeForceRemove, "n5", ""), stages(membership.ChangeForceRemove, "n6", ""), commits{})
	list := s.Transfers()
	if list[0].ID != x.ID || list[0].Phase != membership.Settling || !list[1].Forced || list[1].From != "n6" || list[1].Partition != x.Partition {
		t.Errorf("%v, then %v", list[0], list[1])
	}
	finish(t, s)
}

// Three replicas on a ring that cannot keep all of them apart: when a partition
// moves, others of a key's replicas shift, and may have to be copied from a third
// node. If that one dies, the transfer is put off until the dead one's own
// partitions are with others.
func TestThirdNodeIsForcedOut(t *testing.T) {
	s := replicated(t, three(), 3)
	for _, name := range []string{"n1", "n2", "n3"} {
		s = must(t, s, membership.Announce{Name: name, ID: id(name)})
	}
	s = must(t, s, joins("n4"), commits{})
	thirds := 0
	for _, dead := range []string{"n1", "n2", "n3"} {
		after := must(t, s, stages(membership.ChangeForceRemove, dead, ""), commits{})
		for _, x := range s.Transfers() {
			if x.Phase != membership.Copying || x.From == dead || !concerns(s, x, dead) {
				continue
			}
			thirds++
			for _, y := range after.Transfers() {
				if y.ID == x.ID || y.Partition == x.Partition && y.Phase != membership.Waiting {
					t.Errorf("%s has died; %v has become %v", dead, x, y)
				}
			}
		}
		finish(t, after)
	}
	if thirds == 0 {
		t.Error("no transfer concerned a third node")
	}
}

// A receiver that dies is not waited for by a transfer from another one that is
// dead: each of them would wait for the other.
func TestReceiverOfForcedTransferIsForcedOut(t *testing.T) {
	tried := 0
	for _, nodes := range []int{4, 5, 6} {
		for _, partitions := range []int{8, 16, 32} {
			s := cluster(t, nodes, partitions)
			for _, m := range s.Members() {
				tried += receiverDies(t, must(t, s, stages(membership.ChangeForceRemove, m.Name, ""), commits{}))
			}
		}
	}
	if tried == 0 {
		t.Error("no transfer had another receiver")
	}
}

// receiverDies lets, for each transfer that is being copied, the other receiver
// die when the new owner is filled. It returns how many there were.
func receiverDies(t *testing.T, s *membership.State) (tried int) {
	t.Helper()
	for _, x := range s.Transfers() {
		others := slices.DeleteFunc(s.Receivers(x), func(node string) bool { return node == x.To })
		if x.Phase != membership.Copying || len(others) != 1 {
			continue
		}
		tried++
		both := must(t, s, membership.Filled{Transfer: x.ID, Node: x.To}, stages(membership.ChangeForceRemove, others[0], ""), commits{})
		for _, y := range both.Transfers() {
			if y.ID == x.ID && y.Phase != membership.Settling {
				t.Errorf("%s has died: %v, filled %v", others[0], y, y.Filled)
			}
		}
		finish(t, both)
	}
	return tried
}

// concerns reports whether a node has something to send or to receive in a
// transfer.
func concerns(s *membership.State, x membership.Transfer, node string) bool {
	return slices.ContainsFunc(ring.Fills(s.Ring(), s.Ring().With(x.Partition, x.To), s.Replicas()), func(f ring.Fill) bool {
		return f.To.Node == node || f.From.Node == node
	})
}

// A second commit plans from where the first one's active transfers lead.
func TestCommitWhileTransfersArePending(t *testing.T) {
	s := must(t, cluster(t, 4, 64), joins("n5"), commits{})
	active := s.Transfers()[0]
	s = must(t, s, stages(membership.ChangeLeave, "n5", ""), commits{})
	list := s.Transfers()
	if list[0].ID != active.ID || list[0].Phase != membership.Copying {
		t.Errorf("%v has become %v", active, list[0])
	}
	for _, x := range list {
		if x.Phase == membership.Waiting && x.From != "n5" {
			t.Errorf("%v, though n5 is to leave", x)
		}
	}
	if next := list[1]; next.Partition != active.Partition || next.From != "n5" || next.Phase != membership.Waiting {
		t.Errorf("after %v comes %v", active, next)
	}
	if s = finish(t, s); s.Ring().Owned("n5") != 0 {
		t.Errorf("%v", s)
	}
	if m, _ := s.Member("n5"); m.Status != membership.StatusExiting {
		t.Errorf("n5 is %s", m.Status)
	}
}

func TestResultsOfTheLastCommands(t *testing.T) {
	s := cluster(t, 1, 8)
	for i := range 100 {
		s = s.Apply(membership.CommandID{byte(i), 1}, membership.Noop{})
	}
	for i := range 100 {
		if _, known := s.Result(membership.CommandID{byte(i), 1}); known != (i >= 36) {
			t.Errorf("command %d of 100 is known: %v", i, known)
		}
	}
	if _, known := s.Apply(membership.CommandID{}, membership.Noop{}).Result(membership.CommandID{}); known {
		t.Error("the result of a command without an id is kept")
	}
}

func TestSettings(t *testing.T) {
	s := cluster(t, 1, 8)
	if got := s.Setting(membership.TransferLimit); got != "4" {
		t.Errorf("the default is %q", got)
	}
	s = must(t, s, membership.Set{Key: "b", Value: "1"}, membership.Set{Key: "a", Value: "2"}, membership.Set{Key: "b", Value: "3"}, membership.Set{Key: membership.TransferLimit, Value: "7"})
	want := []membership.Setting{{Key: "a", Value: "2"}, {Key: "b", Value: "3"}, {Key: "transfer_limit", Value: "7"}}
	if diff := cmp.Diff(want, s.Settings()); diff != "" {
		t.Error(diff)
	}
	s = must(t, s, membership.Set{Key: "a"}, membership.Set{Key: "never"}, membership.Set{Key: membership.TransferLimit})
	if got := fmt.Sprint(s.Settings(), s.Setting("b"), s.Setting("a"), s.Setting(membership.TransferLimit)); got != "[{b 3}]34" {
		t.Errorf("got %s", got)
	}
	for i := range 255 {
		s = must(t, s, membership.Set{Key: fmt.Sprintf("x%d", i), Value: "y"})
	}
	if _, err := apply(t, s, membership.Set{Key: "z", Value: "y"}); err == nil || err.Error() != "there are 256 settings already; take one back first" {
		t.Errorf("one too many: %v", err)
	}
}

func TestJump(t *testing.T) {
	s := cluster(t, 3, 64)
	if got := s.Jump(1 << 20).Epoch(); got != s.Epoch()+1<<20 {
		t.Errorf("epoch is %d", got)
	}
}

func TestDecodeStateRefuses(t *testing.T) {
	s := must(t, cluster(t, 4, 16), joins("n5"), commits{}, membership.Set{Key: "a", Value: "b"}, membership.Down{Name: "n1"})
	good := string(s.Encode())
	if _, err := membership.DecodeState([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string][2]string{
		"nothing":                    {good, ""},
		"not all of it":              {good[len(good)-9:], ""},
		"more than it":               {good, good + "{}"},
		"another version":            {`"v":1`, `"v":2`},
		"an unknown part":            {`"v":1`, `"v":1,"w":1`},
		"no epoch":                   {fmt.Sprintf(`"epoch":%d`, s.Epoch()), `"epoch":0`},
		"an epoch before its homes'": {fmt.Sprintf(`"epoch":%d,"cluster"`, s.Epoch()), `"epoch":1,"cluster"`},
		"no replicas":                {`"replicas":3`, `"replicas":0`},
		"a target of none":           {`"target_n":4`, `"target_n":0`},
		"a short id":                 {`"cluster":"`, `"cluster":"00`},
		"an id that is none":         {`"cluster":"` + fmt.Sprintf("%x", s.Cluster())[:2], `"cluster":"xx`},
		"a status that is none":      {`"status":"valid"`, `"status":"fine"`},
		"a name twice":               {`"name":"n2"`, `"name":"n1"`},
		"a bad name":                 {`"name":"n2"`, `"name":"n 2"`},
		"a phase that is none":       {`"phase":"copying"`, `"phase":"dancing"`},
		"a phase that is another":    {`"phase":"copying"`, `"phase":"settling"`},
		"a transfer of a stranger":   {`"to":"n5"`, `"to":"n6"`},
		"a transfer to itself":       {fmt.Sprintf(`"from":"%s","to":"n5"`, s.Transfers()[0].From), `"from":"n5","to":"n5"`},
		"a transfer that will be":    {`"id":1,`, `"id":99,`},
		"a setting of nothing":       {`"value":"b"`, `"value":""`},
		"owners of another size":     {`"owners":"A`, `"owners":"AAAA`},
		"owners that are none":       {`"owners":"AA`, `"owners":"//`},
		"homes of another size":      {`"since":"`, `"since":"AQEB`},
	} {
		t.Run(name, func(t *testing.T) {
			bad := strings.Replace(good, change[0], change[1], 1)
			if bad == good {
				t.Fatalf("%s is not in it: %s", change[0], good)
			}
			if s, err := membership.DecodeState([]byte(bad)); err == nil || s != nil {
				t.Errorf("decoded: %v", s)
			}
		})
	}
}

func FuzzDecodeState(f *testing.F) {
	s := bootstrapped(f)
	f.Add(s.Encode())
	f.Add(s.Apply(membership.CommandID{1}, joins("n4")).Apply(membership.CommandID{2}, membership.Commit{}).Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := membership.DecodeState(b)
		if err != nil {
			return
		}
		again, err := membership.DecodeState(s.Encode())
		if err != nil || !bytes.Equal(again.Encode(), s.Encode()) {
			t.Fatalf("%v: %s", err, s.Encode())
		}
		for _, c := range []membership.Command{
			membership.Clear{}, joins("n9"), stages(membership.ChangeForceRemove, "n1", ""), membership.Filled{Transfer: 1, Node: "n1"},
			membership.Settled{Transfer: 1}, membership.Left{Name: "n1"}, membership.Down{Name: "n2"},
		} {
			s = s.Apply(membership.CommandID{}, c)
		}
		if p, err := s.Plan(); err == nil {
			s = s.Apply(membership.CommandID{}, membership.Commit{Plan: p.ID})
		}
		if _, err := membership.DecodeState(s.Encode()); err != nil {
			t.Fatalf("%v: %s", err, s.Encode())
		}
	})
}

func bootstrapped(t interface{ Fatal(...any) }) *membership.State {
	s, err := membership.Bootstrap(three(), 16, 4, 3)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The work that one report in a large cluster makes must not grow with all that
// is still to be done.
func BenchmarkFilledOf1000NodesOn16384Partitions(b *testing.B) {
	s := large(b)
	var reports []membership.Filled
	for _, x := range s.Transfers() {
		if x.Phase == membership.Copying {
			reports = append(reports, membership.Filled{Transfer: x.ID, Node: x.To})
		}
	}
	i := 0
	for b.Loop() {
		s.Apply(membership.CommandID{}, reports[i%len(reports)])
		i++
	}
}

// large is a large cluster of which a tenth is being replaced.
func large(t interface{ Fatal(...any) }) *membership.State {
	var members []membership.Member
	for i := range 1000 {
		members = append(members, membership.Member{Name: fmt.Sprintf("n%d", i)})
	}
	s, err := membership.Bootstrap(members, 16384, 4, 3)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		name := fmt.Sprintf("new%d", i)
		s = s.Apply(membership.CommandID{}, joins(name)).Apply(membership.CommandID{}, stages(membership.ChangeReplace, fmt.Sprintf("n%d", i), name))
	}
	p, err := s.Plan()
	if err != nil {
		t.Fatal(err)
	}
	return s.Apply(membership.CommandID{}, membership.Commit{Plan: p.ID})
}
