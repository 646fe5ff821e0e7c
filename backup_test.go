package tanodb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanodb/tanodb/internal/backup"
	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/transport"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/storage"
	"github.com/tanodb/tanodb/storage/disk"
)

// readHome reads one home as a client does that takes a backup.
func readHome(t *testing.T, n *Node, ask BackupAsk) (backup.Head, []backup.Record, backup.End) {
	t.Helper()
	var out bytes.Buffer
	if _, err := n.Backup(t.Context(), ask, &out); err != nil {
		t.Fatalf("home %d: %v", ask.Home, err)
	}
	in := backup.NewReader(&out)
	var head backup.Head
	var all []backup.Record
	for {
		part, err := in.Next()
		if err != nil {
			t.Fatalf("home %d: %v", ask.Home, err)
		}
		switch part := part.(type) {
		case backup.Head:
			head = part
		case backup.Record:
			all = append(all, part)
		case backup.End:
			if part.Objects != len(all) {
				t.Fatalf("home %d: it says %d objects, and has sent %d", ask.Home, part.Objects, len(all))
			}
			return head, all, part
		}
	}
}

// takeAll takes a whole backup: each object by its key.
func takeAll(t *testing.T, n *Node) map[kv.Key]string {
	t.Helper()
	all := make(map[kv.Key]string)
	for home := range n.state().Ring().Size() {
		head, records, end := readHome(t, n, BackupAsk{Home: home})
		if !head.Whole || end.Bad > 0 {
			t.Fatalf("home %d is not whole: %+v %+v", home, head, end)
		}
		for _, r := range records {
			if _, twice := all[r.Key]; twice {
				t.Fatalf("%s is there twice", r.Key)
			}
			all[r.Key] = string(r.Object)
		}
	}
	return all
}

