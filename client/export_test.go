package client

import (
	"github.com/tanodb/tanodb/internal/server/riakpb"
	"github.com/tanodb/tanodb/kv"
)

// Look asks all nodes now who and whether they are.
func (c *Client) Look() { c.round() }

// Idle is how many connections to a node wait for a request.
func (c *Client) Idle(i int) int {
	c.nodes[i].mu.Lock()
	defer c.nodes[i].mu.Unlock()
	return len(c.nodes[i].idle)
}

// Worded is the error that these words stand for.
func Worded(op string, write bool, text string) error {
	return (&request{op: op, write: write}).worded(text)
}

// Harmless reports whether another node is asked after this error.
func Harmless(write bool, err error) bool { return (&request{write: write}).harmless(err) }

// Order is the addresses in the order in which a request of the key asks them.
func (c *Client) Order(k kv.Key) []string {
	var all []string
	for _, n := range c.order(&k) {
		all = append(all, n.address)
	}
	return all
}

// Learn takes a ring as if a node had told it.
func (c *Client) Learn(a *riakpb.TanoRingResp) { c.learn(a) }
