package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/internal/server/api"
	httpd "github.com/tanodb/tanodb/internal/server/http"
)

// fakeCluster is a node of a cluster that moves nothing: it keeps what is staged, and
// each look at it ends one transfer.
type fakeCluster struct {
	httpd.Node // nil: the tests ask for nothing else

	mu      sync.Mutex
	state   tanodb.ClusterState
	planID  string
	moving  []tanodb.TransferState
	partial error  // of ClusterTransfers
	fail    error  // what every order ends with; nil: none
	begins  int    // how many transfers a commit begins
	opening int    // after a Join: looks until the node has opened again
	looks   int    // after that: until the joining is committed
	order   string // the last, as a call would be written

	repairs  []tanodb.RepairState
	verified tanodb.Verified
}

func newFakeCluster() *fakeCluster {
	f := &fakeCluster{planID: "p7"}
	f.state = tanodb.ClusterState{
		Cluster: "c1", Node: "n1", Epoch: 7, Partitions: 8, Replicas: 3, Copies: 3, Leader: "n1", Voters: []string{"n1", "n2", "n3"},
		Owners: []string{"n1", "n2", "n3", "n1", "n2", "n3", "n1", "n2"}, Next: make([]string, 8), Ready: true,
	}
	for i, name := range f.state.Voters {
		f.state.Members = append(f.state.Members, tanodb.ClusterMember{
			Name: name, Address: fmt.Sprintf("10.0.0.%d:7098", i+1), Weight: 100, Status: "valid", Up: true, Since: time.Minute,
			Epoch: 7, Partitions: 3 - i/2, Pending: 3 - i/2, Voter: true,
		})
	}
	return f
}

func (f *fakeCluster) Metrics() prometheus.Gatherer { return prometheus.NewRegistry() }

func (f *fakeCluster) Cluster() tanodb.ClusterState {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.state
	s.Transfers = slices.Clone(f.moving)
	if len(f.moving) > 0 {
		f.moving = f.moving[1:]
	}
	switch {
	case f.opening > 1:
		f.opening--
	case f.opening == 1 && f.looks > 0:
		f.looks--
		s.Cluster = "c2"
		s.Members = append(slices.Clone(s.Members), tanodb.ClusterMember{Name: "n9"})
		s.Members[0].Status = "joining"
	case f.opening == 1:
		s.Cluster = "c2"
		s.Members = append(slices.Clone(s.Members), tanodb.ClusterMember{Name: "n9"})
	}
	return s
}

func (f *fakeCluster) ClusterTransfers(context.Context) ([]tanodb.TransferState, error) {
	return f.moving, f.partial
}

func (f *fakeCluster) note(format string, args ...any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.order = fmt.Sprintf(format, args...)
	return f.fail
}

func (f *fakeCluster) Join(_ context.Context, address string, o tanodb.JoinOptions) error {
	f.mu.Lock()
	f.opening = 2
	if o.Auto {
		f.looks = max(f.looks, 2)
	}
	f.mu.Unlock()
	return f.note("join %s %+v", address, o)
}

func (f *fakeCluster) Stage(_ context.Context, c tanodb.Change) error {
	f.state.Staged = append(f.state.Staged, c)
	return f.note("stage %v", c)
}

func (f *fakeCluster) ClusterPlan(context.Context) (tanodb.Plan, error) {
	if f.fail != nil {
		return tanodb.Plan{}, f.fail
	}
	return tanodb.Plan{
		ID: "p7", Epoch: 7, Changes: f.state.Staged,
		Shares: []tanodb.Share{
			{Node: "n1", Status: "valid", Before: 3, After: 4, BeforePercent: 37.5, AfterPercent: 50},
			{Node: "n2", Status: "valid", Before: 3, After: 4, BeforePercent: 37.5, AfterPercent: 50},
			{Node: "n3", Status: "leaving", Before: 2, BeforePercent: 25},
		},
		Moves:    []tanodb.PairMoves{{From: "n3", To: "n1", Partitions: 1}, {From: "n3", To: "n2", Partitions: 1}},
		Warnings: []string{"Not all replicas will be on distinct nodes"},
	}, nil
}

