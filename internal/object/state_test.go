package object

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/tanodb/tanodb/kv"
)

func TestStatesAreNoValues(t *testing.T) {
	body := AppendState(nil, State{Requests: []kv.RequestID{{1}, {2}}, Bytes: []byte{1, byte(kv.Set), 0, 0}})
	if !HoldsState(body) || HoldsState(AppendBody(nil, &kv.Value{Data: body})) || HoldsState(nil) {
		t.Error("a value is taken for a state, or the other way round")
	}
	if _, err := DecodeBody(body); !errors.Is(err, ErrVersion) {
		t.Errorf("a state is decoded as a value: %v", err)
	}
	o := Write(Object{}, nil, Sibling{Dot: dot(1, 1), Body: body})
	values, err := o.Values(testKey, 0, false, false)
	if err != nil || len(values) != 1 || values[0].ContentType != "application/riak_set" || len(values[0].Data) != 4 {
		t.Errorf("a reader of values sees %+v, %v", values, err)
	}
}

func TestStatesThatNobodyWrote(t *testing.T) {
	many := AppendState(nil, State{Requests: make([]kv.RequestID, kv.MaxRemembered+1)})
	for name, b := range map[string][]byte{
		"the version is cut short":        {},
		"has version 0x01":                {1, 0, 0},
		"has flags 0x01":                  {2, 1, 0},
		"the requests is more than":       {2, 0, 3, 1},
		"it remembers too many":           many,
		"the requests is not in its shor": {2, 0, 0x80, 0},
	} {
		if _, err := DecodeState(b); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%x: error %v, want %q", b, err, name)
		}
	}
}

func FuzzDecodeState(f *testing.F) {
	f.Add([]byte{})
	f.Add(AppendState(nil, State{Requests: []kv.RequestID{{1}, {2}}, Bytes: []byte("state")}))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := DecodeState(b)
		if err != nil {
			checkError(t, err)
			return
		}
		if again := AppendState(nil, s); !bytes.Equal(again, b) {
			t.Fatalf("accepted, but encodes to other bytes:\n%x\n%x", b, again)
		}
	})
}

// Replace keeps what it is told to, in order, wherever the new dot comes.
func TestReplaceKeepsTheOrder(t *testing.T) {
	var local Object
	for _, a := range []int{1, 3, 5} {
		local = Merge(local, Write(Object{}, nil, Sibling{Dot: dot(a, 1), Body: []byte("old")}))
	}
	for _, keep := range [][]int{nil, {0}, {2}, {0, 2}, {0, 1, 2}} {
		for _, a := range []int{0, 2, 4, 6} {
			got := Replace(local, keep, Sibling{Dot: dot(a, 9), Body: []byte("new")})
			if !slices.IsSortedFunc(got.Siblings, func(x, y Sibling) int { return x.Dot.Compare(y.Dot) }) || len(got.Siblings) != len(keep)+1 {
				t.Errorf("keeping %v beside %d: %v", keep, a, got)
			}
			for _, i := range keep {
				if !slices.ContainsFunc(got.Siblings, func(s Sibling) bool { return s.Dot == local.Siblings[i].Dot }) {
					t.Errorf("keeping %v beside %d: %v", keep, a, got)
				}
			}
			if !got.Clock.Descends(local.Clock) || !got.Clock.Covers(dot(a, 9)) {
				t.Errorf("the clock is %v", got.Clock)
			}
		}
	}
}
