package vnode

import "github.com/tanodb/tanodb/internal/object"

// stored is what is known of an object without its bodies. The zero value is none.
type stored struct {
	object.Object
	hash uint64 // HashOf its encoding; 0: there is none
}

// headCache keeps the heads of the objects used last, up to a number of bytes.
// The zero cache, of limit 0, keeps none.
type headCache struct {
	limit int
	used  int // bytes, by the estimate of cost
	items map[string]*headItem
	ring  headItem // the list's anchor: ring.next was used last, ring.prev longest ago
}

type headItem struct {
	key        string
	head       stored
	cost       int
	prev, next *headItem
}

func (c *headCache) get(key []byte) (stored, bool) {
	it, ok := c.items[string(key)]
	if !ok {
		return stored{}, false
	}
	c.unlink(it)
	c.link(it)
	return it.head, true
}

func (c *headCache) has(key []byte) bool {
	_, ok := c.items[string(key)]
	return ok
}

func (c *headCache) put(key []byte, head stored) {
	if c.limit == 0 {
		return
	}
	if c.items == nil {
		c.items = make(map[string]*headItem)
		c.ring.next, c.ring.prev = &c.ring, &c.ring
	}
	it, ok := c.items[string(key)]
	if ok {
		c.unlink(it)
		c.used -= it.cost
	} else {
		it = &headItem{key: string(key)}
		c.items[it.key] = it
	}
	it.head = head
	it.cost = cost(key, head.Object)
	c.used += it.cost
	c.link(it)
	for c.used > c.limit {
		c.drop(c.ring.prev)
	}
}

func (c *headCache) drop(it *headItem) {
	c.unlink(it)
	c.used -= it.cost
	delete(c.items, it.key)
}

func (c *headCache) link(it *headItem) {
	it.prev, it.next = &c.ring, c.ring.next
	it.prev.next, it.next.prev = it, it
}

func (c *headCache) unlink(it *headItem) {
	it.prev.next, it.next.prev = it.next, it.prev
}

// cost estimates the memory of an entry: the map's and list's share, the key,
// 16 bytes an actor and 104 a sibling.
func cost(key []byte, h object.Object) int {
	const fixed = 200
	return fixed + len(key) + 16*len(h.Clock) + 104*len(h.Siblings)
}
