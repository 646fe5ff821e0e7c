package transport

import (
	"encoding/binary"
	"time"

	"github.com/tanodb/tanodb/internal/coordinator"
	"github.com/tanodb/tanodb/internal/crdt"
	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
)

// kind names the type of a message in a frame. The numbers are fixed; zero is
// no kind. The highest bit is set in answers, so that a receiver can tell also
// of a kind that it does not know.
type kind uint8

const answerBit kind = 0x80

const (
	kindStore   kind = 1
	kindFetch   kind = 2
	kindList    kind = 3
	kindCensus  kind = 4
	kindPing    kind = 5
	kindForward kind = 6
	kindPull    kind = 7
	kindDeliver kind = 8
	kindMend    kind = 9 // a Deliver that is Placed

	kindSums     kind = 0x0a
	kindVersions kind = 0x0b
	kindPick     kind = 0x0c

	kindAttest kind = 0x20
	kindReap   kind = 0x21
	kindStrays kind = 0x22

	kindQuery   kind = 0x30
	kindBuckets kind = 0x31

	kindLog      kind = 0x10
	kindStateAsk kind = 0x11
	kindPropose  kind = 0x12
	kindKnock    kind = 0x13
	kindJobsAsk  kind = 0x14
	kindOrder    kind = 0x15
	kindMoment   kind = 0x16

	kindStored    = answerBit | 1
	kindFetched   = answerBit | 2
	kindListed    = answerBit | 3
	kindPong      = answerBit | 5
	kindForwarded = answerBit | 6
	kindPulled    = answerBit | 7
	kindDelivered = answerBit | 8
	kindSummed    = answerBit | 0x0a
	kindVersioned = answerBit | 0x0b
	kindPicked    = answerBit | 0x0c
	kindLogged    = answerBit | 0x10
	kindStateGive = answerBit | 0x11
	kindProposed  = answerBit | 0x12
	kindWelcome   = answerBit | 0x13
	kindJobsGive  = answerBit | 0x14
	kindOrdered   = answerBit | 0x15
	kindDropped   = answerBit | 0x21
	kindStanding  = answerBit | 0x22
	kindMatched   = answerBit | 0x30
	kindFound     = answerBit | 0x31
	kindRefusal   = answerBit | 0x40
	kindFailure   = answerBit | 0x41
)

func (k kind) answer() bool { return k&answerBit != 0 }

func (k kind) known() bool {
	switch k {
	case kindStore, kindFetch, kindList, kindCensus, kindPing, kindForward, kindPull, kindDeliver, kindMend,
		kindSums, kindVersions, kindPick,
		kindLog, kindStateAsk, kindPropose, kindKnock, kindJobsAsk, kindOrder, kindMoment,
		kindAttest, kindReap, kindStrays, kindDropped, kindStanding,
		kindStored, kindFetched, kindListed, kindPong, kindForwarded, kindPulled, kindDelivered,
		kindSummed, kindVersioned, kindPicked,
		kindQuery, kindBuckets, kindMatched, kindFound,
		kindLogged, kindStateGive, kindProposed, kindWelcome, kindJobsGive, kindOrdered, kindRefusal, kindFailure:
		return true
	}
	return false
}

// kindOf is the kind of a message that travels, 0 of any other.
func kindOf(m vnode.Message) kind {
	switch m := m.(type) {
	case *vnode.Store:
		return kindStore
	case *vnode.Fetch:
		return kindFetch
	case *vnode.List:
		return kindList
	case *vnode.Census:
		return kindCensus
	case *vnode.Ping:
		return kindPing
	case *coordinator.Forward:
		return kindForward
	case *vnode.Pull:
		return kindPull
	case *vnode.Deliver:
		if m.Placed {
			return kindMend
		}
		return kindDeliver
	case *vnode.Sums:
		return kindSums
	case *vnode.Versions:
		return kindVersions
	case *vnode.Pick:
		return kindPick
	case *vnode.Attest:
		return kindAttest
	case *vnode.Reap:
		return kindReap
	case *vnode.Strays:
		return kindStrays
	case *vnode.Query:
		return kindQuery
	case *vnode.Buckets:
		return kindBuckets
	case *Log:
		return kindLog
	case *StateAsk:
		return kindStateAsk
	case *Propose:
		return kindPropose
	case *Knock:
		return kindKnock
	case *JobsAsk:
		return kindJobsAsk
	case *Order:
		return kindOrder
	case *Moment:
		return kindMoment
	}
	return answerKindOf(m)
}

