package object

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tanodb/tanodb/kv"
	"pgregory.net/rapid"
)

var testKey = kv.Key{Bucket: "mybucket", Name: "k1"}

// text is a sibling with this data; how changes it further.
func text(d Dot, stampMs int64, data string, how ...func(*Sibling)) Sibling {
	s := Sibling{Dot: d, Stamp: Stamp(0).Next(stampMs)}
	s.Body = AppendBody(nil, &kv.Value{Data: []byte(data), ContentType: "text/plain"})
	s.Size = len(s.Body)
	for _, h := range how {
		h(&s)
	}
	return s
}

func tombstone(s *Sibling) { s.Deleted, s.Body, s.Size = true, nil, 0 }

func expires(ms int64) func(*Sibling) { return func(s *Sibling) { s.Expires = ms } }

func request(id byte) func(*Sibling) { return func(s *Sibling) { s.Request = kv.RequestID{id} } }

// show is a line a value: its data, or what else it is.
func show(values []kv.Value) string {
	var lines []string
	for _, v := range values {
		line := string(v.Data)
		if v.Deleted {
			line = "deleted"
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, ",")
}

func TestValuesShowWhatAReaderSees(t *testing.T) {
	const now = 1000
	clock := vec(9, 9, 9)
	for _, c := range []struct {
		name     string
		siblings []Sibling
		want     string
		withDead string
		live     bool
	}{
		{"nothing", nil, "", "", false},
		{"one value", []Sibling{text(dot(1, 1), 5, "a")}, "a", "a", true},
		{"a tombstone", []Sibling{text(dot(1, 1), 5, "a", tombstone)}, "", "deleted", false},
		{"newest first", []Sibling{text(dot(1, 1), 5, "old"), text(dot(2, 1), 6, "new")}, "new,old", "new,old", true},
		{"equal stamps by dot", []Sibling{text(dot(1, 1), 5, "a"), text(dot(1, 2), 5, "b"), text(dot(2, 1), 5, "c")}, "a,b,c", "a,b,c", true},
		{"a tombstone beside a value", []Sibling{text(dot(1, 1), 5, "a"), text(dot(2, 1), 6, "", tombstone)}, "a", "deleted,a", true},
		{"expired now", []Sibling{text(dot(1, 1), 5, "a", expires(now))}, "", "deleted", false},
		{"expired long ago", []Sibling{text(dot(1, 1), 5, "a", expires(-now))}, "", "deleted", false},
		{"about to expire", []Sibling{text(dot(1, 1), 5, "a", expires(now+1))}, "a", "a", true},
		{"a request carried out twice", []Sibling{text(dot(1, 1), 6, "first", request(1)), text(dot(2, 1), 5, "second", request(1))}, "second", "second", true},
		{"two requests", []Sibling{text(dot(1, 1), 6, "a", request(1)), text(dot(2, 1), 5, "b", request(2))}, "a,b", "a,b", true},
		{"no request ids", []Sibling{text(dot(1, 1), 6, "a"), text(dot(2, 1), 5, "a")}, "a,a", "a,a", true},
		{"a request id used for a value and a delete", []Sibling{text(dot(1, 1), 6, "a", request(1)), text(dot(2, 1), 5, "", request(1), tombstone)}, "a", "a", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := Object{Clock: clock, Siblings: c.siblings}
			for tombstones, want := range map[bool]string{false: c.want, true: c.withDead} {
				values, err := o.Values(testKey, now, tombstones, false)
				if err != nil {
					t.Fatal(err)
				}
				if got := show(values); got != want {
					t.Errorf("with tombstones %v: got %q, want %q", tombstones, got, want)
				}
			}
			if got := o.Live(now); got != c.live {
				t.Errorf("live: %v, want %v", got, c.live)
			}
		})
	}
}

