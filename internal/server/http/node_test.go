package httpd

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/internal/server/api"
	"github.com/tanodb/tanodb/kv"
)

var _ Node = (*tanodb.Node)(nil)

// openNode is a real node, alone, in memory.
func openNode(t *testing.T) *tanodb.Node {
	t.Helper()
	n, err := tanodb.Open("", tanodb.Options{Storage: tanodb.MemoryStorage()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// The tutorial's session: keys, put on three vnodes, keys again, delete from
// three vnodes, keys.
func TestTheSessionOfTheTutorial(t *testing.T) {
	c := newClient(t, openNode(t))
	const key = "/_tanodb/buckets/mybucket/keys/k1?linger=10000"
	home := []string{
		"228359630832953580969325755111919221821239459840",
		"251195593916248939066258330623111144003363405824",
		"274031556999544297163190906134303066185487351808",
	}
	holders := func() []string {
		var all []api.ReplicaKeys
		decode(t, c.want(200, "GET", "/_tanodb/buckets/mybucket/keys?replicas=true", ""), &all)
		if len(all) != 64 {
			t.Fatalf("%d partitions", len(all))
		}
		var out []string
		for _, r := range all {
			if r.Error != "" {
				t.Fatalf("partition %s: %s", r.Partition, r.Error)
			}
			if slices.Contains(r.Keys, "k1") {
				out = append(out, r.Partition)
			}
		}
		return out
	}
	story := func(rs []api.Reply, want kv.Result) {
		t.Helper()
		var at []string
		for _, r := range rs {
			if r.Result != want || r.Role != kv.Primary {
				t.Errorf("reply %+v, want %q of a primary", r, want)
			}
			at = append(at, r.Partition)
		}
		if !slices.Equal(at, home) {
			t.Errorf("partitions %v, want %v", at, home)
		}
	}

	if got := holders(); len(got) != 0 {
		t.Fatalf("k1 is on %v before it was written", got)
	}
	var receipt api.Receipt
	decode(t, c.want(200, "PUT", key, "42", plain), &receipt)
	story(receipt.Replies, kv.OK)
	if got := holders(); !slices.Equal(got, home) {
		t.Fatalf("k1 is on %v, want %v", got, home)
	}
	c.body(c.want(200, "GET", "/buckets/mybucket/keys?keys=true", ""), `{"keys":["k1"]}`+"\n")
	c.body(c.want(200, "GET", "/buckets/mybucket/keys/k1", ""), "42")
	decode(t, c.want(200, "DELETE", key, ""), &receipt)
	story(receipt.Replies, kv.Found)
	var e api.Error
	decode(t, c.want(404, "DELETE", key, ""), &e)
	story(e.Replies, kv.NotFound)
	if got := holders(); len(got) != 0 {
		t.Fatalf("k1 is on %v after it was deleted", got)
	}
	c.header(c.want(404, "GET", "/buckets/mybucket/keys/k1", ""), "X-Riak-Deleted", "true")
}

func TestARealNode(t *testing.T) {
	c := newClient(t, openNode(t))
	for i := range 10 {
		c.want(204, "PUT", fmt.Sprintf("/buckets/b/keys/k%d?w=all", i), "1", plain)
	}
	c.want(200, "GET", "/buckets/b/keys/k1", "")
	c.want(404, "GET", "/buckets/b/keys/none", "")
	c.body(c.want(400, "GET", "/buckets/b/keys/k1?r=4", ""), "Specified w/dw/pw/node_confirms values invalid for bucket n value of 3\n")
	w := c.want(503, "GET", "/buckets/b/keys/k1?node_confirms=2", "")
	if body := w.Body.String(); !strings.HasPrefix(body, "node_confirms-value unsatisfied: ") || !strings.HasSuffix(body, "/2\n") {
		t.Errorf("body %q", body)
	}

	var stats map[string]any
	if err := json.Unmarshal(c.want(200, "GET", "/stats", "").Body.Bytes(), &stats); err != nil {
		t.Fatal(err)
	}
	// A real node has the metrics that the statistics are made of.
	for name, want := range map[string]float64{"node_puts_total": 10, "node_gets_total": 4, "ring_num_partitions": 64, "read_repairs_total": 0} {
		if stats[name] != want {
			t.Errorf("/stats has %s %v, want %v", name, stats[name], want)
		}
	}
	if n, ok := stats["vnode_puts_total"].(float64); !ok || n <= 0 {
		t.Errorf("/stats has vnode_puts_total %v", stats["vnode_puts_total"])
	}
	for _, s := range means {
		if mean, ok := stats[s.name].(float64); !ok || mean <= 0 {
			t.Errorf("/stats has %s %v", s.name, stats[s.name])
		}
	}
	var ping api.Ping
	decode(t, c.want(200, "GET", "/_tanodb/ping", ""), &ping)
	if ping.Node == "" || ping.Partition == "" {
		t.Errorf("ping %+v", ping)
	}
	var e api.Explanation
	decode(t, c.want(200, "GET", "/_tanodb/explain/buckets/b/keys/k1", ""), &e)
	if len(e.Replicas) != 3 || e.Partitions != 64 {
		t.Errorf("explained %+v", e)
	}
	var s tanodb.Status
	decode(t, c.want(200, "GET", "/_tanodb/status", ""), &s)
	if s.Partitions != 64 || s.Copies != 1 {
		t.Errorf("status %+v", s)
	}
}

// Python's client looks for it by its name, and reads these fields.
func TestThePreferenceListInRiaksWords(t *testing.T) {
	c := &client{t, New(openNode(t), Options{})}
	w := c.want(200, "GET", "/buckets/b/keys/k%2F1/preflist", "")
	c.header(w, "Content-Type", "application/json")
	var got struct {
		Preflist []struct {
			Partition *int
			Node      string
			Primary   bool
		}
	}
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || len(got.Preflist) != 3 {
		t.Fatalf("%s, %v", w.Body, err)
	}
	home := kv.Key{Bucket: "b", Name: "k/1"}.Home(64).Index
	for i, v := range got.Preflist {
		if v.Partition == nil || *v.Partition != (home+i)%64 || v.Node == "" || !v.Primary {
			t.Errorf("vnode %d of %s", i, w.Body)
		}
	}
	c.body(c.want(404, "GET", "/types/nope/buckets/b/keys/k/preflist", ""), "Unknown bucket type: nope\n")
	c.want(405, "PUT", "/buckets/b/keys/k/preflist", "")
	c.want(404, "GET", "/_tanodb/buckets/b/keys/k/preflist", "")
	c.want(404, "GET", "/riak/b/k/preflist", "")
}