// answerKindOf is kindOf for answers.
func answerKindOf(m vnode.Message) kind {
	switch m.(type) {
	case *vnode.Stored:
		return kindStored
	case *vnode.Fetched:
		return kindFetched
	case *vnode.Listed:
		return kindListed
	case *vnode.Pong:
		return kindPong
	case *coordinator.Forwarded:
		return kindForwarded
	case *vnode.Pulled:
		return kindPulled
	case *vnode.Delivered:
		return kindDelivered
	case *vnode.Summed:
		return kindSummed
	case *vnode.Versioned:
		return kindVersioned
	case *vnode.Picked:
		return kindPicked
	case *vnode.Dropped:
		return kindDropped
	case *vnode.StraysFound:
		return kindStanding
	case *vnode.Matched:
		return kindMatched
	case *vnode.BucketsFound:
		return kindFound
	case *Logged:
		return kindLogged
	case *StateGive:
		return kindStateGive
	case *Proposed:
		return kindProposed
	case *Welcome:
		return kindWelcome
	case *JobsGive:
		return kindJobsGive
	case *Ordered:
		return kindOrdered
	case *vnode.Refusal:
		return kindRefusal
	case *vnode.Failure:
		return kindFailure
	}
	return 0
}

// message appends what the message carries. A Ping, a Pong and a Logged carry nothing.
func (e *encoder) message(k kind, m vnode.Message) {
	if k.answer() {
		e.answer(m)
		return
	}
	e.request(m)
}

func (e *encoder) request(m vnode.Message) {
	switch m := m.(type) {
	case *vnode.Store:
		e.u16(uint16(m.Home))
		e.key(m.Key)
		e.bytes("object", m.Object, kv.MaxObject)
	case *vnode.Fetch:
		e.u16(uint16(m.Home))
		e.key(m.Key)
	case *vnode.List:
		e.u16(uint16(m.Home))
		e.bucket(m.Bucket)
		e.string("After", m.After, kv.MaxKey)
		e.count("Limit", m.Limit)
		e.varint(m.At)
		e.bool(m.Latest)
	case *vnode.Census:
		e.bucket(m.Bucket)
		e.count("Limit", m.Limit)
		e.varint(m.At)
		e.bool(m.Latest)
	case *coordinator.Forward:
		e.key(m.Key)
		e.bool(m.Deleted)
		e.options(&m.Options)
		e.value(&m.Value)
		e.op(m.Op)
	case *vnode.Pull:
		e.u16(uint16(m.Home))
		e.bytes("After", m.After, maxAfter)
		e.count("Limit", m.Limit)
		e.bool(m.Bare)
		e.bool(m.Whole)
	case *vnode.Deliver:
		e.u16(uint16(m.Home))
		e.itemList(m.Items)
	case *vnode.Sums:
		e.u16(uint16(m.Home))
		e.count("Branch", m.Branch-vnode.Root)
		e.u64(m.Known)
	case *vnode.Versions:
		e.u16(uint16(m.Home))
		e.segments(m.Segments)
		e.bytes("After", m.After, maxAfter)
		e.count("Limit", m.Limit)
	case *vnode.Pick:
		e.u16(uint16(m.Home))
		e.keyList(m.Keys)
		e.bool(m.Bare)
		e.count("Limit", m.Limit)
	case *vnode.Attest:
		e.u16(uint16(m.Home))
		e.itemList(m.Items)
	case *vnode.Reap:
		e.u16(uint16(m.Home))
		e.itemList(m.Items)
	case *vnode.Strays:
		e.homes(m.Homes)
	default:
		e.query(m)
	}
}

// op appends an operation of a data type; nothing of none.
func (e *encoder) op(op kv.Op) {
	if op == nil {
		e.bytes("operation", nil, maxOp)
		return
	}
	b, err := crdt.AppendOp(nil, op)
	if err != nil {
		e.fail("operation: %w", err)
		return
	}
	e.bytes("operation", b, maxOp)
}

