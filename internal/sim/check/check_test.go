package check

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// TestRightHistoriesPass runs all checkers over histories of a perfect store.
func TestRightHistoriesPass(t *testing.T) {
	for seed := range uint64(300) {
		h := generate(seed, 60)
		if found := All(h); len(found) > 0 {
			t.Fatalf("seed %d: %v\n%s", seed, found, story(h))
		}
	}
}

// mutations each break one promise. They report whether the history gave them
// a chance to.
var mutations = []struct {
	name    string
	checker string
	mutate  func(h *History, seed uint64) bool
}{
	{"an acknowledged write is not there at the end", "lost", func(h *History, seed uint64) bool {
		op := find(h, seed, func(op *Op) bool { return op.Write != 0 && op.Outcome == Done && contains(h.Final[op.Key], op.Write) })
		if op == nil {
			return false
		}
		h.Final[op.Key] = remove(h.Final[op.Key], op.Write)
		return true
	}},
	{"a replaced value is there again at the end", "back", func(h *History, seed uint64) bool {
		op := find(h, seed, func(op *Op) bool { return op.Outcome == Done && len(op.Seen) > 0 })
		if op == nil {
			return false
		}
		h.Final[op.Key] = append(h.Final[op.Key], op.Seen[0])
		return true
	}},
	{"a key ends with a value that nobody wrote", "phantom", func(h *History, _ uint64) bool {
		h.Final["a/1"] = append(h.Final["a/1"], 1<<40)
		return true
	}},
	{"a read shows the value of another key", "phantom", func(h *History, seed uint64) bool {
		get := find(h, seed, func(op *Op) bool { return op.Kind == Get && op.Key == "a/1" })
		put := find(h, seed, func(op *Op) bool { return op.Kind == Put && op.Key == "b/1" })
		if get == nil || put == nil {
			return false
		}
		get.Read = append(get.Read, put.Write)
		return true
	}},
	{"a write stands twice", "siblings", func(h *History, seed uint64) bool {
		op := find(h, seed, func(op *Op) bool { return contains(h.Final[op.Key], op.Write) })
		if op == nil {
			return false
		}
		h.Final[op.Key] = append(h.Final[op.Key], op.Write)
		return true
	}},
	{"a value stands beside one in doubt that has replaced it", "siblings", func(h *History, seed uint64) bool {
		op := find(h, seed, func(op *Op) bool {
			return op.Outcome == Doubt && len(op.Seen) > 0 && contains(h.Final[op.Key], op.Write)
		})
		if op == nil {
			return false
		}
		h.Final[op.Key] = append(h.Final[op.Key], op.Seen[0])
		return true
	}},
	{"a write that failed for certain is stored", "honest", func(h *History, seed uint64) bool {
		op := find(h, seed, func(op *Op) bool { return op.Write != 0 && op.Outcome == Failed })
		if op == nil {
			return false
		}
		h.Stored[op.Write] = true
		return true
	}},
	{"a write that failed for certain is read", "honest", func(h *History, seed uint64) bool {
		op := find(h, seed, func(op *Op) bool { return op.Kind == Put && op.Outcome == Failed })
		if op == nil {
			return false
		}
		get := find(h, seed, func(o *Op) bool { return o.Kind == Get && o.Key == op.Key })
		if get == nil {
			return false
		}
		get.Read = append(get.Read, op.Write)
		return true
	}},
	{"a read misses an acknowledged value", "fresh", func(h *History, seed uint64) bool {
		put := find(h, seed, func(op *Op) bool { return op.Kind == Put && op.Outcome == Done })
		if put == nil {
			return false
		}
		get := find(h, seed, func(op *Op) bool { return op.Kind == Get && op.Start > put.End && contains(op.Read, put.Write) })
		if get == nil {
			return false
		}
		get.Read = remove(get.Read, put.Write)
		return true
	}},
	{"a read finds nothing of a key that has a value", "present", func(h *History, seed uint64) bool {
		get := find(h, seed, func(op *Op) bool {
			deleted := slices.ContainsFunc(h.Ops, func(d Op) bool { return d.Key == op.Key && d.Kind == Delete && d.Start <= op.End })
			put := slices.ContainsFunc(h.Ops, func(p Op) bool {
				return p.Key == op.Key && p.Kind == Put && p.Outcome == Done && p.End < op.Start
			})
			return op.Kind == Get && put && !deleted
		})
		if get == nil {
			return false
		}
		get.Read, get.Fresh = nil, false
		return true
	}},
	{"a list has a key twice", "listing", func(h *History, seed uint64) bool {
		op := find(h, seed, func(op *Op) bool { return len(op.Listed) > 0 })
		if op == nil {
			return false
		}
		op.Listed = append(op.Listed, op.Listed[0])
		return true
	}},
	{"a list has a key that nobody put", "listing", func(h *History, seed uint64) bool {
		op := find(h, seed, func(op *Op) bool { return op.Kind == List })
		if op == nil {
			return false
		}
		op.Listed = append(op.Listed, op.Key+"x")
		return true
	}},
	{"a list misses a key", "listing", func(h *History, _ uint64) bool {
		put := find(h, 0, func(op *Op) bool { return op.Kind == Put && op.Outcome == Done })
		if put == nil {
			return false
		}
		del := find(h, 0, func(op *Op) bool { return op.Kind == Delete && op.Key == put.Key })
		list := find(h, 0, func(op *Op) bool {
			return op.Kind == List && inBucket(put.Key, op.Key) && op.Start > put.End+spreads && (del == nil || op.End < del.Start)
		})
		if list == nil {
			return false
		}
		list.Listed = slices.DeleteFunc(list.Listed, func(key string) bool { return key == put.Key })
		return true
	}},
	{"an answer comes late", "answered", func(h *History, seed uint64) bool {
		op := find(h, seed, func(op *Op) bool { return op.Outcome != Open })
		op.End = op.Due + time.Nanosecond
		return true
	}},
	{"no answer comes, though the node is there", "answered", func(h *History, seed uint64) bool {
		op := find(h, seed, func(op *Op) bool { return op.Outcome == Open })
		if op == nil {
			return false
		}
		op.Gone = false
		return true
	}},
}

