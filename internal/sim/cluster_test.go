package sim

import (
	"testing"
	"time"

	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/kv/kvtest"
)

// TestCluster holds the simulated cluster to what every store must do.
func TestCluster(t *testing.T) {
	for _, w := range []Weather{
		{Seed: 1, Nodes: 1, Partitions: 8, Replicas: 3},
		{Seed: 2, Nodes: 3, Partitions: 16, Replicas: 3, Delay: time.Millisecond, Jitter: time.Millisecond, Sync: time.Millisecond},
		{Seed: 3, Nodes: 5, Partitions: 64, Replicas: 3, Delay: time.Millisecond, HeadCache: 1 << 20, Sync: time.Millisecond},
	} {
		t.Run(w.String(), func(t *testing.T) {
			var c *Cluster
			open := func(t *testing.T) kv.Store {
				var err error
				if c, err = NewCluster(w); err != nil {
					t.Fatal(err)
				}
				return c
			}
			kvtest.Test(t, open, kvtest.Options{
				Replicas: w.Replicas,
				Nodes:    min(w.Replicas, w.Nodes),
				Pass:     func(d time.Duration) { c.Pass(d) },
			})
			kvtest.TestDataTypes(t, func(t *testing.T) kvtest.DataStore { return open(t).(*Cluster) }, kvtest.Options{Replicas: w.Replicas})
		})
	}
}
