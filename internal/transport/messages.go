package transport

import (
	"github.com/tanodb/tanodb/internal/coordinator"
	"github.com/tanodb/tanodb/internal/crdt"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
)

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