// stream is a backup as a restore is sent it.
func stream(t *testing.T, all map[kv.Key]string) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w := backup.NewWriter(&b)
	for k, object := range all {
		if err := w.Record(backup.Record{Key: k, Object: []byte(object)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.End(backup.End{Objects: len(all)}); err != nil {
		t.Fatal(err)
	}
	return &b
}

func restoreAll(t *testing.T, n *Node, all map[kv.Key]string) Restored {
	t.Helper()
	done, err := n.Restore(t.Context(), stream(t, all))
	if err != nil || done.Objects != len(all) {
		t.Fatalf("%d of %d objects are restored, %v", done.Objects, len(all), err)
	}
	return done
}

// load writes values, siblings, deleted keys, keys with an index and an expiry, and counters.
func load(t *testing.T, n *Node) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(n.CreateBucketType(t.Context(), "carts", kv.Properties{{Name: "allow_mult", Value: "true"}}))
	must(n.ActivateBucketType(t.Context(), "carts"))
	must(n.CreateBucketType(t.Context(), "counts", kv.Properties{{Name: "datatype", Value: "counter"}}))
	must(n.ActivateBucketType(t.Context(), "counts"))
	must(n.SetBucketProps(t.Context(), kv.Bucket{Type: "carts", Name: "own"}, kv.Properties{{Name: "r", Value: "1"}}))
	for i := range 60 {
		key := kv.Key{Bucket: "plain\xff", Name: fmt.Sprintf("k%d\x00", i)}
		value := kv.Value{Data: bytes.Repeat([]byte{byte(i)}, i*50), ContentType: "text/plain", Indexes: []kv.Pair{{Name: "n_int", Value: fmt.Sprint(i)}}}
		if i%7 == 0 {
			value.Expires = time.Now().Add(time.Hour)
		}
		_, err := n.Put(t.Context(), key, value, kv.WriteOptions{W: kv.All})
		must(err)
		if i%5 == 0 {
			_, err := n.Delete(t.Context(), key, kv.WriteOptions{W: kv.All})
			must(err)
		}
		cart := kv.Key{Type: "carts", Bucket: "own", Name: fmt.Sprint(i % 20)}
		_, err = n.Put(t.Context(), cart, kv.Value{Data: []byte(fmt.Sprint(i))}, kv.WriteOptions{W: kv.All})
		must(err)
		_, err = n.Update(t.Context(), kv.Key{Type: "counts", Bucket: "b", Name: "c"}, kv.CounterOp(1), kv.WriteOptions{W: kv.All})
		must(err)
	}
}

// What is backed up in one cluster and restored in another, of another ring and other nodes,
// is the same there byte by byte: values, siblings, clocks and tombstones.
func TestBackupIsRestoredElsewhere(t *testing.T) {
	from, _ := NewTestCluster(t, 3, Options{Partitions: 8})
	load(t, from[0])
	all := takeAll(t, from[1])
	if len(all) != 60+20+1 {
		t.Fatalf("%d objects are backed up", len(all))
	}
	for _, o := range []struct {
		nodes int
		Options
	}{{1, Options{Partitions: 16}}, {4, Options{Partitions: 32}}, {2, Options{Partitions: 8, Replicas: 2}}} {
		t.Run(fmt.Sprint(o.nodes), func(t *testing.T) {
			to, _ := NewTestCluster(t, o.nodes, o.Options)
			if _, err := to[0].Restore(t.Context(), stream(t, all)); !errors.Is(err, kv.ErrBucketType) {
				t.Errorf("without the bucket types: %v", err)
			}
			done, err := to[0].RestoreProps(t.Context(), from[2].BackupInfo().Props)
			if o.Replicas == 2 && err == nil && len(done) != 3 || err != nil {
				t.Fatalf("%q, %v", done, err)
			}
			// One that breaks off has an error, and may be done again.
			half := stream(t, all)
			half.Truncate(half.Len() / 2)
			if _, err := to[0].Restore(t.Context(), half); err == nil {
				t.Error("half a stream was taken for a whole one")
			}
			for range 2 {
				if done := restoreAll(t, to[o.nodes-1], all); done.Behind > 0 {
					t.Errorf("%d objects are not on all their replicas", done.Behind)
				}
				if diff := cmp.Diff(all, takeAll(t, to[0])); diff != "" {
					t.Fatalf("(-backed up +restored):\n%s", diff)
				}
			}
			if v := verified(t, to[0]); v.Differs > 0 {
				t.Errorf("%+v", v)
			}
			compareReads(t, from[0], to[0])
		})
	}
}

// compareReads compares what clients of two clusters see.
func compareReads(t *testing.T, a, b *Node) {
	t.Helper()
	read := func(n *Node, k kv.Key) string {
		o, err := n.Get(t.Context(), k, kv.ReadOptions{})
		return fmt.Sprintf("%+v %v", o.Values, err)
	}
	for i := range 60 {
		for _, k := range []kv.Key{{Bucket: "plain\xff", Name: fmt.Sprintf("k%d\x00", i)}, {Type: "carts", Bucket: "own", Name: fmt.Sprint(i % 20)}} {
			if x, y := read(a, k), read(b, k); x != y {
				t.Fatalf("%s is %s, and was %s", k, y, x)
			}
		}
	}
	d, err := b.Fetch(t.Context(), kv.Key{Type: "counts", Bucket: "b", Name: "c"}, kv.ReadOptions{})
	if err != nil || d.Value.Counter != 60 {
		t.Errorf("the counter is %+v, %v", d.Value, err)
	}
	page, err := b.Index(t.Context(), kv.Bucket{Name: "plain\xff"}, kv.IndexQuery{Field: "n_int", Start: "41", End: "44", Range: true})
	if err != nil || len(page.Matches) != 4 {
		t.Errorf("the index finds %+v, %v", page.Matches, err)
	}
}

// Into a cluster that goes on, a backup is merged: nothing newer is lost, and what was
// deleted stays so as long as its tombstone is there.
func TestRestoreOverwritesNothing(t *testing.T) {
	cluster, _ := NewTestCluster(t, 3, Options{Partitions: 8})
	n := cluster[0]
	key := func(name string) kv.Key { return kv.Key{Bucket: "b", Name: name} }
	put := func(name, value string) {
		t.Helper()
		if _, err := n.Put(t.Context(), key(name), kv.Value{Data: []byte(value)}, kv.WriteOptions{W: kv.All}); err != nil {
			t.Fatal(err)
		}
	}
	put("kept", "1")
	put("changed", "1")
	put("deleted", "1")
	old := takeAll(t, n)
	put("changed", "2")
	put("new", "1")
	if _, err := n.Delete(t.Context(), key("deleted"), kv.WriteOptions{W: kv.All}); err != nil {
		t.Fatal(err)
	}
	before := takeAll(t, n)
	restoreAll(t, cluster[1], old)
	if diff := cmp.Diff(before, takeAll(t, n)); diff != "" {
		t.Errorf("(-before +after the restore):\n%s", diff)
	}
	put("changed", "3") // no counter of a vnode has gone back
	o, err := n.Get(t.Context(), key("changed"), kv.ReadOptions{})
	if err != nil || len(o.Values) != 1 || string(o.Values[0].Data) != "3" {
		t.Errorf("%+v, %v", o, err)
	}
}

// With a node away every write that a majority has confirmed is in the backup, also one that
// only a vnode in its stead holds. With two of three away it says that it is not whole.
func TestBackupWithNodesDown(t *testing.T) {
	cluster, network := NewTestCluster(t, 3, Options{Partitions: 8})
	putAll(t, cluster[0], 50, "before", kv.WriteOptions{W: kv.All})
	network.Cut("n3", "n1")
	network.Cut("n3", "n2")
	eventuallyUp(t, cluster[0], 2)
	eventuallyUp(t, cluster[1], 2)
	for i := range 100 {
		// N=1: one vnode has it, which is one of n3's for some.
		k := kv.Key{Bucket: "b", Name: fmt.Sprint("x", i)}
		if _, err := cluster[0].Put(t.Context(), k, kv.Value{Data: []byte("v")}, kv.WriteOptions{N: 1, W: kv.All}); err != nil {
			t.Fatal(err)
		}
	}
	all := takeAll(t, cluster[1])
	if len(all) != 150 {
		t.Errorf("%d objects of 150 are in the backup", len(all))
	}
	head, _, _ := readHome(t, cluster[0], BackupAsk{})
	if !head.Whole || len(head.Missing) != 1 || !strings.HasPrefix(head.Missing[0], "n3/") {
		t.Errorf("%+v", head)
	}
	done := restoreAll(t, cluster[0], all)
	if done.Behind != len(all) {
		t.Errorf("%d of %d objects are not on all replicas", done.Behind, len(all))
	}
	head, _, _ = readHome(t, cluster[2], BackupAsk{})
	if head.Whole || len(head.Missing) != 2 {
		t.Errorf("%+v", head)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := cluster[2].Restore(ctx, stream(t, all)); !errors.Is(err, kv.ErrQuorum) {
		t.Errorf("one of three nodes restores: %v", err)
	}
	network.Heal()
	WaitUp(t, cluster...)
	verified(t, cluster[0])
	if diff := cmp.Diff(all, takeAll(t, cluster[2])); diff != "" {
		t.Errorf("(-backed up +healed):\n%s", diff)
	}
}

// A node that is no place of a home, and cannot be read, may have stood in for one: it is named,
// and with as many of them as a majority has, the home is not whole.
func TestBackupNamesEveryNodeThatIsNotRead(t *testing.T) {
	cluster, network := NewTestCluster(t, 5, Options{Partitions: 8})
	s := cluster[0].state()
	var in, out []string
	for _, r := range s.Ring().Primaries(0, s.Replicas()) {
		in = append(in, r.Node)
	}
	for _, n := range cluster {
		if !slices.Contains(in, n.Name()) {
			out = append(out, n.Name())
		}
	}
	if len(in) != 3 || len(out) != 2 {
		t.Fatalf("the places of home 0 are on %q, and not on %q", in, out)
	}
	reader := cluster[slices.IndexFunc(cluster, func(n *Node) bool { return n.Name() == in[0] })]
	for i, name := range out {
		for _, n := range cluster {
			if n.Name() != name {
				network.Cut(name, n.Name())
			}
		}
		eventuallyUp(t, reader, 4-i)
		head, _, _ := readHome(t, reader, BackupAsk{})
		if head.Whole != (i == 0) || len(head.Missing) != i+1 || !strings.HasPrefix(head.Missing[i], out[i]+",") {
			t.Errorf("without %q: %+v", out[:i+1], head)
		}
	}
}

// A node that restores, and is no place of a home that is left behind, has its places compare it.
func TestSuspectTellsThePlaces(t *testing.T) {
	if testing.Short() {
		t.Skip("under the race detector Go's runtime itself fails now and then in the timers of so large a bubble")
	}
	synctest.Test(t, func(t *testing.T) {
		cluster, _ := NewTestCluster(t, 5, Options{Partitions: 8})
		time.Sleep(time.Minute) // all have been compared once, and are again in an hour
		k := kv.Key{Bucket: "b", Name: "k"}
		if _, err := cluster[0].Put(t.Context(), k, kv.Value{Data: []byte("v")}, kv.WriteOptions{N: 1, W: kv.All}); err != nil {
			t.Fatal(err)
		}
		s := cluster[0].state()
		home := s.Ring().Home(k)
		places := s.Ring().Primaries(home, s.Replicas())
		have := func() (n int) {
			for _, p := range places {
				i := slices.IndexFunc(cluster, func(n *Node) bool { return n.Name() == p.Node })
				if _, err := cluster[i].engine.Get(vnode.DataKey(p.Partition, home, k)); err == nil {
					n++
				}
			}
			return n
		}
		if time.Sleep(time.Minute); have() != 1 {
			t.Fatalf("%d places have it before anybody is told", have())
		}
		other := slices.IndexFunc(cluster, func(n *Node) bool {
			return !slices.ContainsFunc(places, func(p ring.Replica) bool { return p.Node == n.Name() })
		})
		cluster[other].suspect(home)
		if time.Sleep(time.Minute); have() != len(places) {
			t.Errorf("%d of %d places have it after a minute", have(), len(places))
		}
	})
}

// Whatever was acknowledged when a home is read is in it, while others write.
func TestBackupWhileWriting(t *testing.T) {
	cluster, _ := NewTestCluster(t, 3, Options{Partitions: 8})
	acked := &sync.Map{} // name → the highest value that was acknowledged
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for w := range 3 {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				name := fmt.Sprintf("%d/%d", w, i%40)
				_, err := cluster[w].Put(ctx, kv.Key{Bucket: "b", Name: name}, kv.Value{Data: []byte(fmt.Sprint(i))}, kv.WriteOptions{})
				if err == nil {
					acked.Store(name, i)
				}
			}
		})
	}
	defer wg.Wait()
	defer cancel()
	for tick := time.NewTicker(time.Millisecond); len(clone(acked)) < 120; {
		<-tick.C
	}
	r := cluster[0].state().Ring()
	for round := range 3 {
		for home := range r.Size() {
			before := clone(acked)
			_, records, _ := readHome(t, cluster[round], BackupAsk{Home: home})
			has := make(map[string]int)
			for _, rec := range records {
				has[rec.Key.Name] = latest(t, rec)
			}
			for name, i := range before {
				if int(r.Home(kv.Key{Bucket: "b", Name: name})) == home && has[name] < i {
					t.Fatalf("%s was acknowledged as %d, and the backup has %d", name, i, has[name])
				}
			}
		}
	}
}