func (f *fakeCluster) ClusterCommit(_ context.Context, plan string) error {
	if plan != f.planID {
		return &tanodb.ClusterError{Code: "plan_changed", Text: "the plan is another by now: look at it, and commit that"}
	}
	for range f.begins {
		f.moving = append(f.moving, tanodb.TransferState{Kind: "ownership"})
	}
	return f.note("commit %s", plan)
}

func (f *fakeCluster) ClusterClear(context.Context) error { return f.note("clear") }

func (f *fakeCluster) ClusterDown(_ context.Context, node string) error {
	return f.note("down %s", node)
}

func (f *fakeCluster) ClusterRecover(_ context.Context, survivors []string) error {
	return f.note("recover %s", survivors)
}

func (f *fakeCluster) Repairs(context.Context, string) ([]tanodb.RepairState, error) {
	return f.repairs, nil
}

func (f *fakeCluster) RepairPause(ctx context.Context, node string) ([]tanodb.RepairState, error) {
	return f.repairs, f.note("pause %q", node)
}

func (f *fakeCluster) RepairResume(ctx context.Context, node string) ([]tanodb.RepairState, error) {
	return f.repairs, f.note("resume %q", node)
}

func (f *fakeCluster) RepairVerify(_ context.Context, node string) (tanodb.Verified, error) {
	return f.verified, f.note("verify %q", node)
}

func (f *fakeCluster) Repair(_ context.Context, target string) (int, error) {
	return 1, f.note("repair %s", target)
}

func (f *fakeCluster) SetTransferLimits(_ context.Context, perNode int, rate int64) error {
	return f.note("limits %d %d", perNode, rate)
}

func (f *fakeCluster) SetDeletes(_ context.Context, mode string, grace time.Duration) error {
	return f.note("deletes %s %v", mode, grace)
}

// alone takes the other members away.
func alone(f *fakeCluster) { f.state.Members = f.state.Members[:1] }

// command runs the program against the fake node.
func (f *fakeCluster) command(t *testing.T, line string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	server := httptest.NewServer(httpd.New(f, httpd.Options{}))
	defer server.Close()
	var out, problems bytes.Buffer
	args = append(append([]string{"cluster"}, strings.Fields(line)...), append(args, "--addr", server.URL)...)
	code = run(args, strings.NewReader(""), &out, &problems)
	return code, out.String(), problems.String()
}

