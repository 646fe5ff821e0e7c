package object

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/tanodb/tanodb/kv"
)

// Values is what a reader of key k sees at this instant, in Unix milliseconds:
// the live siblings and, if asked for, the tombstones with Deleted set. An
// expired sibling is such a tombstone, without its data and metadata. With
// head, values have no Data.
//
// Of siblings with one request id, which are one write that was carried out
// twice, only the one with the greatest dot is seen; a live one before one that
// is not. The newest stamp comes first; equal stamps are ordered by dot.
//
// Without tombstones the result is empty if and only if the object is not Live.
// The values' data alias the bodies. ErrCorrupt: a body is not one, or was not
// read, since the object comes from DecodeHead.
func (o Object) Values(k kv.Key, nowMs int64, tombstones, head bool) ([]kv.Value, error) {
	seen := o.visible(nowMs, tombstones)
	values := make([]kv.Value, 0, len(seen))
	for _, s := range seen {
		v, err := s.value(nowMs, head)
		if err != nil {
			return nil, fmt.Errorf("%s: sibling %s: %w", k, s.Dot, err)
		}
		values = append(values, v)
	}
	return values, nil
}

// visible are the siblings that a reader sees, in order.
func (o Object) visible(nowMs int64, tombstones bool) []*Sibling {
	seen := make([]*Sibling, 0, len(o.Siblings))
	for i := range o.Siblings {
		if s := &o.Siblings[i]; tombstones || s.Live(nowMs) {
			seen = append(seen, s)
		}
	}
	if len(seen) < 2 {
		return seen
	}
	slices.SortFunc(seen, func(x, y *Sibling) int { return byRequest(x, y, nowMs) })
	seen = slices.CompactFunc(seen, func(x, y *Sibling) bool {
		return x.Request == y.Request && x.Request != kv.RequestID{}
	})
	slices.SortFunc(seen, func(x, y *Sibling) int {
		return cmp.Or(cmp.Compare(y.Stamp, x.Stamp), x.Dot.Compare(y.Dot))
	})
	return seen
}

// byRequest brings siblings of one request together, the one to show first.
func byRequest(x, y *Sibling, nowMs int64) int {
	if c := bytes.Compare(x.Request[:], y.Request[:]); c != 0 {
		return c
	}
	if live := x.Live(nowMs); live != y.Live(nowMs) {
		if live {
			return -1
		}
		return 1
	}
	return y.Dot.Compare(x.Dot)
}

// value is what a reader sees of one sibling.
func (s *Sibling) value(nowMs int64, head bool) (kv.Value, error) {
	var v kv.Value
	if s.Live(nowMs) {
		var err error
		if HoldsState(s.Body) {
			v, err = stateValue(s.Body)
		} else {
			v, err = DecodeBody(s.Body)
		}
		if err != nil {
			return kv.Value{}, err
		}
		if head {
			v.Data = nil
		}
	}
	v.Deleted = !s.Live(nowMs)
	v.Modified = s.Stamp.Wall()
	v.VTag = s.Dot.vtag()
	if s.Expires != 0 {
		v.Expires = time.UnixMilli(s.Expires).UTC()
	}
	return v, nil
}

const (
	base62       = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	base62Digits = 11 // in a number of 64 bits at most
)

// vtag is a short name for the write that cannot be that of another: the actor
// in 11 digits of base 62, then the counter in as few as it needs.
func (d Dot) vtag() string {
	var b [2 * base62Digits]byte
	at := len(b)
	for c := d.Counter; c > 0; c /= 62 {
		at--
		b[at] = base62[c%62]
	}
	a := binary.BigEndian.Uint64(d.Actor[:])
	for range base62Digits {
		at--
		b[at] = base62[a%62]
		a /= 62
	}
	return string(b[at:])
}
