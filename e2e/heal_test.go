package e2e

import (
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestReplicasHeal lets a cluster under load lose a disk for ever, find another
// one damaged, and miss a node for a while. When all is healed every replica is
// the same, as all nodes say who compute it anew, and nothing that was acknowledged
// is lost or wrong.
func TestReplicasHeal(t *testing.T) {
	skipShort(t)
	const objects = 5_000
	d := startDev(t, 3)
	d.preload("pre", objects)
	d.dev("kill", "2") // what it has in its log goes to a table when it starts
	d.dev("start", "2")
	d.waitSeen(1, "n2", true)
	l := startLoadAt(t, here, "--workers", "8", "--addr", d.base(1)+","+d.base(2))
	pass(t, between)

	gone := d.dev("kill", "3")
	if err := os.RemoveAll(filepath.Join(d.dir, "n3")); err != nil {
		t.Fatal(err)
	}
	d.waitSeen(1, "n3", false)
	port := freePorts(t, 2)
	n4 := newProcess(t, here, "n4", address(port), address(port+1), "--join", strings.Join([]string{d.node[0], d.node[1]}, ","))
	n4.start()
	d.waitMember("n4")
	d.must("cluster", "force-replace", "n3", "n4", "--yes", "--wait", patience.String(), "--addr", d.base(1))
	d.ready()
	pass(t, between)

	damaged := d.dev("kill", "2")
	flip(t, filepath.Join(d.dir, "n2"))
	back := d.dev("start", "2")
	damaged.ended = back.ended
	d.waitSeen(1, "n2", true)
	eventually(t, "n2 has found the damage, and nothing lacks any more", func() bool {
		found := d.metric(2, "tanodb_scrub_damage_total")
		return found != "" && !strings.HasSuffix(found, " 0") && strings.HasSuffix(d.metric(2, "tanodb_vnodes_lacking"), " 0")
	})
	pass(t, between)

	away := d.dev("pause", "1")
	d.waitSeen(2, "n1", false)
	pass(t, between)
	away.ended = d.dev("resume", "1").ended
	d.waitSeen(2, "n1", true)
	d.waitSeen(1, "n2", true)
	pass(t, between)

	wantErrorsOnlyAround(t, l.end(), []span{gone, damaged, away})
	d.wantRest()
	var said string
	eventually(t, "all replicas of all partitions are the same", func() bool {
		out, errs, code := run(t, "repair", "verify", "--addr", d.base(1), "--timeout", patience.String())
		said = out + errs
		return code == 0
	})
	t.Logf("repair verify:\n%s", said)
	d.wantWhole("pre", objects, mustCluster(t, here, d.base(1)))
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
