package e2e

import (
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// seldom is how often a test looks while it measures what requests take: a look
// costs what some dozens of them do.
const seldom = time.Second

// calm is how long requests are measured before the faults, and after them.
const calm = 3 * between

// bucketful is how many objects a bucket may have for its replicas to be listed.
const bucketful = 15_000

// TestReplicasHeal lets a cluster under load lose a disk for ever, find another
// one damaged, and miss a node for a while. When all is healed every replica is
// the same, as all nodes say who compute it anew, and nothing that was acknowledged
// is lost or wrong. How long requests took meanwhile is in its log.
func TestReplicasHeal(t *testing.T) {
	needProgram(t)
	d := startDev(t, 3)
	buckets := map[string]int{} // no vnode has more than a page of one
	for left := *objects; left > 0; left -= bucketful {
		bucket := fmt.Sprintf("pre%d", len(buckets))
		buckets[bucket] = min(left, bucketful)
		d.preload(bucket, buckets[bucket])
	}
	d.dev("kill", "2") // what it has in its log goes to a table when it starts
	d.dev("start", "2")
	d.waitSeen(1, "n2", true)
	addr := d.base(1) + "," + d.base(2)
	l := startLoadAt(t, here, "--workers", "4", "--addr", addr)
	w := &windows{t: t, addr: addr}
	w.next("before")
	pass(t, calm)

	w.next("a node is dead")
	gone := d.dev("kill", "3")
	if err := os.RemoveAll(filepath.Join(d.dir, "n3")); err != nil {
		t.Fatal(err)
	}
	d.waitSeen(1, "n3", false)
	port := freePorts(t, 2)
	n4 := newProcess(t, here, "n4", address(port), address(port+1), "--join", strings.Join([]string{d.node[0], d.node[1]}, ","))
	n4.start()
	d.waitMember("n4")
	w.next("another one is filled in its place")
	d.must("cluster", "force-replace", "n3", "n4", "--yes", "--wait", patience.String(), "--addr", d.base(1))
	d.ready()
	w.next("between")
	pass(t, between)

	w.next("a node is down")
	damaged := d.dev("kill", "2")
	flip(t, filepath.Join(d.dir, "n2"))
	back := d.dev("start", "2")
	damaged.ended = back.ended
	d.waitSeen(1, "n2", true)
	w.next("its damage is found and mended")
	eventuallyAt(t, seldom, "n2 has found the damage, and nothing lacks any more", func() bool {
		found := d.metric(2, "tanodb_scrub_damage_total")
		return found != "" && !strings.HasSuffix(found, " 0") && strings.HasSuffix(d.metric(2, "tanodb_vnodes_lacking"), " 0")
	})
	w.next("between")
	pass(t, between)

	w.next("a node is frozen")
	away := d.dev("pause", "1")
	d.waitSeen(2, "n1", false)
	pass(t, between)
	away.ended = d.dev("resume", "1").ended
	d.waitSeen(2, "n1", true)
	d.waitSeen(1, "n2", true)
	w.next("it gets what it has missed")
	pass(t, between)
	d.wantRest()
	w.next("after")
	pass(t, calm)
	w.end()

	wantErrorsOnlyAround(t, l.end(), []span{gone, damaged, away})
	d.wantRest()
	var said string
	t.Cleanup(func() { t.Logf("repair verify:\n%s", said) })
	eventually(t, "all replicas of all partitions are the same", func() bool {
		out, errs, code := run(t, "repair", "verify", "--addr", d.base(1), "--timeout", patience.String())
		said = out + errs
		return code == 0
	})
	for bucket, n := range buckets {
		d.wantWhole(bucket, n, mustCluster(t, here, d.base(1)))
	}
}

// windows measure how long the requests of a small load take, one after the
// other. They only tell: other work on the machine tells as well.
type windows struct {
	t    *testing.T
	addr string
	name string
	load *load
	p99  float64 // of the first window, in ms
}

// next ends a window and begins the next one.
func (w *windows) next(name string) {
	w.t.Helper()
	w.end()
	w.name = name
	w.load = startLoadAt(w.t, here, "--verify=false", "--keys", "200", "--workers", "4", "--bucket", "measured", "--addr", w.addr)
}

// end ends a window and tells of it.
func (w *windows) end() {
	w.t.Helper()
	if w.load == nil {
		return
	}
	r, err := w.load.stop()
	if err != nil {
		w.t.Errorf("measuring while %s: %v", w.name, err)
	}
	if w.p99 == 0 {
		w.p99 = r.P99
	}
	w.t.Logf("%-36s %6.1f s, %6.0f requests/s, p50 %6.2f ms, p99 %7.2f ms, %4.1f times that before", w.name+":", r.Seconds, r.PerSecond, r.P50, r.P99, r.P99/w.p99)
}

// flip turns some bytes around in the largest table file of a node that is down.
func flip(t *testing.T, dir string) {
	t.Helper()
	largest, size := "", int64(0)
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".sst") {
			return err
		}
		info, err := e.Info()
		if err == nil && info.Size() > size {
			largest, size = path, info.Size()
		}
		return err
	})
	if err != nil || largest == "" {
		t.Fatalf("%s has no table: %v", dir, err)
	}
	f, err := os.OpenFile(largest, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 16)
	if _, err := f.ReadAt(b, size/3); err != nil {
		t.Fatal(err)
	}
	for i := range b {
		b[i] ^= 0xff
	}
	if _, err := f.WriteAt(b, size/3); err != nil {
		t.Fatal(err)
	}
	t.Logf("flipped 16 bytes in the middle of %s, of %d", filepath.Base(largest), size)
}

// metric is the line of a metric of a node.
func (d *devCluster) metric(node int, name string) string {
	d.t.Helper()
	response, err := http.Get(d.base(node) + "/metrics")
	if err != nil {
		return "" // it is down for the moment
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	for _, line := range strings.Split(string(b), "\n") {
		if strings.HasPrefix(line, name+" ") || strings.HasPrefix(line, name+"{") {
			return line
		}
	}
	return ""
}
