package tanodb

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/tanodb/tanodb/kv"
)

// promises are the rows of the table in docs/guarantees.md: requests, by their names, and
// whether one succeeds.
var promises = map[string]func(*testing.T, *Node) bool{
	"write, W=1":  writes(kv.WriteOptions{W: 1}),
	"write, W=2":  writes(kv.WriteOptions{W: 2}),
	"write, W=3":  writes(kv.WriteOptions{W: 3}),
	"write, PW=1": writes(kv.WriteOptions{PW: 1}),
	"write, PW=2, or W=2 without sloppy quorum": func(t *testing.T, n *Node) bool {
		pw, strict := writes(kv.WriteOptions{PW: 2})(t, n), writes(kv.WriteOptions{W: 2, SloppyQuorum: kv.Off})(t, n)
		if pw != strict {
			t.Errorf("PW=2 ends with %v, W=2 without sloppy quorum with %v", pw, strict)
		}
		return pw
	},
	"write, PW=3":                              writes(kv.WriteOptions{PW: 3}),
	"read, R=1, of what was there before":      reads("before", 1),
	"read, R=2, of what was there before":      reads("before", 2),
	"read, R=3, of what was there before":      reads("before", 3),
	"read, R=1, of what was written meanwhile": reads("meanwhile", 1),
	"read, R=2, of what was written meanwhile": reads("meanwhile", 2),
	"read, R=3, of what was written meanwhile": reads("meanwhile", 3),
}

// promised is the key that is written and read.
var promised = kv.Key{Bucket: "promised", Name: "k"}

// writes is a write that succeeds, or is refused with nothing written.
func writes(o kv.WriteOptions) func(*testing.T, *Node) bool {
	return func(t *testing.T, n *Node) bool {
		_, err := n.Put(t.Context(), promised, kv.Value{Data: []byte("other")}, o)
		return err == nil
	}
}

// reads is a read that finds a value, which must be that one.
func reads(value string, r kv.Quorum) func(*testing.T, *Node) bool {
	return func(t *testing.T, n *Node) bool {
		o, err := n.Get(t.Context(), promised, kv.ReadOptions{R: r})
		if err == nil && string(o.Values[0].Data) != value {
			t.Errorf("R=%d reads %q, want %q", r, o.Values[0].Data, value)
		}
		return err == nil
	}
}

// column is how many primaries are down, and how many nodes are up that are none.
var column = regexp.MustCompile(`^(\d) down(?:, (no|\d) spares?)?$`)

// TestGuarantees holds the table of docs/guarantees.md to what clusters do: each column
// is one, and each cell a request.
func TestGuarantees(t *testing.T) {
	page, err := os.ReadFile("docs/guarantees.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "\n| request |")
	rows := strings.Split(strings.SplitN("| request |"+rest, "\n\n", 2)[0], "\n")
	heads := cells(rows[0])
	tried := map[string]bool{}
	for i := 1; i < len(heads); i++ {
		n := broken(t, heads[i])
		for _, row := range rows[2:] {
			c := cells(row)
			do := promises[c[0]]
			if do == nil {
				t.Fatalf("the page has a row %q that this test does not know", c[0])
			}
			tried[c[0]] = true
			if strings.HasSuffix(c[0], "meanwhile") {
				// Every place that can be written is, so that R counts them all.
				if _, err := n.Put(t.Context(), promised, kv.Value{Data: []byte("meanwhile")}, kv.WriteOptions{Linger: kv.MaxLinger}); err != nil {
					t.Fatal(err)
				}
			} else if strings.HasPrefix(c[0], "read") {
				continue // before the writes, in a cluster of its own
			}
			if got := do(t, n); got != (c[i] == "yes") {
				t.Errorf("%s, %s: succeeds is %v, and the page says %s", heads[i], c[0], got, c[i])
			}
		}
		n = broken(t, heads[i])
		for _, row := range rows[2:] {
			if c := cells(row); strings.HasSuffix(c[0], "before") {
				if got := promises[c[0]](t, n); got != (c[i] == "yes") {
					t.Errorf("%s, %s: succeeds is %v, and the page says %s", heads[i], c[0], got, c[i])
				}
			}
		}
	}
	for name := range promises {
		if !tried[name] {
			t.Errorf("the page has no row %q", name)
		}
	}
}

// cells are those of a row, without blanks.
func cells(row string) []string {
	var all []string
	for _, c := range strings.Split(strings.Trim(row, "|"), "|") {
		all = append(all, strings.TrimSpace(c))
	}
	return all
}

// broken is a node that is up in a cluster of which primaries of the key are down as a
// column of the table says. All replicas had the value "before".
func broken(t *testing.T, head string) *Node {
	t.Helper()
	m := column.FindStringSubmatch(head)
	if m == nil {
		t.Fatalf("the page has a column %q that this test does not know", head)
	}
	var down, spares int
	fmt.Sscan(m[1], &down)
	fmt.Sscan(m[2], &spares) // "no" leaves 0
	cluster, _ := NewTestCluster(t, 3+spares, Options{Partitions: 16})
	if _, err := cluster[0].Put(t.Context(), promised, kv.Value{Data: []byte("before")}, kv.WriteOptions{W: 3, SloppyQuorum: kv.Off}); err != nil {
		t.Fatal(err)
	}
	holding, err := cluster[0].Holdings(t.Context(), promised)
	if err != nil {
		t.Fatal(err)
	}
	primaries := map[string]bool{}
	for _, h := range holding {
		primaries[h.Node] = true
	}
	if len(primaries) != 3 {
		t.Fatalf("the key is on %v: choose another one", primaries)
	}
	var up *Node
	var gone []string
	for _, n := range cluster {
		if primaries[n.Name()] && len(gone) < down {
			gone = append(gone, n.Name())
			if err := n.Close(); err != nil {
				t.Fatal(err)
			}
			continue
		}
		up = n
	}
	for _, name := range gone {
		waitDown(t, up, name)
	}
	return up
}