func TestValuesAreEmptyIffNotLive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := genObject(t, "o")
		now := rapid.Int64Range(0, 500).Draw(t, "now")
		before := string(o.Encode())
		values, err := o.Values(testKey, now, false, false)
		if err != nil {
			t.Fatal(err)
		}
		if o.Live(now) != (len(values) > 0) {
			t.Errorf("live: %v, but %d values: %v", o.Live(now), len(values), o)
		}
		all, err := o.Values(testKey, now, true, true)
		if err != nil {
			t.Fatal(err)
		}
		tags := map[string]bool{}
		for _, v := range all {
			if v.Data != nil {
				t.Errorf("a head has data %q", v.Data)
			}
			if tags[v.VTag] {
				t.Errorf("two values have the tag %s", v.VTag)
			}
			tags[v.VTag] = true
		}
		if before != string(o.Encode()) {
			t.Errorf("the object was changed")
		}
	})
}

func TestValuesFillsInWhatTheStoreSets(t *testing.T) {
	const ms = 1_700_000_000_123
	o := Object{Clock: vec(7), Siblings: []Sibling{text(dot(1, 7), ms, "a", expires(ms+1))}}
	got, err := o.Values(testKey, ms, false, false)
	if err != nil {
		t.Fatal(err)
	}
	v := got[0]
	if !v.Modified.Equal(time.UnixMilli(ms)) || !v.Expires.Equal(time.UnixMilli(ms+1)) || v.Deleted {
		t.Errorf("modified %v, expires %v, deleted %v", v.Modified, v.Expires, v.Deleted)
	}
	if v.ContentType != "text/plain" || string(v.Data) != "a" {
		t.Errorf("content type %q, data %q", v.ContentType, v.Data)
	}
	if want := "05K1WQWcYpJ7"; v.VTag != want {
		t.Errorf("tag %q, want %q", v.VTag, want)
	}
	got, err = o.Values(testKey, ms+1, true, false)
	if err != nil {
		t.Fatal(err)
	}
	if d := got[0]; !d.Deleted || d.Data != nil || d.ContentType != "" || d.VTag != v.VTag || !d.Expires.Equal(v.Expires) {
		t.Errorf("expired: %+v", d)
	}
}

func TestVTagsAreOfOneDotEach(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		actors := rapid.Custom(func(t *rapid.T) (a Actor) {
			copy(a[:], rapid.SliceOfN(rapid.ByteRange(0, 255), 8, 8).Draw(t, "actor"))
			return a
		})
		d := Dot{actors.Draw(t, "actor"), rapid.Uint64Min(1).Draw(t, "counter")}
		e := Dot{actors.Draw(t, "actor"), rapid.Uint64Min(1).Draw(t, "counter")}
		if (d.vtag() == e.vtag()) != (d == e) {
			t.Errorf("%v is %s, %v is %s", d, d.vtag(), e, e.vtag())
		}
		if n := len(d.vtag()); n < base62Digits+1 || n > 2*base62Digits {
			t.Errorf("%s is %d long", d.vtag(), n)
		}
	})
}

func TestValuesNeedBodies(t *testing.T) {
	o := head(Object{Clock: vec(7), Siblings: []Sibling{text(dot(1, 7), 5, "a")}})
	_, err := o.Values(testKey, 0, false, false)
	if !errors.Is(err, ErrCorrupt) {
		t.Errorf("got error %v", err)
	}
	if o.Complete() {
		t.Error("a head is complete")
	}
}

func TestValuesOfManySiblingsKeepTheirOrder(t *testing.T) {
	o := Object{Clock: vec(200)}
	for c := uint64(1); c <= 200; c++ {
		o.Siblings = append(o.Siblings, text(dot(1, c), int64(c%7), "", request(byte(c%10))))
	}
	values, err := o.Values(testKey, 0, false, false)
	if err != nil {
		t.Fatal(err)
	}
	// Requests 1 to 9 are seen once each, and each sibling without one.
	if len(values) != 9+20 {
		t.Errorf("%d values", len(values))
	}
	if !slices.IsSortedFunc(values, func(a, b kv.Value) int { return b.Modified.Compare(a.Modified) }) {
		t.Error("not the newest first")
	}
}
