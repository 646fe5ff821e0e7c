package membership_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/kv"
)

// typed applies changes of types and buckets, and fails if one is refused.
func typed(t *testing.T, s *membership.State, cs ...membership.Command) *membership.State {
	t.Helper()
	for _, c := range cs {
		s = applied(s, c)
		if err, _ := s.Result(lastID(s)); err != nil {
			t.Fatalf("%#v: %v", c, err)
		}
	}
	return s
}

func applied(s *membership.State, c membership.Command) *membership.State {
	return s.Apply(membership.CommandID{15: byte(s.Epoch())}, c)
}

func lastID(s *membership.State) membership.CommandID {
	return membership.CommandID{15: byte(s.Epoch() - 1)}
}

func props(list ...string) (out kv.Properties) {
	for _, p := range list {
		name, value, _ := strings.Cut(p, "=")
		out = append(out, kv.Property{Name: name, Value: value})
	}
	return out
}

func property(t *testing.T, s *membership.State, b kv.Bucket, name string) string {
	t.Helper()
	p, err := s.Props(b)
	if err != nil {
		t.Fatal(err)
	}
	return p.List().Lookup(name)
}

func TestPropertiesComeFromBucketThenTypeThenDefault(t *testing.T) {
	s := typed(t, bootstrapped(t),
		membership.SetType{Name: "carts", Do: membership.TypeCreate, Props: props("w=all", "ttl=3600")},
		membership.SetType{Name: "carts", Do: membership.TypeActivate},
		membership.SetBucket{Bucket: kv.Bucket{Type: "carts", Name: "x"}, Props: props("w=1", "n_val=2")},
		membership.SetBucket{Bucket: kv.Bucket{Type: "default", Name: "y"}, Props: props("allow_mult=true")},
	)
	for _, tc := range []struct {
		b          kv.Bucket
		name, want string
	}{
		{kv.Bucket{Name: "any"}, "allow_mult", "false"},
		{kv.Bucket{Name: "any"}, "w", "quorum"},
		{kv.Bucket{Name: "y"}, "allow_mult", "true"},
		{kv.Bucket{Type: "carts", Name: "any"}, "allow_mult", "true"},
		{kv.Bucket{Type: "carts", Name: "any"}, "w", "all"},
		{kv.Bucket{Type: "carts", Name: "any"}, "ttl", "1h0m0s"},
		{kv.Bucket{Type: "carts", Name: "x"}, "w", "1"},
		{kv.Bucket{Type: "carts", Name: "x"}, "n_val", "2"},
		{kv.Bucket{Type: "carts", Name: "x"}, "ttl", "1h0m0s"},
	} {
		if got := property(t, s, tc.b, tc.name); got != tc.want {
			t.Errorf("%v: %s is %s; want %s", tc.b, tc.name, got, tc.want)
		}
	}
	// What is changed above holds at once below, and what is taken back is the type's again.
	s = typed(t, s,
		membership.SetType{Name: "carts", Do: membership.TypeUpdate, Props: props("ttl=", "r=all")},
		membership.SetBucket{Bucket: kv.Bucket{Type: "carts", Name: "x"}, Reset: true},
		membership.SetType{Name: "default", Do: membership.TypeUpdate, Props: props("allow_mult=true")},
	)
	if x := (kv.Bucket{Type: "carts", Name: "x"}); property(t, s, x, "w") != "all" || property(t, s, x, "r") != "all" || property(t, s, x, "ttl") != "0s" {
		t.Error("the bucket does not follow its type")
	}
	if property(t, s, kv.Bucket{Name: "any"}, "allow_mult") != "true" {
		t.Error("the default type does not change")
	}
	s = typed(t, s, membership.SetType{Name: "default", Do: membership.TypeReset}, membership.SetBucket{Bucket: kv.Bucket{Name: "y"}, Reset: true})
	if len(s.BucketsSet()) != 0 || len(s.Types()) != 2 || property(t, s, kv.Bucket{Name: "y"}, "allow_mult") != "false" {
		t.Errorf("after resets: %v, %v", s.BucketsSet(), s.Types())
	}
}

