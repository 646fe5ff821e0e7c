package membership_test

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/kv"
)

func commands() []membership.Command {
	return []membership.Command{
		membership.Announce{Name: "n1", ID: id("n1"), Address: "h:1"},
		joins("n4"),
		membership.Stage{Change: membership.Change{Kind: membership.ChangeReplace, Node: "n1", With: "n2", Zone: "z", Weight: 3}},
		membership.Clear{},
		membership.Commit{Plan: "abc"},
		membership.Down{Name: "n1"},
		membership.Left{Name: "n1"},
		membership.Filled{Transfer: 1 << 63, Node: "n1"},
		membership.Settled{Transfer: 7},
		membership.Mark{After: 7},
		membership.Reaped{Mark: 9, Lives: []membership.NodeLife{{Node: "n1", Life: 1 << 63}, {Node: "n2", Life: 2}}},
		membership.Set{Key: "k", Value: "v<>&"},
		membership.SetType{Name: "carts", Do: membership.TypeCreate, Props: kv.Properties{{Name: "r", Value: "quorum"}, {Name: "ttl", Value: "1h0m0s"}, {Name: "w", Value: ""}}},
		membership.SetBucket{Bucket: kv.Bucket{Type: "carts", Name: "\x00\xff/"}, Reset: true, Props: kv.Properties{{Name: "n_val", Value: "2"}}},
		membership.SetSecurity{Do: membership.SecurityEnable},
		membership.SetSecurity{Do: membership.SecurityAddUser, Names: []string{"anna"}, Groups: &[]string{"g"}, Verifier: "v"},
		membership.SetSecurity{Do: membership.SecurityAddSource, Names: []string{"all"}, CIDR: netip.MustParsePrefix("10.0.0.0/8"), Method: "trust"},
		membership.SetSecurity{Do: membership.SecurityGrant, Names: []string{"a", "b"}, Permissions: []string{"riak_kv.get"}, Scope: membership.Scope{Type: "t", Bucket: []byte("\x00\xff/")}},
		membership.Noop{},
	}
}

func TestCommandsAreDecodedAsTheyWere(t *testing.T) {
	for _, c := range commands() {
		got, err := membership.DecodeCommand(membership.EncodeCommand(c))
		if err != nil {
			t.Errorf("%T: %v", c, err)
			continue
		}
		if diff := cmp.Diff(c, got, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
			t.Errorf("%T: %s", c, diff)
		}
	}
}

func TestDecodeCommandRefuses(t *testing.T) {
	for _, b := range []string{
		``, `{`, `null`, `[]`, `{"v":1}`, `{"v":1,"clear":{},"noop":{}}`, `{"v":2,"clear":{}}`, `{"v":1,"dance":{}}`,
		`{"v":1,"clear":{"x":1}}`, `{"v":1,"clear":{}} x`, `{"v":1,"stage":{"kind":"join","node":"n1","id":"12"}}`,
		`{"v":1,"stage":{"kind":"join","with":1}}`, `{"v":1,"announce":{"name":"n1","id":"zz"}}`,
	} {
		if c, err := membership.DecodeCommand([]byte(b)); err == nil {
			t.Errorf("%s is %#v", b, c)
		}
	}
}

func FuzzDecodeCommand(f *testing.F) {
	for _, c := range commands() {
		f.Add(membership.EncodeCommand(c))
	}
	s := bootstrapped(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := membership.DecodeCommand(b)
		if err != nil {
			return
		}
		encoded := membership.EncodeCommand(c)
		again, err := membership.DecodeCommand(encoded)
		if err != nil || !bytes.Equal(membership.EncodeCommand(again), encoded) {
			t.Fatalf("%v: %s", err, encoded)
		}
		next := s.Apply(membership.CommandID{1}, c)
		if _, err := membership.DecodeState(next.Encode()); err != nil {
			t.Fatalf("%v: %s", err, next.Encode())
		}
	})
}