func TestClusterCommandsPrint(t *testing.T) {
	const members = `MEMBER  STATUS  RING   PENDING  STATE  SINCE  EPOCH  VOTER  ZONE  WEIGHT  ADDRESS
n1      valid   37.5%  --       up     1m0s   7      yes    -     100     10.0.0.1:7098
n2      valid   37.5%  --       up     1m0s   7      yes    -     100     10.0.0.2:7098
n3      valid   25.0%  --       up     1m0s   7      yes    -     100     10.0.0.3:7098
valid: 3
`
	for name, c := range map[string]struct {
		line   string
		change func(*fakeCluster)
		code   int
		stdout string
		stderr string
	}{
		"status": {
			line: "status",
			stdout: `cluster c1 as n1 knows it, epoch 7
ring: 8 partitions, 3 replicas on 3 distinct nodes
topology: led by n1, voters n1, n2, n3
transfers: 0 pending
ready: all nodes agree on the ring: n1, n2, n3

` + members,
		},
		"status of a cluster in trouble": {
			line: "status",
			change: func(f *fakeCluster) {
				f.state.Leader, f.state.Waits = "", "2 of 3 voters are down"
				f.state.Ready, f.state.NotReady = false, []string{"n2 is down", "n3 is down"}
				f.state.Members = f.state.Members[:1]
				f.state.Staged = []tanodb.Change{{Kind: "set", Node: "n1", Zone: "south", Weight: 50}}
				f.state.Warnings = []string{"Not all replicas are on distinct nodes"}
				f.moving = []tanodb.TransferState{{Kind: "ownership"}, {Kind: "fill"}}
			},
			stdout: `cluster c1 as n1 knows it, epoch 7
ring: 8 partitions, 3 replicas on 3 distinct nodes
topology: no leader is known, voters n1, n2, n3
changes of the cluster wait: 2 of 3 voters are down; reads and writes go on
transfers: 1 pending
not ready: n2 is down; n3 is down

MEMBER  STATUS  RING   PENDING  STATE  SINCE  EPOCH  VOTER  ZONE  WEIGHT  ADDRESS
n1      valid   37.5%  --       up     1m0s   7      yes    -     100     10.0.0.1:7098
valid: 1

Staged, not committed:
  set n1, zone south, weight 50

WARNING: Not all replicas are on distinct nodes
`,
		},
		"members": {line: "members", stdout: members},
		"members of all kinds": {
			line: "members",
			change: func(f *fakeCluster) {
				m := f.state.Members
				m[1].Status, m[1].Pending, m[1].Zone = "leaving", 0, "south"
				m[2].Status, m[2].Up, m[2].Voter, m[2].Since, m[2].Weight = "down", false, false, 1500*time.Millisecond, 0
				f.state.Members = append(m, tanodb.ClusterMember{Name: "n0", Status: "left"})
			},
			stdout: `MEMBER  STATUS   RING   PENDING  STATE  SINCE  EPOCH  VOTER  ZONE   WEIGHT  ADDRESS
n1      valid    37.5%  --       up     1m0s   7      yes    -      100     10.0.0.1:7098
n2      leaving  37.5%  0.0%     up     1m0s   7      yes    south  100     10.0.0.2:7098
n3      down     25.0%  --       down   1.5s   7      -      -      100     10.0.0.3:7098
valid: 1, leaving: 1, down: 1, left: 1
`,
		},
		"ring": {
			line: "ring",
			stdout: `8 partitions, epoch 7

LETTER  NODE  PARTITIONS  RING   PENDING
a       n1    3           37.5%  --
b       n2    3           37.5%  --
c       n3    2           25.0%  --

0  abcabcab
`,
		},
		"a ring that changes": {
			line:   "ring",
			change: func(f *fakeCluster) { f.state.Next[2], f.state.Next[7] = "n4", "n1" },
			stdout: `8 partitions, epoch 7

LETTER  NODE  PARTITIONS  RING   PENDING
a       n1    3           37.5%  50.0%
b       n2    3           37.5%  25.0%
c       n3    2           25.0%  12.5%
d       n4    0           0.0%   12.5%

0  abcabcab

When all transfers are done, these are of:
0  ..d....a
`,
		},
		"no transfers": {line: "transfers", stdout: "No transfers are active or pending.\n"},
		"ready":        {line: "ready", stdout: "ready: all nodes agree on the ring: n1, n2, n3\n"},
		"not ready": {
			line: "ready", code: 1,
			change: func(f *fakeCluster) {
				f.state.Ready, f.state.NotReady = false, []string{"n3 is down", "n2 has epoch 6, not 7"}
			},
			stderr: "tanodb: not ready: n3 is down; n2 has epoch 6, not 7\n",
		},
		"staged": {
			line:   "leave n3",
			stdout: "staged: leave n3\nNothing has changed yet. See what it would do with: tanodb cluster plan\n",
		},
		"staged, this node": {
			line:   "leave",
			stdout: "staged: leave n1\nNothing has changed yet. See what it would do with: tanodb cluster plan\n",
		},
		"staged, and others too": {
			line: "leave n3 --yes", code: 1,
			change: func(f *fakeCluster) { f.state.Staged = []tanodb.Change{{Kind: "leave", Node: "n2"}} },
			stderr: "tanodb: leave n3 is staged, and not committed: other changes are staged too; look at them with tanodb cluster plan, and commit or clear them all\n",
		},
		"nothing planned": {
			line: "plan", code: 1,
			change: func(f *fakeCluster) {
				f.fail = &tanodb.ClusterError{Code: "nothing_planned", Text: "nothing is staged: there is no plan"}
			},
			stderr: "tanodb: nothing is staged: there is no plan\n",
		},
		"no majority": {
			line: "clear", code: 1,
			change: func(f *fakeCluster) {
				f.fail = &tanodb.ClusterError{Code: "no_majority", Text: "the topology cannot change now: 2 of 3 voters are down"}
			},
			stderr: "tanodb: the topology cannot change now: 2 of 3 voters are down\n",
		},
		"commit of a known plan": {
			line:   "commit p7",
			stdout: "plan p7 is committed; see tanodb cluster transfers\n",
		},
		"commit of an old plan": {
			line: "commit p6", code: 1,
			stderr: "tanodb: the plan is another by now: look at it, and commit that\n",
		},
		"clear":   {line: "clear", stdout: "nothing is staged any more\n"},
		"down":    {line: "down n3", stdout: "n3 is marked down: it does not vote, and no transfer begins that needs it\n"},
		"recover": {line: "recover n1 n2 --i-know-what-i-lose", stdout: "the topology's only voters are now n1, n2\n"},
		"repair":  {line: "repair 3", stdout: "repairing 1 partition; see tanodb cluster transfers\n"},
		"deletes": {line: "deletes --mode reap --grace 1h", stdout: "tombstones go when nothing that they have replaced is left; a tombstone is at least 1h0m0s old when it is reaped\n"},
		"limits":  {line: "limits --rate 10MiB --per-node 2", stdout: "each node moves up to 10.0 MiB a second; each node takes part in up to 2 transfers at once\n"},
		"no limits": {
			line:   "limits --rate 0",
			stdout: "each node moves as much as it can\n",
		},
		"join": {
			line:   "join 10.0.0.9:7098",
			change: alone,
			stdout: "staged: n1 joins cluster c2 with n9\nNothing has changed yet. See what it would do with: tanodb cluster plan\n",
		},
		"join at once": {
			line:   "join 10.0.0.9:7098 --yes",
			change: alone,
			stdout: "n1 is a member of cluster c2 with n9; see tanodb cluster transfers\n",
		},
		"join that stays staged": {
			line: "join 10.0.0.9:7098 --yes --timeout 200ms", code: 1,
			change: func(f *fakeCluster) {
				alone(f)
				f.looks = 1 << 30
			},
			stderr: "tanodb: the joining is staged, and not committed yet: see tanodb cluster plan; it is left to you where other changes are staged too\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeCluster()
			if c.change != nil {
				c.change(f)
			}
			code, stdout, stderr := f.command(t, c.line)
			if code != c.code || stderr != c.stderr {
				t.Errorf("exit code %d, want %d; standard error %q, want %q", code, c.code, stderr, c.stderr)
			}
			if diff := cmp.Diff(c.stdout, stdout); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// planText is the plan of the fake node for one change.
const planText = `Plan p7 for epoch 7:
  leave n3

MEMBER  STATUS   BEFORE         AFTER
n1      valid    3       37.5%  4      50.0%
n2      valid    3       37.5%  4      50.0%
n3      leaving  2       25.0%  0      0.0%

WARNING: Not all replicas will be on distinct nodes

Transfers resulting from cluster changes: 2
  1 transfer from n3 to n1
  1 transfer from n3 to n2
`

func TestClusterPlanThenCommit(t *testing.T) {
	f := newFakeCluster()
	f.begins = 1
	expect := func(line, want, order, says string) {
		t.Helper()
		code, stdout, stderr := f.command(t, line)
		if diff := cmp.Diff(want, stdout); diff != "" || code != 0 || stderr != says {
			t.Errorf("%s: exit code %d, standard error %q: %s", line, code, stderr, diff)
		}
		if f.order != order {
			t.Errorf("%s: the node was last asked to %s, want %s", line, f.order, order)
		}
	}
	expect("leave n3", "staged: leave n3\nNothing has changed yet. See what it would do with: tanodb cluster plan\n", "stage leave n3", "")
	expect("plan", planText+"\nNothing has changed yet. Commit it with: tanodb cluster commit p7\n", "stage leave n3", "")
	expect("commit", planText+"\nplan p7 is committed; see tanodb cluster transfers\n", "commit p7", "")
	expect("commit --wait 1m", planText+"\nplan p7 is committed, and no transfers are pending\n", "commit p7", "2 transfers pending\n1 transfer pending\n")
	f.state.Staged = nil
	expect("leave n3 --yes --wait 1m", planText+"\nplan p7 is committed, and no transfers are pending\n", "commit p7", "1 transfer pending\n")
}

func TestReplaceTakesItsJoiningAlong(t *testing.T) {
	f := newFakeCluster()
	f.state.Staged = []tanodb.Change{{Kind: "join", Node: "n4"}}
	if code, _, stderr := f.command(t, "replace n3 n4 --yes"); code != 0 || f.order != "commit p7" {
		t.Errorf("exit code %d, %s, last asked to %s", code, stderr, f.order)
	}
	f.state.Staged = []tanodb.Change{{Kind: "join", Node: "n5"}}
	if code, _, stderr := f.command(t, "force-replace n3 n4 --yes"); code != 1 || !strings.Contains(stderr, "not committed") {
		t.Errorf("exit code %d, %s, last asked to %s", code, stderr, f.order)
	}
}

// People see what was to be done also when the commit fails.
func TestAPlanIsPrintedBeforeItsCommit(t *testing.T) {
	f := newFakeCluster()
	f.planID = "p8"
	code, stdout, stderr := f.command(t, "leave n3 --yes")
	if code != 1 || stdout != planText+"\n" || !strings.Contains(stderr, "the plan is another by now") {
		t.Errorf("exit code %d, standard error %q, standard output %s", code, stderr, stdout)
	}
}

func TestWaitingForTransfersEnds(t *testing.T) {
	f := newFakeCluster()
	f.begins = 1 << 10
	code, _, stderr := f.command(t, "commit p7 --wait 1ms")
	if code != 1 || !strings.Contains(stderr, "the plan is committed, but 1024 transfers still pending after 1ms") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
}

// TestPollEndsInTime: what took longer than there is time for is not tried again.
func TestPollEndsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 20 {
			tries := 0
			_ = poll(time.Millisecond, time.Millisecond, func() (bool, error) {
				tries++
				time.Sleep(time.Second)
				return false, nil
			})
			if tries != 1 {
				t.Fatalf("tried %d times", tries)
			}
		}
	})
}