// A type that is not active, or that a State has not heard of, has no properties at all:
// its buckets must not be served by the default ones (scenario 34).
func TestScenario34NoPropertiesBeforeTheTypeIsActive(t *testing.T) {
	b := kv.Bucket{Type: "carts", Name: "x"}
	s := typed(t, bootstrapped(t), membership.SetType{Name: "carts", Do: membership.TypeCreate})
	if _, err := s.Props(b); !errors.Is(err, kv.ErrBucketType) || !strings.Contains(err.Error(), "carts") {
		t.Errorf("%v", err)
	}
	if _, err := s.Props(kv.Bucket{Type: "other", Name: "x"}); !errors.Is(err, kv.ErrBucketType) {
		t.Errorf("%v", err)
	}
	s = typed(t, s, membership.SetType{Name: "carts", Do: membership.TypeActivate})
	if p, err := s.Props(b); err != nil || !p.AllowMult {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestChangesOfPropertiesThatAreRefused(t *testing.T) {
	s := typed(t, bootstrapped(t),
		membership.SetType{Name: "a", Do: membership.TypeCreate, Props: props("hll_precision=10")},
		membership.SetType{Name: "a", Do: membership.TypeActivate},
		membership.SetType{Name: "made", Do: membership.TypeCreate},
		membership.SetBucket{Bucket: kv.Bucket{Type: "a", Name: "x"}, Props: props("n_val=1")},
	)
	bucket := func(typ string, list ...string) membership.Command {
		return membership.SetBucket{Bucket: kv.Bucket{Type: typ, Name: "x"}, Props: props(list...)}
	}
	typ := func(name string, do membership.TypeChange, list ...string) membership.Command {
		return membership.SetType{Name: name, Do: do, Props: props(list...)}
	}
	for _, tc := range []struct {
		c    membership.Command
		want string
	}{
		{typ("a", membership.TypeCreate), "active already"},
		{typ("default", membership.TypeCreate), "active already"},
		{typ("b", membership.TypeActivate), "create it first"},
		{typ("b", membership.TypeUpdate, "w=1"), "create it first"},
		{typ("any", membership.TypeCreate), "no name of a bucket type"},
		{typ("a/b", membership.TypeCreate), "no name of a bucket type"},
		{typ("", membership.TypeCreate), "no name of a bucket type"},
		{typ("a", "dance"), "nothing to be done"},
		{typ("a", membership.TypeUpdate, "w=7"), "n_val is 3"},
		{typ("a", membership.TypeUpdate, "w=3"), "n_val is 1"}, // of its bucket x
		{typ("a", membership.TypeUpdate, "n_val=4"), "keeps 3 replicas"},
		{typ("a", membership.TypeUpdate, "n_val=0"), "from 1 to 64"},
		{typ("a", membership.TypeUpdate, "last_write_wins=true"), "allow_mult"},
		{typ("a", membership.TypeUpdate, "write_once=true"), "cannot change"},
		{typ("a", membership.TypeUpdate, "hll_precision=12"), "downwards"},
		{typ("a", membership.TypeUpdate, "dance=1"), "unknown"},
		{typ("a", membership.TypeUpdate, "r=default"), "one of one, quorum, all"},
		{typ("a", membership.TypeUpdate, "r=1", "r=2"), "twice"},
		{typ("a", membership.TypeUpdate, "consistent=true"), "only false"},
		{typ("a", membership.TypeUpdate, "ttl=-1s"), "duration"},
		{typ("a", membership.TypeUpdate, "delete_mode=soon"), "milliseconds"},
		{typ("a", membership.TypeUpdate, "siblings_maximum=7"), "above siblings_maximum"},
		{bucket("made", "w=1"), "no bucket type"},
		{bucket("nobody", "w=1"), "no bucket type"},
		{bucket("a", "write_once=true"), "bucket types alone"},
		{bucket("a", "w=2"), "n_val is 1"},
		{membership.SetBucket{Bucket: kv.Bucket{Type: "a"}}, "zero-length"},
	} {
		next := applied(s, tc.c)
		if err, _ := next.Result(lastID(next)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: %v; want %q", tc.c, err, tc.want)
		}
		before, _ := s.Props(kv.Bucket{Type: "a", Name: "x"})
		after, err := next.Props(kv.Bucket{Type: "a", Name: "x"})
		if err != nil || !slices.Equal(before.List(), after.List()) || len(next.Types()) != len(s.Types()) {
			t.Errorf("%+v was refused, and has changed something", tc.c)
		}
	}
}

func TestAClusterCanBeFoundedWithTypes(t *testing.T) {
	first := bootstrapped(t)
	s, err := first.Furnished(
		membership.SetType{Name: "a", Do: membership.TypeCreate, Props: props("w=1")},
		membership.SetType{Name: "a", Do: membership.TypeActivate},
		membership.SetBucket{Bucket: kv.Bucket{Type: "a", Name: "x"}, Props: props("r=1")},
	)
	if err != nil || s.Epoch() != 1 || property(t, s, kv.Bucket{Type: "a", Name: "x"}, "r") != "1" {
		t.Fatalf("%v, %v", s, err)
	}
	if _, err := first.Props(kv.Bucket{Type: "a", Name: "x"}); err == nil {
		t.Error("the state that it was made of has changed")
	}
	if _, err := membership.DecodeState(s.Encode()); err != nil {
		t.Error(err)
	}
	if _, err := s.Furnished(membership.SetType{Name: "a", Do: membership.TypeCreate}); err == nil {
		t.Error("an active type is created")
	}
	if _, err := applied(s, membership.Noop{}).Furnished(); err == nil {
		t.Error("a later state is a first one")
	}
}

func TestPropertiesHaveLimits(t *testing.T) {
	s := bootstrapped(t)
	refusedAt := func(make func(i int) membership.Command) (int, error) {
		s := s
		for i := range 5000 {
			next := applied(s, make(i))
			if err, _ := next.Result(lastID(next)); err != nil {
				return i, err
			}
			s = next
			if i%1000 == 999 {
				if _, err := membership.DecodeState(s.Encode()); err != nil {
					t.Fatal(err)
				}
			}
		}
		return -1, nil
	}
	if i, err := refusedAt(func(i int) membership.Command {
		return membership.SetType{Name: fmt.Sprint("t", i), Do: membership.TypeCreate}
	}); i != 128 || !strings.Contains(err.Error(), "limit") {
		t.Errorf("type %d: %v", i, err)
	}
	if i, err := refusedAt(func(i int) membership.Command {
		return membership.SetBucket{Bucket: kv.Bucket{Name: strings.Repeat("x", 4000) + fmt.Sprint(i)}, Props: props("w=1")}
	}); i < 100 || i > 132 || !strings.Contains(err.Error(), "bytes") {
		t.Errorf("bucket %d: %v", i, err)
	}
}
