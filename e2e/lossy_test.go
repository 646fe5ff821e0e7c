package e2e

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// sector is what a disk writes whole or not at all, in bytes.
const sector = 512

// lossy is a disk in memory with a file system on it. As far as it can it loses
// what nobody has synced when its power goes: of a file what was written since its
// last sync, of a directory the names that have come and gone since its own. It is
// stricter than most file systems, and as strict as they may be.
type lossy struct {
	mu   sync.Mutex
	root *inode
	last uint64 // number of an inode
	off  bool   // the power is gone: nothing is read, written or synced any more
}

// inode is a file, or a directory if it has names.
type inode struct {
	number  uint64
	mode    uint32
	changed time.Time

	data   []byte // of a file, as processes see it
	synced []byte // as it was when it was last synced
	dirty  []int  // the sectors that were written since then, each once, in order

	names   map[string]*inode // of a directory, as processes see them
	kept    map[string]*inode // as they were when it was last synced
	pending [][]named         // what has changed since then: each is done whole or not at all
}

// named says what a name means from now on; nil: nothing.
type named struct {
	name string
	node *inode
}

func newLossy() *lossy {
	l := &lossy{}
	l.root = l.newDir(0o755)
	return l
}

func (l *lossy) newFile(mode uint32) *inode {
	l.last++
	return &inode{number: l.last, mode: mode, changed: time.Now()}
}

func (l *lossy) newDir(mode uint32) *inode {
	n := l.newFile(mode)
	n.names, n.kept = map[string]*inode{}, map[string]*inode{}
	return n
}

func (n *inode) isDir() bool { return n.names != nil }

// name changes what names of a directory mean.
func (n *inode) name(changes ...named) {
	for _, c := range changes {
		if c.node == nil {
			delete(n.names, c.name)
			continue
		}
		n.names[c.name] = c.node
	}
	n.pending = append(n.pending, changes)
	n.changed = time.Now()
}

// write writes into a file.
func (n *inode) write(b []byte, at int) {
	if end := at + len(b); end > len(n.data) {
		n.resize(end)
	}
	copy(n.data[at:], b)
	n.soil(at, at+len(b))
	n.changed = time.Now()
}

// resize makes a file longer or shorter. What it gets is zero, and dirty.
func (n *inode) resize(size int) {
	was := len(n.data)
	if size > cap(n.data) {
		n.data = slices.Grow(n.data, size-was)
	}
	n.data = n.data[:size]
	if size > was {
		clear(n.data[was:])
		n.soil(was, size)
	}
	n.changed = time.Now()
}

// soil notes that a part of a file was written.
func (n *inode) soil(begin, end int) {
	for s := begin / sector; s*sector < end; s++ {
		if !slices.Contains(n.dirty, s) {
			n.dirty = append(n.dirty, s)
		}
	}
}

// sync makes a file or the names of a directory durable.
func (n *inode) sync() {
	if n.isDir() {
		n.kept, n.pending = maps.Clone(n.names), nil
		return
	}
	n.keep(n.dirty)
	n.synced = n.synced[:len(n.data)] // it may have become shorter
	n.dirty = nil
}

// keep makes some sectors of a file durable.
func (n *inode) keep(sectors []int) {
	for _, s := range sectors {
		begin, end := s*sector, min((s+1)*sector, len(n.data))
		if begin >= end {
			continue // it was cut off
		}
		if end > len(n.synced) {
			n.synced = append(n.synced, make([]byte, end-len(n.synced))...)
		}
		copy(n.synced[begin:end], n.data[begin:end])
	}
}

// afterLoss is the disk as it is when the power has gone and come back. Chance
// decides what is left of all that was not synced; nil: nothing.
func (l *lossy) afterLoss(chance *rand.Rand) *lossy {
	l.mu.Lock()
	defer l.mu.Unlock()
	after := &lossy{last: l.last}
	after.root = l.root.afterLoss(chance, map[*inode]*inode{})
	return after
}

