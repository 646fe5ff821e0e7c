package pb

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tanodb/tanodb/internal/server/riakpb"
	"github.com/tanodb/tanodb/kv"
)

// owners are the ring of a test.
type owners []string

func (o owners) Owners() (uint64, []string) { return 7, o }

func TestTheRingIsTold(t *testing.T) {
	c := dial(t, &fake{}, Options{Cluster: owners{"n2", "n1", "n2", "n3"}})
	var a riakpb.TanoRingResp
	c.ask(riakpb.RingReq, &riakpb.TanoRingReq{Epoch: proto.Uint64(6)}, riakpb.RingResp, &a)
	var got []string
	for _, o := range a.Owners {
		got = append(got, string(a.Nodes[o]))
	}
	if string(a.Node) != "n1" || a.GetEpoch() != 7 || !slices.Equal(got, []string{"n2", "n1", "n2", "n3"}) {
		t.Errorf("node %q, epoch %d, owners %q", a.Node, a.GetEpoch(), got)
	}
	c.ask(riakpb.RingReq, &riakpb.TanoRingReq{Epoch: proto.Uint64(7)}, riakpb.RingResp, &a)
	if string(a.Node) != "n1" || a.GetEpoch() != 7 || len(a.Owners) != 0 {
		t.Errorf("the ring that is known already is told again: %v", &a)
	}
	dial(t, &fake{}, Options{}).ask(riakpb.RingReq, &riakpb.TanoRingReq{}, riakpb.RingResp, &a)
	if string(a.Node) != "n1" || a.Epoch != nil || len(a.Owners) != 0 {
		t.Errorf("a server without a ring says %v", &a)
	}
}

// TestOnlyWhoAsksIsTold compares the answers to a request with and without an ask.
func TestOnlyWhoAsksIsTold(t *testing.T) {
	f := &fake{}
	c := dial(t, f, Options{})
	put := putOf("k", "v")
	put.Content.Links = []*riakpb.RpbLink{{Bucket: []byte("b"), Key: []byte("other"), Tag: []byte("t")}}
	put.Content.ExpiresUsecs = proto.Int64(time.Now().Add(time.Hour).UnixMicro())
	var stored riakpb.RpbPutResp
	c.ask(riakpb.PutReq, put, riakpb.PutResp, &stored)
	if stored.Told != nil || stored.Vclock != nil {
		t.Errorf("a put without an ask is told %v", &stored)
	}
	var found riakpb.RpbGetResp
	c.ask(riakpb.GetReq, getOf("k"), riakpb.GetResp, &found)
	if found.Told != nil || found.Content[0].ExpiresUsecs != nil {
		t.Errorf("a get without an ask is told %v", &found)
	}
	if len(found.Content[0].Links) != 1 || len(found.Content[0].Usermeta) != 0 {
		t.Errorf("a link is not shown as one: %v", &found)
	}
	get := getOf("k")
	get.Ask = &riakpb.TanoAsk{Linger: proto.Uint32(5)}
	c.ask(riakpb.GetReq, get, riakpb.GetResp, &found)
	if found.Told == nil || found.Content[0].GetExpiresUsecs() != put.Content.GetExpiresUsecs() || f.read.Tombstones || f.read.Linger != 5*time.Millisecond {
		t.Errorf("a get with an ask is told %v; it was asked with %+v", &found, f.read)
	}
	// Written back as our own client reads it, the link is one again.
	put.Content.Links, put.Content.Usermeta = nil, found.Content[0].Usermeta
	put.Vclock = found.Vclock
	c.ask(riakpb.PutReq, put, riakpb.PutResp, &stored)
	c.ask(riakpb.GetReq, getOf("k"), riakpb.GetResp, &found)
	if len(found.Content) != 1 || len(found.Content[0].Links) != 1 || len(found.Content[0].Usermeta) != 0 {
		t.Errorf("a link that was written back: %v", &found)
	}
	del := &riakpb.RpbDelReq{Bucket: []byte("b"), Key: []byte("never")}
	c.ask(riakpb.DelReq, del, riakpb.DelResp, nil)
	del.Ask = &riakpb.TanoAsk{}
	var e riakpb.RpbErrorResp
	c.ask(riakpb.DelReq, del, riakpb.Error, &e)
	if string(e.Errmsg) != "notfound" || !errors.Is(e.Told.Err(), kv.ErrNotFound) {
		t.Errorf("a delete of what is not there: %v", &e)
	}
	del.Ask.RequestId = make([]byte, 17)
	c.fails(riakpb.DelReq, del, "Message decoding error: the request id is too long")
	c.send(frameWithJunkAsk(t))
	c.await(riakpb.Error, &e)
	c.alive()
}