func (d *decoder) op() kv.Op {
	b := d.bytes("operation", maxOp)
	if len(b) == 0 {
		return nil
	}
	op, err := crdt.DecodeOp(b)
	if err != nil {
		d.fail("%w", err)
		return nil
	}
	return op
}

func (e *encoder) answer(m vnode.Message) {
	switch m := m.(type) {
	case *vnode.Stored:
		e.bool(m.Live)
	case *vnode.Fetched:
		e.bytes("object", m.Object, kv.MaxObject)
	case *vnode.Listed:
		e.keys(m.Keys)
		e.string("Last", m.Last, kv.MaxKey)
		e.bool(m.More)
	case *coordinator.Forwarded:
		e.receipt(&m.Receipt)
		e.error(m.Err)
	case *vnode.Pulled:
		e.itemList(m.Items)
		e.badItems(m.Bad)
		e.bytes("Last", m.Last, maxAfter)
		e.bool(m.More)
	case *vnode.Delivered:
		e.results(m.Results)
	case *vnode.Summed:
		e.u64(m.Sum)
		e.sums(m.Sums)
	case *vnode.Versioned:
		e.itemList(m.Items)
		e.bytes("Last", m.Last, maxAfter)
		e.bool(m.More)
	case *vnode.Picked:
		e.itemList(m.Items)
	case *vnode.Dropped:
		e.count("Gone", m.Gone)
		e.count("Kept", m.Kept)
	case *vnode.StraysFound:
		e.uvarint(m.Epoch)
		e.u64(m.Life)
		e.standings(m.Homes)
	case *vnode.Matched:
		e.matches(m.Matches)
		e.string("LastTerm", m.LastTerm, kv.MaxKey)
		e.string("LastKey", m.LastKey, kv.MaxKey)
		e.bool(m.More)
	case *vnode.BucketsFound:
		e.foundBuckets(m.Found)
		e.string("Last", m.Last, kv.MaxBucket)
		e.string("Inside", m.Inside, kv.MaxKey)
		e.bool(m.More)
	case *vnode.Refusal:
		e.u8(uint8(m.Code))
		e.text(m.Text)
		e.uvarint(m.Epoch)
	case *vnode.Failure:
		e.u8(uint8(m.Code))
		e.text(m.Text)
	default:
		e.topology(m)
	}
}

// topology appends what a message about the topology carries.
func (e *encoder) topology(m vnode.Message) {
	switch m := m.(type) {
	case *Log:
		e.bytes("log message", m.Data, maxLog)
	case *StateAsk:
		e.uvarint(m.Have)
	case *StateGive:
		e.bytes("state", m.State, maxState)
	case *JobsGive:
		e.bytes("jobs", m.Jobs, maxState)
	case *Order:
		e.string("order", m.Do, maxName)
		e.bytes("body", m.Body, maxCommand)
	case *Moment:
		e.moment(m)
	case *Ordered:
		e.bytes("answer", m.Answer, maxState)
	case *Propose:
		e.id(m.ID)
		e.bytes("command", m.Command, maxCommand)
	case *Proposed:
		e.string("code", m.Code, maxName)
		e.text(m.Text)
	case *Knock:
		e.string("name", m.Name, maxName)
		e.id(m.ID)
		e.id(m.Cluster)
		e.u32(m.Partitions)
		e.u32(m.Replicas)
		e.string("version", m.Version, maxAddress)
		e.string("address", m.Address, maxAddress)
	case *Welcome:
		e.id(m.Cluster)
		e.u32(m.Partitions)
		e.u32(m.Replicas)
		e.u32(m.TargetN)
		e.string("name", m.Name, maxName)
		e.text(m.Refusal)
		e.bytes("state", m.State, maxState)
	}
}

// message takes what a message of a known kind carries. The fields of a
// composite literal are taken in the order in which they stand.
func (d *decoder) message(k kind) vnode.Message {
	if k.answer() {
		return d.answer(k)
	}
	return d.request(k)
}

