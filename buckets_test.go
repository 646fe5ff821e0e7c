package tanodb_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/kv"
)

// A node that has not heard of a bucket type refuses its buckets, instead of serving
// them by the properties of another type; and then it serves them by the right ones.
func TestScenario34ANodeThatHasNotHeardOfATypeRefuses(t *testing.T) {
	ctx := t.Context()
	cluster, network := tanodb.NewTestCluster(t, 3, tanodb.Options{})
	network.Cut("n3", "n1")
	network.Cut("n3", "n2")
	if err := cluster[0].CreateBucketType(ctx, "carts", nil); err != nil {
		t.Fatal(err)
	}
	if err := cluster[1].ActivateBucketType(ctx, "carts"); err != nil {
		t.Fatal(err)
	}
	k := kv.Key{Type: "carts", Bucket: "b", Name: "k"}
	one := kv.WriteOptions{W: kv.One}
	if _, err := cluster[2].Put(ctx, k, kv.Value{Data: []byte("lost?")}, one); !errors.Is(err, kv.ErrBucketType) {
		t.Errorf("the node that is cut off: %v", err)
	}
	if _, err := cluster[2].Get(ctx, k, kv.ReadOptions{R: kv.One}); !errors.Is(err, kv.ErrBucketType) {
		t.Errorf("the node that is cut off: %v", err)
	}
	for _, v := range []string{"a", "b"} {
		if _, err := cluster[0].Put(ctx, k, kv.Value{Data: []byte(v)}, kv.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	network.Heal()
	tanodb.WaitUp(t, cluster...)
	eventually(t, "n3 knows the type", func() bool {
		_, err := cluster[2].BucketProps(ctx, kv.Bucket{Type: "carts", Name: "b"})
		return err == nil
	}, nothing)
	obj, err := cluster[2].Get(ctx, k, kv.ReadOptions{})
	if err != nil || len(obj.Values) != 2 {
		t.Errorf("n3 shows %d values, %v; both siblings are wanted", len(obj.Values), err)
	}
}

func nothing() string { return "" }

// clockedCluster are three nodes with wall clocks of their own.
func clockedCluster(t *testing.T, logs *safeLog, ahead ...*atomic.Int64) []*tanodb.Node {
	t.Helper()
	network := tanodb.NewMemoryNetwork()
	var members []tanodb.Member
	for i := range ahead {
		members = append(members, tanodb.Member{Name: fmt.Sprint("n", i+1), Address: fmt.Sprint("memory:", i+1)})
	}
	var cluster []*tanodb.Node
	for i, by := range ahead {
		n, err := tanodb.Open("", tanodb.Options{
			Name: members[i].Name, Bootstrap: members, Network: network, Storage: tanodb.MemoryStorage(), Partitions: 8,
			Clock:  func() time.Time { return time.Now().Add(time.Duration(by.Load())) },
			Logger: slog.New(slog.NewTextHandler(logs, nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { n.Close() })
		cluster = append(cluster, n)
	}
	tanodb.WaitUp(t, cluster...)
	return cluster
}

// safeLog is a log that can be read while it is written.
type safeLog struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *safeLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *safeLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func skewed(n *tanodb.Node, name string) bool {
	for _, m := range n.Status().Members {
		if m.Name == name {
			return m.Skewed
		}
	}
	return false
}

// A node whose clock is an hour ahead would win over all that others write for an
// hour. It is found out, says so, and lets others make the versions, also of what
// clients send to it.
func TestScenario22TheLastWriteIsNotThatOfAClockThatIsOff(t *testing.T) {
	t.Parallel()
	ctx, logs := t.Context(), &safeLog{}
	var right, alsoRight, fast atomic.Int64
	cluster := clockedCluster(t, logs, &right, &alsoRight, &fast)
	fast.Store(int64(time.Hour))
	eventually(t, "all know whose clock is off", func() bool {
		for _, n := range cluster {
			if !skewed(n, "n3") || skewed(n, "n1") || skewed(n, "n2") { // also none that is right, once opinions have settled
				return false
			}
		}
		return true
	}, logs.String)
	if s := logs.String(); !strings.Contains(s, "wall clock of this node is off") || !strings.Contains(s, "wall clock of another node is off") {
		t.Errorf("the logs say\n%s", s)
	}
	for i := range 60 {
		k := kv.Key{Bucket: "b", Name: fmt.Sprint("k", i%20)}
		at := cluster[i%3]
		if _, err := at.Put(ctx, k, kv.Value{Data: []byte(fmt.Sprint(i))}, kv.WriteOptions{W: kv.All}); err != nil {
			t.Fatalf("put %d: %v", i, err)
		}
		obj, err := cluster[(i+1)%3].Get(ctx, k, kv.ReadOptions{})
		if err != nil || len(obj.Values) != 1 || string(obj.Values[0].Data) != fmt.Sprint(i) {
			t.Fatalf("after put %d by %s: %+v, %v", i, at.Name(), obj.Values, err)
		}
		if ahead := time.Until(obj.Values[0].Modified); ahead > time.Minute {
			t.Fatalf("put %d is of %v from now", i, ahead)
		}
	}
	// In a bucket that keeps siblings the clock does not matter: the node goes on.
	if err := cluster[0].SetBucketProps(ctx, kv.Bucket{Name: "siblings"}, kv.Properties{{Name: "allow_mult", Value: "true"}}); err != nil {
		t.Fatal(err)
	}
	r, err := cluster[2].Put(ctx, kv.Key{Bucket: "siblings", Name: "k"}, kv.Value{Data: []byte("a")}, kv.WriteOptions{W: kv.All, ReturnBody: true})
	if err != nil || time.Until(r.Values[0].Modified) < 30*time.Minute {
		t.Errorf("%+v, %v: it was not made by n3", r.Values, err)
	}
	fast.Store(0)
	eventually(t, "the clock is right again", func() bool { return !skewed(cluster[0], "n3") && !skewed(cluster[2], "n3") }, nothing)
}

// While properties change under load, no write that was acknowledged is lost: what
// is stored does not depend on them. Siblings that were there before a bucket is told to
// show the last write alone are there again afterwards.
func TestScenario35PropertiesChangeUnderLoad(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	cluster, _ := tanodb.NewTestCluster(t, 3, tanodb.Options{Partitions: 8})
	b := kv.Bucket{Name: "b"}
	set := func(name, value string) {
		t.Helper()
		if err := cluster[1].SetBucketProps(ctx, b, kv.Properties{{Name: name, Value: value}}); err != nil {
			t.Fatal(err)
		}
	}
	set("allow_mult", "true")
	set("n_val", "2")
	const keys, writers = 50, 3
	var wg sync.WaitGroup
	var acked [writers][keys]int // the last write of each writer that was acknowledged, from 1 on
	stop := make(chan struct{})
	for w := range writers {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				k := kv.Key{Bucket: b.Name, Name: fmt.Sprintf("w%d-%d", w, i%keys)}
				if _, err := cluster[w].Put(ctx, k, kv.Value{Data: []byte(fmt.Sprint(i + 1))}, kv.WriteOptions{Context: contextOf(t, cluster[w], k)}); err == nil {
					acked[w][i%keys] = i + 1
				}
			}
		})
	}
	for _, change := range [][2]string{{"n_val", "3"}, {"allow_mult", "false"}, {"w", "all"}, {"n_val", "2"}, {"w", "quorum"}, {"allow_mult", "true"}, {"n_val", "3"}} {
		set(change[0], change[1])
	}
	close(stop)
	wg.Wait()
	if _, err := cluster[0].RepairVerify(ctx, ""); err != nil {
		t.Fatal(err)
	}
	for w := range writers {
		for i, want := range acked[w] {
			k := kv.Key{Bucket: b.Name, Name: fmt.Sprintf("w%d-%d", w, i)}
			obj, err := cluster[(w+1)%3].Get(ctx, k, kv.ReadOptions{R: kv.All})
			if want == 0 && errors.Is(err, kv.ErrNotFound) {
				continue
			}
			if err != nil {
				t.Fatalf("%v: %v", k, err)
			}
			newest := 0
			for _, v := range obj.Values {
				var n int
				fmt.Sscan(string(v.Data), &n)
				newest = max(newest, n)
			}
			if newest < want {
				t.Errorf("%v holds %d; write %d was acknowledged", k, newest, want)
			}
		}
	}

	k := kv.Key{Bucket: b.Name, Name: "siblings"}
	for _, v := range []string{"a", "b"} {
		if _, err := cluster[0].Put(ctx, k, kv.Value{Data: []byte(v)}, kv.WriteOptions{W: kv.All}); err != nil {
			t.Fatal(err)
		}
	}
	shows := func(want int) {
		t.Helper()
		if obj, err := cluster[2].Get(ctx, k, kv.ReadOptions{}); err != nil || len(obj.Values) != want {
			t.Errorf("it shows %d values, not %d; %v", len(obj.Values), want, err)
		}
	}
	shows(2)
	set("allow_mult", "false")
	shows(1)
	set("allow_mult", "true")
	shows(2)
}

// contextOf is what a write must carry that is to replace what the key holds.
func contextOf(t *testing.T, n *tanodb.Node, k kv.Key) kv.Context {
	obj, err := n.Get(t.Context(), k, kv.ReadOptions{})
	if err != nil {
		return nil
	}
	return obj.Context
}

// A key that grows towards a limit is named in the log before writes of it fail.
func TestAKeyThatGrowsIsNamedBeforeItIsRefused(t *testing.T) {
	ctx, logs := t.Context(), &safeLog{}
	node, err := tanodb.Open("", tanodb.Options{Storage: tanodb.MemoryStorage(), Partitions: 8, Logger: slog.New(slog.NewTextHandler(logs, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	b := kv.Bucket{Name: "carts"}
	err = node.SetBucketProps(ctx, b, kv.Properties{
		{Name: "allow_mult", Value: "true"}, {Name: "siblings_warning", Value: "3"}, {Name: "siblings_maximum", Value: "5"},
		{Name: "size_warning", Value: "1000"}, {Name: "size_maximum", Value: "2000"},
	})
	if err != nil {
		t.Fatal(err)
	}
	put := func(name string, size int) error {
		_, err := node.Put(ctx, kv.Key{Bucket: b.Name, Name: name}, kv.Value{Data: make([]byte, size)}, kv.WriteOptions{})
		return err
	}
	for i := range 5 {
		if err := put("anna", 1); err != nil {
			t.Fatalf("put %d: %v", i, err)
		}
	}
	if err := put("anna", 1); !errors.Is(err, kv.ErrTooManySiblings) || !strings.Contains(err.Error(), "the limit is 5") {
		t.Errorf("the sixth sibling: %v", err)
	}
	if s := logs.String(); !strings.Contains(s, "carts/anna") || !strings.Contains(s, "holds 3 values") {
		t.Errorf("the log says\n%s", s)
	}
	if err := put("large", 3000); !errors.Is(err, kv.ErrTooLarge) {
		t.Errorf("an object of 3000 bytes: %v", err)
	}
	if err := put("ample", 1500); err != nil {
		t.Error(err)
	}
}
