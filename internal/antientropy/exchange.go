package antientropy

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/planted"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
)

// The bounds of what an Exchange has in hand.
const (
	maxSuspects     = 4096    // keys that differ, between two pauses
	maxSuspectBytes = 4 << 20 // and the bytes of their names, to which one page may add
	maxChunk        = 256     // keys in one question
)

// Side says which of the two replicas is asked.
type Side bool

// The sides.
const (
	Here  Side = false
	There Side = true
)

// Request is what an Exchange wants to be asked. Without a Msg it is a pause, whose
// end is answered with nil.
type Request struct {
	Side Side
	Msg  vnode.Message
}

// Tally is what an Exchange has found and done.
type Tally struct {
	Different int   // keys whose versions differed, and still did after the pause
	Busy      int   // keys that were being written
	In, Out   int   // objects that were merged here, and there
	Refused   int   // objects that could not be merged, or not be read
	Bytes     int64 // of all messages, about
}

func (t *Tally) add(o Tally) {
	t.Different += o.Different
	t.Busy += o.Busy
	t.In += o.In
	t.Out += o.Out
	t.Refused += o.Refused
	t.Bytes += o.Bytes
}

// step is a state: it consumes the answer to what was asked last, asks for the next thing, and
// returns the state that awaits the answer to that; nil: the exchange is over.
type step func(vnode.Message) (step, error)

// Exchange compares two replicas of a home, and mends what differs.
type Exchange struct {
	pair      Pair
	pageBytes int
	state     step
	next      Request
	tally     Tally

	mine     *vnode.Summed // what the last Sums has found here
	branches []int         // that differ, and are still to be looked at

	segments []vnode.Segment  // of the branch at hand that differ
	after    []byte           // where the page at hand begins
	page     *vnode.Versioned // of this side
	then     func() (step, error)

	suspects     []suspect
	suspectBytes int
	heads        []vnode.Item // of the first suspects, here
	fetch, send  []kv.Key
}

// suspect is a key with the versions that differ; 0: none is there.
type suspect struct {
	key          kv.Key
	mine, theirs uint64
}

// NewExchange returns the comparison of a pair. PageBytes bounds the versions and the
// objects in a message.
func NewExchange(p Pair, pageBytes int) *Exchange {
	x := &Exchange{pair: p, pageBytes: pageBytes}
	x.state = x.ask(Here, &vnode.Sums{Home: p.Home, Branch: vnode.Root}, x.rootHere)
	return x
}

// Next is what is to be asked now, the same until it is answered; false: the exchange
// is over.
func (x *Exchange) Next() (Request, bool) { return x.next, x.state != nil }

// Tally is what has been found and done so far.
func (x *Exchange) Tally() Tally { return x.tally }

// Step consumes the answer to what Next has said. After an error the exchange is good for
// nothing.
func (x *Exchange) Step(m vnode.Message) error {
	x.tally.Bytes += int64(sizeOf(x.next.Msg) + sizeOf(m))
	var err error
	x.state, err = x.state(m)
	return err
}

func (x *Exchange) ask(side Side, m vnode.Message, next step) step {
	x.next = Request{side, m}
	return next
}

// answer is a message of the type that is awaited.
func answer[M vnode.Message](m vnode.Message) (M, error) {
	a, ok := m.(M)
	if !ok {
		return a, fmt.Errorf("the answer is a %T, and should be a %T", m, a)
	}
	return a, nil
}

// rootHere takes the root here, and shows it to the other side.
func (x *Exchange) rootHere(m vnode.Message) (step, error) {
	var err error
	if x.mine, err = answer[*vnode.Summed](m); err != nil {
		return nil, err
	}
	return x.ask(There, &vnode.Sums{Home: x.pair.Home, Branch: vnode.Root, Known: x.mine.Sum}, x.rootThere), nil
}

// rootThere takes the root there, with the branches if it is another one.
func (x *Exchange) rootThere(m vnode.Message) (step, error) {
	mine, theirs, err := x.both(m)
	if err != nil || theirs == nil {
		return nil, err
	}
	for b := range mine {
		if mine[b] != theirs[b] {
			x.branches = append(x.branches, b)
		}
	}
	return x.branch()
}