func TestOrdersOfTheCommands(t *testing.T) {
	for line, want := range map[string]string{
		"leave n2":                            "stage leave n2",
		"replace n2 n4":                       "stage replace n2 with n4",
		"force-replace n2 n4":                 "stage force-replace n2 with n4",
		"force-remove n2":                     "stage force-remove n2",
		"set n2 --zone south":                 "stage set n2, zone south",
		"set n2 --weight 50":                  "stage set n2, weight 50",
		"down n2":                             "down n2",
		"clear":                               "clear",
		"recover n1 n2 --i-know-what-i-lose":  "recover [n1 n2]",
		"repair n1":                           "repair n1",
		"limits --rate 1KB":                   "limits 0 1000",
		"deletes --mode keep":                 "deletes keep 0s",
		"join h:1 --zone south --weight 50":   "join h:1 {Zone:south Weight:50 Auto:false}",
		"join h:1 --yes":                      "join h:1 {Zone: Weight:0 Auto:true}",
		"commit p7":                           "commit p7",
		"force-remove n2 --yes --timeout 20s": "commit p7",
	} {
		f := newFakeCluster()
		if code, _, stderr := f.command(t, line); code != 0 || f.order != want {
			t.Errorf("%s: exit code %d, %s; the node was asked to %s, want %s", line, code, stderr, f.order, want)
		}
	}
}

