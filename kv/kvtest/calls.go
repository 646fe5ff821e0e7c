package kvtest

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/tanodb/tanodb/kv"
)

var calls = []testCase{
	{"a cancelled call ends with an error and writes nothing", func(r *run) {
		ctx, cancel := context.WithCancel(r.Context())
		cancel()
		for name, err := range r.callAll(ctx, "cancelled") {
			if err == nil || errors.Is(err, kv.ErrNotFound) {
				r.Errorf("%s: error %v, want one that tells of the cancelling", name, err)
			}
		}
		r.absent(r.key("cancelled"))
	}},
	{"a call whose deadline is past times out and writes nothing", func(r *run) {
		ctx, cancel := context.WithDeadline(r.Context(), time.Unix(1, 0))
		defer cancel()
		for name, err := range r.callAll(ctx, "late") {
			if !errors.Is(err, kv.ErrTimeout) && !errors.Is(err, context.DeadlineExceeded) {
				r.Errorf("%s: error %v, want a timeout", name, err)
			}
		}
		r.absent(r.key("late"))
	}},
	{"concurrent clients of one key lose no update", concurrentClients},
	{"concurrent clients of many keys do not meet", manyKeys},
}

// callAll makes one call of each kind.
func (r *run) callAll(ctx context.Context, name string) map[string]error {
	errs := map[string]error{}
	_, errs["get"] = r.store.Get(ctx, r.key(name), kv.ReadOptions{})
	_, errs["put"] = r.store.Put(ctx, r.key(name), kv.Value{Data: []byte("a")}, kv.WriteOptions{})
	_, errs["delete"] = r.store.Delete(ctx, r.key(name), kv.WriteOptions{})
	_, errs["keys"] = r.store.Keys(ctx, r.bucket(), kv.ListOptions{})
	return errs
}

const (
	clients = 8
	rounds  = 10
)

// concurrentClients lets each client add words to one key, by reading, merging
// what it sees and writing with the context. In the end every word is there.
func concurrentClients(r *run) {
	if r.o.Sequential {
		r.Skip("this store serves one call at a time")
	}
	k := r.key("k")
	r.concurrently(func(client, round int) error {
		obj, err := r.store.Get(r.Context(), k, kv.ReadOptions{})
		if err != nil && !errors.Is(err, kv.ErrNotFound) {
			return err
		}
		words := union(obj.Values)
		words[fmt.Sprintf("%d.%d", client, round)] = true
		_, err = r.store.Put(r.Context(), k, kv.Value{Data: []byte(join(words))}, kv.WriteOptions{Context: obj.Context})
		return err
	})
	got := union(r.get(k, kv.ReadOptions{R: kv.All}).Values)
	for client := range clients {
		for round := range rounds {
			if word := fmt.Sprintf("%d.%d", client, round); !got[word] {
				r.Errorf("the acknowledged %s is lost", word)
			}
		}
	}
}

// manyKeys lets each client write, read and delete keys of its own.
func manyKeys(r *run) {
	if r.o.Sequential {
		r.Skip("this store serves one call at a time")
	}
	r.concurrently(func(client, round int) error {
		k := r.key(fmt.Sprintf("%d.%d", client, round))
		if _, err := r.store.Put(r.Context(), k, kv.Value{Data: []byte(k.Name)}, kv.WriteOptions{}); err != nil {
			return err
		}
		obj, err := r.store.Get(r.Context(), k, kv.ReadOptions{})
		if err != nil {
			return err
		}
		if got := texts(obj.Values); len(got) != 1 || got[0] != k.Name {
			return fmt.Errorf("%v holds %q", k, got)
		}
		_, err = r.store.Delete(r.Context(), k, kv.WriteOptions{W: kv.All})
		return err
	})
	r.lists(r.bucket())
}

// concurrently runs the rounds of all clients, each on a goroutine of its own.
func (r *run) concurrently(step func(client, round int) error) {
	r.Helper()
	var wg sync.WaitGroup
	for client := range clients {
		wg.Go(func() {
			for round := range rounds {
				if err := step(client, round); err != nil {
					r.Errorf("client %d in round %d: %v", client, round, err)
					return
				}
			}
		})
	}
	wg.Wait()
	if r.Failed() {
		r.FailNow()
	}
}

// union is the set of words in all values.
func union(vs []kv.Value) map[string]bool {
	words := map[string]bool{}
	for _, v := range vs {
		for _, word := range strings.Fields(string(v.Data)) {
			words[word] = true
		}
	}
	return words
}

func join(words map[string]bool) string {
	var ss []string
	for word := range words {
		ss = append(ss, word)
	}
	sort.Strings(ss)
	return strings.Join(ss, " ")
}
