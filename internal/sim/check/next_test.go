package check

import (
	"slices"
	"testing"
	"time"
)

// chapter is a history that has ended: write 2 has replaced write 1, and write 3, in doubt, is beside it.
func chapter() *History {
	op := func(id ID, o Outcome, seen ...ID) Op {
		return Op{Kind: Put, Key: "a/1", Write: id, Seen: seen, Outcome: o, Start: 1, End: 2, Due: 3}
	}
	return &History{
		Ops:    []Op{op(1, Done), op(2, Done, 1), op(3, Doubt), op(4, Failed), {Kind: Get, Key: "a/1", Outcome: Done}},
		Final:  map[string][]ID{"a/1": {2, 3}},
		Stored: map[ID]bool{1: true, 2: true, 3: true},
	}
}

// TestNext goes on with what was there when a history ended.
func TestNext(t *testing.T) {
	const then = time.Minute
	get := func(fresh bool, read ...ID) Op {
		return Op{Kind: Get, Key: "a/1", Read: read, Fresh: fresh, Outcome: Done, Start: then + 1, End: then + 2, Due: then + 3}
	}
	over := func(id ID, seen ...ID) Op {
		return Op{Kind: Put, Key: "a/1", Write: id, Seen: seen, Outcome: Done, Start: then + 1, End: then + 2, Due: then + 3}
	}
	list := Op{Kind: List, Key: "a/", Listed: []string{"a/1"}, Outcome: Done, Start: then + 1, End: then + 2, Due: then + 3}
	for _, tt := range []struct {
		name  string
		ops   []Op
		final []ID
		lossy bool
		want  string
	}{
		{"all is as it was", []Op{get(true, 2, 3), list}, []ID{2, 3}, false, ""},
		{"both are replaced", []Op{over(5, 2, 3)}, []ID{5}, false, ""},
		{"an acknowledged write is lost, long after", nil, []ID{3}, false, "lost"},
		{"one in doubt that was there is lost", nil, []ID{2}, false, "lost"},
		{"what was replaced long ago is back", nil, []ID{1, 2, 3}, false, "back"},
		{"what was replaced now is back", []Op{over(5, 2)}, []ID{2, 3, 5}, false, "back"},
		{"a fresh read sees what was replaced long ago", []Op{get(true, 1, 2, 3)}, []ID{2, 3}, false, "back"},
		{"a stale read may", []Op{get(false, 1)}, []ID{2, 3}, false, ""},
		{"any read may when disks were lost", []Op{get(true, 1, 2, 3)}, []ID{2, 3}, true, ""},
		{"a fresh read misses what was there", []Op{get(true, 2)}, []ID{2, 3}, false, "fresh"},
		{"what had failed is seen", []Op{get(false, 4)}, []ID{2, 3}, false, "phantom"},
	} {
		h := chapter().Next(then)
		if tt.lossy {
			h.Settled = false
		}
		h.Ops = append(h.Ops, tt.ops...)
		h.Final = map[string][]ID{"a/1": tt.final}
		found := All(&h)
		switch {
		case tt.want == "" && len(found) > 0:
			t.Errorf("%s: %v", tt.name, found)
		case tt.want != "" && !slices.ContainsFunc(found, func(v Violation) bool { return v.Checker == tt.want }):
			t.Errorf("%s: found %v, and nothing of %q", tt.name, found, tt.want)
		}
	}
}

// TestNextOfNext: what was replaced two histories ago is known, and may not come back either.
func TestNextOfNext(t *testing.T) {
	h := chapter().Next(time.Minute)
	h.Final = map[string][]ID{"a/1": {2, 3}}
	h = h.Next(time.Hour)
	if len(h.Ops) != 2 || h.Past[1] != "a/1" || !h.Known["a/1"] {
		t.Fatalf("goes on with %v, and knows %v", h.Ops, h.Past)
	}
	h.Final, h.Reaped = map[string][]ID{"a/1": {2, 3}}, map[string][]ID{"a/1": {1, 2}}
	h = h.Next(2 * time.Hour)
	h.Final = map[string][]ID{"a/1": {3}}
	if found := All(&h); len(found) > 0 {
		t.Errorf("what some replica had removed is gone, and %v", found)
	}
	h.Final = map[string][]ID{"a/1": {1, 2, 3}}
	if found := All(&h); len(found) == 0 || found[0].Checker != "back" {
		t.Errorf("found %v", found)
	}
}
