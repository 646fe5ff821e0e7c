package membership_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/internal/ring"
)

// id is the id of a node in these tests.
func id(name string) (id [16]byte) {
	copy(id[:], "id of "+name)
	return id
}

func joins(name string) membership.Command {
	return membership.Stage{Change: membership.Change{Kind: membership.ChangeJoin, Node: name, Address: name + ":1", ID: id(name)}}
}

func stages(kind membership.ChangeKind, node, with string) membership.Command {
	return membership.Stage{Change: membership.Change{Kind: kind, Node: node, With: with}}
}

// commits is the command that commits what is staged by then.
type commits struct{ membership.Noop }

// apply applies the commands one by one. It returns the last state, and the
// result of the last command; the others must go well.
func apply(t *testing.T, s *membership.State, commands ...membership.Command) (*membership.State, error) {
	t.Helper()
	var err error
	for i, c := range commands {
		if err != nil {
			t.Fatalf("command %d, %#v: %v", i, commands[i-1], err)
		}
		if _, ok := c.(commits); ok {
			plan, err := s.Plan()
			if err != nil {
				t.Fatal(err)
			}
			c = membership.Commit{Plan: plan.ID}
		}
		command := membership.CommandID(id(fmt.Sprint(s.Epoch())))
		s = s.Apply(command, c)
		err, _ = s.Result(command)
	}
	return s, err
}

