package httpd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/kv/kvtest"
)

// whoMay is httpd.Security under another name, since it has a method of that one.
type whoMay interface{ Security }

// fake is a node that holds its keys in memory, remembers the options that it
// was given, and fails when told to.
type fake struct {
	Properties
	whoMay
	kv.DataTypes
	kvtest.Memory
	registry *prometheus.Registry
	fail     error      // what every operation ends with; nil: none
	failLate bool       // the first page of a listing does not fail
	replies  []kv.Reply // what comes with fail
	moving   []tanodb.TransferState

	mu     sync.Mutex // guards what follows
	read   kv.ReadOptions
	write  kv.WriteOptions
	writes int      // how many were tried
	orders []string // what was asked of the cluster, as a call would be written
}

// The tests of properties and data types are on a real node: see props_test.go.
var _ Node = (*fake)(nil)

func newFake() *fake { return &fake{registry: prometheus.NewRegistry()} }

func (f *fake) wrote(o kv.WriteOptions) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.write = o
	f.writes++
}

func (f *fake) Get(ctx context.Context, k kv.Key, o kv.ReadOptions) (kv.Object, error) {
	f.mu.Lock()
	f.read = o
	f.mu.Unlock()
	if f.fail != nil {
		return kv.Object{Replies: f.replies}, f.fail
	}
	return f.Memory.Get(ctx, k, o)
}

func (f *fake) Put(ctx context.Context, k kv.Key, v kv.Value, o kv.WriteOptions) (kv.Receipt, error) {
	f.wrote(o)
	if f.fail != nil {
		return kv.Receipt{Replies: f.replies}, f.fail
	}
	return f.Memory.Put(ctx, k, v, o)
}

func (f *fake) Delete(ctx context.Context, k kv.Key, o kv.WriteOptions) (kv.Receipt, error) {
	f.wrote(o)
	if f.fail != nil {
		return kv.Receipt{Replies: f.replies}, f.fail
	}
	return f.Memory.Delete(ctx, k, o)
}

func (f *fake) Keys(ctx context.Context, b kv.Bucket, o kv.ListOptions) (kv.KeyPage, error) {
	if f.fail != nil && (!f.failLate || o.Token != "") {
		return kv.KeyPage{}, f.fail
	}
	return f.Memory.Keys(ctx, b, o)
}

func (f *fake) Index(ctx context.Context, b kv.Bucket, q kv.IndexQuery) (kv.IndexPage, error) {
	if f.fail != nil && (!f.failLate || q.Token != "") {
		return kv.IndexPage{}, f.fail
	}
	return f.Memory.Index(ctx, b, q)
}

func (f *fake) Buckets(ctx context.Context, bucketType string, o kv.ListOptions) (kv.BucketPage, error) {
	if f.fail != nil {
		return kv.BucketPage{}, f.fail
	}
	return f.Memory.Buckets(ctx, bucketType, o)
}

// BucketProps say that a key which is written anew has no tombstone beside it.
func (f *fake) BucketProps(context.Context, kv.Bucket) (kv.Properties, error) {
	return kv.Properties{{Name: "delete_mode", Value: "0"}}, nil
}

func (f *fake) Ping(context.Context) (kv.Reply, error) {
	return kv.Reply{Partition: kv.Partition{Index: 1, Of: 64}, Node: "n1", Result: kv.OK, Elapsed: 1500}, f.fail
}

func (f *fake) ReplicaKeys(context.Context, kv.Bucket, kv.ListOptions) ([]kv.ReplicaKeys, error) {
	return []kv.ReplicaKeys{
		{Partition: kv.Partition{Index: 0, Of: 2}, Node: "n1", Keys: []string{"a", "\xff"}},
		{Partition: kv.Partition{Index: 1, Of: 2}, Node: "n2", Error: "down"},
	}, f.fail
}

func (f *fake) Explain(kv.Key) []kv.Reply {
	return []kv.Reply{{Partition: kv.Partition{Index: 10, Of: 64}, Node: "n1", Role: kv.Primary, Result: kv.Pending}}
}

func (f *fake) Status() tanodb.Status {
	return tanodb.Status{
		Node: "n1", Partitions: 64, Replicas: 3,
		Members: []tanodb.MemberState{{Name: "n1", Up: true}, {Name: "n2", Up: true}, {Name: "n3"}},
		Storage: tanodb.StorageState{Engine: "memory"},
	}
}

func (f *fake) Alive() error { return f.fail }

func (f *fake) HotKeys(most int) tanodb.HotKeys {
	k := kv.Key{Bucket: "b", Name: "k\xff"}
	return tanodb.HotKeys{
		Node: "n1", Sample: most, Life: time.Minute, Rate: 10,
		Hot:     []tanodb.HotKey{{Key: k, Rate: 2.5, Error: 0.5}},
		Largest: []tanodb.HighKey{{Key: kv.Key{Type: "t", Bucket: "b", Name: "l"}, Value: 4096, Age: time.Second}},
		Most:    []tanodb.HighKey{},
	}
}

func (f *fake) Readiness() tanodb.Readiness {
	r := tanodb.Readiness{Node: "n1", Ready: f.fail == nil, Reasons: []tanodb.Reason{}, HandoffJobs: 2}
	if f.fail != nil {
		r.Reasons = append(r.Reasons, tanodb.Reason{What: "failed", Text: f.fail.Error()})
	}
	return r
}

func (f *fake) Cluster() tanodb.ClusterState {
	return tanodb.ClusterState{Node: "n1", Epoch: 7, Owners: []string{"n1", "n2"}}
}

