// Package backup is what a backup of a cluster consists of, as values and as
// bytes, and the decisions that are made when one is taken.
//
// A backup is a manifest and the chunks that it names:
//
//	manifest ─┬─ home 0 ─┬─ branches 0 to 17   sum   chunk, chunk …
//	          │          └─ branches 18 to 63  sum   chunk
//	          ├─ home 1 …
//	          └─ bucket types and properties
//
// A chunk is named by the hash of its bytes, so that equal ones are kept once. A range
// is a run of branches of a home's hash tree (see package vnode) with the sum of the objects in
// it. If all replicas of a home have that sum for these branches when the next
// backup is taken, they hold the same objects, and the range is taken over as it is: nothing
// of it is read.
//
// Objects are kept as replicas hold them, with clocks, dots, tombstones and expiry.
// So a restore is a merge like every other: what a replica holds and the backup has not
// seen stays. The bytes are drawn in docs/formats.md.
package backup

import (
	"errors"
	"fmt"
	"slices"

	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
)

// The errors that all others here wrap.
var (
	ErrCorrupt = errors.New("it is damaged")
	ErrVersion = errors.New("it is of another version")
)

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
}

// Record is one object of a backup.
type Record struct {
	Key    kv.Key
	Object []byte // encoded by package object
}

// Term is what the record adds to the sum of its range, and the branch that it is in.
func (r Record) Term() (branch int, term uint64) { return vnode.Term(r.Key, vnode.HashOf(r.Object)) }

// Range is a run of branches of a home, and what is in it.
type Range struct {
	From   int     `json:"from"`   // its first branch
	To     int     `json:"to"`     // the one after its last
	Sum    Sum     `json:"sum"`    // of the objects in it
	Chunks []Chunk `json:"chunks"` // none: there are no objects
}

// Chunk names some objects of a range, in order.
type Chunk struct {
	SHA256  string `json:"sha256"`
	Objects int    `json:"objects"`
	Bytes   int    `json:"bytes"` // before compression
}

// Head is what a node says of a home before its objects.
type Head struct {
	Home     int      `json:"home"`
	Same     []int    `json:"same"`              // those of Ask.Known that have not changed, ascending
	Replicas []string `json:"replicas"`          // that were read: node/partition
	Missing  []string `json:"missing,omitempty"` // primaries, and other nodes, that were not, and why
	Whole    bool     `json:"whole"`             // see Enough
}

// End is what it says after them.
type End struct {
	Objects    int      `json:"objects"`
	Bytes      int64    `json:"bytes"`
	Merged     int      `json:"merged,omitempty"` // objects of which replicas had different versions
	Bad        int      `json:"bad,omitempty"`    // objects that no replica could read
	Unreadable []string `json:"unreadable,omitempty"`
	Error      string   `json:"error,omitempty"` // the home is not whole: begin again
}

// Ask asks a node for a home.
type Ask struct {
	Home  int     `json:"home"`
	Known []Range `json:"known,omitempty"` // what an earlier backup has, covering the whole home; none: all is wanted
}

// Check says what is wrong with an Ask of a ring of so many partitions.
func (a Ask) Check(partitions int) error {
	if a.Home < 0 || a.Home >= partitions {
		return &kv.InvalidError{What: "home", Problem: fmt.Sprintf("is %d; the ring has %d", a.Home, partitions)}
	}
	if len(a.Known) == 0 {
		return nil
	}
	if err := covers(a.Known); err != nil {
		return &kv.InvalidError{What: "known", Problem: err.Error()}
	}
	return nil
}

// covers says whether the ranges are those of a whole home.
func covers(ranges []Range) error {
	at := 0
	for _, r := range ranges {
		if r.From != at || r.To <= r.From {
			return fmt.Errorf("a range of branches %d to %d where branch %d is next", r.From, r.To, at)
		}
		at = r.To
	}
	if at != vnode.Branches {
		return fmt.Errorf("the ranges end at branch %d of %d", at, vnode.Branches)
	}
	return nil
}

// Wanted are the ranges to read: those of a, without those that are the same. Neighbours
// are one, since they may be cut in another way.
func (a Ask) Wanted(same []int) []Range {
	if len(a.Known) == 0 {
		return []Range{{To: vnode.Branches}}
	}
	var out []Range
	for i, r := range a.Known {
		if len(same) > 0 && same[0] == i {
			same = same[1:]
			continue
		}
		if n := len(out); n > 0 && out[n-1].To == r.From {
			out[n-1].To = r.To
			continue
		}
		out = append(out, Range{From: r.From, To: r.To})
	}
	return out
}

