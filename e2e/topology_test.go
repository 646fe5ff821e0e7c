package e2e

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tanodb/tanodb"
)

// TestTopologyUnderLoad changes the members of a cluster under load, as an
// operator would in some weeks: two nodes are added, one leaves, and one dies and
// is replaced by an empty one. No request fails but around the death, and those of
// clients of the node that leaves when it ends. Nothing that was acknowledged is
// lost, the ring is balanced, and nobody keeps what it has given away.
func TestTopologyUnderLoad(t *testing.T) {
	needProgram(t)
	d := startDev(t, 3)
	d.preload("pre", *objects)
	stay := startLoadAt(t, here, "--workers", "8", "--addr", d.base(1)+","+d.base(3))
	all := startLoad(t, d, "--workers", "8")
	pass(t, between)

	for _, name := range []string{"n4", "n5"} {
		d.add()
		d.waitMember(name)
		d.ready()
	}
	d.must("cluster", "leave", "n2", "--yes", "--wait", patience.String(), "--addr", d.base(1))
	eventually(t, "n2 has left and its process has ended well", func() bool {
		return strings.Contains(d.must("dev", "status", "--dir", d.dir), "left")
	})
	left := span{time.Now().Add(-detection), time.Now()} // from here on its clients use the others
	d.ready()
	pass(t, between)

	killed := d.dev("kill", "3")
	d.waitSeen(1, "n3", false)
	port := freePorts(t, 2)
	n6 := newProcess(t, here, "n6", address(port), address(port+1), "--join", strings.Join([]string{d.node[0], d.node[3]}, ","))
	n6.start()
	d.waitMember("n6")
	plan := d.must("cluster", "force-replace", "n3", "n6", "--yes", "--wait", patience.String(), "--addr", d.base(1))
	if !strings.Contains(plan, "from n3 to n6") {
		t.Errorf("the plan says nothing of what moves:\n%s", plan)
	}
	d.ready()
	pass(t, between)

	end := mustCluster(t, here, d.base(1))
	wantBalance(t, end, "n1", "n4", "n5", "n6")
	d.wantWhole("pre", *objects, end)
	wantErrorsOnlyAround(t, stay.end(), []span{killed})
	wantErrorsOnlyAround(t, all.end(), []span{left, killed})
	d.wantRest()

	n6.stop()
	d.dev("stop", "all")
	wantOnlyOwn(t, end, "n6", n6.dir)
	for _, name := range []string{"n1", "n2", "n4", "n5"} { // n3 is dead: nobody could tell it anything
		wantOnlyOwn(t, end, name, filepath.Join(d.dir, name))
	}
}

// preload writes objects into a bucket, and makes sure that they are all there: what
// fails on a busy machine is written again.
func (d *devCluster) preload(bucket string, objects int) {
	d.t.Helper()
	const tries = 3
	for range tries {
		out := d.must("bench", "--json", "--dir", d.dir, "--bucket", bucket, "--prefix", "k", "--workload", "put", "--fill", "--verify", "--workers", "64",
			"--keys", fmt.Sprint(objects), "--value-size", "200", "--warmup", "0s", "--duration", "1ms")
		var r report
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			d.t.Fatal(err)
		}
		if v := r.Verified; v.Keys == objects && v.Acknowledged >= objects && v.InDoubt == 0 {
			return
		}
		d.t.Logf("preloading %s: of %d keys %d were sent, %d writes acknowledged, %d in doubt", bucket, objects, r.Verified.Keys, r.Verified.Acknowledged, r.Verified.InDoubt)
	}
	d.t.Fatalf("%s could not be written in %d tries", bucket, tries)
}

// ready waits until the first node says that all agree and nothing moves.
func (d *devCluster) ready() {
	d.t.Helper()
	d.must("cluster", "ready", "--wait", patience.String(), "--addr", d.base(1))
}

// waitMember waits until the first node knows of a member.
func (d *devCluster) waitMember(name string) {
	d.t.Helper()
	eventually(d.t, name+" is a member that n1 knows", func() bool {
		_, known := d.members(1)[name]
		return known
	})
}

// wantRest waits until no node has anything to move: also not what only it knows
// of, as data that it has to give away. A node that cannot be asked, since it has just come
// back, say, may be the next time.
func (d *devCluster) wantRest() {
	d.t.Helper()
	eventually(d.t, "no node moves anything", func() bool {
		out, _, code := run(d.t, "cluster", "transfers", "--addr", d.base(1))
		return code == 0 && strings.HasPrefix(out, "No transfers ")
	})
}

// wantBalance wants these nodes to own the ring in equal parts, give or take one
// partition.
func wantBalance(t *testing.T, s tanodb.ClusterState, nodes ...string) {
	t.Helper()
	owned := map[string]int{}
	for _, owner := range s.Owners {
		owned[owner]++
	}
	var counts []int
	for _, name := range nodes {
		counts = append(counts, owned[name])
	}
	if len(owned) != len(nodes) || slices.Max(counts)-slices.Min(counts) > 1 {
		t.Errorf("the ring is owned so: %v; want %v in equal parts", owned, nodes)
	}
}

