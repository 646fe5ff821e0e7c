package object

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"hash/crc32"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/tanodb/tanodb/kv"
	"pgregory.net/rapid"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the golden files of this package")

// seal makes an encoded object of any head and bodies, with good checksums.
func seal(flags byte, head, bodies []byte) []byte {
	b := []byte{version, flags}
	b = binary.AppendUvarint(b, uint64(len(head)))
	b = append(b, head...)
	sum := crc32.Checksum(b, castagnoli)
	b = binary.BigEndian.AppendUint32(b, sum)
	b = append(b, bodies...)
	return binary.BigEndian.AppendUint32(b, crc32.Update(sum, castagnoli, bodies))
}

// genAny draws objects with numbers of all sizes, beyond the small world.
func genAny(t *rapid.T) Object {
	var o Object
	for n := range rapid.IntRange(0, 5).Draw(t, "actors") {
		o.Clock = append(o.Clock, dot(n+1, rapid.Uint64Min(1).Draw(t, "counter")))
	}
	for _, d := range o.Clock {
		counters := rapid.SliceOfNDistinct(rapid.Uint64Range(1, d.Counter), 0, min(3, int(d.Counter>>1)&3), rapid.ID).Draw(t, "dots")
		slices.Sort(counters)
		for _, c := range counters {
			s := Sibling{Dot: Dot{d.Actor, c}, Stamp: Stamp(rapid.Uint64().Draw(t, "stamp"))}
			s.Deleted = rapid.Bool().Draw(t, "deleted")
			s.Expires = rapid.OneOf(rapid.Just(int64(0)), rapid.Int64()).Draw(t, "expires")
			copy(s.Request[:], rapid.SliceOfN(rapid.Byte(), 0, 16).Draw(t, "request"))
			if body := rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "body"); len(body) > 0 {
				s.Body, s.Size = body, len(body)
			}
			o.Siblings = append(o.Siblings, s)
		}
	}
	return o
}

func TestEncodingRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := genAny(t)
		b := o.Encode()
		if cap(b) != len(b) && cap(b) > 2*len(b) {
			t.Errorf("%d bytes in a buffer of %d", len(b), cap(b))
		}
		got, err := Decode(b)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(o, got); d != "" {
			t.Errorf("decoded (-want +got):\n%s", d)
		}
		if !bytes.Equal(got.Encode(), b) {
			t.Errorf("encodes to other bytes")
		}
		gotHead, err := DecodeHead(b)
		if err != nil {
			t.Fatal(err)
		}
		for i := range b {
			b[i] ^= 0xff // the head keeps nothing of b
		}
		if d := cmp.Diff(head(o), gotHead); d != "" {
			t.Errorf("head (-want +got):\n%s", d)
		}
	})
}

func TestEqualObjectsGiveEqualBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := genObject(t, "a"), genObject(t, "b"), genObject(t, "c")
		one, other := Merge(Merge(a, b), c), Merge(c, Merge(b, a))
		if !bytes.Equal(one.Encode(), other.Encode()) {
			t.Errorf("%v and %v", one, other)
		}
	})
}

// golden is an object with something of everything.
func golden() Object {
	body := AppendBody(nil, &kv.Value{
		Data:            []byte("forty-two"),
		ContentType:     "text/plain",
		Charset:         "utf-8",
		ContentEncoding: "identity",
		Meta:            []kv.Pair{{Name: "colour", Value: "blue"}, {Name: "colour", Value: ""}},
		Indexes:         []kv.Pair{{Name: "age_int", Value: "42"}},
	})
	return Object{
		Clock: Vector{dot(1, 3), dot(2, 300), dot(3, 1)},
		Siblings: []Sibling{
			{Dot: dot(1, 2), Stamp: 1_700_000_000_000 << logicalBits, Deleted: true},
			{Dot: dot(2, 299), Stamp: 1_700_000_000_001<<logicalBits | 5, Expires: 1_800_000_000_000,
				Request: kv.RequestID{0: 0xca, 15: 0xfe}, Size: len(body), Body: body},
			{Dot: dot(2, 300), Stamp: 1, Expires: -1, Size: 3, Body: AppendBody(nil, &kv.Value{})[:3]},
		},
	}
}