// frameWithJunkAsk is a get whose ask is none.
func frameWithJunkAsk(t *testing.T) []byte {
	t.Helper()
	get := getOf("k")
	get.ProtoReflect().SetUnknown([]byte{0xc2, 0x3e, 0x01, 0xff}) // field 1000, one byte
	return frameOf(t, riakpb.GetReq, get)
}

// TestErrorsAreToldWhole sends errors there and back.
func TestErrorsAreToldWhole(t *testing.T) {
	p := kv.Partition{Index: 3, Of: 64}
	replies := []kv.Reply{{Partition: p, Node: "n1", Role: kv.Fallback, Result: kv.Refused, Elapsed: time.Second, Error: "why", Repaired: true}}
	replies = append(replies, kv.Reply{Partition: kv.Partition{Index: 63, Of: 64}, Node: strings.Repeat("n", 1<<14), Role: kv.Primary, Result: kv.Pending})
	quorum := &kv.QuorumError{Op: "put", Need: "W", Want: 2, Got: 1, InDoubt: true, Timeout: true, Failures: []kv.Failure{{Partition: p, Node: "n1", Why: "why"}}}
	for _, err := range []error{
		kv.ErrNotFound, kv.ErrTimeout, kv.ErrOverload, quorum, kv.ErrInDoubt, &kv.InvalidError{What: "W", Problem: "is 9"}, kv.ErrContext,
		kv.ErrTooManySiblings, kv.ErrExists, kv.ErrModified, kv.ErrBucketType, kv.ErrClock, kv.ErrTooLarge, kv.ErrClosed, kv.ErrInternal,
		&kv.DataError{Cause: kv.ErrDataType, Text: "of a set"}, &kv.DataError{Cause: kv.ErrPrecondition, Text: "not there"}, &kv.DataError{Cause: kv.ErrOverflow, Text: "full"},
		errors.Join(kv.ErrInDoubt, kv.ErrClosed),
	} {
		field := riakpb.AppendTold(nil, ownField, replies, kv.Context("c"), err)
		var answer riakpb.RpbErrorResp
		if failed := (proto.UnmarshalOptions{AllowPartial: true}).Unmarshal(field, &answer); failed != nil {
			t.Fatal(failed)
		}
		back := answer.Told
		if again, failed := (proto.MarshalOptions{AllowPartial: true, Deterministic: true}).Marshal(&answer); failed != nil || !bytes.Equal(again, field) {
			t.Errorf("%q is encoded as %x; the generated code makes it %x, error %v", err, field, again, failed)
		}
		for _, is := range []error{
			kv.ErrNotFound, kv.ErrTimeout, kv.ErrOverload, kv.ErrQuorum, kv.ErrInDoubt, kv.ErrInvalid, kv.ErrContext,
			kv.ErrTooManySiblings, kv.ErrExists, kv.ErrModified, kv.ErrBucketType, kv.ErrClock, kv.ErrTooLarge, kv.ErrClosed, kv.ErrInternal,
			kv.ErrDataType, kv.ErrPrecondition, kv.ErrOverflow,
		} {
			if errors.Is(back.Err(), is) != errors.Is(err, is) {
				t.Errorf("%q came back as %q: is it %q?", err, back.Err(), is)
			}
		}
		if back.Err().Error() != err.Error() || !slices.Equal(back.KVReplies(), replies) || string(back.Context) != "c" {
			t.Errorf("%q came back as %q, with %+v", err, back.Err(), back.KVReplies())
		}
	}
}