func TestClusterCommandsAskedWrongly(t *testing.T) {
	f := newFakeCluster()
	for line, want := range map[string]string{
		"":                              "expected one of",
		"explode":                       "unexpected argument explode",
		"join":                          "<host:port>",
		"join n1":                       "must be HOST:PORT",
		"join n1:x":                     "ports are from",
		"join n1:1 --weight=-1":         "--weight is -1",
		"leave n2 --wait 1s":            "--wait goes with --yes",
		"leave n2 --yes --wait=-1s":     "--wait is -1s",
		"replace n2":                    "<new>",
		"force-remove":                  "<node>",
		"set n2":                        "give --zone or --weight",
		"set n2 --weight=-5":            "--weight is -5",
		"set n2 --weight=0":             "--weight is 0",
		"commit --wait=-1s":             "--wait is -1s",
		"recover n1":                    "say --i-know-what-i-lose",
		"recover":                       "<node>",
		"repair":                        "<node|partition>",
		"limits":                        "--rate",
		"deletes":                       "--mode",
		"deletes --mode never":          "must be one of",
		"deletes --grace=-1s":           "--grace is -1s",
		"limits --rate fast":            `"fast" is not a number of bytes`,
		"limits --rate=-1":              "not a number of bytes",
		"limits --rate 1 --per-node=-":  "per-node",
		"limits --rate 1 --per-node=-1": "--per-node is -1",
		"limits --per-node=0":           "--per-node is 0",
		"ready --wait=-1s":              "--wait is -1s",
	} {
		code, stdout, stderr := f.command(t, line)
		if code != exitUsage || !strings.Contains(stderr, want) || stdout != "" {
			t.Errorf("%s: exit code %d, standard output %q, standard error %q, want %s", line, code, stdout, stderr, want)
		}
	}
	if f.order != "" {
		t.Errorf("the node was asked to %s", f.order)
	}
	// The node refuses what it cannot mean in the same way.
	f.fail = &tanodb.ClusterError{Code: "invalid", Text: `"n9" is neither this node's name nor a partition`}
	if code, _, stderr := f.command(t, "repair n9"); code != exitUsage || !strings.Contains(stderr, "neither") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
}