// wantWhole asks all vnodes which keys of a bucket they hold: each of so many
// keys must be in as many vnodes as there are replicas, of nodes that own them, and on
// distinct nodes. Nothing is repaired by that.
func (d *devCluster) wantWhole(bucket string, objects int, s tanodb.ClusterState) {
	d.t.Helper()
	var vnodes []struct {
		Partition, Node, Error string
		Keys                   []string
		More                   bool
	}
	out := d.must("keys", bucket, "--replicas", "--json", "--addr", d.base(1))
	if err := json.Unmarshal([]byte(out), &vnodes); err != nil {
		d.t.Fatal(err)
	}
	copies := map[string][]string{}
	for _, v := range vnodes {
		if v.Error != "" || v.More {
			d.t.Errorf("partition %s of %s does not tell all: %s", v.Partition, v.Node, v.Error)
		}
		for _, k := range v.Keys {
			copies[k] = append(copies[k], v.Node)
		}
	}
	wrong := 0
	for key, nodes := range copies {
		slices.Sort(nodes)
		if len(nodes) == s.Replicas && len(slices.Compact(slices.Clone(nodes))) == s.Copies {
			continue
		}
		if wrong++; wrong < 5 {
			d.t.Errorf("%s is on %v; want %d copies", key, nodes, s.Replicas)
		}
	}
	if wrong > 0 || len(copies) != objects {
		d.t.Errorf("%s: %d keys are there, and %d of them not as often as they should; want %d", bucket, len(copies), wrong, objects)
	}
}

// wantOnlyOwn wants the directory of a stopped node to hold objects of the
// partitions that it owns, and of no other.
func wantOnlyOwn(t *testing.T, s tanodb.ClusterState, name, dir string) {
	t.Helper()
	held := heldOnDisk(t, dir)
	objects := 0
	for p, keys := range held {
		objects += len(keys)
		if s.Owners[p] != name {
			t.Errorf("%s holds %d objects of partition %d, which %s owns: %.200v", name, len(keys), p, s.Owners[p], keys)
		}
	}
	t.Logf("%s holds %d objects of %d partitions", name, objects, len(held))
}

// TestTopologyMajorityLost freezes three of five nodes, and with them the
// majority of the topology. Reads and writes go on; a commit says what it waits for, and
// is carried out when they are back.
func TestTopologyMajorityLost(t *testing.T) {
	needProgram(t)
	d := startDev(t, 5)
	eventually(t, "there are five voters", func() bool { return len(mustCluster(t, here, d.base(1)).Voters) == 5 })
	d.must("cluster", "set", "n1", "--weight", "50", "--addr", d.base(1))
	d.dev("pause", "3", "4", "5")
	for _, name := range []string{"n3", "n4", "n5"} {
		d.waitSeen(1, name, false)
		d.waitSeen(2, name, false)
	}

	for i := range 20 {
		key := fmt.Sprintf("k%d", i)
		d.must("put", "e2e", key, "v", "--addr", d.base(1+i%2))
		if got := d.must("get", "e2e", key, "--addr", d.base(2-i%2)); got != "v" {
			t.Errorf("%s is %q; want v", key, got)
		}
	}
	eventually(t, "the status says why changes wait", func() bool {
		return strings.Contains(d.must("cluster", "status", "--addr", d.base(2)), "changes of the cluster wait: ")
	})
	_, errs, code := run(t, "cluster", "commit", "--addr", d.base(1), "--timeout", "1s")
	if code != 1 || !strings.Contains(errs, "the topology cannot change now") || !strings.Contains(errs, "reads and writes go on") {
		t.Errorf("a commit without a majority: exit code %d, %s", code, errs)
	}
	t.Logf("a commit without a majority: %s", errs)

	type ended struct {
		text string
		code int
	}
	done := make(chan ended, 1)
	go func() {
		out, errs, code := run(t, "cluster", "commit", "--addr", d.base(2), "--timeout", patience.String(), "--wait", patience.String())
		done <- ended{out + errs, code}
	}()
	pass(t, time.Second)
	select {
	case e := <-done:
		t.Errorf("the commit did not wait: exit code %d, %s", e.code, e.text)
	default:
	}
	d.dev("resume", "3", "4", "5")
	if e := <-done; e.code != 0 {
		t.Errorf("a commit that waited for the majority: exit code %d, %s", e.code, e.text)
	}
	d.ready()
	s := mustCluster(t, here, d.base(1))
	if len(s.Staged) > 0 || s.Members[0].Partitions >= s.Members[1].Partitions {
		t.Errorf("the commit is not carried out: %d changes are staged, and n1 owns %d partitions of %d", len(s.Staged), s.Members[0].Partitions, s.Partitions)
	}
	for i := range 20 {
		d.must("get", "e2e", fmt.Sprintf("k%d", i), "--addr", d.base(5))
	}
}