// both are the sums of the two sides; theirs is nil if they come to the same.
func (x *Exchange) both(m vnode.Message) (mine, theirs []uint64, err error) {
	there, err := answer[*vnode.Summed](m)
	if err != nil || there.Sums == nil {
		if err == nil && there.Sum != x.mine.Sum {
			err = errors.New("the other side has another sum, and does not say of what")
		}
		return nil, nil, err
	}
	mine = x.mine.Sums
	if mine == nil {
		mine = make([]uint64, vnode.Branches)
	}
	if len(mine) != vnode.Branches || len(there.Sums) != vnode.Branches {
		return nil, nil, fmt.Errorf("%d and %d sums; a level has %d", len(mine), len(there.Sums), vnode.Branches)
	}
	return mine, there.Sums, nil
}

// branch goes on with the next branch, or with what has been found if there is none.
func (x *Exchange) branch() (step, error) {
	if len(x.branches) == 0 {
		x.then = func() (step, error) { return nil, nil }
		return x.settle()
	}
	return x.ask(Here, &vnode.Sums{Home: x.pair.Home, Branch: x.branches[0]}, x.branchHere), nil
}

func (x *Exchange) branchHere(m vnode.Message) (step, error) {
	var err error
	if x.mine, err = answer[*vnode.Summed](m); err != nil {
		return nil, err
	}
	return x.ask(There, &vnode.Sums{Home: x.pair.Home, Branch: x.branches[0], Known: x.mine.Sum}, x.branchThere), nil
}

// branchThere finds the segments of the branch that differ.
func (x *Exchange) branchThere(m vnode.Message) (step, error) {
	mine, theirs, err := x.both(m)
	if err != nil {
		return nil, err
	}
	b := x.branches[0]
	x.branches = x.branches[1:]
	if theirs == nil {
		return x.branch() // it has become equal
	}
	x.segments, x.after = vnode.SegmentsOf(b, mine, theirs), nil
	if planted.Is(planted.ExchangeSkips) {
		x.segments = slices.DeleteFunc(x.segments, func(s vnode.Segment) bool { return s%2 == 1 })
	}
	return x.keys()
}

// keys asks for the next page of versions of the segments at hand.
func (x *Exchange) keys() (step, error) { return x.versions(Here, x.keysHere), nil }

func (x *Exchange) versions(s Side, next step) step {
	return x.ask(s, &vnode.Versions{Home: x.pair.Home, Segments: x.segments, After: x.after, Limit: x.pageBytes}, next)
}

func (x *Exchange) keysHere(m vnode.Message) (step, error) {
	var err error
	if x.page, err = answer[*vnode.Versioned](m); err != nil {
		return nil, err
	}
	return x.versions(There, x.keysThere), nil
}

// keysThere compares the versions of both sides, as far as both pages go.
func (x *Exchange) keysThere(m vnode.Message) (step, error) {
	theirs, err := answer[*vnode.Versioned](m)
	if err != nil {
		return nil, err
	}
	end := x.page.Last
	if !x.page.More || theirs.More && bytes.Compare(theirs.Last, end) < 0 {
		end = theirs.Last
	}
	more := x.page.More || theirs.More
	if !more {
		end = nil
	} else if bytes.Compare(end, x.after) <= 0 {
		return nil, errors.New("the page ends before it begins")
	}
	if err := x.compare(x.page.Items, theirs.Items, end); err != nil {
		return nil, err
	}
	x.page, x.after = nil, end
	x.then = x.branch
	if more {
		x.then = x.keys
	}
	if len(x.suspects) >= maxSuspects || x.suspectBytes >= maxSuspectBytes {
		return x.settle()
	}
	return x.then()
}

// compare finds the keys of two pages whose versions differ, up to the position end; nil: to
// the end.
func (x *Exchange) compare(mine, theirs []vnode.Item, end []byte) error {
	a, b := pager{items: mine, last: x.after, end: end}, pager{items: theirs, last: x.after, end: end}
	a.next()
	b.next()
	for a.at != nil || b.at != nil {
		c := bytes.Compare(a.at, b.at)
		switch {
		case b.at == nil || a.at != nil && c < 0:
			x.suspect(a.item.Key, a.item.Hash, 0)
			a.next()
		case a.at == nil || c > 0:
			x.suspect(b.item.Key, 0, b.item.Hash)
			b.next()
		default:
			if a.item.Hash != b.item.Hash {
				x.suspect(a.item.Key, a.item.Hash, b.item.Hash)
			}
			a.next()
			b.next()
		}
	}
	return errors.Join(a.err, b.err)
}