func must(t *testing.T, s *membership.State, commands ...membership.Command) *membership.State {
	t.Helper()
	s, err := apply(t, s, commands...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// cluster is one of nodes n1, n2, …, all of which have announced themselves.
func cluster(t *testing.T, nodes, partitions int) *membership.State {
	t.Helper()
	var members []membership.Member
	for i := range nodes {
		members = append(members, membership.Member{Name: fmt.Sprintf("n%d", i+1), Address: fmt.Sprintf("h%d:1", i+1)})
	}
	s := bootstrap(t, members, partitions, 4)
	for _, m := range members {
		s = must(t, s, membership.Announce{Name: m.Name, ID: id(m.Name)})
	}
	return s
}

// finish lets all transfers come to their ends.
func finish(t *testing.T, s *membership.State) *membership.State {
	t.Helper()
	for rounds := 0; len(s.Transfers()) > 0; rounds++ {
		if rounds > 1000 {
			t.Fatalf("it does not end: %v", s)
		}
		s = step(t, s)
	}
	return s
}

// step lets each active transfer go one phase further.
func step(t *testing.T, s *membership.State) *membership.State {
	t.Helper()
	for _, x := range s.Transfers() {
		switch x.Phase {
		case membership.Copying:
			for _, node := range s.Receivers(x) {
				s = must(t, s, membership.Filled{Transfer: x.ID, Node: node})
			}
		case membership.Settling:
			s = must(t, s, membership.Settled{Transfer: x.ID})
		}
	}
	return s
}

func TestRefusals(t *testing.T) {
	const (
		leave, replace = membership.ChangeLeave, membership.ChangeReplace
		forceReplace   = membership.ChangeForceReplace
		forceRemove    = membership.ChangeForceRemove
		set            = membership.ChangeSet
	)
	one, three := cluster(t, 1, 16), cluster(t, 3, 16)
	leaving := must(t, three, stages(leave, "n3", ""), commits{})
	exiting := finish(t, leaving)
	gone := must(t, exiting, membership.Left{Name: "n3"})
	killed := must(t, three, stages(forceRemove, "n3", ""), commits{})
	idle := must(t, three, joins("n4"), commits{})
	staged := must(t, three, joins("n4"))
	filled := membership.Filled{Transfer: leaving.Transfers()[0].ID, Node: "n1"}
	join := func(change func(*membership.Change)) membership.Command {
		c := joins("n4").(membership.Stage)
		change(&c.Change)
		return c
	}
	for _, tc := range []struct {
		name  string
		state *membership.State
		do    []membership.Command
		code  string
		text  string
	}{
		{"a stranger announces itself", three, []membership.Command{membership.Announce{Name: "n9", ID: id("n9")}}, "not_member", "n9 is not a member of the cluster"},
		{"a stranger with a bad name", three, []membership.Command{membership.Announce{Name: "n 9", ID: id("n9")}}, "not_member", `"n 9" is not the name of a member`},
		{"an announcement without an id", three, []membership.Command{membership.Announce{Name: "n1"}}, "invalid", "node n1 has no id"},
		{"another node under the same name", three, []membership.Command{membership.Announce{Name: "n1", ID: id("x")}}, "name_taken", "the name n1 belongs to another node, of the id 6964206f66206e310000000000000000; give this one another name, or let it join and replace n1"},
		{"a bad address", three, []membership.Command{membership.Announce{Name: "n1", ID: id("n1"), Address: "h"}}, "invalid", `node n1 has the address "h", which has no port`},
		{"a node under another name", bootstrap(t, []membership.Member{{Name: "n1"}, {Name: "n2"}}, 16, 4), []membership.Command{membership.Announce{Name: "n1", ID: id("n1")}, membership.Announce{Name: "n2", ID: id("n1")}}, "id_taken", "this node is the member n1 already; start it under that name"},
		{"who has left is back", gone, []membership.Command{membership.Announce{Name: "n3", ID: id("n3")}}, "left", "node n3 has left the cluster for ever; to use it again, give it an empty directory, so that it gets a new id, and let it join"},
		{"who has left is back under another name", gone, []membership.Command{membership.Announce{Name: "n1", ID: id("n3")}}, "left", "node n1 has left the cluster for ever; to use it again, give it an empty directory, so that it gets a new id, and let it join"},

		{"join again", three, []membership.Command{joins("n1")}, "already_member", "node n1 is a member already"},
		{"join under a name that is taken", three, []membership.Command{join(func(c *membership.Change) { c.Node = "n1" })}, "name_taken", "the name n1 belongs to another node; give this one another name, and if it is to take the other's place let it replace that"},
		{"two nodes join under one name", staged, []membership.Command{join(func(c *membership.Change) { c.ID = id("x") })}, "name_taken", "the name n4 belongs to another node; give this one another name, and if it is to take the other's place let it replace that"},
		{"join under two names", staged, []membership.Command{join(func(c *membership.Change) { c.Node = "n5" })}, "id_taken", `the node "n5" is the member n4 already; start it under that name`},
		{"join without an id", three, []membership.Command{join(func(c *membership.Change) { c.ID = [16]byte{} })}, "invalid", `the node "n4" has no id`},
		{"join without an address", three, []membership.Command{join(func(c *membership.Change) { c.Address = "" })}, "invalid", `the node "n4" has no address at which the others reach it; set the one that it advertises`},
		{"join with a bad address", three, []membership.Command{join(func(c *membership.Change) { c.Address = "h:x" })}, "invalid", `the node "n4" has the address "h:x", whose port is not a number from 1 to 65535`},
		{"join with a bad name", three, []membership.Command{join(func(c *membership.Change) { c.Node = "n 4" })}, "invalid", `the node "n 4" has a name with other characters than A-Z a-z 0-9 . _ -`},
		{"join with a bad zone", three, []membership.Command{join(func(c *membership.Change) { c.Zone = "ä" })}, "invalid", `the node "n4" has a zone with other characters than A-Z a-z 0-9 . _ -`},
		{"join with a long zone", three, []membership.Command{join(func(c *membership.Change) { c.Zone = strings.Repeat("z", 65) })}, "invalid", `the node "n4" has a zone of 65 characters; the limit is 64`},
		{"join with too much weight", three, []membership.Command{join(func(c *membership.Change) { c.Weight = ring.MaxWeight + 1 })}, "invalid", `the node "n4" has the weight 1000001; it must be from 1 to 1000000`},
		{"join of who has left", gone, []membership.Command{joins("n3")}, "left", `the node "n3" has left the cluster for ever; to use it again, give it an empty directory, so that it gets a new id`},
		{"join under the name of one that is being removed", killed, []membership.Command{join(func(c *membership.Change) { c.Node = "n3" })}, "ring_not_ready", "the partitions of the former node n3 are not all with others yet; wait until its transfers are over"},

		{"leave of a stranger", three, []membership.Command{stages(leave, "n9", "")}, "not_member", "n9 is not a member of the cluster"},
		{"leave of one that has left", gone, []membership.Command{stages(leave, "n3", "")}, "not_member", "n3 is not a member of the cluster"},
		{"leave of the only one", one, []membership.Command{stages(leave, "n1", "")}, "only_member", "node n1 would be the last one to go; let another one join first"},
		{"leave of all", three, []membership.Command{stages(leave, "n1", ""), stages(forceRemove, "n2", ""), stages(leave, "n3", "")}, "only_member", "node n3 would be the last one to go; let another one join first"},
		{"leave twice", leaving, []membership.Command{stages(leave, "n3", "")}, "already_leaving", "node n3 is leaving already"},
		{"leave of one that is exiting", exiting, []membership.Command{stages(leave, "n3", "")}, "already_leaving", "node n3 is leaving already"},
		{"leave of one that is to join", staged, []membership.Command{stages(leave, "n4", "")}, "still_joining", "node n4 has not joined yet; clear the staged changes if it is not to"},
		{"leave of a replacement", staged, []membership.Command{stages(replace, "n1", "n4"), joins("n4"), stages(replace, "n2", "n1")}, "invalid_replacement", "node n1 owns partitions, or soon will, so it cannot replace n2; let a new node join for that, and do not commit in between"},

		{"replace by a stranger", three, []membership.Command{stages(replace, "n1", "n9")}, "invalid_replacement", "n9 is not a member of the cluster, so it cannot replace n1; let it join first, and do not commit in between"},
		{"replace by nobody", three, []membership.Command{stages(forceReplace, "n1", "")}, "invalid_replacement", `"" is not the name of a member, so it cannot replace n1; let it join first, and do not commit in between`},
		{"replace by itself", three, []membership.Command{stages(replace, "n1", "n1")}, "invalid_replacement", "node n1 cannot replace itself"},
		{"replace by one that owns partitions", idle, []membership.Command{stages(replace, "n1", "n4")}, "invalid_replacement", "node n4 owns partitions, or soon will, so it cannot replace n1; let a new node join for that, and do not commit in between"},
		{"replace by one that is exiting", exiting, []membership.Command{stages(replace, "n1", "n3")}, "invalid_replacement", "node n3 is exiting, so it cannot replace n1"},
		{"replace two by one", staged, []membership.Command{stages(replace, "n1", "n4"), stages(forceReplace, "n2", "n4")}, "already_replacement", "node n4 is to replace n1 already"},
		{"replace of one that leaves", leaving, []membership.Command{joins("n4"), stages(replace, "n3", "n4")}, "already_leaving", "node n3 is leaving already"},
		{"remove one that is to join", staged, []membership.Command{stages(forceRemove, "n4", "")}, "still_joining", "node n4 has not joined yet; clear the staged changes if it is not to"},
		{"remove the only one", one, []membership.Command{stages(forceRemove, "n1", "")}, "only_member", "node n1 would be the last one to go; let another one join first"},

		{"set nothing", three, []membership.Command{stages(set, "n1", "")}, "invalid", "neither a zone nor a weight is given for node n1"},
		{"set of a stranger", three, []membership.Command{stages(set, "n9", "")}, "not_member", "n9 is not a member of the cluster"},
		{"set a bad weight", three, []membership.Command{membership.Stage{Change: membership.Change{Kind: set, Node: "n1", Weight: -1}}}, "invalid", "node n1 is given the weight -1; it must be from 1 to 1000000"},
		{"a change of no kind", three, []membership.Command{stages("dance", "n1", "")}, "invalid", `a change of the kind "dance" is not known`},

		{"commit of nothing", three, []membership.Command{membership.Commit{Plan: "x"}}, "nothing_planned", "nothing is staged; stage a change first"},
		{"commit of no plan", staged, []membership.Command{membership.Commit{}}, "plan_changed", "the plan has changed since it was shown; look at it again, and commit it if it is still what you want"},

		{"down of a stranger", three, []membership.Command{membership.Down{Name: "n9"}}, "not_member", "n9 is not a member of the cluster"},
		{"down twice", three, []membership.Command{membership.Down{Name: "n1"}, membership.Down{Name: "n1"}}, "already_down", "node n1 is marked as down already"},
		{"down of one that is to join", staged, []membership.Command{membership.Down{Name: "n4"}}, "still_joining", "node n4 has not joined yet, so nothing waits for it; clear the staged changes if it is not to join"},
		{"down of all", three, []membership.Command{membership.Down{Name: "n1"}, membership.Down{Name: "n2"}, membership.Down{Name: "n3"}}, "only_member", "node n3 is the only member that is not down"},

		{"gone without exiting", three, []membership.Command{membership.Left{Name: "n1"}}, "not_exiting", "node n1 is valid; only a member that is exiting can be gone"},
		{"gone while it gives away", leaving, []membership.Command{membership.Left{Name: "n3"}}, "not_exiting", "node n3 is leaving; only a member that is exiting can be gone"},
		{"gone twice", gone, []membership.Command{membership.Left{Name: "n3"}}, "not_member", "n3 is not a member of the cluster"},

		{"filled by another", leaving, []membership.Command{membership.Filled{Transfer: filled.Transfer, Node: "n9"}}, "not_receiver", fmt.Sprintf("node n9 receives nothing in transfer %d", filled.Transfer)},
		{"filled though it is not a transfer", leaving, []membership.Command{membership.Filled{Transfer: 99, Node: "n1"}}, "no_transfer", "transfer 99 is over, or never was"},
		{"filled before it has begun", leaving, []membership.Command{membership.Filled{Transfer: waiting(t, leaving).ID, Node: "n1"}}, "no_transfer", fmt.Sprintf("transfer %d has not begun", waiting(t, leaving).ID)},
		{"settled before it is filled", leaving, []membership.Command{membership.Settled{Transfer: filled.Transfer}}, "no_transfer", fmt.Sprintf("transfer %d is copying; it cannot be settled", filled.Transfer)},
		{"settled though it is not a transfer", leaving, []membership.Command{membership.Settled{Transfer: 99}}, "no_transfer", "transfer 99 is over, or never was"},

		{"a setting without a name", three, []membership.Command{membership.Set{Value: "1"}}, "invalid", `"" is no name of a setting: it must be 1 to 64 of the characters A-Z a-z 0-9 . _ -`},
		{"a setting that is no text", three, []membership.Command{membership.Set{Key: "a", Value: "\xff"}}, "invalid", "the setting a must be text of at most 65536 bytes"},
		{"a setting that is too long", three, []membership.Command{membership.Set{Key: "a", Value: strings.Repeat("x", 65537)}}, "invalid", "the setting a must be text of at most 65536 bytes"},
		{"a limit that is none", three, []membership.Command{membership.Set{Key: "transfer_limit", Value: "0"}}, "invalid", `the limit of transfers of a node (transfer_limit) is "0"; it must be a number from 1 to 1024`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, err := apply(t, tc.state, tc.do...)
			var refused *membership.ChangeError
			if !errors.As(err, &refused) {
				t.Fatalf("error is %v", err)
			}
			if refused.Code != tc.code || refused.Error() != tc.text {
				t.Errorf("got  %s: %s\nwant %s: %s", refused.Code, refused.Text, tc.code, tc.text)
			}
			if want := tc.state.Epoch() + uint64(len(tc.do)); s.Epoch() != want {
				t.Errorf("epoch is %d, want %d", s.Epoch(), want)
			}
		})
	}
}

// waiting is a transfer that has not begun.
func waiting(t *testing.T, s *membership.State) membership.Transfer {
	t.Helper()
	for _, x := range s.Transfers() {
		if x.Phase == membership.Waiting {
			return x
		}
	}
	t.Fatalf("no transfer waits: %v", s)
	return membership.Transfer{}
}

func TestTooManyJoin(t *testing.T) {
	s := bootstrap(t, []membership.Member{{Name: "a"}}, 8, 4)
	for i := range membership.MaxMembers - 1 {
		s = s.Apply(membership.CommandID{}, joins(fmt.Sprintf("n%d", i)))
	}
	_, err := apply(t, s, joins("z"))
	if want := "there are 1024 members already, which is the limit"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	must(t, s, membership.Clear{}, joins("z"))
}

func TestAdmits(t *testing.T) {
	s := cluster(t, 3, 64)
	good := membership.Candidate{Name: "n4", ID: id("n4"), Cluster: [16]byte{9}, Partitions: 64, Replicas: 3, Members: 1}
	with := func(change func(*membership.Candidate)) membership.Candidate {
		c := good
		change(&c)
		return c
	}
	if err := s.Admits(good); err != nil {
		t.Error(err)
	}
	for want, c := range map[string]membership.Candidate{
		"already_member: node n4 is of this cluster already":                                                                 with(func(c *membership.Candidate) { c.Cluster = s.Cluster() }),
		"not_single_node: node n4 is a member of another cluster, with 2 members; only a node that is alone can join":        with(func(c *membership.Candidate) { c.Members = 2 }),
		"not_single_node: node n4 holds data of its own, which would be lost; only an empty node can join":                   with(func(c *membership.Candidate) { c.Keeps = true }),
		"different_ring_sizes: node n4 has a ring of 32 partitions, and this cluster one of 64; start the node anew with 64": with(func(c *membership.Candidate) { c.Partitions = 32 }),
		"different_replicas: node n4 keeps 2 replicas of each key, and this cluster 3; start the node anew with 3":           with(func(c *membership.Candidate) { c.Replicas = 2 }),
	} {
		checkCode(t, s.Admits(c), want)
	}
	alone := cluster(t, 1, 64)
	checkCode(t, alone.Admits(membership.Candidate{Name: "n1", ID: id("n1"), Cluster: alone.Cluster(), Partitions: 64, Replicas: 3, Members: 1}), "self_join: node n1 cannot join itself")
}

func checkCode(t *testing.T, err error, want string) {
	t.Helper()
	var refused *membership.ChangeError
	if !errors.As(err, &refused) || refused.Code+": "+refused.Text != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// A node that is to join is known at once, and clearing forgets it.
func TestStagedJoin(t *testing.T) {
	s := must(t, cluster(t, 3, 64), joins("n4"))
	m, ok := s.Member("n4")
	if want := membership.RaftID(s.Cluster(), "n4", id("n4")); !ok || m.Status != membership.StatusJoining || m.ID != id("n4") || m.Raft != want || s.Ring().Owned("n4") != 0 {
		t.Errorf("n4 is %+v", m)
	}
	s = must(t, s, membership.Stage{Change: membership.Change{Kind: membership.ChangeSet, Node: "n4", Zone: "z", Weight: 50}})
	if got := fmt.Sprint(s.Staged()); got != "[join n4, zone z, weight 50]" {
		t.Errorf("staged is %s", got)
	}
	if m, _ := s.Member("n4"); m.Zone != "z" || m.Weight != 50 {
		t.Errorf("n4 is %+v", m)
	}
	s = must(t, s, stages(membership.ChangeLeave, "n1", ""), membership.Clear{})
	if _, ok := s.Member("n4"); ok || len(s.Staged()) != 0 || len(s.Members()) != 3 {
		t.Errorf("after clearing: %v, staged %v", s, s.Staged())
	}
	must(t, s, joins("n4"), commits{})
}

// The last change that is staged for a node is the one that counts.
func TestOneChangeForANode(t *testing.T) {
	s := must(t, cluster(t, 3, 64), joins("n4"), stages(membership.ChangeReplace, "n1", "n4"), stages(membership.ChangeLeave, "n2", ""), stages(membership.ChangeLeave, "n1", ""))
	if got := fmt.Sprint(s.Staged()); got != "[join n4 leave n2 leave n1]" {
		t.Errorf("staged is %s", got)
	}
	must(t, s, stages(membership.ChangeReplace, "n2", "n4"))
}
