package sim

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/storage"
	engine "github.com/tanodb/tanodb/storage/disk"
)

// TestOneHistoryOnAllEngines carries out a history of TestOneHistoryOneDatabase on real nodes of this
// process, which keep it in memory or on Pebble, alone or as three of whom one is cut off
// for a while. All must end as the simulated node does that is alone.
func TestOneHistoryOnAllEngines(t *testing.T) {
	onDisk := func(string) (storage.Engine, error) {
		return engine.Open("/data", engine.Options{FS: vfs.NewMem(), CacheBytes: 8 << 20})
	}
	for history := range uint64(2) {
		want := visible(t, Weather{Seed: history, Nodes: 1, Partitions: 8, Replicas: 1, R: 1, W: 1, Calm: true, Safety: time.Second, Timeout: time.Second}, history)
		for name, c := range map[string]struct {
			nodes   int
			options tanodb.Options
		}{
			"memory, one node":                {1, tanodb.Options{Storage: tanodb.MemoryStorage()}},
			"memory, three nodes":             {3, tanodb.Options{Storage: tanodb.MemoryStorage(), Partitions: 16}},
			"disk, one node, one replica":     {1, tanodb.Options{Storage: onDisk, Partitions: 8, Replicas: 1}},
			"disk, three nodes":               {3, tanodb.Options{Storage: onDisk, Partitions: 8}},
			"disk, three nodes, two replicas": {3, tanodb.Options{Storage: onDisk, Partitions: 32, Replicas: 2, Durability: tanodb.Interval}},
		} {
			t.Run(fmt.Sprint(name, ", history ", history), func(t *testing.T) {
				if got := onNodes(t, c.nodes, c.options, history); got != want {
					t.Errorf("it ends as\n%s\nand in the simulation as\n%s", got, want)
				}
			})
		}
	}
}

// onNodes is the database as clients see it, after the history on real nodes.
func onNodes(t *testing.T, nodes int, o tanodb.Options, history uint64) string {
	cluster, network := tanodb.NewTestCluster(t, nodes, o)
	if err := cluster[0].UpdateBucketType(t.Context(), "default", kv.Properties{{Name: "allow_mult", Value: "true"}}); err != nil {
		t.Fatal(err)
	}
	all := make([]*scribe, authors)
	for i := range all {
		all[i] = &scribe{
			t: t, nodes: cluster, rnd: newChance(history, fmt.Sprint("scribe ", i)), name: authorName(i),
			has: make(map[kv.Key][]string), doubtful: make(map[kv.Key]bool),
		}
	}
	const third = authorSteps / 3
	for part := range 3 {
		if part == 1 && o.Replicas == 0 && nodes > 1 { // two of three are a majority, one of two is none
			network.Cut("n3", "n1")
			network.Cut("n3", "n2")
		}
		together(all, func(i int) []step { return drawSteps(history, i)[part*third : (part+1)*third] })
		network.Heal()
	}
	tanodb.WaitUp(t, cluster...)
	evened(t, cluster)
	together(all, func(i int) []step { return amends(all[i].doubtful, all[i].has) })
	return evened(t, cluster)
}

// together lets all carry out steps at the same time.
func together(all []*scribe, steps func(int) []step) {
	var working sync.WaitGroup
	for i, a := range all {
		working.Go(func() {
			for _, x := range steps(i) {
				a.write(x)
			}
		})
	}
	working.Wait()
}

// evened reads all keys from all replicas, which repairs them, until all nodes show the same,
// and is that.
func evened(t *testing.T, cluster []*tanodb.Node) string {
	t.Helper()
	deadline := time.After(time.Minute)
	for {
		seen := make([]string, len(cluster))
		for i, n := range cluster {
			seen[i] = shownBy(t, n)
		}
		if same := slices.Compact(slices.Clone(seen)); len(same) == 1 && same[0] != "" {
			return seen[0]
		}
		select {
		case <-deadline:
			t.Fatalf("the nodes show different things:\n%s", strings.Join(seen, "\nand\n"))
		default:
		}
	}
}

// shownBy is what a node shows of all keys, by reads from all replicas and by listings, in the form
// of look; empty: not all of it can be read yet.
func shownBy(t *testing.T, n *tanodb.Node) string {
	t.Helper()
	var rows, listed []string
	for i := range authors * authorKeys {
		k := keyAt(i)
		obj, err := n.Get(t.Context(), k, kv.ReadOptions{R: kv.All, SloppyQuorum: kv.Off})
		if err == nil {
			rows = append(rows, fmt.Sprintf("%v: %v\n", k, texts(obj.Values)))
		} else if !errors.Is(err, kv.ErrNotFound) {
			return ""
		}
	}
	for _, b := range buckets {
		page, err := n.Keys(t.Context(), kv.Bucket{Name: b}, kv.ListOptions{})
		if err != nil || page.Next != "" {
			return ""
		}
		slices.Sort(page.Keys)
		listed = append(listed, b+" has "+fmt.Sprint(page.Keys)+"\n")
	}
	slices.Sort(rows)
	slices.Sort(listed)
	return strings.Join(append(rows, listed...), "")
}

// scribe is an author on real nodes.
type scribe struct {
	t        *testing.T
	nodes    []*tanodb.Node
	rnd      chance
	name     string
	tries    int
	has      map[kv.Key][]string
	doubtful map[kv.Key]bool
}

// write carries a step out, at one node after the other until it is done.
func (a *scribe) write(x step) {
	const attempts = 1000
	for range attempts {
		n := a.nodes[a.rnd.IntN(len(a.nodes))]
		done, err := a.try(n, x)
		if errors.Is(err, kv.ErrInDoubt) {
			a.doubtful[x.key] = true
		}
		if done {
			a.has[x.key] = x.over(a.has[x.key])
			return
		}
	}
	a.t.Errorf("%s does not write %v in %d attempts", a.name, x, attempts)
}

// try tries a step at a node.
func (a *scribe) try(n *tanodb.Node, x step) (done bool, err error) {
	o := kv.WriteOptions{W: kv.Majority, SloppyQuorum: kv.Off}
	a.tries++
	copy(o.RequestID[:], fmt.Sprintf("%s %x", a.name, a.tries))
	if x.kind != beside {
		obj, err := n.Get(a.t.Context(), x.key, kv.ReadOptions{R: kv.Majority, SloppyQuorum: kv.Off})
		absent := errors.Is(err, kv.ErrNotFound)
		if err != nil && !absent || absent && x.kind == remove {
			return absent, nil // a try that was in doubt has removed it
		}
		o.Context = obj.Context
	}
	if x.kind == remove {
		_, err = n.Delete(a.t.Context(), x.key, o)
	} else {
		_, err = n.Put(a.t.Context(), x.key, kv.Value{Data: []byte(x.value)}, o)
	}
	return err == nil, err
}
