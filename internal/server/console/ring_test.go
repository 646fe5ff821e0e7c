package console

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/internal/server/view"
	"github.com/tanodb/tanodb/kv"
)

func TestArcsGoClockwiseFromTheTop(t *testing.T) {
	for _, c := range []struct {
		i, of int
		want  string
	}{
		{0, 4096, "M200.0 100.0A100 100 0 0 1 200.2 100.0"},
		{1024, 4096, "M300.0 200.0A100 100 0 0 1 300.0 200.2"},
		{0, 4, "M209.4 100.4A100 100 0 0 1 299.6 190.6"},
		{2, 4, "M190.6 299.6A100 100 0 0 1 100.4 209.4"},
	} {
		if got := arc(c.i, c.of, 100); got != c.want {
			t.Errorf("partition %d of %d: %s, want %s", c.i, c.of, got, c.want)
		}
	}
}

// large is a ring of so many partitions and three nodes, of which n2 is down, and one partition in
// four goes to n4.
func large(partitions int) view.Snapshot {
	s := view.Snapshot{Cluster: tanodb.ClusterState{Node: "n1", Partitions: partitions, Replicas: 3}}
	for i := range 4 {
		s.Cluster.Members = append(s.Cluster.Members, tanodb.ClusterMember{Name: fmt.Sprintf("n%d", i+1), Up: i != 1})
	}
	for p := range partitions {
		next := ""
		if p%4 == 0 {
			next = "n4"
		}
		s.Cluster.Owners, s.Cluster.Next = append(s.Cluster.Owners, fmt.Sprintf("n%d", p%3+1)), append(s.Cluster.Next, next)
		var route []tanodb.Replica
		for r := range 3 {
			q := (p + r) % partitions
			replica := tanodb.Replica{Partition: q, Node: fmt.Sprintf("n%d", q%3+1), Role: kv.Primary}
			if replica.Node == "n2" {
				replica.Node, replica.Role = "n4", kv.Fallback
			}
			route = append(route, replica)
		}
		s.Routes = append(s.Routes, route)
	}
	s.Nodes = []tanodb.NodeState{{Node: "n4", Work: []tanodb.TransferState{{Kind: "drain", Index: 1, From: "n4", To: "n2", Homes: 1}}}}
	return s
}

func TestDrawing(t *testing.T) {
	d := draw(large(64))
	if len(d.Own) != 64 || len(d.Next) != 1 || len(d.Hints) != 1 || len(d.Spare) != 3 || len(d.Lanes) != 9 {
		t.Errorf("%d owners, %d next, %d hints, %d lanes with stand-ins, %d strokes of lanes", len(d.Own), len(d.Next), len(d.Hints), len(d.Spare), len(d.Lanes))
	}
	if n := strings.Count(d.Gone, "M"); n != 21 {
		t.Errorf("%d partitions have an owner that is down", n)
	}
	want := "partition 1, owned by n2, which is down; for keys that begin here n4 stands in; data waits for n2"
	if got := d.Own[1].Title; got != want {
		t.Errorf("partition 1 is %q, want %q", got, want)
	}
	if d.Next[0].Color != 3 || d.Hints[0].Color != 1 {
		t.Errorf("the next owner has colour %d, and the hints %d", d.Next[0].Color, d.Hints[0].Color)
	}
	for _, text := range []string{"64 partitions", "owner down: 21", "hints wait: 1", "to move: 16"} {
		if !strings.Contains(d.Label, text) {
			t.Errorf("the label is %q, without %q", d.Label, text)
		}
	}
}

// TestLargeRings draws rings of any size, within a size that is no burden.
func TestLargeRings(t *testing.T) {
	number := regexp.MustCompile(`-?[0-9]+\.[0-9]`)
	for _, partitions := range []int{8, 1024, 65536} {
		m := &moment{snapshot: large(partitions)}
		html := m.piece("ring")
		if most := 600 * min(max(partitions, 16), maxDrawn); len(html) > most {
			t.Errorf("%d partitions: %d bytes, more than %d", partitions, len(html), most)
		}
		for _, s := range number.FindAllString(html, 1000) {
			if f, err := strconv.ParseFloat(s, 64); err != nil || f < 0 || f > 400 {
				t.Fatalf("%d partitions: %s is outside of the picture", partitions, s)
			}
		}
		if table := m.piece("ringtable"); strings.Count(table, "<tr>") != min(partitions, maxDrawn)+1 {
			t.Errorf("%d partitions: the table has %d rows", partitions, strings.Count(table, "<tr>")-1)
		}
		if drawn, want := strings.Count(html, `class="own `), min(partitions, maxDrawn); drawn != want {
			t.Errorf("%d partitions: %d are drawn, want %d", partitions, drawn, want)
		}
	}
}

func TestNoClusterAtAll(t *testing.T) {
	m := &moment{}
	for page, ids := range piecesOf {
		for _, id := range ids {
			if html := m.piece(id); html == "" || strings.Contains(html, "cannot be shown") {
				t.Errorf("%s of %s: %q", id, page, html)
			}
		}
	}
}