// Unchanged are the ranges of a that all replicas have as they were. Places has the sums of the
// branches of each replica that should have them all, others those of each vnode that
// holds something of the home and should not.
func (a Ask) Unchanged(places, others [][]uint64) []int {
	same := []int{}
	for i, r := range a.Known {
		unchanged := len(places) > 0
		for _, branches := range places {
			unchanged = unchanged && r.sumOf(branches) == r.Sum
		}
		for _, branches := range others {
			unchanged = unchanged && !slices.ContainsFunc(branches[r.From:r.To], func(s uint64) bool { return s != 0 })
		}
		if unchanged {
			same = append(same, i)
		}
	}
	return same
}

// sumOf is the sum of the range by those of all branches.
func (r Range) sumOf(branches []uint64) Sum {
	sum := uint64(0)
	for _, s := range branches[r.From:r.To] {
		sum ^= s
	}
	return Sum(sum)
}

// Version is one version of an object, and the replicas that have it.
type Version struct {
	Hash uint64
	At   []int
}

// Want is an object to read, of which replicas may have different versions.
type Want struct {
	Key      kv.Key
	Versions []Version
}

// Wants brings together what replicas list of the same part of a home, each in the order of
// positions: every version of every object, once.
func Wants(lists [][]vnode.Item) []Want {
	type cursor struct {
		replica int
		items   []vnode.Item
		at      string // position of the first
	}
	var open []cursor
	advance := func(c *cursor, by int) {
		if c.items = c.items[by:]; len(c.items) > 0 {
			c.at = string(vnode.Position(c.items[0].Key))
		}
	}
	for i, items := range lists {
		c := cursor{replica: i, items: items}
		if advance(&c, 0); len(items) > 0 {
			open = append(open, c)
		}
	}
	var out []Want
	for len(open) > 0 {
		least := open[0].at
		for _, c := range open[1:] {
			least = min(least, c.at)
		}
		w, rest := Want{}, open[:0]
		for _, c := range open {
			if c.at == least {
				w.add(c.items[0], c.replica)
				advance(&c, 1)
			}
			if len(c.items) > 0 {
				rest = append(rest, c)
			}
		}
		open = rest
		out = append(out, w)
	}
	return out
}

// SumOf is the sum of a branch of which these are all objects.
func SumOf(items []vnode.Item) (sum uint64) {
	for _, it := range items {
		_, term := vnode.Term(it.Key, it.Hash)
		sum ^= term
	}
	return sum
}

// Unlisted are the replicas of which it is not known what they have in a branch, whose sum
// each tells, and lists what it knows of it. A replica is known by its own list if that has the
// sum, by that of another which has it, or by what all list together.
func Unlisted(sums []uint64, lists [][]vnode.Item, wants []Want) (unlisted []int) {
	known := []uint64{0} // nothing is in it
	for i, items := range lists {
		if SumOf(items) == sums[i] {
			known = append(known, sums[i])
		}
	}
	together := make([]vnode.Item, 0, len(wants))
	for _, w := range wants {
		together = append(together, vnode.Item{Key: w.Key, Hash: w.Versions[0].Hash})
	}
	known = append(known, SumOf(together)) // of no replica, if there are several versions of one object
	for i, sum := range sums {
		if !slices.Contains(known, sum) {
			unlisted = append(unlisted, i)
		}
	}
	return unlisted
}

func (w *Want) add(it vnode.Item, replica int) {
	w.Key = it.Key
	for i := range w.Versions {
		if w.Versions[i].Hash == it.Hash {
			w.Versions[i].At = append(w.Versions[i].At, replica)
			return
		}
	}
	w.Versions = append(w.Versions, Version{Hash: it.Hash, At: []int{replica}})
}

// Enough reports whether what is read of a home has every write that was confirmed by a majority
// of its replicas, on as many nodes. Missing are the primaries that are not read, and every other node that
// is not, which may have taken a write in the stead of a primary: there are fewer than such a majority has.
func Enough(primaries, missing int) bool { return missing <= primaries/2 }
