package main

import (
	"bytes"
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/internal/server/api"
	httpd "github.com/tanodb/tanodb/internal/server/http"
)

// repairOf runs a command of repair against a fake node.
func repairOf(t *testing.T, f *fakeCluster, line string) (code int, stdout, stderr string) {
	t.Helper()
	server := httptest.NewServer(httpd.New(f, httpd.Options{}))
	defer server.Close()
	var out, problems bytes.Buffer
	args := append(append([]string{"repair"}, strings.Fields(line)...), "--addr", server.URL)
	code = run(args, strings.NewReader(""), &out, &problems)
	return code, out.String(), problems.String()
}

func TestRepairCommands(t *testing.T) {
	f := newFakeCluster()
	pair := tanodb.RepairPair{Home: 3, Partition: 4, Peer: "n2", PeerPartition: 5}
	f.repairs = []tanodb.RepairState{
		{Node: "n1", Pairs: 21, Due: 2, Failing: 1, Exchanges: 40, Equal: 38, Received: 3, Sent: 4, Busy: 5, Bytes: 2048,
			Running: []tanodb.RepairExchange{{RepairPair: pair, Different: 2, Received: 1}},
			Errors:  []tanodb.RepairError{{RepairPair: pair, Error: "n2 went down"}},
			Verify:  tanodb.VerifyState{Running: true, Done: 7, Trees: 63}},
		{Node: "n2", Paused: true},
		{Node: "n3", Error: "the node is down"},
	}
	f.verified = tanodb.Verified{Homes: 64, OK: true, Nodes: []tanodb.RepairState{{Node: "n1", Verify: tanodb.VerifyState{Trees: 63, Objects: 1000}}}}
	const table = `NODE  STATE    PAIRS  DUE  FAILING  OLDEST  COMPARED  EQUAL  MENDED  BUSY  BYTES
n1    on       21     2    1        -       40        38     7       5     2.0 KiB
n2    paused   0      0    0        -       0         0      0       0     0 B
n3    unknown

n1 compares home 3 in its vnode 4 with n2/5: 2 keys differ, 1 mended
n1 could not compare home 3 in its vnode 4 with n2/5: n2 went down
n1 verifies its trees: 7 of 63
n3: the node is down
`
	for _, c := range []struct{ line, order, stdout string }{
		{"status", "", table},
		{"pause", `pause ""`, table},
		{"pause n2", `pause "n2"`, table},
		{"resume", `resume ""`, table},
		{"verify n1", `verify "n1"`, "NODE  TREES  OBJECTS  WRONG  MENDED\nn1    63     1000     0      0\n\nthe replicas of 64 homes are equal\n"},
	} {
		code, stdout, stderr := repairOf(t, f, c.line)
		if code != exitDone || stdout != c.stdout || stderr != "" || f.order != c.order {
			t.Errorf("%s: code %d, %q, order %s\n%s", c.line, code, stderr, f.order, stdout)
		}
	}
}

func TestRepairVerifyFails(t *testing.T) {
	f := newFakeCluster()
	f.verified = tanodb.Verified{
		Homes: 64, Differs: 2, Differ: []tanodb.HomeDiffers{{Home: 7, Replicas: []string{"n1/7 01", "n2/8 02"}}},
		Nodes: []tanodb.RepairState{
			{Node: "n1", Verify: tanodb.VerifyState{Trees: 63, Objects: 9, Wrong: 2, Mended: 1, Errors: []string{"the disk is damaged"}}},
			{Node: "n2", Error: "the node is down"},
		},
	}
	code, stdout, stderr := repairOf(t, f, "verify")
	const want = `NODE  TREES    OBJECTS  WRONG  MENDED
n1    63       9        2      1
n2    unknown

n1: the disk is damaged
n2: the node is down
home 7 differs: n1/7 01, n2/8 02
the replicas of 2 of 64 homes differ; repair finds that by itself
`
	if code != exitFailed || stdout != want || !strings.Contains(stderr, "not all is well") {
		t.Errorf("code %d, %q\n%s", code, stderr, stdout)
	}
}

func TestRepairInJSON(t *testing.T) {
	f := newFakeCluster()
	f.repairs = []tanodb.RepairState{{Node: "n1", Pairs: 21, Oldest: time.Now().Add(-time.Minute)}}
	_, stdout, _ := repairOf(t, f, "status --json")
	var got api.Repairs
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || len(got.Nodes) != 1 || got.Nodes[0].Pairs != 21 {
		t.Errorf("%v\n%s", err, stdout)
	}
	if _, stdout, _ = repairOf(t, f, "status"); !strings.Contains(stdout, "1m0s ago") {
		t.Errorf("%s", stdout)
	}
}
