package kv_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tanodb/tanodb/kv"
)

func TestPartitionsHaveRiaksNames(t *testing.T) {
	for _, tc := range []struct {
		p    kv.Partition
		want string
	}{
		{kv.Partition{Index: 0, Of: 64}, "0"},
		{kv.Partition{Index: 1, Of: 64}, "22835963083295358096932575511191922182123945984"},
		{kv.Partition{Index: 10, Of: 64}, "228359630832953580969325755111919221821239459840"},
		{kv.Partition{Index: 1, Of: 8}, "182687704666362864775460604089535377456991567872"},
		{kv.Partition{}, "0"},
	} {
		if got := tc.p.String(); got != tc.want {
			t.Errorf("partition %d of %d is %s; want %s", tc.p.Index, tc.p.Of, got, tc.want)
		}
	}
}

func TestQuorumsAreReadAsTheyPrint(t *testing.T) {
	for _, q := range []kv.Quorum{kv.Default, kv.None, kv.One, kv.Majority, kv.All, 1, 3, 65535} {
		got, err := kv.ParseQuorum(q.String())
		if err != nil || got != q {
			t.Errorf("%v is read as %v, %v", q, got, err)
		}
	}
	for _, s := range []string{"", "-1", "two", "65536", "1.5", " 1"} {
		if q, err := kv.ParseQuorum(s); !errors.Is(err, kv.ErrInvalid) {
			t.Errorf("%q is read as %v, %v", s, q, err)
		}
	}
}

func TestLimitsOfKeysAndValues(t *testing.T) {
	long := strings.Repeat("x", kv.MaxKey+1)
	for want, err := range map[string]error{
		"bucket cannot be zero-length":                                      kv.Key{Name: "k"}.Validate(),
		"key cannot be zero-length":                                         kv.Key{Bucket: "b"}.Validate(),
		"key is 65537 bytes long; the limit is 65536":                       kv.Key{Bucket: "b", Name: long}.Validate(),
		"bucket is 4097 bytes long; the limit is 4096":                      kv.Key{Bucket: long[:4097], Name: "k"}.Validate(),
		"bucket type is 256 bytes long; the limit is 255":                   kv.Key{Type: long[:256], Bucket: "b", Name: "k"}.Validate(),
		"value is 52428801 bytes long; the limit is 52428800":               (&kv.Value{Data: make([]byte, kv.MaxObject+1)}).Validate(),
		"metadata of the value is 1200000 bytes long; the limit is 1048576": (&kv.Value{Meta: make([]kv.Pair, 300_000)}).Validate(),
	} {
		if !errors.Is(err, kv.ErrInvalid) || err.Error() != want {
			t.Errorf("error %v; want %s", err, want)
		}
	}
	if err := (kv.Key{Type: long[:255], Bucket: long[:4096], Name: long[:kv.MaxKey]}).Validate(); err != nil {
		t.Error(err)
	}
}

func TestKeysPrintReadably(t *testing.T) {
	for want, k := range map[string]kv.Key{
		"b/k":          {Bucket: "b", Name: "k"},
		"t/b/k":        {Type: "t", Bucket: "b", Name: "k"},
		`b/"\x00\xff"`: {Bucket: "b", Name: "\x00\xff"},
	} {
		if got := k.String(); got != want {
			t.Errorf("%s; want %s", got, want)
		}
	}
	if n := len(kv.Key{Bucket: "b", Name: strings.Repeat("k", 1000)}.String()); n > 100 {
		t.Errorf("a long key takes %d bytes in an error", n)
	}
}

func TestQuorumErrorsTellTheirStory(t *testing.T) {
	e := &kv.QuorumError{Op: "put", Need: "PW", Want: 2, Got: 1, Timeout: true, InDoubt: true,
		Failures: []kv.Failure{{Node: "n2", Why: "no answer yet"}, {Node: "n3", Why: "the node is down"}}}
	want := "put: PW wants 2, got 1 before the timeout (n2: no answer yet, n3: the node is down); the write may still take effect"
	if e.Error() != want {
		t.Errorf("%s\nwant %s", e, want)
	}
	for _, target := range []error{kv.ErrQuorum, kv.ErrTimeout, kv.ErrInDoubt} {
		if !errors.Is(e, target) {
			t.Errorf("it is not %v", target)
		}
	}
	e = &kv.QuorumError{Op: "put", Need: "W", Want: 3}
	if errors.Is(e, kv.ErrTimeout) || errors.Is(e, kv.ErrInDoubt) || e.Error() != "put: W wants 3, got 0; nothing was written" {
		t.Errorf("%s, timeout %v, in doubt %v", e, errors.Is(e, kv.ErrTimeout), errors.Is(e, kv.ErrInDoubt))
	}
}

// pages is a store of which only Keys is used.
type pages struct {
	kv.Store
	all map[string]kv.KeyPage
	err error
}

func (p pages) Keys(_ context.Context, _ kv.Bucket, o kv.ListOptions) (kv.KeyPage, error) {
	page, ok := p.all[o.Token]
	if !ok {
		return kv.KeyPage{}, p.err
	}
	return page, nil
}

func TestAllKeysGoesThroughThePages(t *testing.T) {
	broken := errors.New("broken")
	s := pages{all: map[string]kv.KeyPage{"": {Keys: []string{"a", "b"}, Next: "1"}, "1": {Next: "2"}, "2": {Keys: []string{"c"}}}, err: broken}
	var got []string
	for k, err := range kv.AllKeys(t.Context(), s, kv.Bucket{Name: "b"}, kv.ListOptions{}) {
		got = append(got, fmt.Sprint(k, err))
	}
	if fmt.Sprint(got) != "[a<nil> b<nil> c<nil>]" {
		t.Errorf("got %v", got)
	}
	delete(s.all, "2")
	got = nil
	for k, err := range kv.AllKeys(t.Context(), s, kv.Bucket{Name: "b"}, kv.ListOptions{}) {
		got = append(got, fmt.Sprint(k, err))
	}
	if fmt.Sprint(got) != "[a<nil> b<nil> broken]" {
		t.Errorf("got %v", got)
	}
	for range kv.AllKeys(t.Context(), s, kv.Bucket{Name: "b"}, kv.ListOptions{}) {
		break
	}
}