func (d *decoder) request(k kind) vnode.Message {
	switch k {
	case kindStore:
		return &vnode.Store{Home: d.partition(), Key: d.key(), Object: d.bytes("object", kv.MaxObject)}
	case kindFetch:
		return &vnode.Fetch{Home: d.partition(), Key: d.key()}
	case kindList:
		return &vnode.List{Home: d.partition(), Bucket: d.bucket(), After: d.string("After", kv.MaxKey), Limit: d.count("Limit"), At: d.varint(), Latest: d.bool()}
	case kindCensus:
		return &vnode.Census{Bucket: d.bucket(), Limit: d.count("Limit"), At: d.varint(), Latest: d.bool()}
	case kindPing:
		return &vnode.Ping{}
	case kindForward:
		return &coordinator.Forward{Key: d.key(), Deleted: d.bool(), Options: d.options(), Value: d.value(), Op: d.op()}
	case kindPull:
		return &vnode.Pull{Home: d.partition(), After: d.bytes("After", maxAfter), Limit: d.count("Limit"), Bare: d.bool(), Whole: d.bool()}
	case kindDeliver, kindMend:
		return &vnode.Deliver{Home: d.partition(), Items: d.itemList(), Placed: k == kindMend}
	case kindSums:
		return &vnode.Sums{Home: d.partition(), Branch: d.count("Branch") + vnode.Root, Known: d.u64()}
	case kindVersions:
		return &vnode.Versions{Home: d.partition(), Segments: d.segments(), After: d.bytes("After", maxAfter), Limit: d.count("Limit")}
	case kindPick:
		return &vnode.Pick{Home: d.partition(), Keys: d.keyList(), Bare: d.bool(), Limit: d.count("Limit")}
	case kindAttest:
		return &vnode.Attest{Home: d.partition(), Items: d.itemList()}
	case kindReap:
		return &vnode.Reap{Home: d.partition(), Items: d.itemList()}
	case kindStrays:
		return &vnode.Strays{Homes: d.homes()}
	}
	return d.query(k)
}

func (d *decoder) answer(k kind) vnode.Message {
	switch k {
	case kindStored:
		return &vnode.Stored{Live: d.bool()}
	case kindFetched:
		return &vnode.Fetched{Object: d.bytes("object", kv.MaxObject)}
	case kindListed:
		return &vnode.Listed{Keys: d.keys(), Last: d.string("Last", kv.MaxKey), More: d.bool()}
	case kindPong:
		return &vnode.Pong{}
	case kindForwarded:
		return &coordinator.Forwarded{Receipt: d.receipt(), Err: d.error()}
	case kindPulled:
		return &vnode.Pulled{Items: d.itemList(), Bad: d.badItems(), Last: d.bytes("Last", maxAfter), More: d.bool()}
	case kindDelivered:
		return &vnode.Delivered{Results: d.results()}
	case kindSummed:
		return &vnode.Summed{Sum: d.u64(), Sums: d.sums()}
	case kindVersioned:
		return &vnode.Versioned{Items: d.itemList(), Last: d.bytes("Last", maxAfter), More: d.bool()}
	case kindPicked:
		return &vnode.Picked{Items: d.itemList()}
	case kindDropped:
		return &vnode.Dropped{Gone: d.count("Gone"), Kept: d.count("Kept")}
	case kindStanding:
		return &vnode.StraysFound{Epoch: d.uvarint(), Life: d.u64(), Homes: d.standings()}
	case kindMatched:
		return &vnode.Matched{Matches: d.matches(), LastTerm: d.string("LastTerm", kv.MaxKey), LastKey: d.string("LastKey", kv.MaxKey), More: d.bool()}
	case kindFound:
		return &vnode.BucketsFound{Found: d.foundBuckets(), Last: d.string("Last", kv.MaxBucket), Inside: d.string("Inside", kv.MaxKey), More: d.bool()}
	case kindRefusal:
		return &vnode.Refusal{Code: vnode.Code(d.u8()), Text: d.text(), Epoch: d.uvarint()}
	case kindFailure:
		return &vnode.Failure{Code: vnode.Code(d.u8()), Text: d.text()}
	}
	return d.topology(k)
}

