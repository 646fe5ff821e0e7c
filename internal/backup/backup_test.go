package backup

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
)

// record is an object of a key with so many bytes of data.
func record(name string, size int) Record {
	o := object.Write(object.Object{}, object.Vector{}, object.Sibling{
		Dot:   object.Dot{Actor: object.Actor{1}, Counter: 1},
		Stamp: object.Stamp(7),
		Body:  object.AppendBody(nil, &kv.Value{Data: bytes.Repeat([]byte("x"), size)}),
	})
	return Record{Key: kv.Key{Bucket: "b", Name: name}, Object: o.Encode()}
}

// records are so many, in the order in which a home is read.
func records(n, size int) []Record {
	var all []Record
	for i := range n {
		all = append(all, record(fmt.Sprintf("k%d", i), size))
	}
	slices.SortFunc(all, func(a, b Record) int { return bytes.Compare(vnode.Position(a.Key), vnode.Position(b.Key)) })
	return all
}

// built is what a Builder makes of records, with a small target.
func built(t *testing.T, a Ask, same []int, all []Record) ([]Range, map[string][]byte) {
	t.Helper()
	chunks := map[string][]byte{}
	b, err := NewBuilder(a, same, func(name string, chunk []byte) error {
		chunks[name] = chunk
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	b.target = 2000
	for _, r := range all {
		if err := b.Add(r); err != nil {
			t.Fatal(err)
		}
	}
	ranges, err := b.Ranges()
	if err != nil {
		t.Fatal(err)
	}
	return ranges, chunks
}

// contents reads all that ranges have, and checks it.
func contents(t *testing.T, ranges []Range, chunks map[string][]byte) []Record {
	t.Helper()
	var all []Record
	for _, r := range ranges {
		check := NewChecker(0, r, func(kv.Key) int { return 0 })
		for _, c := range r.Chunks {
			err := DecodeChunk(chunks[c.SHA256], c, func(r Record) error {
				all = append(all, r)
				return check.Add(r)
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := check.Done(); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func TestBuilderKeepsEveryRecordOnce(t *testing.T) {
	for _, n := range []int{0, 1, 7, 300} {
		all := records(n, 100)
		ranges, chunks := built(t, Ask{}, nil, all)
		if diff := cmp.Diff(all, contents(t, ranges, chunks)); diff != "" {
			t.Errorf("of %d records (-given +kept):\n%s", n, diff)
		}
		if n == 300 && len(ranges) < 5 {
			t.Errorf("%d records of 100 bytes are in %d ranges; the target is 2000 bytes", n, len(ranges))
		}
	}
}

// What has not changed is taken over with its chunks, and only what has is read.
func TestBuilderTakesOverWhatIsTheSame(t *testing.T) {
	all := records(300, 100)
	ranges, chunks := built(t, Ask{}, nil, all)
	changed := slices.Clone(all)
	changed[150].Object = record("other", 50).Object
	branch, _ := changed[150].Term()

	sums := make([]uint64, vnode.Branches)
	for _, r := range changed {
		b, term := r.Term()
		sums[b] ^= term
	}
	ask := Ask{Known: ranges}
	same := ask.Unchanged([][]uint64{sums, sums}, nil)
	if len(same) != len(ranges)-1 {
		t.Fatalf("%d of %d ranges are the same; one object has changed", len(same), len(ranges))
	}
	wanted := ask.Wanted(same)
	if len(wanted) != 1 || branch < wanted[0].From || branch >= wanted[0].To {
		t.Fatalf("branch %d has changed, and %v is read", branch, wanted)
	}
	again := slices.DeleteFunc(slices.Clone(changed), func(r Record) bool {
		b, _ := r.Term()
		return b < wanted[0].From || b >= wanted[0].To
	})
	newer, more := built(t, ask, same, again)
	if len(more) == 0 || len(more) > 2 {
		t.Errorf("%d chunks are new", len(more))
	}
	for name, chunk := range more {
		chunks[name] = chunk
	}
	if diff := cmp.Diff(changed, contents(t, newer, chunks)); diff != "" {
		t.Errorf("(-changed +kept):\n%s", diff)
	}
}

func TestUnchangedNeedsAllReplicas(t *testing.T) {
	with := func(branch int, sum uint64) []uint64 {
		s := make([]uint64, vnode.Branches)
		s[branch] = sum
		return s
	}
	known := []Range{{To: 10, Sum: 7}, {From: 10, To: 64}}
	for name, c := range map[string]struct {
		places, others [][]uint64
		want           []int
	}{
		"all have it":                       {[][]uint64{with(3, 7), with(3, 7)}, nil, []int{0, 1}},
		"in another branch of the range":    {[][]uint64{with(3, 7), with(4, 7)}, nil, []int{0, 1}},
		"one has another version":           {[][]uint64{with(3, 7), with(3, 8)}, nil, []int{1}},
		"one has nothing":                   {[][]uint64{with(3, 7), with(50, 0)}, nil, []int{1}},
		"nobody was read":                   {nil, nil, []int{}},
		"another node holds a hint":         {[][]uint64{with(3, 7)}, [][]uint64{with(9, 7)}, []int{1}},
		"another node holds hints for both": {[][]uint64{with(3, 7)}, [][]uint64{with(9, 7), with(10, 1)}, []int{}},
	} {
		if diff := cmp.Diff(c.want, (Ask{Known: known}).Unchanged(c.places, c.others)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestBuilderRefusesWhatIsNotNext(t *testing.T) {
	all := records(50, 10)
	known := []Range{{To: 32}, {From: 32, To: 64}}
	high := slices.IndexFunc(all, func(r Record) bool { b, _ := r.Term(); return b >= 32 })
	for name, c := range map[string]struct {
		same []int
		give []Record
	}{
		"an earlier branch":            {nil, []Record{all[len(all)-1], all[0]}},
		"a range that is the same":     {[]int{0}, all[:1]},
		"a later one that is the same": {[]int{1}, all[high : high+1]},
	} {
		b, err := NewBuilder(Ask{Known: known}, c.same, func(string, []byte) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range c.give {
			err = errors.Join(err, b.Add(r))
		}
		if !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if _, err := NewBuilder(Ask{Known: known}, []int{2}, nil); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a range that was not named: error %v", err)
	}
}

func TestWants(t *testing.T) {
	k := func(name string) kv.Key { return kv.Key{Bucket: "b", Name: name} }
	list := func(items ...vnode.Item) []vnode.Item {
		slices.SortFunc(items, func(a, b vnode.Item) int { return bytes.Compare(vnode.Position(a.Key), vnode.Position(b.Key)) })
		return items
	}
	got := Wants([][]vnode.Item{
		list(vnode.Item{Key: k("a"), Hash: 1}, vnode.Item{Key: k("b"), Hash: 2}),
		nil,
		list(vnode.Item{Key: k("a"), Hash: 1}, vnode.Item{Key: k("b"), Hash: 3}, vnode.Item{Key: k("c"), Hash: 4}),
	})
	want := []Want{
		{k("a"), []Version{{1, []int{0, 2}}}},
		{k("b"), []Version{{2, []int{0}}, {3, []int{2}}}},
		{k("c"), []Version{{4, []int{2}}}},
	}
	slices.SortFunc(want, func(a, b Want) int { return bytes.Compare(vnode.Position(a.Key), vnode.Position(b.Key)) })
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestEnough(t *testing.T) {
	for _, c := range []struct {
		primaries, missing int
		want               bool
	}{{1, 0, true}, {1, 1, false}, {2, 1, true}, {2, 2, false}, {3, 1, true}, {3, 2, false}, {5, 2, true}, {5, 3, false}} {
		if got := Enough(c.primaries, c.missing); got != c.want {
			t.Errorf("%d of %d missing: %v", c.missing, c.primaries, got)
		}
	}
}

func TestTally(t *testing.T) {
	place := func(node string, now, next bool) ring.Place {
		return ring.Place{Replica: ring.Replica{Node: node}, Now: now, Next: next}
	}
	three := []ring.Place{place("a", true, true), place("b", true, true), place("c", true, false), place("d", false, true)}
	for name, c := range map[string]struct {
		failed map[int]string
		ok     bool
		behind bool
	}{
		"all":                         {nil, true, false},
		"one of both":                 {map[int]string{0: "down"}, true, true},
		"two, of now one each":        {map[int]string{2: "down", 3: "down"}, true, true},
		"no majority of those of now": {map[int]string{0: "down", 2: "down"}, false, true},
		"no majority of the next":     {map[int]string{0: "down", 3: "down"}, false, true},
	} {
		tally := NewTally(three)
		for i := range three {
			tally.Add(i, c.failed[i])
		}
		if err := tally.Err(); (err == nil) != c.ok || tally.Behind() != c.behind {
			t.Errorf("%s: error %v, behind %v", name, err, tally.Behind())
		}
	}
	if err := NewTally(three).Err(); !errors.Is(err, kv.ErrQuorum) {
		t.Errorf("nobody has answered: error %v", err)
	}
}

func TestMissingProps(t *testing.T) {
	props := func(pairs ...string) (list kv.Properties) {
		for i := 0; i < len(pairs); i += 2 {
			list = append(list, kv.Property{Name: pairs[i], Value: pairs[i+1]})
		}
		return list
	}
	for name, c := range map[string]struct {
		backup, have Props
		makes        []string
		kept         int
		fails        string
	}{
		"an empty cluster": {
			Props{Types: []Type{{"default", true, nil}, {"t", true, props("allow_mult", "true")}}, Buckets: []Bucket{{"t", []byte("b"), props("r", "1")}}},
			Props{Types: []Type{{"default", true, nil}}}, []string{"t", "t/b"}, 0, "",
		},
		"the default type": {
			Props{Types: []Type{{"default", true, props("r", "1")}}}, Props{Types: []Type{{"default", true, nil}}}, []string{"default"}, 0, "",
		},
		"the same": {
			Props{Types: []Type{{"t", true, props("r", "1")}}}, Props{Types: []Type{{"t", true, props("r", "1")}}}, nil, 0, "",
		},
		"others": {
			Props{Types: []Type{{"t", true, props("r", "1")}}, Buckets: []Bucket{{"", []byte("b"), props("r", "1")}}},
			Props{Types: []Type{{"t", true, props("r", "2")}}, Buckets: []Bucket{{"", []byte("b"), props("r", "2")}}}, nil, 2, "",
		},
		"another data type": {
			Props{Types: []Type{{"t", true, props("datatype", "map")}}}, Props{Types: []Type{{"t", true, props("datatype", "set")}}}, nil, 0, "would mean something else",
		},
		"more replicas than there are": {
			Props{Types: []Type{{"t", true, props("n_val", "5", "r", "4", "w", "quorum")}}, Buckets: []Bucket{{"t", []byte("b"), props("n_val", "4", "r", "2")}}},
			Props{}, []string{"t", "t/b"}, 3, "",
		},
		"another precision": {
			Props{Types: []Type{{"t", true, props("allow_mult", "true", "datatype", "hll")}}},
			Props{Types: []Type{{"t", true, props("allow_mult", "true", "datatype", "hll", "hll_precision", "12")}}}, nil, 1, "",
		},
		"what cannot be comes last": {
			Props{Types: []Type{{"t", true, nil}, {"u", true, props("what", "1")}}}, Props{}, nil, 0, "bucket type u",
		},
		"a bucket that the type here forbids": {
			Props{Types: []Type{{"t", true, nil}}, Buckets: []Bucket{{"t", []byte("b"), props("r", "3")}}},
			Props{Types: []Type{{"t", true, props("n_val", "2")}}}, nil, 0, `bucket "b"`,
		},
		"a bucket without its type": {
			Props{Buckets: []Bucket{{"t", []byte("b"), props("r", "3")}}}, Props{}, nil, 0, "no bucket type t",
		},
		"not active": {
			Props{Types: []Type{{"t", true, nil}}}, Props{Types: []Type{{"t", false, nil}}}, nil, 0, "activate it",
		},
	} {
		plan, err := c.backup.Missing(c.have, 3)
		if c.fails != "" {
			if err == nil || !strings.Contains(err.Error(), c.fails) {
				t.Errorf("%s: error %v", name, err)
			}
			continue
		}
		var makes []string
		for _, x := range plan.Types {
			makes = append(makes, x.Name)
		}
		for _, x := range plan.Buckets {
			makes = append(makes, x.Type+"/"+string(x.Name))
		}
		if diff := cmp.Diff(c.makes, makes); err != nil || diff != "" || len(plan.Kept) != c.kept {
			t.Errorf("%s: error %v, kept %q, makes (-want +got):\n%s", name, err, plan.Kept, diff)
		}
	}
}

func TestFilter(t *testing.T) {
	name := func(s string) *string { return &s }
	for _, c := range []struct {
		f    Filter
		b    kv.Bucket
		want bool
	}{
		{Filter{}, kv.Bucket{Type: "t", Name: "b"}, true},
		{Filter{Type: name("default")}, kv.Bucket{Name: "b"}, true},
		{Filter{Type: name("default")}, kv.Bucket{Type: "t", Name: "b"}, false},
		{Filter{Bucket: name("b")}, kv.Bucket{Type: "t", Name: "b"}, true},
		{Filter{Bucket: name("")}, kv.Bucket{Name: "b"}, false},
		{Filter{Type: name("t"), Bucket: name("b")}, kv.Bucket{Type: "t", Name: "c"}, false},
	} {
		if got := c.f.Takes(c.b); got != c.want {
			t.Errorf("%v takes %v: %v", c.f, c.b, got)
		}
	}
}

// manifest is a small one.
func manifest(t testing.TB) *Manifest {
	m := &Manifest{ID: NewID(time.Unix(1_800_000_000, 0), 7), Began: time.Unix(1_800_000_000, 0).UTC(), Info: Info{Partitions: 8, Replicas: 3, Cluster: "c"}}
	for i := range 8 {
		m.Homes = append(m.Homes, Home{Home: i, Read: true, Ranges: []Range{{To: 64, Sum: Sum(i) << 60, Chunks: []Chunk{}}}})
	}
	m.Homes[3].Ranges[0].Chunks = []Chunk{{NameOf(nil), 2, 100}}
	m.Total()
	return m
}

func TestManifestIsRead(t *testing.T) {
	m := manifest(t)
	b, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeManifest(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(m, got); diff != "" {
		t.Errorf("(-written +read):\n%s", diff)
	}
}

// Every damage is noticed: each byte changed, and each length cut.
func TestDamagedManifestIsRefused(t *testing.T) {
	b, err := manifest(t).Encode()
	if err != nil {
		t.Fatal(err)
	}
	for i := range b {
		bad := bytes.Clone(b)
		bad[i] ^= 1
		if _, err := DecodeManifest(bad); !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) {
			t.Fatalf("with byte %d changed: error %v", i, err)
		}
		if _, err := DecodeManifest(b[:i]); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("cut after %d bytes: error %v", i, err)
		}
	}
}

func TestWrongManifestIsRefused(t *testing.T) {
	for name, change := range map[string]func(*Manifest){
		"its id":              func(m *Manifest) { m.ID = "../x" },
		"a ring of 7":         func(m *Manifest) { m.Partitions = 7 },
		"no ring":             func(m *Manifest) { m.Partitions, m.Homes = 0, nil },
		"a home too few":      func(m *Manifest) { m.Homes = m.Homes[1:] },
		"homes in disorder":   func(m *Manifest) { m.Homes[0].Home = 1 },
		"a gap":               func(m *Manifest) { m.Homes[0].Ranges[0].From = 1 },
		"branches too few":    func(m *Manifest) { m.Homes[0].Ranges[0].To = 63 },
		"a chunk of no name":  func(m *Manifest) { m.Homes[3].Ranges[0].Chunks[0].SHA256 = "../../etc" },
		"a chunk of nothing":  func(m *Manifest) { m.Homes[3].Ranges[0].Chunks[0].Objects = 0; m.Total() },
		"a chunk of too much": func(m *Manifest) { m.Homes[3].Ranges[0].Chunks[0].Bytes = MaxChunk + 1; m.Total() },
		"a wrong total":       func(m *Manifest) { m.Objects++ },
	} {
		m := manifest(t)
		change(m)
		b, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeManifest(b); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	b, _ := manifest(t).Encode()
	later := bytes.Replace(b, []byte("tanodb-backup 1"), []byte("tanodb-backup 2"), 1)
	if _, err := DecodeManifest(later); !errors.Is(err, ErrVersion) {
		t.Errorf("a later version: error %v", err)
	}
}

func TestDamagedChunkIsRefused(t *testing.T) {
	ranges, chunks := built(t, Ask{}, nil, records(3, 20))
	c := ranges[0].Chunks[0]
	b := chunks[c.SHA256]
	none := func(Record) error { return nil }
	for i := range b {
		bad := bytes.Clone(b)
		bad[i] ^= 1
		if err := DecodeChunk(bad, c, none); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("with byte %d changed: error %v", i, err)
		}
		if err := DecodeChunk(b[:i], c, none); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("cut after %d bytes: error %v", i, err)
		}
	}
	later := bytes.Clone(b)
	later[len(chunkMagic)] = 2
	if err := decodeChunk(later, c.Objects, none); !errors.Is(err, ErrVersion) {
		t.Errorf("a later version: error %v", err)
	}
	if err := decodeChunk(b, c.Objects+1, none); !errors.Is(err, ErrCorrupt) {
		t.Errorf("an object too few: error %v", err)
	}
	twice := append(bytes.Clone(b), b[len(chunkMagic)+1:]...)
	if err := decodeChunk(twice, 2*c.Objects, none); !errors.Is(err, ErrCorrupt) {
		t.Errorf("objects in disorder: error %v", err)
	}
}

func TestCheckerFindsWhatIsElsewhere(t *testing.T) {
	r := record("k", 1)
	branch, term := r.Term()
	home := func(kv.Key) int { return 5 }
	whole := Range{To: 64, Sum: Sum(term)}
	for name, c := range map[string]*Checker{
		"another home":   NewChecker(4, whole, home),
		"another branch": NewChecker(5, Range{From: branch + 1, To: 64}, home),
	} {
		if err := c.Add(r); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	c := NewChecker(5, whole, home)
	if err := c.Done(); !errors.Is(err, ErrCorrupt) {
		t.Errorf("an object is missing: error %v", err)
	}
	if err := errors.Join(c.Add(r), c.Done()); err != nil {
		t.Error(err)
	}
}

func TestStreamIsRead(t *testing.T) {
	var b bytes.Buffer
	w := NewWriter(&b)
	head := Head{Home: 3, Same: []int{1}, Replicas: []string{"n1/3"}, Whole: true}
	all := records(5, 30)
	err := w.Head(head)
	for _, r := range all {
		err = errors.Join(err, w.Record(r))
	}
	if err = errors.Join(err, w.End(End{Objects: 5})); err != nil {
		t.Fatal(err)
	}
	whole := b.Bytes()
	in := NewReader(bytes.NewReader(whole))
	want := []any{head}
	for _, r := range all {
		want = append(want, r)
	}
	for _, x := range append(want, End{Objects: 5}) {
		got, err := in.Next()
		if diff := cmp.Diff(x, got); err != nil || diff != "" {
			t.Fatalf("error %v (-written +read):\n%s", err, diff)
		}
	}
	// One that breaks off is never taken for a whole one.
	for cut := range whole {
		in := NewReader(bytes.NewReader(whole[:cut]))
		for {
			part, err := in.Next()
			if err != nil {
				if !errors.Is(err, ErrCorrupt) {
					t.Fatalf("cut after %d bytes: error %v", cut, err)
				}
				break
			}
			if _, ended := part.(End); ended {
				t.Fatalf("cut after %d bytes of %d, it has an end", cut, len(whole))
			}
		}
	}
}

func FuzzDecodeManifest(f *testing.F) {
	b, err := manifest(f).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	_, body, _ := bytes.Cut(b, []byte("\n"))
	_, body, _ = bytes.Cut(body, []byte("\n"))
	f.Add(body)
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, in := range [][]byte{b, append([]byte("tanodb-backup 1\nsha256 "+NameOf(b)+"\n"), b...)} {
			m, err := DecodeManifest(in)
			if err != nil {
				if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) {
					t.Fatalf("error %v", err)
				}
				continue
			}
			if _, err := m.Encode(); err != nil || m.check() != nil {
				t.Fatalf("what was read is wrong: %v", err)
			}
		}
	})
}

func FuzzDecodeChunk(f *testing.F) {
	var b []byte
	for _, r := range records(3, 10) {
		b = appendChunk(b, r)
	}
	f.Add(b, 3)
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		var again []byte
		err := decodeChunk(b, n, func(r Record) error {
			again = appendChunk(again, r)
			return nil
		})
		if err == nil && n > 0 {
			if err := decodeChunk(again, n, func(Record) error { return nil }); err != nil {
				t.Fatalf("what was read cannot be read again: %v", err)
			}
		}
		if err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) {
			t.Fatalf("error %v", err)
		}
	})
}

func FuzzStream(f *testing.F) {
	var b bytes.Buffer
	w := NewWriter(&b)
	if err := errors.Join(w.Head(Head{}), w.Record(record("k", 3)), w.End(End{})); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		in := NewReader(bytes.NewReader(b))
		for {
			if _, err := in.Next(); err != nil {
				if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) {
					t.Fatalf("error %v", err)
				}
				return
			}
		}
	})
}

// Ids are in the order of time.
func TestIDs(t *testing.T) {
	chance := rand.New(rand.NewPCG(1, 2))
	last := ""
	for i := range 1000 {
		id := NewID(time.Unix(1_800_000_000, int64(i)*5_000_000), chance.Uint32())
		if !ValidID(id) || id <= last {
			t.Fatalf("%s after %s", id, last)
		}
		last = id
	}
}

// What a replica holds is known by its own list, by an equal replica's, or by all together.
func TestUnlisted(t *testing.T) {
	item := func(name string, hash uint64) vnode.Item { return vnode.Item{Key: kv.Key{Name: name}, Hash: hash} }
	a, b, b2 := item("a", 1), item("b", 2), item("b", 3)
	both := SumOf([]vnode.Item{a, b})
	for name, c := range map[string]struct {
		sums  []uint64
		lists [][]vnode.Item
		want  []int
	}{
		"all list what they have":       {[]uint64{both, SumOf([]vnode.Item{a, b2}), 0}, [][]vnode.Item{{a, b}, {a, b2}, nil}, nil},
		"another has the same":          {[]uint64{both, both}, [][]vnode.Item{nil, {a, b}}, nil},
		"each lists a part":             {[]uint64{both, both}, [][]vnode.Item{{a}, {b}}, nil},
		"the same part":                 {[]uint64{both, both}, [][]vnode.Item{{a}, {a}}, []int{0, 1}},
		"another has another version":   {[]uint64{both, SumOf([]vnode.Item{a, b2})}, [][]vnode.Item{{a}, {a, b2}}, []int{0}},
		"nothing is left, and is equal": {[]uint64{both, both, 0}, [][]vnode.Item{nil, nil, nil}, []int{0, 1}},
	} {
		if got := Unlisted(c.sums, c.lists, Wants(c.lists)); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
