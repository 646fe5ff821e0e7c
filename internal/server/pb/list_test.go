package pb

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tanodb/tanodb/internal/server/riakpb"
	"github.com/tanodb/tanodb/kv"
)

func TestListingKeysIsStreamed(t *testing.T) {
	f := &fake{}
	c := dial(t, f, Options{})
	list := func(bucket string) (keys []string, messages int) {
		t.Helper()
		c.send(frameOf(t, riakpb.ListKeysReq, &riakpb.RpbListKeysReq{Bucket: []byte(bucket), Timeout: proto.Uint32(1000), Type: []byte("t")}))
		for {
			var m riakpb.RpbListKeysResp
			c.await(riakpb.ListKeysResp, &m)
			if messages++; m.GetDone() {
				if len(m.Keys) > 0 {
					t.Error("there are keys beside done, which Riak's client for Ruby throws away")
				}
				return keys, messages
			}
			if len(m.Keys) == 0 {
				t.Error("a message has no keys, which Riak's client for Ruby does not expect")
			}
			for _, k := range m.Keys {
				keys = append(keys, string(k))
			}
		}
	}
	if keys, messages := list("empty"); len(keys) > 0 || messages != 1 {
		t.Errorf("%d keys in %d messages", len(keys), messages)
	}
	var want []string
	for i := range 2*listPage + 10 {
		k := fmt.Sprintf("key%05d", i)
		want = append(want, k)
		if _, err := f.Memory.Put(t.Context(), kv.Key{Type: "t", Bucket: "b", Name: k}, kv.Value{}, kv.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	keys, messages := list("b")
	slices.Sort(keys)
	if !slices.Equal(keys, want) || messages != 4 {
		t.Errorf("%d keys in %d messages, want %d in 4", len(keys), messages, len(want))
	}
	c.alive()
}

func TestAListingThatFailsEndsWithTheError(t *testing.T) {
	f := &fake{fail: kv.ErrTimeout}
	c := dial(t, f, Options{})
	q := &riakpb.RpbListKeysReq{Bucket: []byte("b")}
	c.fails(riakpb.ListKeysReq, q, "timeout")
	f.boom = true // only after the first page
	for i := range listPage + 1 {
		if _, err := f.Memory.Put(t.Context(), kv.Key{Bucket: "b", Name: fmt.Sprint(i)}, kv.Value{}, kv.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	var m riakpb.RpbListKeysResp
	c.ask(riakpb.ListKeysReq, q, riakpb.ListKeysResp, &m)
	if len(m.Keys) != listPage || m.Done != nil {
		t.Errorf("%d keys, done %v", len(m.Keys), m.Done)
	}
	c.awaitError("timeout")
	c.alive()
}

func TestListingBuckets(t *testing.T) {
	q := &riakpb.RpbListBucketsReq{Type: []byte("default")}
	dial(t, &fake{}, Options{}).fails(riakpb.ListBucketsReq, q, string(errNoBuckets))
	f := &fake{buckets: []string{"a", "b", "c"}}
	c := dial(t, f, Options{Buckets: f})
	var all riakpb.RpbListBucketsResp
	c.ask(riakpb.ListBucketsReq, q, riakpb.ListBucketsResp, &all)
	if got := fmt.Sprintf("%s", all.Buckets); got != "[a b c]" || all.Done != nil {
		t.Errorf("buckets %s, done %v", got, all.Done)
	}
	q.Stream, q.Type = proto.Bool(true), []byte("t")
	c.send(frameOf(t, riakpb.ListBucketsReq, q))
	var first, second, last riakpb.RpbListBucketsResp
	c.await(riakpb.ListBucketsResp, &first)
	c.await(riakpb.ListBucketsResp, &second)
	c.await(riakpb.ListBucketsResp, &last)
	if got := fmt.Sprintf("%s %s %s", first.Buckets, second.Buckets, last.Buckets); got != "[ta tb] [tc] []" || first.Done != nil || second.Done != nil || !last.GetDone() {
		t.Errorf("buckets %s, done %v, %v and %v", got, first.Done, second.Done, last.Done)
	}
	f.buckets = []string{strings.Repeat("x", maxBuckets), "y"}
	q.Stream = nil
	c.fails(riakpb.ListBucketsReq, q, string(errManyBuckets))
	f.fail = errors.New("broken")
	c.fails(riakpb.ListBucketsReq, q, "broken")
	c.alive()
}

func TestListsThatAreNotAllowed(t *testing.T) {
	f := &fake{buckets: []string{"a"}}
	allowed := false
	c := dial(t, f, Options{Buckets: f, AllowsLists: func() bool { return allowed }})
	keys := &riakpb.RpbListKeysReq{Bucket: []byte("b")}
	c.fails(riakpb.ListKeysReq, keys, "Operation '{riak_kv,stream_list_keys}' is not enabled")
	c.fails(riakpb.ListBucketsReq, &riakpb.RpbListBucketsReq{}, "Operation '{riak_kv,list_buckets}' is not enabled")
	c.fails(riakpb.ListBucketsReq, &riakpb.RpbListBucketsReq{Stream: proto.Bool(true)}, "Operation '{riak_kv,stream_list_buckets}' is not enabled")
	keys.Ask = &riakpb.TanoAsk{} // page by page, as our own client
	c.ask(riakpb.ListKeysReq, keys, riakpb.ListKeysResp, &riakpb.RpbListKeysResp{})
	keys.Ask, allowed = nil, true
	c.ask(riakpb.ListKeysReq, keys, riakpb.ListKeysResp, &riakpb.RpbListKeysResp{})
	c.ask(riakpb.ListBucketsReq, &riakpb.RpbListBucketsReq{}, riakpb.ListBucketsResp, &riakpb.RpbListBucketsResp{})
}

// An index of all keys is a list of them by another name.
func TestListsByAnIndexThatAreNotAllowed(t *testing.T) {
	f := &fake{}
	allowed := false
	c := dial(t, f, Options{Indexes: f, AllowsLists: func() bool { return allowed }})
	for _, q := range []*riakpb.RpbIndexReq{equal("$bucket", "_"), between("$KEY", "a", "z")} {
		allowed, q.Stream, q.MaxResults = false, nil, nil
		c.fails(riakpb.IndexReq, q, "Operation '{riak_kv,secondary_index}' is not enabled")
		q.MaxResults = proto.Uint32(kv.MaxPage + 1)
		c.fails(riakpb.IndexReq, q, "Operation '{riak_kv,secondary_index}' is not enabled")
		q.Stream = proto.Bool(true)
		c.fails(riakpb.IndexReq, q, "Operation '{riak_kv,stream_secondary_index}' is not enabled")
		q.Stream, q.MaxResults = nil, proto.Uint32(kv.MaxPage)
		c.ask(riakpb.IndexReq, q, riakpb.IndexResp, &riakpb.RpbIndexResp{})
		q.MaxResults, q.Ask = nil, &riakpb.TanoAsk{} // page by page, as our own client
		c.ask(riakpb.IndexReq, q, riakpb.IndexResp, &riakpb.RpbIndexResp{})
		q.Ask, allowed = nil, true
		c.ask(riakpb.IndexReq, q, riakpb.IndexResp, &riakpb.RpbIndexResp{})
	}
	allowed = false
	c.ask(riakpb.IndexReq, between("f_bin", "a", "z"), riakpb.IndexResp, &riakpb.RpbIndexResp{})
}

func TestThePatienceWithClientsIsThatOfTheOptions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewServer(&fake{}, Options{ReadGrace: 3 * time.Second, WriteGrace: 4 * time.Second, Slowest: 1000})
		defer s.cut()
		ours, theirs := net.Pipe()
		defer ours.Close()
		c := &conn{net: theirs, server: s, out: &frame{b: make([]byte, 1000)}}
		begun := time.Now()
		if err := c.hurry(2000); err != nil {
			t.Fatal(err)
		}
		_, err := theirs.Read(make([]byte, 1))
		if took := time.Since(begun); !errors.Is(err, os.ErrDeadlineExceeded) || took != 5*time.Second {
			t.Errorf("a frame that does not come is given up after %v, error %v", took, err)
		}
		begun = time.Now()
		err = c.flush() // a deadline is set to twice the patience, and again when one is left
		if took := time.Since(begun); !errors.Is(err, os.ErrDeadlineExceeded) || took != 10*time.Second {
			t.Errorf("an answer that is not taken is given up after %v, error %v", took, err)
		}
	})
}

func TestPreflist(t *testing.T) {
	c := dial(t, &fake{}, Options{})
	var m riakpb.RpbGetBucketKeyPreflistResp
	c.ask(riakpb.PreflistReq, &riakpb.RpbGetBucketKeyPreflistReq{Bucket: []byte("b"), Key: []byte("k")}, riakpb.PreflistResp, &m)
	var got []string
	for _, i := range m.Preflist {
		got = append(got, fmt.Sprint(i.GetPartition(), " ", string(i.Node), " ", i.GetPrimary()))
	}
	// Who is down is not asked, nor for reads who is to be an owner.
	if want := []string{"10 n1 true", "12 n3 true", "11 n4 false"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestClientIDAndServerInfo(t *testing.T) {
	c := dial(t, &fake{}, Options{})
	var id riakpb.RpbGetClientIdResp
	c.ask(riakpb.GetClientIDReq, nil, riakpb.GetClientIDResp, &id)
	if string(id.ClientId) != "\x00\x00\x00\x00" {
		t.Errorf("client id %q before any was set", id.ClientId)
	}
	c.ask(riakpb.SetClientIDReq, &riakpb.RpbSetClientIdReq{ClientId: []byte("me")}, riakpb.SetClientIDResp, nil)
	c.alive()
	c.ask(riakpb.GetClientIDReq, nil, riakpb.GetClientIDResp, &id)
	if string(id.ClientId) != "me" {
		t.Errorf("client id %q", id.ClientId)
	}
	c.fails(riakpb.SetClientIDReq, &riakpb.RpbSetClientIdReq{ClientId: make([]byte, maxClientID+1)}, "client id is 257 bytes long; the limit is 256")
	var info riakpb.RpbGetServerInfoResp
	c.ask(riakpb.ServerInfoReq, nil, riakpb.ServerInfoResp, &info)
	if string(info.Node) != "n1" || string(info.ServerVersion) != "3.2.0" {
		t.Errorf("server %q of version %q", info.Node, info.ServerVersion)
	}
}
