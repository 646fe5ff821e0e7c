package quorum_test

import (
	"errors"
	"testing"

	"github.com/tanodb/tanodb/internal/quorum"
	"github.com/tanodb/tanodb/kv"
)

func TestResolve(t *testing.T) {
	for _, tc := range []struct {
		name   string
		q, def kv.Quorum
		n      int
		want   int
		err    string
	}{
		{"a number", 2, kv.All, 3, 2, ""},
		{"all of them by number", 3, kv.One, 3, 3, ""},
		{"one", kv.One, kv.All, 3, 1, ""},
		{"a majority of an odd number", kv.Majority, kv.All, 3, 2, ""},
		{"a majority of an even number", kv.Majority, kv.All, 4, 3, ""},
		{"a majority of one", kv.Majority, kv.All, 1, 1, ""},
		{"all", kv.All, kv.One, 5, 5, ""},
		{"none, whatever the default", kv.None, kv.All, 3, 0, ""},
		{"the default as a word", kv.Default, kv.Majority, 5, 3, ""},
		{"the default as a number", kv.Default, 2, 3, 2, ""},
		{"a default of none", kv.Default, kv.None, 3, 0, ""},
		{"no default either", kv.Default, kv.Default, 3, 0, ""},
		{"more than there are", 4, kv.All, 3, 0, "PW is 4; there are 3 replicas"},
		{"more than one", 2, kv.All, 1, 0, "PW is 2; there is 1 replica"},
		{"one of none", kv.One, kv.All, 0, 0, "PW is 1; there are 0 replicas"},
		{"a default that is too large", kv.Default, 3, 2, 0, "PW is 3; there are 2 replicas"},
		{"a negative number that is no word", -5, kv.All, 3, 0, "PW is -5; it cannot be negative"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := quorum.Resolve("PW", tc.q, tc.def, tc.n)
			if got != tc.want {
				t.Errorf("got %d, want %d", got, tc.want)
			}
			if tc.err == "" && err != nil || tc.err != "" && (err == nil || err.Error() != tc.err || !errors.Is(err, kv.ErrInvalid)) {
				t.Errorf("error is %v, want %q", err, tc.err)
			}
		})
	}
}