// topology takes a message about the topology.
func (d *decoder) topology(k kind) vnode.Message {
	switch k {
	case kindLog:
		return &Log{Data: d.bytes("log message", maxLog)}
	case kindLogged:
		return &Logged{}
	case kindJobsAsk:
		return &JobsAsk{}
	case kindOrder:
		return &Order{Do: d.string("order", maxName), Body: d.bytes("body", maxCommand)}
	case kindMoment:
		return d.moment()
	case kindOrdered:
		return &Ordered{Answer: d.bytes("answer", maxState)}
	case kindStateAsk:
		return &StateAsk{Have: d.uvarint()}
	case kindJobsGive:
		return &JobsGive{Jobs: d.bytes("jobs", maxState)}
	case kindStateGive:
		return &StateGive{State: d.bytes("state", maxState)}
	case kindPropose:
		return &Propose{ID: d.id(), Command: d.bytes("command", maxCommand)}
	case kindProposed:
		return &Proposed{Code: d.string("code", maxName), Text: d.text()}
	case kindKnock:
		return &Knock{
			Name: d.string("name", maxName), ID: d.id(), Cluster: d.id(), Partitions: d.u32(), Replicas: d.u32(),
			Version: d.string("version", maxAddress), Address: d.string("address", maxAddress),
		}
	case kindWelcome:
		return &Welcome{
			Cluster: d.id(), Partitions: d.u32(), Replicas: d.u32(), TargetN: d.u32(),
			Name: d.string("name", maxName), Refusal: d.text(), State: d.bytes("state", maxState),
		}
	}
	return nil
}

func (d *decoder) partition() ring.Partition { return ring.Partition(d.u16()) }

// keys appends the number of keys, their lengths, and then all of them in one
// piece, which the decoder turns into one string.
func (e *encoder) keys(keys []string) {
	e.items("keys", len(keys), maxKeys)
	for _, k := range keys {
		if k == "" || len(k) > kv.MaxKey {
			e.fail("key is %d bytes long; it must be between 1 and %d", len(k), kv.MaxKey)
		}
		e.uvarint(uint64(len(k)))
	}
	for _, k := range keys {
		e.b = append(e.b, k...)
	}
}

func (d *decoder) keys() []string {
	const least = 2 // bytes of a key: its length and itself
	n := d.items("keys", least, maxKeys)
	if n == 0 {
		return nil
	}
	lengths, total := *d, 0
	for range n {
		size := d.length("key", kv.MaxKey)
		if size == 0 {
			d.fail("key is zero-length")
		}
		total += size
	}
	all := string(d.take(total))
	if d.err != nil {
		return nil
	}
	keys := make([]string, n)
	for i := range keys {
		size := int(lengths.uvarint())
		keys[i], all = all[:size], all[size:]
	}
	return keys
}

// leastItem is the least bytes of an item: a key of two names, hash, no object.
const leastItem = 3 + 2 + 8 + 1

func (e *encoder) itemList(items []vnode.Item) {
	e.items("items", len(items), maxItems)
	for i := range items {
		e.key(items[i].Key)
		e.u64(items[i].Hash)
		e.bytes("object", items[i].Object, kv.MaxObject)
	}
}

func (d *decoder) itemList() []vnode.Item {
	n := d.items("items", leastItem, maxItems)
	if n == 0 {
		return nil
	}
	items := make([]vnode.Item, n)
	for i := range items {
		items[i] = vnode.Item{Key: d.key(), Hash: d.u64(), Object: d.bytes("object", kv.MaxObject)}
	}
	return items
}

// leastKey is the least bytes of a key: three lengths, and two names.
const leastKey = 3 + 2

func (e *encoder) keyList(keys []kv.Key) {
	e.items("keys", len(keys), maxItems)
	for _, k := range keys {
		e.key(k)
	}
}

func (d *decoder) keyList() []kv.Key {
	n := d.items("keys", leastKey, maxItems)
	if n == 0 {
		return nil
	}
	keys := make([]kv.Key, n)
	for i := range keys {
		keys[i] = d.key()
	}
	return keys
}

func (e *encoder) segments(all []vnode.Segment) {
	e.items("segments", len(all), maxSegments)
	for _, s := range all {
		e.u16(uint16(s))
	}
}

func (d *decoder) segments() []vnode.Segment {
	n := d.items("segments", 2, maxSegments)
	if n == 0 {
		return nil
	}
	all := make([]vnode.Segment, n)
	for i := range all {
		all[i] = vnode.Segment(d.u16())
	}
	return all
}

