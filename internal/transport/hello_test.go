package transport

import (
	"encoding/binary"
	"hash/crc32"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func sampleHello() hello {
	return hello{low: 1, high: 1, cluster: [16]byte{1, 2}, partitions: 64, class: Bulk, from: "n1", to: "n2", refusal: "because"}
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
