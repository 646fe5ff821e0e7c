package disk

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tanodb/tanodb/storage"
)

// TestMergesAndCompactions merges, sets and deletes few keys, and flushes and
// compacts in between, so that every mixture meets in every level. What is read
// must not depend on that.
func TestMergesAndCompactions(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { mergesAndCompactions(t, rand.New(rand.NewPCG(seed, 1))) })
	}
}

func mergesAndCompactions(t *testing.T, chance *rand.Rand) {
	e := open(t, "/data", Options{FS: vfs.NewMem()})
	model := map[string][]byte{}
	for range 300 {
		var b storage.Batch
		for range 1 + chance.IntN(3) {
			k := string(rune('a' + chance.IntN(4)))
			n := uint64(chance.IntN(4)) // often what is there already, so that words come to 0
			switch chance.IntN(5) {
			case 0:
				b.Delete([]byte(k))
				delete(model, k)
			case 1:
				model[k] = binary.BigEndian.AppendUint64(nil, n)
				b.Set([]byte(k), model[k])
			default:
				b.Merge([]byte(k), n)
				model[k] = binary.BigEndian.AppendUint64(nil, storage.Word(model[k])^n)
			}
		}
		if _, err := e.Apply(&b, false); err != nil {
			t.Fatal(err)
		}
		switch chance.IntN(10) {
		case 0:
			if err := e.db.Flush(); err != nil {
				t.Fatal(err)
			}
		case 1:
			if err := e.db.Compact(t.Context(), []byte("a"), []byte("z"), false); err != nil {
				t.Fatal(err)
			}
		}
		for _, k := range []string{"a", "b", "c", "d"} {
			got, err := e.Get([]byte(k))
			if want := model[k]; string(got) != string(want) {
				t.Fatalf("%s is %x, %v; want %x", k, got, err, want)
			}
		}
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}