func (f *fake) ClusterTransfers(context.Context) ([]tanodb.TransferState, error) {
	return f.moving, f.fail
}

func (f *fake) Nodes(context.Context) []tanodb.NodeState {
	return []tanodb.NodeState{{Node: "n1"}, {Node: "n2", Error: "the node is down"}}
}

func (f *fake) Routes() [][]tanodb.Replica {
	return [][]tanodb.Replica{{{Node: "n1", Role: kv.Primary}, {Node: "n2", Role: kv.Fallback}}, {{Node: "n2", Role: kv.Fallback}}}
}

// ordered notes what was asked of the cluster.
func (f *fake) ordered(format string, args ...any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.orders = append(f.orders, fmt.Sprintf(format, args...))
	return f.fail
}

func (f *fake) Join(_ context.Context, address string, o tanodb.JoinOptions) error {
	return f.ordered("join %s %+v", address, o)
}

func (f *fake) Stage(_ context.Context, c tanodb.Change) error { return f.ordered("stage %s", c) }

func (f *fake) ClusterPlan(context.Context) (tanodb.Plan, error) {
	return tanodb.Plan{ID: "p1", Epoch: 7, Moves: []tanodb.PairMoves{{From: "n1", To: "n2", Partitions: 3}}}, f.fail
}

func (f *fake) ClusterCommit(_ context.Context, plan string) error {
	return f.ordered("commit %s", plan)
}

func (f *fake) ClusterClear(context.Context) error { return f.ordered("clear") }

func (f *fake) ClusterDown(_ context.Context, node string) error { return f.ordered("down %s", node) }

func (f *fake) ClusterRecover(_ context.Context, survivors []string) error {
	return f.ordered("recover %s", survivors)
}

func (f *fake) Repair(_ context.Context, target string) (int, error) {
	return 21, f.ordered("repair %s", target)
}

func (f *fake) SetTransferLimits(_ context.Context, perNode int, rate int64) error {
	return f.ordered("limits %d %d", perNode, rate)
}

func (f *fake) Repairs(context.Context, string) ([]tanodb.RepairState, error) {
	return []tanodb.RepairState{{Node: "n1", Pairs: 7}, {Node: "n2", Error: "down"}}, f.fail
}

func (f *fake) RepairPause(ctx context.Context, node string) ([]tanodb.RepairState, error) {
	states, _ := f.Repairs(ctx, node)
	return states, f.ordered("pause %q", node)
}

func (f *fake) RepairResume(ctx context.Context, node string) ([]tanodb.RepairState, error) {
	states, _ := f.Repairs(ctx, node)
	return states, f.ordered("resume %q", node)
}

func (f *fake) RepairVerify(_ context.Context, node string) (tanodb.Verified, error) {
	return tanodb.Verified{Homes: 64, OK: true}, f.ordered("verify %q", node)
}

func (f *fake) SetDeletes(_ context.Context, mode string, grace time.Duration) error {
	return f.ordered("deletes %s %v", mode, grace)
}

func (f *fake) BackupInfo() tanodb.BackupInfo {
	return tanodb.BackupInfo{Cluster: "c", Partitions: 8, Replicas: 3}
}

func (f *fake) Backup(_ context.Context, ask tanodb.BackupAsk, w io.Writer) (bool, error) {
	if err := f.ordered("backup %d %d", ask.Home, len(ask.Known)); err != nil && !f.failLate {
		return false, err
	}
	_, err := io.WriteString(w, "stream")
	return true, errors.Join(err, f.fail)
}

func (f *fake) Restore(_ context.Context, r io.Reader) (tanodb.Restored, error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return tanodb.Restored{}, err
	}
	return tanodb.Restored{Objects: len(b)}, f.ordered("restore %s", b)
}

func (f *fake) RestoreProps(_ context.Context, p tanodb.BackupProps) ([]string, error) {
	return []string{"made"}, f.ordered("types %d", len(p.Types))
}

func (f *fake) Metrics() prometheus.Gatherer { return f.registry }

// client sends requests to a handler, without a network.
type client struct {
	*testing.T
	handler http.Handler
}

func newClient(t *testing.T, n Node) *client { return &client{t, New(n, Options{})} }

// do sends a request. Each header is "Name: value".
func (c *client) do(method, target, body string, headers ...string) *httptest.ResponseRecorder {
	c.Helper()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	r := httptest.NewRequest(method, target, reader)
	for _, header := range headers {
		name, value, found := strings.Cut(header, ": ")
		if !found {
			c.Fatalf("header %q has no value", header)
		}
		r.Header.Add(name, value)
	}
	w := httptest.NewRecorder()
	c.handler.ServeHTTP(w, r)
	return w
}

// want sends a request and checks the status.
func (c *client) want(status int, method, target, body string, headers ...string) *httptest.ResponseRecorder {
	c.Helper()
	w := c.do(method, target, body, headers...)
	if w.Code != status {
		c.Fatalf("%s %s: status %d, want %d; body %q", method, target, w.Code, status, w.Body)
	}
	return w
}

const plain = "Content-Type: text/plain"

// header checks one header of an answer.
func (c *client) header(w *httptest.ResponseRecorder, name, want string) {
	c.Helper()
	if got := strings.Join(w.Header().Values(name), " | "); got != want {
		c.Fatalf("header %s is %q, want %q", name, got, want)
	}
}

// body checks the body of an answer.
func (c *client) body(w *httptest.ResponseRecorder, want string) {
	c.Helper()
	if got := w.Body.String(); got != want {
		c.Fatalf("body %q, want %q", got, want)
	}
}