// afterLoss is what is left of an inode and of all below it. One that has two
// names stays one.
func (n *inode) afterLoss(chance *rand.Rand, seen map[*inode]*inode) *inode {
	if left := seen[n]; left != nil {
		return left
	}
	left := &inode{number: n.number, mode: n.mode, changed: n.changed}
	seen[n] = left
	if !n.isDir() {
		n.keep(survivors(n.dirty, chance))
		left.data, left.synced = slices.Clone(n.synced), n.synced
		return left
	}
	names := n.kept
	if chance != nil { // directories are written in order
		for _, changes := range n.pending[:chance.IntN(len(n.pending)+1)] {
			for _, c := range changes {
				if names[c.name] = c.node; c.node == nil {
					delete(names, c.name)
				}
			}
		}
	}
	left.names = map[string]*inode{}
	for _, name := range slices.Sorted(maps.Keys(names)) { // chance is drawn in order
		left.names[name] = names[name].afterLoss(chance, seen)
	}
	left.kept = maps.Clone(left.names)
	return left
}

// survivors are the sectors that were written although nobody has waited for it:
// none, the first of them, or any.
func survivors(sectors []int, chance *rand.Rand) []int {
	if chance == nil || len(sectors) == 0 {
		return nil
	}
	switch chance.IntN(3) {
	case 0:
		return nil
	case 1:
		return sectors[:chance.IntN(len(sectors)+1)]
	}
	return slices.DeleteFunc(slices.Clone(sectors), func(int) bool { return chance.IntN(2) == 0 })
}

// TestLossyDisk shows what a loss of power takes from a lossy disk, and what not.
func TestLossyDisk(t *testing.T) {
	const bare = "/dir/half=4 /dir/old=3 /dir/synced=6 /dir/unnamed=7 "
	if got := usedLossy().afterLoss(nil).listing(); got != bare {
		t.Errorf("when all is lost that was not synced there is %s; want %s", got, bare)
	}
	torn, renamed := 0, 0
	for seed := range uint64(100) {
		after := usedLossy().afterLoss(rand.New(rand.NewPCG(seed, 0)))
		names := after.root.names["dir"].names
		if (names["old"] == nil) == (names["new"] == nil) || names["new"] != nil && names["late"] == nil {
			t.Errorf("seed %d: a rename is done by half, or before what came before it: %s", seed, after.listing())
		}
		if string(names["half"].data[:4]) != "half" {
			t.Errorf("seed %d: what was synced is lost: %s", seed, names["half"].data[:4])
		}
		if size := len(names["half"].data); size > 4 && size < 10*sector {
			torn++
		}
		if names["new"] != nil {
			renamed++
		}
		if again := after.afterLoss(nil).listing(); again != after.listing() {
			t.Errorf("seed %d: another loss of power, with nothing written between, turns %s into %s", seed, after.listing(), again)
		}
	}
	if torn == 0 || renamed == 0 {
		t.Errorf("of 100 writes %d were torn, of 100 renames %d done; want some of each", torn, renamed)
	}
}

// usedLossy is a disk on which much is not synced.
func usedLossy() *lossy {
	l := newLossy()
	dir := l.newDir(0o755)
	l.root.name(named{"dir", dir})
	l.root.sync()
	file := func(name string) *inode {
		f := l.newFile(0o644)
		f.write([]byte(name), 0)
		f.sync()
		dir.name(named{name, f})
		return f
	}
	synced, half, old := file("synced"), file("half"), file("old")
	file("unnamed")
	dir.sync()
	synced.resize(2)
	half.write(make([]byte, 9*sector), sector)
	file("late")
	dir.name(named{"new", old}, named{"old", nil})
	return l
}

// listing is all files and their sizes.
func (l *lossy) listing() string {
	var all strings.Builder
	var walk func(path string, n *inode)
	walk = func(path string, n *inode) {
		if !n.isDir() {
			fmt.Fprintf(&all, "%s=%d ", path, len(n.data))
		}
		for _, name := range slices.Sorted(maps.Keys(n.names)) {
			walk(path+"/"+name, n.names[name])
		}
	}
	walk("", l.root)
	return all.String()
}
