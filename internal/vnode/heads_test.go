package vnode

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/tanodb/tanodb/internal/object"
)

func headOfSize(siblings int) stored {
	return stored{Object: object.Object{Clock: make(object.Vector, siblings), Siblings: make([]object.Sibling, siblings)}}
}

func TestTheHeadUsedLongestAgoGoesFirst(t *testing.T) {
	one := cost([]byte("a"), headOfSize(1).Object)
	c := headCache{limit: 3 * one}
	for _, k := range []string{"a", "b", "c"} {
		c.put([]byte(k), headOfSize(1))
	}
	c.get([]byte("a"))
	c.put([]byte("d"), headOfSize(1))
	for k, want := range map[string]bool{"a": true, "b": false, "c": true, "d": true} {
		if _, ok := c.get([]byte(k)); ok != want {
			t.Errorf("%s is kept: %v", k, ok)
		}
	}
	c.put([]byte("huge"), headOfSize(1_000))
	if len(c.items) != 0 || c.used != 0 {
		t.Errorf("a head larger than the cache leaves %d others with %d bytes", len(c.items), c.used)
	}
}

// The cache against a list: it never takes more than its limit, and keeps
// exactly those used last that fit.
func TestTheHeadCacheKeepsToItsLimit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := headCache{limit: rapid.SampledFrom([]int{0, 1, 500, 1_000, 3_000}).Draw(t, "limit")}
		type item struct {
			key      string
			siblings int
		}
		var model []item // used last comes first
		for range rapid.IntRange(0, 40).Draw(t, "steps") {
			key := fmt.Sprint("k", rapid.IntRange(0, 9).Draw(t, "key"))
			at, siblings := -1, 0
			for i, it := range model {
				if it.key == key {
					at, siblings = i, it.siblings
				}
			}
			if rapid.Bool().Draw(t, "get") {
				head, ok := c.get([]byte(key))
				if ok != (at >= 0) || ok && len(head.Siblings) != siblings {
					t.Fatalf("%s: %v with %d siblings; want place %d, %d siblings", key, ok, len(head.Siblings), at, siblings)
				}
				if !ok {
					continue
				}
			} else {
				siblings = rapid.IntRange(0, 12).Draw(t, "siblings")
				c.put([]byte(key), headOfSize(siblings))
			}
			if at >= 0 {
				model = append(model[:at:at], model[at+1:]...)
			}
			model = append([]item{{key, siblings}}, model...)
			used := 0
			for i, it := range model {
				if used += cost([]byte(it.key), headOfSize(it.siblings).Object); used > c.limit {
					model = model[:i]
					break
				}
			}
			if c.used > c.limit || len(c.items) != len(model) {
				t.Fatalf("%d bytes of %d, %d heads; want %d", c.used, c.limit, len(c.items), len(model))
			}
		}
	})
}
