package api

import (
	"errors"
	"testing"

	"github.com/tanodb/tanodb/kv"
)

// FuzzParseOp: an operation is read or refused as the client's fault, and what is read is of
// the kind that was asked for.
func FuzzParseOp(f *testing.F) {
	for _, body := range []string{"1", `{"increment":-1}`, `{"add":"a","remove_all":["b",{"base64":"/w=="}],"context":"AAAA"}`, `{"update":{"a_map":{"update":{"b_register":{"assign":"c"}}}},"remove":"d_flag"}`} {
		for k := kv.Counter; k <= kv.HLL; k++ {
			f.Add(uint8(k), []byte(body))
		}
	}
	f.Fuzz(func(t *testing.T, k uint8, body []byte) {
		op, _, err := ParseOp(kv.Kind(k), body)
		switch {
		case err != nil && !errors.Is(err, kv.ErrInvalid) && !errors.Is(err, kv.ErrContext):
			t.Fatalf("%q: %v", body, err)
		case err == nil && op.Kind() != kv.Kind(k):
			t.Fatalf("%q is a %v", body, op.Kind())
		}
	})
}