func remove(ids []ID, id ID) []ID {
	return slices.DeleteFunc(slices.Clone(ids), func(i ID) bool { return i == id })
}

// TestWrongHistoriesFail plants one violation at a time.
func TestWrongHistoriesFail(t *testing.T) {
	for _, m := range mutations {
		t.Run(m.name, func(t *testing.T) {
			tried := 0
			for seed := range uint64(100) {
				h := generate(seed, 60)
				if !m.mutate(h, seed) {
					continue
				}
				tried++
				if !names(All(h), m.checker) {
					t.Fatalf("seed %d: %s sees nothing\n%s", seed, m.checker, story(h))
				}
			}
			if tried < 10 {
				t.Errorf("only %d histories gave a chance", tried)
			}
		})
	}
}

func names(found []Violation, checker string) bool {
	return slices.ContainsFunc(found, func(v Violation) bool { return v.Checker == checker })
}

// TestReplacedStepByStep: a write may be missing if it was replaced by one that
// was replaced in turn, even if the one in between was never acknowledged.
func TestReplacedStepByStep(t *testing.T) {
	h := &History{
		Ops: []Op{
			{Kind: Put, Key: "k", Write: 1, Outcome: Done},
			{Kind: Put, Key: "k", Write: 2, Seen: []ID{1}, Outcome: Doubt},
			{Kind: Delete, Key: "k", Write: 3, Seen: []ID{2}, Outcome: Done},
		},
		Final: map[string][]ID{"k": {3}},
	}
	if found := All(h); len(found) > 0 {
		t.Errorf("found %v", found)
	}
	h.Final["k"] = nil
	if found := All(h); len(found) != 2 {
		t.Errorf("writes 1 and 3 are lost, found %v", found)
	}
}

func TestConverged(t *testing.T) {
	copies := []Copy{
		{"a", "n1", []byte("x")}, {"a", "n2", []byte("x")}, {"a", "n3", []byte("x")},
		{"b", "n1", nil}, {"b", "n2", nil},
	}
	if found := Converged(copies); len(found) > 0 {
		t.Errorf("found %v", found)
	}
	copies[1].Bytes = []byte("y")
	copies[4].Bytes = []byte("z")
	found := Converged(copies)
	if len(found) != 3 || found[0].Key != "a" || found[2].Key != "b" {
		t.Errorf("found %v", found)
	}
}

func TestViolationsAndOperationsTellTheirStory(t *testing.T) {
	op := Op{
		Client: 2, Node: "n1", Kind: Put, Key: "b/k", Write: 7, Seen: []ID{3}, Start: time.Second,
		End: 2 * time.Second, Outcome: Doubt, Error: "in doubt",
	}
	for _, part := range []string{"1s", "client 2", "n1", "put b/k", "write 7 over [3]", "doubt at 2s", "in doubt"} {
		if !strings.Contains(op.String(), part) {
			t.Errorf("%q does not tell %q", op.String(), part)
		}
	}
	for v, want := range map[Violation]string{
		{"lost", "b/k", "gone"}:  "lost: b/k: gone",
		{"liveness", "", "slow"}: "liveness: slow",
	} {
		if v.String() != want {
			t.Errorf("%q, want %q", v.String(), want)
		}
	}
}