func (x *Exchange) suspect(k kv.Key, mine, theirs uint64) {
	x.suspects = append(x.suspects, suspect{k, mine, theirs})
	x.suspectBytes += len(k.Type) + len(k.Bucket) + len(k.Name)
}

// pager goes through the items of a page, which must be in order.
type pager struct {
	items []vnode.Item
	end   []byte
	last  []byte
	err   error

	item *vnode.Item
	at   []byte // its position; nil: the page is over
}

func (p *pager) next() {
	p.at = nil
	if len(p.items) == 0 || p.err != nil {
		return
	}
	at := vnode.Position(p.items[0].Key)
	if bytes.Compare(at, p.last) <= 0 {
		p.err = fmt.Errorf("the versions of a page are out of order at %v", p.items[0].Key)
		return
	}
	if p.end != nil && bytes.Compare(at, p.end) > 0 {
		return
	}
	p.item, p.at, p.last = &p.items[0], at, at
	p.items = p.items[1:]
}

// settle waits, so that what is only on its way arrives.
func (x *Exchange) settle() (step, error) {
	if len(x.suspects) == 0 {
		return x.then()
	}
	x.next = Request{}
	return x.settled, nil
}

func (x *Exchange) settled(vnode.Message) (step, error) { return x.clocks() }

// clocks asks both sides for the clocks of the next suspects.
func (x *Exchange) clocks() (step, error) {
	if len(x.suspects) == 0 {
		x.suspects, x.suspectBytes = nil, 0
		return x.then()
	}
	var keys []kv.Key
	size := 0
	for _, s := range x.suspects {
		if len(keys) == maxChunk || size > x.pageBytes {
			break
		}
		keys = append(keys, s.key)
		size += len(s.key.Type) + len(s.key.Bucket) + len(s.key.Name)
	}
	return x.pick(Here, keys, true, x.clocksHere), nil
}

func (x *Exchange) pick(s Side, keys []kv.Key, bare bool, next step) step {
	return x.ask(s, &vnode.Pick{Home: x.pair.Home, Keys: keys[:min(len(keys), maxChunk)], Bare: bare, Limit: x.pageBytes}, next)
}

// picked are the items of an answer to a Pick, which are those of its first keys.
func (x *Exchange) picked(m vnode.Message) ([]vnode.Item, error) {
	p, err := answer[*vnode.Picked](m)
	if err != nil {
		return nil, err
	}
	asked := x.next.Msg.(*vnode.Pick).Keys
	if len(p.Items) == 0 || len(p.Items) > len(asked) {
		return nil, fmt.Errorf("%d items for %d keys", len(p.Items), len(asked))
	}
	for i := range p.Items {
		if p.Items[i].Key != asked[i] {
			return nil, fmt.Errorf("an item of %v for key %v", p.Items[i].Key, asked[i])
		}
	}
	return p.Items, nil
}

func (x *Exchange) clocksHere(m vnode.Message) (step, error) {
	var err error
	if x.heads, err = x.picked(m); err != nil {
		return nil, err
	}
	return x.pick(There, x.next.Msg.(*vnode.Pick).Keys[:len(x.heads)], true, x.clocksThere), nil
}

// clocksThere decides which way each object has to go.
func (x *Exchange) clocksThere(m vnode.Message) (step, error) {
	theirs, err := x.picked(m)
	if err != nil {
		return nil, err
	}
	for i := range theirs {
		if err := x.decide(x.suspects[i], &x.heads[i], &theirs[i]); err != nil {
			return nil, err
		}
	}
	x.suspects, x.heads = x.suspects[len(theirs):], nil
	return x.fetching()
}