// TestGoldenBytes makes a change of a format visible in review. Bytes that
// older builds have written are on disks: a change needs a new version.
func TestGoldenBytes(t *testing.T) {
	for name, b := range map[string][]byte{
		"object_v1.hex":  golden().Encode(),
		"context_v1.hex": EncodeContext(kv.Key{Type: "carts", Bucket: "mybucket", Name: "k1"}, golden().Clock),
	} {
		path := "testdata/" + name
		got := hex.Dump(b)
		if *rewrite {
			if err := os.WriteFile(path, []byte(got), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s differs; if it must, run with -rewrite:\n%s", path, cmp.Diff(string(want), got))
		}
	}
}

func TestEveryFlippedBitIsFound(t *testing.T) {
	b := golden().Encode()
	start := bodiesStart(t, b)
	for i := range b {
		for bit := range 8 {
			bad := slices.Clone(b)
			bad[i] ^= 1 << bit
			_, err := Decode(bad)
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) {
				t.Fatalf("byte %d, bit %d: Decode gives error %v", i, bit, err)
			}
			_, err = DecodeHead(bad)
			if i < start && err == nil {
				t.Fatalf("byte %d, bit %d of the head: DecodeHead gives no error", i, bit)
			}
			if i >= start && err != nil {
				t.Fatalf("byte %d, bit %d of the bodies: DecodeHead gives error %v", i, bit, err)
			}
		}
	}
}

func bodiesStart(t *testing.T, b []byte) int {
	_, end, err := decodeHead(b)
	if err != nil {
		t.Fatal(err)
	}
	return end.bodies
}

func TestEveryTruncationIsFound(t *testing.T) {
	b := golden().Encode()
	for n := range len(b) {
		if _, err := Decode(b[:n]); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("%d of %d bytes: Decode gives error %v", n, len(b), err)
		}
		if _, err := DecodeHead(b[:n]); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("%d of %d bytes: DecodeHead gives error %v", n, len(b), err)
		}
	}
	if _, err := DecodeHead(append(b, 0)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a byte too many: error %v", err)
	}
}

// join concatenates bytes, strings of bytes and numbers as bytes.
func join(parts ...any) (b []byte) {
	for _, p := range parts {
		switch p := p.(type) {
		case int:
			b = append(b, byte(p))
		case string:
			b = append(b, p...)
		case []byte:
			b = append(b, p...)
		case Actor:
			b = append(b, p[:]...)
		}
	}
	return b
}

