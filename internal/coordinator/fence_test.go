package coordinator

import (
	"errors"
	"testing"

	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
)

// A write that was made before the mark of a reaping is not sent on behind it: what it
// stands beside may have been deleted, and forgotten, since. Its vnode is asked what it has
// of the key now.
func TestAVersionFromBeforeTheMarkIsReadAgain(t *testing.T) {
	v := turns(t, "n1 n2 n3 n4 n5 n6 n7 n8")
	first, err := object.Decode(encoded(1))
	if err != nil {
		t.Fatal(err)
	}
	replaced := object.Write(first, first.Clock, object.Sibling{Dot: object.Dot{Actor: object.Actor{1}, Counter: 2}, Stamp: 2}).Encode()
	for name, c := range map[string]struct {
		answer vnode.Message
		sent   bool
	}{
		"it is still there":         {&vnode.Fetched{Object: encoded(1)}, true},
		"it was replaced meanwhile": {&vnode.Fetched{Object: replaced}, true},
		"it is forgotten":           {&vnode.Fetched{}, false},
		"another one is there":      {&vnode.Fetched{Object: encoded(2)}, false},
		"it cannot be read":         {&vnode.Failure{Code: vnode.CodeCorrupt}, false},
	} {
		t.Run(name, func(t *testing.T) {
			k := k1
			for v.Ring.Primaries(v.Ring.Home(k), 3)[0].Node != "n1" {
				k.Name += "x"
			}
			p := NewPut(v, PutRequest{Key: k, Options: kv.WriteOptions{W: kv.All}})
			local := asksOf(p.Step(0, Start{}, nil))[0]
			stores := asksOf(p.Step(1, Replied{I: local.I, Msg: &vnode.Minted{Object: encoded(1)}}, nil))
			if len(stores) != 2 {
				t.Fatalf("%d are sent it", len(stores))
			}
			out := p.Step(2, Replied{I: stores[0].I, Msg: &vnode.Refusal{Code: vnode.CodeStale, Epoch: 3}}, nil)
			if _, ok := out[0].(Refresh); !ok || len(out) != 1 {
				t.Fatalf("after a refusal: %v", out)
			}
			later := v
			later.Epoch, later.Fence = 3, 3
			reads := asksOf(p.Step(3, Refreshed{View: later}, nil))
			if len(reads) != 1 || reads[0].To.Node != "n1" || reads[0].Epoch != 3 {
				t.Fatalf("with the newer view it asks %v", reads)
			}
			again := asksOf(p.Step(4, Replied{I: reads[0].I, Msg: c.answer}, nil))
			if !c.sent {
				if _, err := p.Result(); len(again) > 0 || !p.Done() || !errors.Is(err, kv.ErrInDoubt) {
					t.Errorf("asks %v, done %t, %v", again, p.Done(), err)
				}
				return
			}
			if len(again) != 1 || again[0].Epoch != 3 || again[0].To != stores[0].To {
				t.Fatalf("asks %v", again)
			}
			p.Step(5, Replied{I: again[0].I, Msg: &vnode.Stored{}}, nil)
			p.Step(5, Replied{I: stores[1].I, Msg: &vnode.Stored{}}, nil)
			p.Step(5, Replied{I: local.I, Msg: &vnode.Stored{}}, nil)
			if _, err := p.Result(); !p.Done() || err != nil {
				t.Errorf("done %t, %v", p.Done(), err)
			}
		})
	}
}

// A change behind which the version need not be read again sends it at once, as ever.
func TestAVersionFromAfterTheMarkIsSentAgain(t *testing.T) {
	v := turns(t, "n1 n2 n3 n4 n5 n6 n7 n8")
	v.Epoch, v.Fence = 5, 5
	k := k1
	for v.Ring.Primaries(v.Ring.Home(k), 3)[0].Node != "n1" {
		k.Name += "x"
	}
	p := NewPut(v, PutRequest{Key: k, Options: kv.WriteOptions{W: kv.All}})
	local := asksOf(p.Step(0, Start{}, nil))[0]
	stores := asksOf(p.Step(1, Replied{I: local.I, Msg: &vnode.Minted{Object: encoded(1)}}, nil))
	p.Step(2, Replied{I: stores[0].I, Msg: &vnode.Refusal{Code: vnode.CodeStale, Epoch: 6}}, nil)
	later := v
	later.Epoch = 6
	again := asksOf(p.Step(3, Refreshed{View: later}, nil))
	if len(again) != 1 || again[0].To != stores[0].To {
		t.Errorf("asks %v", again)
	}
}
