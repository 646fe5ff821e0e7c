package object

import (
	"cmp"

	"github.com/tanodb/tanodb/internal/planted"
	"github.com/tanodb/tanodb/kv"
)

// Latest is the object as a reader sees it for whom the last write wins: of its
// siblings the one with the newest stamp, and of equal stamps the one with the
// greatest dot. It may be a tombstone.
//
// It is a way to look at an object, and no way to store or merge one: all copies keep
// what they have not seen replaced, so that merging has the same laws in every
// bucket, and copies that are equal show the same. A write of such a bucket replaces all
// that its coordinator has, so that siblings are there only between a conflict and
// the next write.
func (o Object) Latest() Object {
	if len(o.Siblings) < 2 {
		return o
	}
	last := 0
	for i := range o.Siblings {
		if newer(&o.Siblings[i], &o.Siblings[last]) {
			last = i
		}
	}
	return Object{Clock: o.Clock, Siblings: o.Siblings[last : last+1 : last+1]}
}

// Shown is the object as the readers of a bucket with these properties see it.
func (o Object) Shown(p *kv.Props) Object {
	if p.Latest() {
		return o.Latest()
	}
	return o
}

// newer reports whether x was written after y, as far as stamps tell.
func newer(x, y *Sibling) bool {
	if planted.Is(planted.LatestByDot) {
		return x.Dot.Compare(y.Dot) > 0
	}
	return cmp.Or(cmp.Compare(x.Stamp, y.Stamp), x.Dot.Compare(y.Dot)) > 0
}