// sums are as many as a tree has branches, and a branch segments, or none.
func (e *encoder) sums(sums []uint64) {
	e.items("sums", len(sums), vnode.Branches)
	for _, s := range sums {
		e.u64(s)
	}
}

func (d *decoder) sums() []uint64 {
	n := d.items("sums", 8, vnode.Branches)
	if n == 0 {
		return nil
	}
	sums := make([]uint64, n)
	for i := range sums {
		sums[i] = d.u64()
	}
	return sums
}

// leastBad is the least bytes of an item that cannot be read: no key, no text.
const leastBad = 2

func (e *encoder) badItems(bad []vnode.BadItem) {
	e.items("unreadable items", len(bad), maxItems)
	for i := range bad {
		known := bad[i].Key != kv.Key{}
		e.bool(known)
		if known {
			e.key(bad[i].Key)
		}
		e.text(bad[i].Text)
	}
}

func (d *decoder) badItems() []vnode.BadItem {
	n := d.items("unreadable items", leastBad, maxItems)
	if n == 0 {
		return nil
	}
	bad := make([]vnode.BadItem, n)
	for i := range bad {
		if d.bool() {
			bad[i].Key = d.key()
		}
		bad[i].Text = d.text()
	}
	return bad
}

func (e *encoder) results(results []vnode.ItemResult) {
	e.items("results", len(results), maxItems)
	for _, r := range results {
		e.u8(uint8(r))
	}
}

func (d *decoder) results() []vnode.ItemResult {
	n := d.items("results", 1, maxItems)
	if n == 0 {
		return nil
	}
	results := make([]vnode.ItemResult, n)
	for i := range results {
		results[i] = vnode.ItemResult(d.u8())
	}
	return results
}

func (e *encoder) homes(homes []ring.Partition) {
	e.items("homes", len(homes), maxItems)
	for _, h := range homes {
		e.u16(uint16(h))
	}
}

func (d *decoder) homes() []ring.Partition {
	n := d.items("homes", 2, maxItems)
	if n == 0 {
		return nil
	}
	homes := make([]ring.Partition, n)
	for i := range homes {
		homes[i] = d.partition()
	}
	return homes
}

func (e *encoder) standings(homes []vnode.Standing) {
	e.items("homes", len(homes), maxItems)
	for _, h := range homes {
		e.bool(h.Stray)
		e.uvarint(h.Count)
	}
}

func (d *decoder) standings() []vnode.Standing {
	n := d.items("homes", 2, maxItems)
	if n == 0 {
		return nil
	}
	homes := make([]vnode.Standing, n)
	for i := range homes {
		homes[i] = vnode.Standing{Stray: d.bool(), Count: d.uvarint()}
	}
	return homes
}

func (e *encoder) options(o *kv.WriteOptions) {
	e.bytes("context", o.Context, kv.MaxContext)
	for _, n := range []int{o.N, int(o.W), int(o.DW), int(o.PW), int(o.R), int(o.PR), o.NodeConfirms} {
		e.varint(int64(n))
	}
	e.bool(o.ReturnBody)
	e.toggle(o.SloppyQuorum)
	e.varint(int64(o.Timeout))
	e.varint(int64(o.Linger))
	e.id(o.RequestID)
	e.bool(o.IfNotModified)
}

func (d *decoder) options() (o kv.WriteOptions) {
	o.Context = d.bytes("context", kv.MaxContext)
	o.N = int(d.varint())
	for _, q := range []*kv.Quorum{&o.W, &o.DW, &o.PW, &o.R, &o.PR} {
		*q = kv.Quorum(d.varint())
	}
	o.NodeConfirms = int(d.varint())
	o.ReturnBody = d.bool()
	o.SloppyQuorum = d.toggle()
	o.Timeout = time.Duration(d.varint())
	o.Linger = time.Duration(d.varint())
	o.RequestID = d.id()
	o.IfNotModified = d.bool()
	return o
}

func (e *encoder) toggle(t kv.Toggle) {
	if t < kv.Unset || t > kv.Off {
		e.fail("%d is neither on, off nor unset", t)
	}
	e.u8(uint8(t))
}