// decide compares the two sides of a key. What has changed since it was found to differ
// is being written, and the next exchange sees what has come of it. What cannot
// be read has no version here, and another one than the tree says.
func (x *Exchange) decide(s suspect, mine, theirs *vnode.Item) error {
	if mine.Hash == theirs.Hash {
		if mine.Hash != 0 {
			x.tally.Busy++
			return nil
		}
		if s.mine != 0 && s.theirs != 0 {
			x.tally.Refused++ // neither can be read
		} else {
			x.tally.Busy++
		}
		return nil
	}
	if mine.Hash != 0 && mine.Hash != s.mine || theirs.Hash != 0 && theirs.Hash != s.theirs {
		x.tally.Busy++
		return nil
	}
	x.tally.Different++
	relation := object.Concurrent
	switch {
	case theirs.Hash == 0:
		relation = object.Newer
	case mine.Hash == 0:
		relation = object.Older
	default:
		a, errA := object.Decode(mine.Object)
		b, errB := object.Decode(theirs.Object)
		if err := errors.Join(errA, errB); err != nil {
			return fmt.Errorf("the clock of %v: %w", s.key, err)
		}
		relation = object.Compare(a, b)
	}
	if planted.Is(planted.MendSkipsAbsent) && theirs.Hash == 0 {
		return nil
	}
	if relation != object.Newer {
		x.fetch = append(x.fetch, s.key)
	}
	if relation != object.Older {
		x.send = append(x.send, s.key)
	}
	return nil
}

// fetching gets what is newer there, and has it merged here.
func (x *Exchange) fetching() (step, error) {
	if len(x.fetch) == 0 {
		return x.sending()
	}
	return x.pick(There, x.fetch, false, x.fetched), nil
}

func (x *Exchange) fetched(m vnode.Message) (step, error) {
	items, err := x.picked(m)
	if err != nil {
		return nil, err
	}
	x.fetch = x.fetch[len(items):]
	return x.deliver(Here, items, x.merged, x.fetching)
}

// deliver has items merged on one side; those that are none any more are left out.
func (x *Exchange) deliver(s Side, items []vnode.Item, next step, otherwise func() (step, error)) (step, error) {
	var there []vnode.Item
	for _, it := range items {
		if it.Hash == 0 || it.Object == nil {
			x.tally.Refused++
			continue
		}
		there = append(there, it)
	}
	if len(there) == 0 {
		return otherwise()
	}
	return x.ask(s, &vnode.Deliver{Home: x.pair.Home, Items: there, Placed: true}, next), nil
}

// delivered counts what was merged.
func (x *Exchange) delivered(m vnode.Message) (int, error) {
	d, err := answer[*vnode.Delivered](m)
	if err != nil {
		return 0, err
	}
	if sent := len(x.next.Msg.(*vnode.Deliver).Items); len(d.Results) != sent {
		return 0, fmt.Errorf("%d results for %d objects", len(d.Results), sent)
	}
	held := 0
	for _, r := range d.Results {
		if r == vnode.ItemHeld {
			held++
		}
	}
	x.tally.Refused += len(d.Results) - held
	return held, nil
}

func (x *Exchange) merged(m vnode.Message) (step, error) {
	n, err := x.delivered(m)
	if err != nil {
		return nil, err
	}
	x.tally.In += n
	return x.fetching()
}

// sending gives the other side what is newer here, as it is by now.
func (x *Exchange) sending() (step, error) {
	if len(x.send) == 0 {
		return x.clocks()
	}
	return x.pick(Here, x.send, false, x.read), nil
}

func (x *Exchange) read(m vnode.Message) (step, error) {
	items, err := x.picked(m)
	if err != nil {
		return nil, err
	}
	x.send = x.send[len(items):]
	return x.deliver(There, items, x.sent, x.sending)
}

func (x *Exchange) sent(m vnode.Message) (step, error) {
	n, err := x.delivered(m)
	if err != nil {
		return nil, err
	}
	x.tally.Out += n
	return x.sending()
}

// sizeOf is about how many bytes a message takes.
func sizeOf(m vnode.Message) int {
	const frame = 40
	n := frame
	switch m := m.(type) {
	case nil:
		return 0
	case *vnode.Summed:
		n += 8 + 8*len(m.Sums)
	case *vnode.Versions:
		n += 2*len(m.Segments) + len(m.After)
	case *vnode.Versioned:
		n += sizeOfItems(m.Items) + len(m.Last)
	case *vnode.Pick:
		for _, k := range m.Keys {
			n += keySize(k)
		}
	case *vnode.Picked:
		n += sizeOfItems(m.Items)
	case *vnode.Deliver:
		n += sizeOfItems(m.Items)
	case *vnode.Delivered:
		n += len(m.Results)
	}
	return n
}

func sizeOfItems(items []vnode.Item) int {
	n := 0
	for i := range items {
		n += keySize(items[i].Key) + 9 + len(items[i].Object)
	}
	return n
}

func keySize(k kv.Key) int { return 3 + len(k.Type) + len(k.Bucket) + len(k.Name) }
