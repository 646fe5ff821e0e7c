package tanodb

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tanodb/tanodb/kv"
)

func TestNodesDescribeThemselves(t *testing.T) {
	nodes, network := NewTestCluster(t, 3, Options{Partitions: 8})
	ctx := t.Context()
	k := kv.Key{Bucket: "b", Name: "k"}
	if _, err := nodes[1].Put(ctx, k, kv.Value{Data: []byte("v")}, kv.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	states := nodes[0].Nodes(ctx)
	if len(states) != 3 {
		t.Fatalf("%d nodes, want 3", len(states))
	}
	for i, s := range states {
		if s.Error != "" || s.Node != nodes[i].Name() || s.Status.Node != s.Node || s.Repair.Node != s.Node {
			t.Errorf("node %d says %+v", i, s)
		}
	}
	i := slices.IndexFunc(states[1].Loads, func(l Load) bool { return l.Op == "put" })
	if i < 0 {
		t.Fatalf("n2 has loads %+v, want a put", states[1].Loads)
	}
	if l := states[1].Loads[i]; l.Count != 1 || l.Failed != 0 || len(l.Bounds) == 0 || len(l.Bounds) != len(l.Within) || l.Within[len(l.Within)-1] != 1 {
		t.Errorf("the load of put on n2 is %+v", l)
	}

	network.Cut("n1", "n3")
	states = nodes[0].Nodes(ctx)
	if states[2].Error == "" || states[0].Error != "" || states[1].Error != "" {
		t.Errorf("n3 is cut off, and the errors are %q, %q, %q", states[0].Error, states[1].Error, states[2].Error)
	}
}

func TestRoutesGoRoundANodeThatIsDown(t *testing.T) {
	nodes, _ := NewTestCluster(t, 4, Options{Partitions: 16})
	if err := nodes[3].Close(); err != nil {
		t.Fatal(err)
	}
	waitDown(t, nodes[0], "n4")
	owned := nodes[0].Status().Members[3].Partitions
	fallbacks := 0
	for home, route := range nodes[0].Routes() {
		if len(route) != 3 || route[0].Partition != home {
			t.Errorf("the route of %d is %+v", home, route)
		}
		for _, r := range route {
			if r.Node == "n4" {
				t.Errorf("the route of %d goes to n4, which is down", home)
			}
			if r.Role == kv.Fallback {
				fallbacks++
			}
		}
	}
	if want := 3 * owned; fallbacks != want {
		t.Errorf("%d replicas stand in, want %d", fallbacks, want)
	}
}

// waitDown waits until a node holds another to be down.
func waitDown(t *testing.T, n *Node, other string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for n.live.up(other) {
		if err := pauseFor(ctx, 5*time.Millisecond); err != nil {
			t.Fatalf("%s still holds %s to be up: %v", n.Name(), other, err)
		}
	}
}

// traced collects the events of requests.
type traced struct {
	mu     sync.Mutex
	events []TraceEvent
	ended  chan struct{}
}

func newTraced() *traced { return &traced{ended: make(chan struct{})} }

func (r *traced) tell(e TraceEvent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
	if e.Kind == TraceEnd {
		close(r.ended)
	}
}

// kinds are the kinds and phases that have come, each once for as long as it lasts.
func (r *traced) kinds() string {
	<-r.ended
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	for _, e := range r.events {
		all = append(all, e.Phase+":"+string(e.Kind))
	}
	return strings.Join(slices.Compact(all), " ")
}

func TestTraceTellsTheStoryOfARequest(t *testing.T) {
	nodes, _ := NewTestCluster(t, 3, Options{Partitions: 8})
	k := kv.Key{Bucket: "b", Name: "k"}

	put := newTraced()
	if _, err := nodes[0].Put(WithTrace(t.Context(), put.tell), k, kv.Value{Data: []byte("v")}, kv.WriteOptions{W: kv.All}); err != nil {
		t.Fatal(err)
	}
	kinds := put.kinds()
	for _, want := range []string{"prepare:begin", "execute:ask", "execute:reply", "waiting:reply", "answer", "done:end"} {
		if !strings.Contains(kinds, want) {
			t.Errorf("the put was %s, without %s", kinds, want)
		}
	}
	last := put.events[len(put.events)-2]
	if last.Kind != TraceAnswer || !strings.HasPrefix(last.Tally, "W 3/3: met") {
		t.Errorf("the answer of the put is %+v", last)
	}

	get := newTraced()
	if _, err := nodes[1].Get(WithTrace(t.Context(), get.tell), k, kv.ReadOptions{R: kv.All}); err != nil {
		t.Fatal(err)
	}
	if got, want := get.kinds(), "prepare:begin execute:ask execute:reply waiting:reply waiting:answer done:end"; got != want {
		t.Errorf("the get was %s, want %s", got, want)
	}
	del := newTraced()
	if _, err := nodes[1].Delete(WithTrace(t.Context(), del.tell), k, kv.WriteOptions{R: kv.All, W: kv.All}); err != nil {
		t.Fatal(err)
	}
	if got := del.kinds(); !strings.HasPrefix(got, "prepare:begin reading:ask reading:reply writing:ask ") || !strings.HasSuffix(got, " writing:reply writing:answer done:end") {
		t.Errorf("the delete was %s", got)
	}
	for i, e := range get.events[1:] {
		if e.At < get.events[i].At {
			t.Errorf("event %d is earlier than the one before: %+v", i+1, e)
		}
	}
}

func TestTraceShowsTheRepair(t *testing.T) {
	nodes, network := NewTestCluster(t, 3, Options{Partitions: 8})
	k := kv.Key{Bucket: "b", Name: "k"}
	if _, err := nodes[0].RepairPause(t.Context(), ""); err != nil { // only the read is to repair
		t.Fatal(err)
	}
	network.Cut("n1", "n3")
	waitDown(t, nodes[0], "n3")
	if _, err := nodes[0].Put(t.Context(), k, kv.Value{Data: []byte("v")}, kv.WriteOptions{SloppyQuorum: kv.Off, W: kv.Majority}); err != nil {
		t.Fatal(err)
	}
	held, err := nodes[0].Holdings(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	results := map[string]kv.Result{}
	for _, h := range held {
		results[h.Node] = h.Result
	}
	if results["n1"] != kv.Found || results["n2"] != kv.Found || results["n3"] != kv.Down {
		t.Errorf("held by %+v", held)
	}
	network.Heal()
	WaitUp(t, nodes...)
	if held, err = nodes[0].Holdings(t.Context(), k); err != nil {
		t.Fatal(err)
	}
	for _, h := range held {
		if h.Behind != (h.Node == "n3") {
			t.Errorf("%s is behind: %v, %+v", h.Node, h.Behind, h)
		}
	}
	get := newTraced()
	if _, err := nodes[0].Get(WithTrace(t.Context(), get.tell), k, kv.ReadOptions{R: kv.All}); err != nil {
		t.Fatal(err)
	}
	if kinds := get.kinds(); !strings.Contains(kinds, "repairing:ask repairing:repair") {
		t.Errorf("the get was %s, without a repair", kinds)
	}
}

func TestHoldingsFindHints(t *testing.T) {
	nodes, _ := NewTestCluster(t, 4, Options{Partitions: 8})
	k := kv.Key{Bucket: "b", Name: "k"}
	gone := nodes[0].Explain(k)[1].Node
	i := slices.IndexFunc(nodes, func(n *Node) bool { return n.Name() == gone })
	if err := nodes[i].Close(); err != nil {
		t.Fatal(err)
	}
	asked := nodes[(i+1)%4]
	waitDown(t, asked, gone)
	r, err := asked.Put(t.Context(), k, kv.Value{Data: []byte("v")}, kv.WriteOptions{W: kv.All})
	if err != nil {
		t.Fatal(err)
	}
	held, err := asked.Holdings(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	if len(held) != 4 || held[1].Result != kv.Down || held[3].Role != kv.Fallback || held[3].Result != kv.Found {
		t.Errorf("the holdings are %+v", held)
	}
	clock, err := ReadClock(k, r.Context)
	if err != nil || !slices.Equal(clock, held[3].Clock) || len(clock) != 1 {
		t.Errorf("the clock of the receipt is %v, error %v; that of the hint is %v", clock, err, held[3].Clock)
	}
	if _, err := asked.Holdings(context.Background(), kv.Key{Bucket: "b"}); err == nil {
		t.Error("a key without a name has holdings")
	}
}
