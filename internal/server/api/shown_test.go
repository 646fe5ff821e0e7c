package api

import (
	"strings"
	"testing"
	"time"

	"github.com/tanodb/tanodb/kv"
)

func TestTombstonesThatRiakWouldHaveReaped(t *testing.T) {
	at := time.Unix(1_800_000_000, 0)
	live := func(name string, after time.Duration) kv.Value { return kv.Value{VTag: name, Modified: at.Add(after)} }
	dead := func(name string, after time.Duration) kv.Value {
		return kv.Value{VTag: name, Modified: at.Add(after), Deleted: true}
	}
	for _, tc := range []struct {
		mode string
		vs   []kv.Value
		want string
	}{
		{"reap", []kv.Value{live("a", 0), live("b", 0)}, "a b"},
		{"reap", []kv.Value{dead("d", 0), live("a", 3*time.Second)}, "a"},
		{"reap", []kv.Value{dead("d", 0), live("a", 3*time.Second-1)}, "d a"},
		{"reap", []kv.Value{live("a", 0), dead("d", time.Hour)}, "a d"}, // it was deleted without seeing this value
		{"reap", []kv.Value{live("a", time.Hour), dead("d", 0), live("b", time.Second)}, "a d b"},
		{"reap", []kv.Value{dead("c", 0), live("a", time.Hour), dead("d", time.Hour)}, "a d"},
		{"keep", []kv.Value{dead("d", 0), live("a", time.Hour)}, "d a"},
		{"10000", []kv.Value{dead("d", 0), live("a", 9*time.Second)}, "d a"},
		{"10000", []kv.Value{dead("d", 0), live("a", 10*time.Second)}, "a"},
		{"0", []kv.Value{dead("d", 0), live("a", 0)}, "a"},
		{"", []kv.Value{dead("d", 0), live("a", time.Minute)}, "a"},
	} {
		var got []string
		for _, v := range Shown(tc.vs, func() kv.Properties { return kv.Properties{{Name: "delete_mode", Value: tc.mode}} }) {
			got = append(got, v.VTag)
		}
		if strings.Join(got, " ") != tc.want {
			t.Errorf("%s: of %v %v is shown, want %s", tc.mode, tc.vs, got, tc.want)
		}
	}
	plain := []kv.Value{live("a", 0)}
	Shown(plain, func() kv.Properties { t.Error("the properties are asked for in vain"); return nil })
}
