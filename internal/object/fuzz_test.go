package object

import (
	"bytes"
	"errors"
	"testing"

	"github.com/tanodb/tanodb/kv"
)

// checkError fails the test if a decoder's error is not one that it promises.
func checkError(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) {
		t.Fatalf("error %v is of no known kind", err)
	}
}

// checkDecode decodes b in both ways and compares them.
func checkDecode(t *testing.T, b []byte) {
	t.Helper()
	h, headErr := DecodeHead(b)
	if headErr != nil {
		checkError(t, headErr)
	}
	o, err := Decode(b)
	if err != nil {
		checkError(t, err)
		return
	}
	if headErr != nil {
		t.Fatalf("Decode accepts what DecodeHead refuses: %v", headErr)
	}
	checkInvariants(t, o)
	if !bytes.Equal(o.Encode(), b) {
		t.Fatalf("accepted, but encodes to other bytes:\n%x\n%x", b, o.Encode())
	}
	if h.String() != o.String() {
		t.Fatalf("the head is %v, the object %v", h, o)
	}
	if _, err := o.Values(testKey, 0, true, false); err != nil {
		checkError(t, err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte{})
	f.Add(Object{}.Encode())
	f.Add(golden().Encode())
	f.Add(obj(vec(2, 3), dot(1, 1), dot(2, 3)).Encode())
	f.Fuzz(checkDecode)
}

// FuzzDecodeHead gives any head good checksums, so that the fuzzer comes past
// them.
func FuzzDecodeHead(f *testing.F) {
	for _, o := range []Object{{}, golden(), obj(vec(2, 3), dot(1, 1), dot(2, 3))} {
		var bodies []byte
		for _, s := range o.Siblings {
			bodies = append(bodies, s.Body...)
		}
		f.Add(byte(0), o.appendHead(nil), bodies)
	}
	f.Fuzz(func(t *testing.T, flags byte, head, bodies []byte) {
		checkDecode(t, seal(flags, head, bodies))
	})
}

func FuzzDecodeBody(f *testing.F) {
	f.Add([]byte{})
	f.Add(AppendBody(nil, &kv.Value{}))
	f.Add(golden().Siblings[1].Body)
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := DecodeBody(b)
		if err != nil {
			checkError(t, err)
			return
		}
		if again := AppendBody(nil, &v); !bytes.Equal(again, b) {
			t.Fatalf("accepted, but encodes to other bytes:\n%x\n%x", b, again)
		}
	})
}

// FuzzDecodeContext decodes a context as it is and, so that the fuzzer comes
// past the checksum, as the vector of one.
func FuzzDecodeContext(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte(EncodeContext(testKey, vec(1, 2, 3))))
	f.Add(appendVector(nil, vec(1, 2, 3)))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, c := range []kv.Context{b, sealContext(testKey, b)} {
			v, err := DecodeContext(testKey, c)
			if err != nil {
				if !errors.Is(err, kv.ErrContext) {
					t.Fatalf("error %v is of no known kind", err)
				}
				continue
			}
			checkInvariants(t, Object{Clock: v})
			if !bytes.Equal(EncodeContext(testKey, v), c) {
				t.Fatalf("accepted, but encodes to other bytes: %x", c)
			}
		}
	})
}
