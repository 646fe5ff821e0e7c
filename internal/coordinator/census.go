package coordinator

import (
	"slices"
	"time"

	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
)

const (
	// maxCensus is how many vnodes a Census asks at once.
	maxCensus = 64

	// maxCensusBytes bounds the keys of a whole census. The answer that passes it
	// is the last one that is shown; of later ones it is only told that
	// there are keys.
	maxCensusBytes = 64 << 20
)

// Census asks every vnode of the ring which live keys of a bucket it holds:
// each one's own answer, so that each key comes back once for each replica. A
// vnode that does not answer is listed with the reason. Where one knows of a
// newer topology, the owner by that is asked.
type Census struct {
	view     View
	req      KeysRequest
	props    *kv.Props
	deadline time.Duration
	next     int // the first partition not yet asked
	open     int // asks without an answer
	closed   []bool
	number   []int // by partition, of the ask
	behind   []int // partitions that are asked again when the view is newer
	numbers  int
	size     int // bytes of the names in keys
	keys     []kv.ReplicaKeys
	err      error
	done     bool

	renewal
}

// NewCensus returns the machine of a census. The token of the options is not
// used, and their limit is that of each vnode.
func NewCensus(v View, r KeysRequest) *Census {
	return &Census{view: v, req: r}
}

// Result is the outcome, one element for each partition in the order of the
// ring, once an Answer effect has come.
func (c *Census) Result() ([]kv.ReplicaKeys, error) { return c.keys, c.err }

// Done is true once the census is answered.
func (c *Census) Done() bool { return c.done }

// Step consumes one event.
func (c *Census) Step(now time.Duration, ev Event, out []Effect) []Effect {
	if c.done {
		return out
	}
	switch ev := ev.(type) {
	case Start:
		return c.prepare(out)
	case Replied:
		return c.replied(ev, out)
	case NotSent:
		return c.close(c.find(ev.I), ev.Why, out)
	case Lost:
		return c.close(c.find(ev.I), ev.Why, out)
	case NodeDown:
		for i := range c.next {
			if c.keys[i].Node == ev.Node {
				out = c.close(i, "the node went down", out)
			}
		}
	case Refreshed:
		if c.refreshed() {
			c.view.refresh(&ev.View)
			return c.renew(out)
		}
	case Tick:
		if now >= c.deadline {
			return c.expire(out)
		}
	}
	return out
}

func (c *Census) prepare(out []Effect) []Effect {
	o := &c.req.Options
	c.req.Bucket.Type = kv.PlainType(c.req.Bucket.Type)
	if c.err = c.req.Bucket.Validate(); c.err != nil {
		return c.end(out)
	}
	if c.props, c.err = c.view.props(c.req.Bucket); c.err != nil {
		return c.end(out)
	}
	var timeout time.Duration
	if timeout, c.err = limitTimeout(o.Timeout); c.err != nil {
		return c.end(out)
	}
	if o.Limit, c.err = limitPage(o.Limit); c.err != nil {
		return c.end(out)
	}
	c.deadline = c.view.Now + timeout
	c.keys = make([]kv.ReplicaKeys, c.view.Ring.Size())
	c.closed = make([]bool, len(c.keys))
	c.number = make([]int, len(c.keys))
	for i := range c.keys {
		p := ring.Partition(i)
		c.keys[i] = kv.ReplicaKeys{Partition: c.view.Ring.Partition(p), Node: c.view.Ring.Owner(p)}
		c.number[i] = i
	}
	c.numbers = len(c.keys)
	return c.execute(append(out, Wake{At: c.deadline}))
}

// execute asks as many vnodes as may be asked at once.
func (c *Census) execute(out []Effect) []Effect {
	for c.open < maxCensus && !c.refreshing && len(c.behind) > 0 {
		i := c.behind[0]
		c.behind = c.behind[1:]
		out = c.ask(i, out)
	}
	for c.open < maxCensus && c.next < len(c.keys) {
		c.next++
		out = c.ask(c.next-1, out)
	}
	if c.open == 0 && len(c.behind) == 0 {
		return c.end(out)
	}
	return out
}

// ask asks the owner of partition i.
func (c *Census) ask(i int, out []Effect) []Effect {
	node := c.keys[i].Node
	if !c.view.Up(node) {
		c.closed[i] = true
		c.keys[i].Error = "the node is down"
		return out
	}
	c.open++
	c.closed[i], c.keys[i].Error = false, ""
	to := ring.Replica{Partition: ring.Partition(i), Node: node, Role: kv.Primary}
	msg := &vnode.Census{Bucket: c.req.Bucket, Limit: c.req.Options.Limit, At: c.view.Wall.UnixMilli(), Latest: c.props.Latest()}
	return append(out, Ask{I: c.number[i], To: to, Epoch: c.view.Epoch, Msg: msg})
}

// find is the partition to which the ask of this number went; -1: there is
// none that waits for it.
func (c *Census) find(number int) int {
	if number < c.numbers && number >= len(c.keys) {
		return slices.Index(c.number, number)
	}
	if number < 0 || number >= c.next || c.number[number] != number {
		return -1
	}
	return number
}

func (c *Census) replied(ev Replied, out []Effect) []Effect {
	i := c.find(ev.I)
	switch m := ev.Msg.(type) {
	case *vnode.Listed:
		if i >= 0 && !c.closed[i] {
			c.show(&c.keys[i], m)
		}
		return c.close(i, "", out)
	case *vnode.Refusal:
		if i >= 0 && !c.closed[i] && c.stale(m) {
			return c.later(i, m, out)
		}
		return c.close(i, m.Text, out)
	case *vnode.Failure:
		return c.close(i, m.Text, out)
	}
	return c.close(i, "answered with something else", out)
}

// later keeps a partition for when a newer view comes.
func (c *Census) later(i int, m *vnode.Refusal, out []Effect) []Effect {
	c.closed[i] = true
	c.keys[i].Error = m.Text
	c.open--
	c.behind = append(c.behind, i)
	return c.execute(c.refresh(m, c.keys[i].Node, out))
}

// renew asks the owners by the newer view.
func (c *Census) renew(out []Effect) []Effect {
	for i := c.next; i < len(c.keys); i++ {
		c.keys[i].Node = c.view.Ring.Owner(ring.Partition(i))
	}
	for _, i := range c.behind {
		c.keys[i].Node = c.view.Ring.Owner(ring.Partition(i))
		c.number[i] = c.numbers
		c.numbers++
	}
	return c.execute(out)
}

// show adds a vnode's answer, while there is room.
func (c *Census) show(r *kv.ReplicaKeys, m *vnode.Listed) {
	if c.size >= maxCensusBytes {
		r.More = m.More || len(m.Keys) > 0
		return
	}
	r.Keys, r.More = m.Keys, m.More
	for _, k := range m.Keys {
		c.size += len(k)
	}
}

// close ends the wait for a vnode, and asks another.
func (c *Census) close(i int, why string, out []Effect) []Effect {
	if i < 0 || i >= c.next || c.closed[i] {
		return out
	}
	c.closed[i] = true
	c.keys[i].Error = why
	c.open--
	return c.execute(out)
}

// expire answers with what has come.
func (c *Census) expire(out []Effect) []Effect {
	for i := range c.keys {
		if !c.closed[i] {
			c.keys[i].Error = "no answer before the timeout"
		}
	}
	return c.end(out)
}

func (c *Census) end(out []Effect) []Effect {
	c.done = true
	return append(out, Answer{})
}
