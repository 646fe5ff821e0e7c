package coordinator

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/tanodb/tanodb/kv"
)

func TestTokensComeBackAsTheyWere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := kv.Bucket{Type: rapid.String().Draw(t, "type"), Name: rapid.String().Draw(t, "bucket")}
		home := rapid.IntRange(0, 1023).Draw(t, "home")
		after := string(rapid.SliceOf(rapid.Byte()).Draw(t, "after"))
		token := formatToken(b, home, after)
		if h, a, err := parseToken(b, token, 1024); h != home || a != after || err != nil {
			t.Fatalf("%d after %q comes back as %d after %q, %v", home, after, h, a, err)
		}
		if _, _, err := parseToken(b, token, home); err == nil {
			t.Fatal("a home that the ring has not is taken")
		}
		if _, _, err := parseToken(kv.Bucket{Type: b.Type, Name: b.Name + "x"}, token, 1024); err == nil {
			t.Fatal("the token of another bucket is taken")
		}
		if _, _, err := parseToken(b, token[:len(token)-1], 1024); err == nil {
			t.Fatal("a token that was cut is taken")
		}
	})
}

// FuzzToken feeds what a client may send.
func FuzzToken(f *testing.F) {
	b := kv.Bucket{Name: "b"}
	f.Add(formatToken(b, 3, "key"))
	f.Add("AQ")
	f.Fuzz(func(t *testing.T, token string) {
		home, after, err := parseToken(b, token, 64)
		if err != nil || token == "" {
			return
		}
		if home < 0 || home >= 64 || len(after) > kv.MaxKey {
			t.Errorf("home %d after %d bytes", home, len(after))
		}
		if h, a, err := parseToken(b, formatToken(b, home, after), 64); h != home || a != after || err != nil {
			t.Errorf("%d after %q comes back as %d after %q, %v", home, after, h, a, err)
		}
	})
}