// Every command prints one JSON document, whether it succeeds or fails.
func TestClusterCommandsInJSON(t *testing.T) {
	document := func(line, out string) map[string]any {
		t.Helper()
		d := json.NewDecoder(strings.NewReader(out))
		var v any
		if err := d.Decode(&v); err != nil {
			t.Fatalf("%s: %v in %q", line, err, out)
		}
		if _, err := d.Token(); err != io.EOF {
			t.Errorf("%s: more than one document: %s", line, out)
		}
		m, _ := v.(map[string]any)
		return m
	}
	for line, key := range map[string]string{
		"status":                          "voters",
		"members":                         "", // an array
		"ring":                            "owners",
		"transfers":                       "transfers",
		"ready":                           "ready",
		"plan":                            "moves",
		"leave n3":                        "kind",
		"leave n3 --yes":                  "committed",
		"commit":                          "plan",
		"commit p7":                       "committed",
		"clear":                           "",
		"down n3":                         "node",
		"recover n1 --i-know-what-i-lose": "survivors",
		"repair 3":                        "partitions",
		"deletes --mode keep":             "mode",
		"limits --rate 0":                 "bytes_per_second",
		"join h:1":                        "cluster",
	} {
		f := newFakeCluster()
		code, stdout, _ := f.command(t, line, "--json")
		if m := document(line, stdout); code != 0 || key != "" && m[key] == nil {
			t.Errorf("%s: exit code %d, no %q in %s", line, code, key, stdout)
		}
		if slices.Contains([]string{"status", "members", "ring", "transfers", "ready"}, line) {
			continue
		}
		f.fail = &tanodb.ClusterError{Code: "not_member", Text: "n3 is not a member"}
		code, stdout, _ = f.command(t, line, "--json")
		if m := document(line, stdout); code != exitFailed || m["code"] != "not_member" || m["error"] != "n3 is not a member" {
			t.Errorf("%s: exit code %d, %s", line, code, stdout)
		}
	}
	f := newFakeCluster()
	f.state.Ready, f.state.NotReady = false, []string{"n3 is down"}
	code, stdout, _ := f.command(t, "ready", "--json")
	if m := document("ready", stdout); code != exitFailed || m["ready"] != false {
		t.Errorf("exit code %d, %s", code, stdout)
	}
}

func TestTransfersInText(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	ts := transfers{now: now, Transfers: api.NewTransfers([]tanodb.TransferState{
		{Kind: "ownership", Index: 12, From: "n1", To: "n4", Phase: "copying"},
		{
			Kind: "fill", Index: 12, From: "n1", To: "n4", Phase: "pulling", Forced: true, Homes: 3, HomesDone: 1, Objects: 1200,
			Bytes: 3 << 19, Rate: 2048, Progress: now.Add(-1500 * time.Millisecond),
		},
		{
			Kind: "drain", Index: 7, From: "n2", To: "n3", LastError: "n3 is\ndown", RetryAt: now.Add(5 * time.Second),
			Deadline: now.Add(-time.Minute), Skipped: 2, SkippedKeys: []string{"b/k1", "b/\x00"},
		},
		{Kind: "repair", Index: 0, To: "n2", RetryAt: now.Add(-time.Second), Progress: now.Add(time.Hour)},
	}, fmt.Errorf("n5 did not answer"))}
	const want = `KIND       PARTITION  FROM  TO  PHASE            DONE  OBJECTS  BYTES    RATE       PROGRESS
ownership  12         n1    n4  copying          -     -        -        -          -
fill       12         n1    n4  pulling, forced  1/3   1200     1.5 MiB  2.0 KiB/s  1.5s ago
drain      7          n2    n3  -                -     -        -        -          -
repair     0          -     n2  -                -     -        -        -          0s ago
drain of partition 7 from n2 to n3: last error: "n3 is\ndown"; tries again in 5s; is stuck: no progress by its deadline, 1m0s ago; 2 objects cannot be read and stay where they are, among them b/k1 "b/\x00"
There may be more: n5 did not answer
`
	if diff := cmp.Diff(want, ts.String()); diff != "" {
		t.Error(diff)
	}
}

