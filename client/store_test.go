package client_test

import (
	"context"
	"net"
	"testing"

	"go.uber.org/goleak"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/client"
	"github.com/tanodb/tanodb/internal/server/pb"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/kv/kvtest"
)

// No test leaves a goroutine behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve serves a node on loopback until the test ends, or stop is called.
func serve(t testing.TB, n pb.Node, o pb.Options) (address string, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := pb.NewServer(n, o)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Serve(l); err != nil {
			t.Error(err)
		}
	}()
	stop = func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = s.Shutdown(ctx) // cuts off what is in progress, as a dying node does
		<-done
	}
	t.Cleanup(stop)
	return l.Addr().String(), stop
}

// open makes a client that is closed when the test ends.
func open(t testing.TB, o client.Options) *client.Client {
	t.Helper()
	c, err := client.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// cluster serves nodes of a cluster in this process.
func cluster(t testing.TB, size int) (nodes []*tanodb.Node, addresses []string, stops []func()) {
	t.Helper()
	nodes, _ = tanodb.NewTestCluster(t, size, tanodb.Options{})
	for _, n := range nodes {
		address, stop := serve(t, n, pb.Options{Cluster: n, Properties: n, Data: n, Indexes: n})
		addresses, stops = append(addresses, address), append(stops, stop)
	}
	return nodes, addresses, stops
}

func TestStoreOfOneNode(t *testing.T) {
	t.Parallel() // it waits for elections most of the time
	kvtest.Test(t, func(t *testing.T) kv.Store {
		nodes, addresses, _ := cluster(t, 1)
		kvtest.Prepare(t, nodes[0])
		return open(t, client.Options{Addresses: addresses})
	}, kvtest.Options{})
}

func TestStoreOfACluster(t *testing.T) {
	t.Parallel() // it waits for elections most of the time
	kvtest.Test(t, func(t *testing.T) kv.Store {
		nodes, addresses, _ := cluster(t, 3)
		kvtest.Prepare(t, nodes[0])
		return open(t, client.Options{Addresses: addresses})
	}, kvtest.Options{Nodes: 3, Parallel: true})
}

func TestDataTypesOfOneNode(t *testing.T) {
	t.Parallel() // it waits for elections most of the time
	kvtest.TestDataTypes(t, func(t *testing.T) kvtest.DataStore {
		nodes, addresses, _ := cluster(t, 1)
		kvtest.Prepare(t, nodes[0])
		return open(t, client.Options{Addresses: addresses})
	}, kvtest.Options{})
}

func TestDataTypesOfACluster(t *testing.T) {
	t.Parallel() // it waits for elections most of the time
	kvtest.TestDataTypes(t, func(t *testing.T) kvtest.DataStore {
		nodes, addresses, _ := cluster(t, 3)
		kvtest.Prepare(t, nodes[0])
		return open(t, client.Options{Addresses: addresses})
	}, kvtest.Options{Nodes: 3, Parallel: true})
}