func clone(m *sync.Map) map[string]int {
	out := make(map[string]int)
	m.Range(func(k, v any) bool {
		out[k.(string)] = v.(int)
		return true
	})
	return out
}

// latest is the last number that was written to a key.
func latest(t *testing.T, r backup.Record) int {
	t.Helper()
	o, err := object.Decode(r.Object)
	if err != nil {
		t.Fatal(err)
	}
	i := -1
	for _, s := range o.Siblings {
		v, err := object.DecodeBody(s.Body)
		n := 0
		if _, scanErr := fmt.Sscan(string(v.Data), &n); err != nil || scanErr != nil {
			t.Fatal(err, scanErr)
		}
		i = max(i, n)
	}
	return i
}

// Of what is the same nothing is read again, and of what has changed little.
func TestBackupReadsOnlyWhatHasChanged(t *testing.T) {
	cluster, _ := NewTestCluster(t, 3, Options{Partitions: 8})
	putAll(t, cluster[0], 200, "v", kv.WriteOptions{W: kv.All})
	known := make([][]backup.Range, 8)
	for home := range known {
		known[home] = rangesOf(t, cluster[0], home)
		head, records, _ := readHome(t, cluster[1], BackupAsk{Home: home, Known: known[home]})
		if len(head.Same) != len(known[home]) || len(records) > 0 {
			t.Errorf("of home %d, where nothing has changed, %d of %d ranges are the same, and %d objects are read", home, len(head.Same), len(known[home]), len(records))
		}
	}
	k := kv.Key{Bucket: "b", Name: "k7"}
	if _, err := cluster[0].Put(t.Context(), k, kv.Value{Data: []byte("w")}, kv.WriteOptions{W: kv.All}); err != nil {
		t.Fatal(err)
	}
	home := int(cluster[0].state().Ring().Home(k))
	head, records, _ := readHome(t, cluster[2], BackupAsk{Home: home, Known: known[home]})
	if len(head.Same) != len(known[home])-1 || len(records) == 0 {
		t.Errorf("%d of %d ranges are the same, and %d objects are read", len(head.Same), len(known[home]), len(records))
	}
	for _, bad := range []BackupAsk{{Home: 8}, {Home: -1}, {Known: []backup.Range{{To: 3}}}} {
		if begun, err := cluster[0].Backup(t.Context(), bad, io.Discard); begun || !errors.Is(err, kv.ErrInvalid) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

// rangesOf are those of a home, one for each branch.
func rangesOf(t *testing.T, n *Node, home int) []backup.Range {
	t.Helper()
	ranges := make([]backup.Range, vnode.Branches)
	for i := range ranges {
		ranges[i] = backup.Range{From: i, To: i + 1}
	}
	_, records, _ := readHome(t, n, BackupAsk{Home: home})
	for _, r := range records {
		branch, term := r.Term()
		ranges[branch].Sum ^= backup.Sum(term)
	}
	return ranges
}

// A home is read however long that takes, also from a node that is not asked for long.
func TestBackupOfASlowClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cluster, _ := NewTestCluster(t, 3, Options{Partitions: 8})
		putAll(t, cluster[0], 50, "v", kv.WriteOptions{W: kv.All})
		for i := range 50 { // each on one node, so that all are listed
			k := kv.Key{Bucket: "b", Name: fmt.Sprint("x", i)}
			if _, err := cluster[0].Put(t.Context(), k, kv.Value{Data: make([]byte, 1<<20)}, kv.WriteOptions{N: 1, W: kv.All}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := cluster[1].Backup(t.Context(), BackupAsk{}, slowly{momentLife}); err != nil {
			t.Error(err)
		}
		time.Sleep(2 * momentLife)
		for _, n := range cluster {
			if len(n.moments.kept) > 0 {
				t.Errorf("%s keeps %d moments", n.Name(), len(n.moments.kept))
			}
		}
	})
}

// slowly is a client that takes a while for everything it is sent.
type slowly struct{ each time.Duration }

func (s slowly) Write(b []byte) (int, error) {
	<-time.After(s.each)
	return len(b), nil
}

// A home whose moments a node cannot keep now is asked for again later, and not without it.
// A moment that nothing is to be read of is let go of at once.
func TestBackupOfABusyCluster(t *testing.T) {
	cluster, _ := NewTestCluster(t, 3, Options{Partitions: 8})
	putAll(t, cluster[0], 50, "v", kv.WriteOptions{W: kv.All})
	for i := range uint64(maxMoments) {
		if _, err := cluster[1].moments.keep(momentOrder{Number: i}); err != nil {
			t.Fatal(err)
		}
	}
	if begun, err := cluster[0].Backup(t.Context(), BackupAsk{}, io.Discard); begun || !errors.Is(err, kv.ErrOverload) {
		t.Errorf("begun %v, %v", begun, err)
	}
	cluster[1].moments.release(0)
	cluster[1].moments.release(1)
	h := &homeReader{node: cluster[1], failed: make(map[string]string), lacking: make(map[string][]ring.Partition)}
	if err := h.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(h.kept) != 3 || len(cluster[1].moments.kept) != maxMoments-1 {
		t.Errorf("%d moments are kept for a home that three vnodes hold: %v", len(h.kept), h.kept)
	}
	h.release(func(keptMoment) bool { return true })
}

// Moments are kept for a while only, and so many only, and none holds up the end of a node.
func TestMoments(t *testing.T) {
	cluster, _ := NewTestCluster(t, 1, Options{Partitions: 8})
	n := cluster[0]
	putAll(t, n, 20, "v", kv.WriteOptions{})
	sums := &vnode.Sums{Home: 0, Branch: vnode.Root}
	for i := range uint64(maxMoments) {
		if _, err := n.moments.keep(momentOrder{Number: i}); err != nil {
			t.Fatal(err)
		}
	}
	for _, number := range []uint64{1, maxMoments} {
		if _, err := n.moments.keep(momentOrder{Number: number}); err == nil {
			t.Errorf("moment %d is kept", number)
		}
	}
	then := n.moments.read(0, &transport.Moment{Number: 1, Msg: sums})
	putAll(t, n, 20, "w", kv.WriteOptions{})
	if diff := cmp.Diff(then, n.moments.read(0, &transport.Moment{Number: 1, Msg: sums})); diff != "" {
		t.Errorf("the moment has changed:\n%s", diff)
	}
	n.moments.release(1)
	n.moments.release(1)
	for name, q := range map[string]struct {
		p      ring.Partition
		number uint64
	}{"one that was let go of": {0, 1}, "a partition that is not there": {8, 2}} {
		if m, ok := n.moments.read(q.p, &transport.Moment{Number: q.number, Msg: sums}).(*vnode.Refusal); !ok {
			t.Errorf("%s: %v", name, m)
		}
	}
	if _, err := n.moments.keep(momentOrder{Number: 100, Home: 8}); err == nil {
		t.Error("a home that is not there is looked at")
	}
	n.moments.close()
	if len(n.moments.kept) > 0 {
		t.Errorf("%d moments stay", len(n.moments.kept))
	}
	if _, err := n.moments.keep(momentOrder{Number: 101}); err == nil {
		t.Error("a node that ends keeps a moment")
	}
}

// The bucket types of a backup are made once; what there is in another way stays.
func TestRestoreProps(t *testing.T) {
	cluster, _ := NewTestCluster(t, 1, Options{Partitions: 8})
	n := cluster[0]
	load(t, n)
	info := n.BackupInfo()
	if done, err := n.RestoreProps(t.Context(), info.Props); err != nil || len(done) > 0 {
		t.Errorf("what is there is done again: %q, %v", done, err)
	}
	if err := n.UpdateBucketType(t.Context(), "carts", kv.Properties{{Name: "r", Value: "2"}}); err != nil {
		t.Fatal(err)
	}
	if done, err := n.RestoreProps(t.Context(), info.Props); err != nil || len(done) != 1 || !strings.Contains(done[0], "stay") {
		t.Errorf("%q, %v", done, err)
	}
	other := info.Props
	other.Types = []backup.Type{{Name: "counts", Active: true, Props: kv.Properties{{Name: "datatype", Value: "set"}}}}
	if _, err := n.RestoreProps(t.Context(), other); !errors.Is(err, kv.ErrInvalid) {
		t.Errorf("another data type: %v", err)
	}
}

// What the tree of a vnode has lost is not left out: others have it, or the backup says so.
func TestBackupOfADamagedTree(t *testing.T) {
	cluster, _ := NewTestCluster(t, 3, Options{Partitions: 8, Storage: func(string) (storage.Engine, error) {
		return disk.Open(t.TempDir(), disk.Options{CacheBytes: 8 << 20})
	}})
	putAll(t, cluster[0], 50, "v", kv.WriteOptions{W: kv.All})
	want := takeAll(t, cluster[0])
	forget := func(n *Node) {
		for p := range n.state().Ring().Size() {
			entries := vnode.Ranges(ring.Partition(p))[2]
			if err := n.engine.(storage.Eraser).Erase(entries[0], entries[1]); err != nil {
				t.Fatal(err)
			}
		}
	}
	forget(cluster[0])
	if diff := cmp.Diff(want, takeAll(t, cluster[0])); diff != "" {
		t.Errorf("(-written +backed up):\n%s", diff)
	}
	// Now nobody can list anything.
	forget(cluster[1])
	forget(cluster[2])
	bad := 0
	for home := range 8 {
		_, records, end := readHome(t, cluster[0], BackupAsk{Home: home})
		bad += end.Bad
		if len(records) > 0 || (end.Bad > 0) != (len(end.Unreadable) > 0) {
			t.Errorf("home %d: %d objects, %+v", home, len(records), end)
		}
	}
	if bad == 0 {
		t.Error("a backup without objects says that nothing is missing")
	}
}