func TestOnlyCanonicalHeadsAreAccepted(t *testing.T) {
	a, b := actor(1), actor(2)
	stamp := "\x00\x00\x00\x00\x00\x00\x00\x09"
	good := join(2, a, 3, b, 1, 2, 0, 3, stamp, 0, 2, 1, 1, stamp, flagDeleted, 0)
	if _, err := Decode(seal(0, good, []byte("xy"))); err != nil {
		t.Fatalf("the example is not accepted: %v", err)
	}
	for _, c := range []struct {
		name   string
		flags  byte
		head   []byte
		bodies string
		want   string // part of the error; "unknown" in it: ErrVersion
	}{
		{"actors out of order", 0, join(2, b, 1, a, 1, 0), "", "actors are out of order"},
		{"an actor twice", 0, join(2, a, 1, a, 2, 0), "", "actors are out of order"},
		{"an actor with counter 0", 0, join(1, a, 0, 0), "", "an actor's counter is zero"},
		{"a number too long", 0, join(1, a, 0x81, 0, 0), "", "not in its shortest form"},
		{"a number past 64 bits", 0, join(1, a, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", 0), "", "past 64 bits"},
		{"more actors than bytes", 0, join(0xff, 0x7f, a, 1, 0), "", "the number of actors is more than the bytes can hold"},
		{"more siblings than bytes", 0, join(1, a, 1, 0xff, 0x7f, 0, 1, stamp, 0, 0), "", "the number of siblings is more than the bytes can hold"},
		{"nothing", 0, nil, "", "the number of actors is cut short"},
		{"no siblings", 0, join(1, a, 1), "", "the number of siblings is cut short"},
		{"half a sibling", 0, join(1, a, 1, 1, 0, 1, stamp), "", "the number of siblings is more than"},
		{"an expiry without end", 0, join(1, a, 1, 1, 0, 1, stamp, flagExpires, 0xff), "", "a sibling's expiry is cut short"},
		{"a request id without end", 0, join(1, a, 1, 1, 0, 1, stamp, flagRequest, 1), "", "a sibling's request id is cut short"},
		{"bytes left over", 0, join(0, 0, 0), "", "bytes are left over"},
		{"a dot of no actor", 0, join(1, a, 1, 1, 1, 1, stamp, 0, 0), "", "not in the clock"},
		{"a dot past the clock", 0, join(1, a, 1, 1, 0, 2, stamp, 0, 0), "", "not in the clock"},
		{"a dot of counter 0", 0, join(1, a, 1, 1, 0, 0, stamp, 0, 0), "", "not in the clock"},
		{"siblings out of order", 0, join(1, a, 2, 2, 0, 2, stamp, 0, 0, 0, 1, stamp, 0, 0), "", "siblings are out of order"},
		{"a sibling twice", 0, join(1, a, 2, 2, 0, 1, stamp, 0, 0, 0, 1, stamp, 0, 0), "", "siblings are out of order"},
		{"an expiry of zero", 0, join(1, a, 1, 1, 0, 1, stamp, flagExpires, 0, 0), "", "expiry is zero"},
		{"a request id of zero", 0, join(1, a, 1, 1, 0, 1, stamp, flagRequest, make([]byte, 16), 0), "", "request id is zero"},
		{"a body too long", 0, join(1, a, 1, 1, 0, 1, stamp, 0, 3), "xy", "the bodies are longer"},
		{"a body past all bounds", 0, join(1, a, 1, 1, 0, 1, stamp, 0, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), "", "the bodies are longer"},
		{"a body too short", 0, join(1, a, 1, 1, 0, 1, stamp, 0, 1), "xy", "the bodies are shorter"},
		{"bodies without siblings", 0, join(0, 0), "xy", "bodies without siblings"},
		{"flags of a sibling", 0, join(1, a, 1, 1, 0, 1, stamp, 0x80, 0), "", "unknown format: the object's sibling has flags 0x80"},
		{"flags of the object", 4, join(0, 0), "", "unknown format: the object has flags 0x04"},
	} {
		t.Run(c.name, func(t *testing.T) {
			sealed := seal(c.flags, c.head, []byte(c.bodies))
			wantIs := ErrCorrupt
			if strings.Contains(c.want, "unknown") {
				wantIs = ErrVersion
			}
			_, err := Decode(sealed)
			if !errors.Is(err, wantIs) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Decode: got error %v, want %q", err, c.want)
			}
			if _, headErr := DecodeHead(sealed); headErr == nil || headErr.Error() != err.Error() {
				t.Errorf("DecodeHead: got error %v, Decode %v", headErr, err)
			}
		})
	}
}

func TestALaterVersionIsNotCorrupt(t *testing.T) {
	for name, err := range map[string]error{
		"the object has version 0x02": second(Decode([]byte{2, 1, 2, 3})),
		"the body has version 0x02":   second(DecodeBody([]byte{2, 0})),
		"the body has flags 0x01":     second(DecodeBody([]byte{bodyVersion, 1})),
	} {
		if !errors.Is(err, ErrVersion) || errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), name) {
			t.Errorf("got error %v, want %q", err, name)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestDecodeAllocatesNoMoreThanTheBytesJustify(t *testing.T) {
	huge := "\xff\xff\xff\xff\x0f"
	for _, head := range [][]byte{join(huge), join(0, huge), join(1, actor(1), 1, huge)} {
		b := seal(0, head, nil)
		if n := testing.AllocsPerRun(10, func() { _, _ = Decode(b) }); n > 5 {
			t.Errorf("%v allocations for %x", n, b)
		}
	}
}

func TestDecodeAllocatesLittle(t *testing.T) {
	b := golden().Encode()
	for name, do := range map[string]func(){
		"Decode":     func() { _, _ = Decode(b) },
		"DecodeHead": func() { _, _ = DecodeHead(b) },
	} {
		if n := testing.AllocsPerRun(100, do); n > 2 {
			t.Errorf("%s: %v allocations, want a clock and siblings", name, n)
		}
	}
}

func TestAppendingToABodyLeavesTheNextAlone(t *testing.T) {
	o := Object{Clock: vec(2), Siblings: []Sibling{text(dot(1, 1), 1, "one"), text(dot(1, 2), 1, "two")}}
	got, err := Decode(o.Encode())
	if err != nil {
		t.Fatal(err)
	}
	_ = append(got.Siblings[0].Body, "overwritten"...)
	if !same(got, o) {
		t.Error("bodies overlap")
	}
}

func TestEncodePanicsRatherThanLoseAValue(t *testing.T) {
	full := golden()
	swapped := golden()
	slices.Reverse(swapped.Siblings)
	for name, o := range map[string]Object{
		"a head":                       head(full),
		"a sibling out of order":       swapped,
		"a sibling without an actor":   {Clock: vec(0, 1), Siblings: []Sibling{sib(dot(1, 1))}},
		"a sibling beyond the clock":   {Clock: vec(1), Siblings: []Sibling{sib(dot(1, 2))}},
		"siblings with no clock":       {Siblings: []Sibling{sib(dot(1, 2))}},
		"a body that is not accounted": {Clock: vec(1), Siblings: []Sibling{{Dot: dot(1, 1), Body: []byte("x")}}},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			o.Encode()
		})
	}
}
