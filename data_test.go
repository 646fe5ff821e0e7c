package tanodb_test

import (
	"testing"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/kv/kvtest"
)

func TestDataTypesSingleNode(t *testing.T) {
	t.Parallel() // it waits for elections most of the time
	kvtest.TestDataTypes(t, func(t *testing.T) kvtest.DataStore {
		node, err := tanodb.Open(t.TempDir(), tanodb.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { node.Close() })
		kvtest.Prepare(t, node)
		return node
	}, kvtest.Options{})
}

func TestDataTypesTCPCluster(t *testing.T) {
	t.Parallel() // it waits for elections most of the time
	kvtest.TestDataTypes(t, func(t *testing.T) kvtest.DataStore {
		cluster := openTCP(t, 3)
		kvtest.Prepare(t, cluster[1])
		return cluster[0]
	}, kvtest.Options{Nodes: 3})
}

// TestDataTypesForwarding asks a node that holds few of the keys.
func TestDataTypesForwarding(t *testing.T) {
	t.Parallel() // it waits for elections most of the time
	kvtest.TestDataTypes(t, func(t *testing.T) kvtest.DataStore {
		cluster, _ := tanodb.NewTestCluster(t, 7, tanodb.Options{})
		kvtest.Prepare(t, cluster[3])
		return cluster[6]
	}, kvtest.Options{Nodes: 3})
}