func (d *decoder) toggle() kv.Toggle {
	v := d.u8()
	if v > uint8(kv.Off) {
		d.fail("%d is neither on, off nor unset", v)
		return kv.Unset
	}
	return kv.Toggle(v)
}

// value appends the body as package object encodes it, and then what is not
// part of a body.
func (e *encoder) value(v *kv.Value) {
	if err := v.Validate(); err != nil {
		e.fail("%w", err)
		return
	}
	at := len(e.b)
	e.u32(0) // the length of the body, when it is known
	e.b = object.AppendBody(e.b, v)
	binary.BigEndian.PutUint32(e.b[at:], uint32(len(e.b)-at-4))
	e.time(v.Expires)
	e.time(v.Modified)
	e.string("VTag", v.VTag, maxName)
	e.bool(v.Deleted)
}

func (d *decoder) value() kv.Value {
	n := d.u32()
	if uint64(n) > uint64(len(d.b)) {
		d.fail("%w", errShort)
	}
	if d.err != nil {
		return kv.Value{}
	}
	v, err := object.DecodeBody(d.take(int(n)))
	if err == nil {
		err = v.Validate()
	}
	if err != nil {
		d.fail("%w", err)
		return kv.Value{}
	}
	v.Expires = d.time()
	v.Modified = d.time()
	v.VTag = d.string("VTag", maxName)
	v.Deleted = d.bool()
	return v
}

func (e *encoder) receipt(r *kv.Receipt) {
	e.bytes("context", r.Context, kv.MaxContext)
	e.items("values", len(r.Values), kv.MaxSiblings)
	for i := range r.Values {
		e.value(&r.Values[i])
	}
	e.items("replies", len(r.Replies), maxItem)
	for i := range r.Replies {
		e.reply(&r.Replies[i])
	}
}

// The least bytes of an item, by which a claimed number of them is judged.
const (
	leastValue   = 4 + 1 + 1 + 1 + 1
	leastReply   = 8
	leastFailure = 4
)

func (d *decoder) receipt() (r kv.Receipt) {
	r.Context = d.bytes("context", kv.MaxContext)
	if n := d.items("values", leastValue, kv.MaxSiblings); n > 0 {
		r.Values = make([]kv.Value, n)
	}
	for i := range r.Values {
		r.Values[i] = d.value()
	}
	if n := d.items("replies", leastReply, maxItem); n > 0 {
		r.Replies = make([]kv.Reply, n)
	}
	for i := range r.Replies {
		r.Replies[i] = d.reply()
	}
	return r
}

// The roles and results by their numbers on the wire, which are fixed.
var (
	roles   = []kv.Role{"", kv.Primary, kv.Fallback, kv.Incoming}
	results = []kv.Result{"", kv.OK, kv.Found, kv.NotFound, kv.Down, kv.Refused, kv.Failed, kv.Pending}
)

func (e *encoder) reply(r *kv.Reply) {
	e.position(r.Partition)
	e.string("node", r.Node, maxName)
	number(e, roles, r.Role)
	number(e, results, r.Result)
	e.varint(int64(r.Elapsed))
	e.text(r.Error)
	e.bool(r.Repaired)
}

func (d *decoder) reply() kv.Reply {
	return kv.Reply{
		Partition: d.position(),
		Node:      d.string("node", maxName),
		Role:      word(d, roles),
		Result:    word(d, results),
		Elapsed:   time.Duration(d.varint()),
		Error:     d.text(),
		Repaired:  d.bool(),
	}
}

func (e *encoder) position(p kv.Partition) {
	e.count("partition", p.Index)
	e.count("ring size", p.Of)
}

func (d *decoder) position() kv.Partition {
	return kv.Partition{Index: d.count("partition"), Of: d.count("ring size")}
}

// number appends the place of a word in its list.
func number[T ~string](e *encoder, words []T, w T) {
	for i := range words {
		if words[i] == w {
			e.u8(uint8(i))
			return
		}
	}
	e.fail("%q is not one of %q", w, words)
}

func word[T ~string](d *decoder, words []T) T {
	i := int(d.u8())
	if i >= len(words) {
		d.fail("number %d of %d words", i, len(words))
		return ""
	}
	return words[i]
}
