package object

// Expire is the object with a tombstone in the place of each value whose expiry
// is no later than an instant, in Unix milliseconds; false: there is none, and
// the object is the same.
//
// The tombstone has the dot, the stamp, the request and the expiry of the value:
// only the bytes are gone. It is a later state of the same write, as a merge
// sees it: of two copies of one dot the tombstone is taken, whichever copy was
// turned first and in whatever order they meet. So a copy that has its bytes
// still, because its clock is behind or because nobody looked, cannot bring them
// back, and copies that have exchanged everything are equal, byte for byte.
func (o Object) Expire(atMs int64) (Object, bool) {
	out := o
	changed := false
	for i := range o.Siblings {
		s := &o.Siblings[i]
		if s.Deleted || s.Expires == 0 || s.Expires > atMs {
			continue
		}
		if !changed {
			changed = true
			out.Siblings = append([]Sibling(nil), o.Siblings...)
		}
		t := &out.Siblings[i]
		t.Deleted, t.Indexed, t.Size, t.Body = true, false, 0, nil
	}
	return out, changed
}

// NextExpiry is when the first of the values expires whose bytes are still here,
// in Unix milliseconds; false: none of them ever does.
func (o Object) NextExpiry() (atMs int64, ok bool) {
	for i := range o.Siblings {
		s := &o.Siblings[i]
		if !s.Deleted && s.Expires != 0 && (!ok || s.Expires < atMs) {
			atMs, ok = s.Expires, true
		}
	}
	return atMs, ok
}
