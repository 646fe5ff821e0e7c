package view

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/kv"
)

var noon = time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)

// loaded is a node that has answered so many gets: the first number within 1 ms, the second
// within 2 ms, and the third later.
func loaded(name string, within1, within2, later, failed uint64) tanodb.NodeState {
	return tanodb.NodeState{Node: name, Loads: []tanodb.Load{{
		Op: "get", Count: within1 + within2 + later, Failed: failed,
		Bounds: []float64{0.001, 0.002}, Within: []uint64{within1, within1 + within2},
	}}}
}

func TestRates(t *testing.T) {
	silent := tanodb.NodeState{Node: "n2", Error: "the node is down"}
	for name, c := range map[string]struct {
		before, now []tanodb.NodeState
		want        []Rate
	}{
		"nothing was ever asked for": {
			[]tanodb.NodeState{{Node: "n1"}}, []tanodb.NodeState{{Node: "n1"}}, nil,
		},
		"nothing since": {
			[]tanodb.NodeState{loaded("n1", 5, 0, 0, 1)}, []tanodb.NodeState{loaded("n1", 5, 0, 0, 1)}, []Rate{{Op: "get"}},
		},
		"all in the first bucket": {
			[]tanodb.NodeState{loaded("n1", 10, 3, 4, 0)}, []tanodb.NodeState{loaded("n1", 110, 3, 4, 0)},
			[]Rate{{"get", 50, 0, 500 * time.Microsecond, 990 * time.Microsecond}},
		},
		"two nodes, and one failure": {
			[]tanodb.NodeState{loaded("n1", 0, 0, 0, 0), loaded("n2", 0, 0, 0, 0)},
			[]tanodb.NodeState{loaded("n1", 50, 0, 0, 1), loaded("n2", 0, 50, 0, 0)},
			[]Rate{{"get", 50, 0.5, time.Millisecond, 1980 * time.Microsecond}},
		},
		"past the last bound": {
			[]tanodb.NodeState{loaded("n1", 0, 0, 0, 0)}, []tanodb.NodeState{loaded("n1", 0, 0, 10, 0)},
			[]Rate{{"get", 5, 0, 2 * time.Millisecond, 2 * time.Millisecond}},
		},
		"a node has begun anew": {
			[]tanodb.NodeState{loaded("n1", 1000, 0, 0, 0)}, []tanodb.NodeState{loaded("n1", 10, 0, 0, 0)},
			[]Rate{{"get", 5, 0, 500 * time.Microsecond, 990 * time.Microsecond}},
		},
		"a node that has just come back does not count its past": {
			[]tanodb.NodeState{loaded("n1", 0, 0, 0, 0), silent}, []tanodb.NodeState{loaded("n1", 0, 0, 0, 0), loaded("n2", 1000, 0, 0, 0)},
			[]Rate{{Op: "get"}},
		},
	} {
		got := Rates(Snapshot{At: noon, Nodes: c.before}, Snapshot{At: noon.Add(2 * time.Second), Nodes: c.now})
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestRatesComeInOrder(t *testing.T) {
	now := Snapshot{At: noon, Nodes: []tanodb.NodeState{{Node: "n1", Loads: []tanodb.Load{{Op: "ping"}, {Op: "put"}, {Op: "get"}, {Op: "aaa"}}}}}
	var ops []string
	for _, r := range Rates(now, now) {
		ops = append(ops, r.Op)
	}
	if want := []string{"get", "put", "aaa", "ping"}; !slices.Equal(ops, want) {
		t.Errorf("%q, want %q", ops, want)
	}
}

// broken is a cluster of n1 to n3 and n10, in which n2 is down, n3 is silent, and n10 takes over.
func broken() Snapshot {
	s := Snapshot{
		At: noon,
		Cluster: tanodb.ClusterState{
			Node: "n1", Partitions: 4, Replicas: 3, Voters: []string{"n1", "n2", "n3"},
			Owners: []string{"n1", "n2", "n3", "n1"}, Next: []string{"", "", "", "n10"},
			Members: []tanodb.ClusterMember{
				{Name: "n10", Status: "valid", Up: true}, {Name: "n1", Status: "valid", Up: true},
				{Name: "n2", Status: "valid", Since: 90 * time.Second, Partitions: 1}, {Name: "n3", Status: "valid", Up: true},
				{Name: "n4", Status: "left"},
			},
			Transfers: []tanodb.TransferState{
				{Kind: "ownership", ID: 1, Index: 0, From: "n1", To: "n10", Phase: "waiting"},
				{Kind: "ownership", ID: 2, Index: 3, From: "n1", To: "n10", Phase: "copying", LastError: "the disk is full"},
			},
			Staged: []tanodb.Change{{Kind: tanodb.ChangeLeave, Node: "n1"}}, Warnings: []string{"two zones only"}, Waits: "no majority",
		},
		Nodes: []tanodb.NodeState{
			{Node: "n1", Work: []tanodb.TransferState{
				{Kind: "drain", Index: 1, From: "n1", To: "n2", Phase: "waits for n2", Homes: 1},
				{Kind: "fill", Index: 2, From: "n3", To: "n1"},
			}},
			{Node: "n2", Error: "the node is down"},
			{Node: "n3", Error: "time is over"},
			{Node: "n10", Work: []tanodb.TransferState{{Kind: "drain", Index: 1, From: "n10", To: "n2", Phase: "moving", Homes: 3, HomesDone: 1, Objects: 7, Bytes: 70}},
				Status: tanodb.Status{Storage: tanodb.StorageState{ReadOnly: true, Trouble: "slow", Damaged: []int{1}, Rebuilding: []int{2, 3}, ReadErrors: 1}},
				Repair: tanodb.RepairState{Paused: true, Failing: 2, Pairs: 9}},
		},
		Routes: [][]tanodb.Replica{
			{{Partition: 0, Node: "n1", Role: kv.Primary}, {Partition: 1, Node: "n10", Role: kv.Fallback}, {Partition: 2, Node: "n3", Role: kv.Primary}},
			{{Partition: 1, Node: "n10", Role: kv.Fallback}, {Partition: 2, Node: "n3", Role: kv.Primary}, {Partition: 3, Node: "n1", Role: kv.Fallback}},
			{{Partition: 2, Node: "n3", Role: kv.Fallback}, {Partition: 3, Node: "n1", Role: kv.Fallback}, {Partition: 0, Node: "n1", Role: kv.Fallback}},
			{{Partition: 3, Node: "n1", Role: kv.Primary}, {Partition: 0, Node: "n1", Role: kv.Primary}, {Partition: 1, Node: "n10", Role: kv.Fallback}},
		},
	}
	s.Reach = ReachOf(s.Routes, s.Cluster.Replicas)
	return s
}

func TestMembers(t *testing.T) {
	var got []string
	for _, m := range Members(broken()) {
		got = append(got, m.Name+" "+m.State)
	}
	if want := []string{"n1 up", "n2 down", "n3 silent", "n10 up"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if c := Colors(broken()); c["n1"] != 0 || c["n4"] != 3 || c["n10"] != 4 {
		t.Errorf("the colours are %v", c)
	}
}

func TestReach(t *testing.T) {
	primary, spare := tanodb.Replica{Role: kv.Primary}, tanodb.Replica{Role: kv.Fallback}
	got := ReachOf([][]tanodb.Replica{
		{primary, primary, primary}, {primary, primary, spare}, {primary, spare, spare}, {spare, spare, spare}, {primary}, {spare},
	}, 3)
	if want := (Reach{Dark: 2, Minor: 1}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestRing(t *testing.T) {
	arcs := Ring(broken())
	if a := arcs[1]; a.Owner != "n2" || !a.OwnerDown || !slices.Equal(a.Waiting, []string{"n2"}) || !slices.Equal(a.StandIns(), []string{"n10", "n1"}) {
		t.Errorf("partition 1 is %+v", a)
	}
	if a := arcs[3]; a.OwnerDown || a.Next != "n10" || a.Waiting != nil {
		t.Errorf("partition 3 is %+v", a)
	}
	s := broken()
	s.Routes = nil
	if a := Ring(s)[1]; a.Replicas != nil || a.StandIns() != nil {
		t.Errorf("without routes partition 1 is %+v", a)
	}
}

func TestWork(t *testing.T) {
	if all := Ownership(broken()); len(all) != 2 || all[0].Phase != "copying" {
		t.Errorf("the changes of owner are %+v", all)
	}
	if all := Fills(broken()); len(all) != 1 || all[0].Kind != "fill" {
		t.Errorf("the fills are %+v", all)
	}
	want := []HintsFor{{To: "n2", Holders: []string{"n1", "n10"}, Ranges: 3, Objects: 7, Bytes: 70, Phase: "moving"}}
	if diff := cmp.Diff(want, HintsByNode(broken())); diff != "" {
		t.Error(diff)
	}
}

func TestAlerts(t *testing.T) {
	all := Alerts(broken(), []Rate{{Op: "get", PerSecond: 10, Failed: 2}})
	for _, want := range []struct {
		level Level
		text  string
	}{
		{Critical, "For 1 partition of 4, no owner is up"},
		{Critical, "For 1 partition of 4, no majority of the owners is up"},
		{Critical, "n10 takes no writes"},
		{Critical, "n10 has damage in 1 partition "},
		{Critical, "Requests fail: get."},
		{Warning, "n2 is down. Others stand in for its 1 partition "},
		{Warning, "n3 is held to be up, and has not answered: time is over."},
		{Warning, "n10 steps back"},
		{Warning, "n10 rebuilds 2 partitions"},
		{Warning, "n10 has a disk that failed 1 reads"},
		{Warning, "Changes of the cluster wait: no majority"},
		{Warning, "Partition 3 does not get from n1 to n10: the disk is full"},
		{Warning, "two zones only"},
		{Info, "n10 makes no comparisons"},
		{Info, "1 changes are staged"},
	} {
		if !slices.ContainsFunc(all, func(a Alert) bool { return a.Level == want.level && strings.HasPrefix(a.Text, want.text) }) {
			t.Errorf("no %s %q among %q", want.level, want.text, all)
		}
	}
	if all[0].Level != Critical || all[len(all)-1].Level != Info || len(all) != 15 {
		t.Errorf("%d alerts, from %s to %s", len(all), all[0].Level, all[len(all)-1].Level)
	}
	still := broken()
	still.Cluster.Transfers = nil
	if all := Alerts(still, nil); !slices.ContainsFunc(all, func(a Alert) bool { return strings.HasPrefix(a.Text, "n10 could not compare, or not mend, 2 of 9") }) {
		t.Errorf("nothing of failing comparisons when nothing moves: %q", all)
	}
	healthy := Snapshot{Cluster: tanodb.ClusterState{Members: []tanodb.ClusterMember{{Name: "n1", Up: true}}}, Nodes: []tanodb.NodeState{{Node: "n1"}}}
	if all := Alerts(healthy, nil); len(all) != 0 {
		t.Errorf("a healthy cluster has alerts: %q", all)
	}
}
