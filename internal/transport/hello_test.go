package transport

import (
	"encoding/binary"
	"hash/crc32"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func sampleHello() hello {
	return hello{
		low: lowProtocol, high: highProtocol, cluster: [16]byte{1, 2}, partitions: 64, class: Bulk, from: "n1", to: "n2",
		id: [16]byte{3, 4}, address: "h:1", epoch: 7, life: 5, met: 6, since: 4, before: 3, reaped: 9, reapedIn: 8, refusal: "because",
	}
}

func TestHelloRoundTrip(t *testing.T) {
	h := sampleHello()
	b := h.append(nil)
	got, err := decodeHello(b)
	if err != nil || got != h {
		t.Errorf("%+v, %v", got, err)
	}
	for i := range b {
		bad := append([]byte(nil), b...)
		bad[i] ^= 0x10
		if _, err := decodeHello(bad); err == nil {
			t.Fatalf("byte %d changed, and nobody notices", i)
		}
		if _, err := decodeHello(b[:i]); err == nil {
			t.Fatalf("cut at %d, and nobody notices", i)
		}
	}
	if _, err := decodeHello(make([]byte, maxHello+1)); err == nil || !strings.Contains(err.Error(), "limit") {
		t.Errorf("a hello too long: %v", err)
	}
}

// Of a later protocol no more is read than whom it comes from.
func TestHelloOfALaterProtocol(t *testing.T) {
	h := sampleHello()
	h.low, h.high = highProtocol+1, highProtocol+2
	got, err := decodeHello(h.append(nil))
	if want := (hello{low: h.low, high: h.high, from: "n1", to: "n2"}); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
}

// Why a node will not talk to another, and at the door.
func TestObjections(t *testing.T) {
	mine := hello{low: lowProtocol, high: highProtocol, cluster: [16]byte{1}, partitions: 64, from: "n1", to: "n2", id: [16]byte{1}}
	door := mine
	door.class = Door
	reply := func(h hello, change func(*hello)) hello {
		h.from, h.to, h.id = h.to, h.from, [16]byte{2}
		if change != nil {
			change(&h)
		}
		return h
	}
	tests := map[string]struct {
		mine, theirs hello
		known        [16]byte
		want         string
	}{
		"as it should be":           {mine, reply(mine, nil), [16]byte{2}, ""},
		"of an id not known yet":    {mine, reply(mine, nil), [16]byte{}, ""},
		"of another id":             {mine, reply(mine, nil), [16]byte{3}, "has the id 02000000000000000000000000000000, but the cluster knows the node of this name by the id 03"},
		"without an id":             {mine, reply(mine, func(h *hello) { h.id = [16]byte{} }), [16]byte{3}, "has the id 00"},
		"a later protocol":          {mine, reply(mine, func(h *hello) { h.low, h.high = 7, 8 }), [16]byte{}, "speaks protocol 7 to 8, this node 5 to 6"},
		"an earlier protocol":       {mine, reply(mine, func(h *hello) { h.low, h.high = 1, 1 }), [16]byte{}, "speaks protocol 1, this node 5 to 6"},
		"another cluster":           {mine, reply(mine, func(h *hello) { h.cluster = [16]byte{9} }), [16]byte{}, "is of another cluster"},
		"no cluster":                {mine, reply(mine, func(h *hello) { h.cluster = [16]byte{} }), [16]byte{}, "is of another cluster"},
		"another ring":              {mine, reply(mine, func(h *hello) { h.partitions = 8 }), [16]byte{}, "has a ring of 8 partitions, this node one of 64"},
		"another name":              {mine, reply(mine, func(h *hello) { h.from = "n7" }), [16]byte{}, `is called "n7"`},
		"one who seeks another":     {mine, reply(mine, func(h *hello) { h.to = "n7" }), [16]byte{}, `looks for a node "n7", this is n1`},
		"one who seeks anybody":     {mine, reply(mine, func(h *hello) { h.to = "" }), [16]byte{}, `looks for a node "", this is n1`},
		"another class":             {mine, reply(mine, func(h *hello) { h.class = Bulk }), [16]byte{}, "answers on a connection for bulk"},
		"a door where none was":     {mine, reply(mine, func(h *hello) { h.class = Door }), [16]byte{}, "answers on a connection for door"},
		"door: a stranger":          {door, reply(door, func(h *hello) { h.cluster, h.partitions, h.to, h.from = [16]byte{}, 0, "", "x" }), [16]byte{}, ""},
		"door: another ring":        {door, reply(door, func(h *hello) { h.partitions = 8 }), [16]byte{}, ""},
		"door: another cluster":     {door, reply(door, func(h *hello) { h.cluster = [16]byte{9} }), [16]byte{}, "is of another cluster"},
		"door: seeks another":       {door, reply(door, func(h *hello) { h.to = "n7" }), [16]byte{}, `looks for a node "n7"`},
		"door: of a later protocol": {door, reply(door, func(h *hello) { h.low, h.high = 7, 7 }), [16]byte{}, "speaks protocol 7"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := tt.mine.objection(tt.theirs, tt.known); !strings.HasPrefix(got, tt.want) || (tt.want == "") != (got == "") {
				t.Errorf("%q; want %q", got, tt.want)
			}
		})
	}
}

// FuzzHello works between the magic and the checksum, which a fuzzer does not
// get past.
func FuzzHello(f *testing.F) {
	h := sampleHello()
	b := h.append(nil)
	f.Add(b[len(helloMagic) : len(b)-checksum])
	f.Fuzz(func(t *testing.T, fields []byte) {
		b := append([]byte(helloMagic), fields...)
		h, err := decodeHello(binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli)))
		if err != nil {
			return
		}
		again, err := decodeHello(h.append(nil))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(h, again, cmp.AllowUnexported(hello{})); diff != "" {
			t.Fatal(diff)
		}
	})
}