// Nodes of a ring have names of one letter, or of more where there are many.
func TestLettersOfARing(t *testing.T) {
	for _, n := range []int{1, 62, 63, 62 * 62, 62*62 + 1} {
		width, seen := letterWidth(n), map[string]bool{}
		for i := range n {
			l := letter(i, width)
			if len(l) != width || seen[l] {
				t.Fatalf("node %d of %d is %q, again", i, n, l)
			}
			seen[l] = true
		}
	}
	r := ringPicture{Partitions: 128}
	for i := range 128 {
		r.Owners = append(r.Owners, fmt.Sprintf("n%03d", i%64))
	}
	_, rows, _ := strings.Cut(r.String(), "n063")
	lines := strings.Split(strings.TrimSpace(rows), "\n")
	last := lines[len(lines)-1]
	if len(lines) != 4 || !strings.HasPrefix(last, " 64  aa ab ac") || !strings.HasSuffix(last, "ba bb") {
		t.Errorf("the rows are\n%s", strings.Join(lines, "\n"))
	}
}

func TestByteCounts(t *testing.T) {
	for text, want := range map[string]byteCount{
		"0": 0, "1000": 1000, "7B": 7, "1KB": 1000, "2KiB": 2048, "10MB": 1e7, "10 MiB": 10 << 20, "3GiB": 3 << 30, "1GB": 1e9,
	} {
		var n byteCount
		if err := n.UnmarshalText([]byte(text)); err != nil || n != want {
			t.Errorf("%q is %d, %v; want %d", text, n, err, want)
		}
	}
	for _, bad := range []string{"", "x", "-1", "1.5MiB", "MiB", "9223372036854775807KiB", "99999999999999999999", "1PB", "1mb"} {
		var n byteCount
		if err := n.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q is taken for %d", bad, n)
		}
	}
	for n, want := range map[float64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1 << 20: "1.0 MiB", 5 << 40: "5.0 TiB", 1 << 60: "1048576.0 TiB"} {
		if got := bytesText(n); got != want {
			t.Errorf("%v bytes are shown as %s, want %s", n, got, want)
		}
	}
}

// Every command explains itself with an example, and the examples of the
// cluster's commands are ones that the program understands.
func TestHelpHasExamplesThatParse(t *testing.T) {
	var c cli
	parser, err := newParser(&c, io.Discard, io.Discard, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	examples := 0
	for _, leaf := range parser.Model.Leaves(true) {
		if !strings.Contains(leaf.Detail, "tanodb") {
			t.Errorf("%s: its help has no example", leaf.FullPath())
		}
		if !strings.HasPrefix(leaf.FullPath(), "tanodb cluster") && !strings.HasPrefix(leaf.FullPath(), "tanodb dev") && leaf.Name != "serve" && !strings.HasPrefix(leaf.FullPath(), "tanodb data") {
			continue
		}
		for line := range strings.Lines(leaf.Detail) {
			example, ok := strings.CutPrefix(line, "    tanodb ")
			if !ok {
				continue
			}
			examples++
			var c cli
			parser, err := newParser(&c, io.Discard, io.Discard, func(int) {})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := parser.Parse(strings.Fields(example)); err != nil {
				t.Errorf("%s: the example %q: %v", leaf.FullPath(), example, err)
			}
		}
	}
	if examples < 20 {
		t.Errorf("only %d examples were found", examples)
	}
}
