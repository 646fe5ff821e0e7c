package kvtest

import (
	"fmt"
	"slices"
	"time"

	"github.com/tanodb/tanodb/kv"
)

// indexes are the cases of kv.Indexer and kv.BucketLister, for stores that are them.
var indexes = []testCase{
	{"a key is found by the terms of its values, and by no others", func(r *run) {
		r.putIndexed(r.key("a"), nil, "n_int", "1", "w_bin", "x")
		r.putIndexed(r.key("b"), nil, "n_int", "2", "w_bin", "x", "w_bin", "y")
		r.put(r.key("c"), "c", nil)
		r.finds(kv.IndexQuery{Field: "n_int", Start: "1"}, "1 a")
		r.finds(kv.IndexQuery{Field: "w_bin", Start: "x"}, "x a", "x b")
		r.finds(kv.IndexQuery{Field: "w_bin", Start: "x", End: "y", Range: true}, "x a", "x b", "y b")
		r.finds(kv.IndexQuery{Field: "w_bin", Start: "z"})
		r.finds(kv.IndexQuery{Field: "other_bin", Start: "x"})
	}},
	{"an overwrite and a delete take old terms away", func(r *run) {
		c := r.putIndexed(r.key("a"), nil, "w_bin", "old", "w_bin", "both")
		c = r.putIndexed(r.key("a"), c, "w_bin", "both", "w_bin", "new")
		all := kv.IndexQuery{Field: "w_bin", Start: "", End: "zz", Range: true}
		r.finds(all, "both a", "new a")
		r.put(r.key("a"), "no terms", c)
		r.finds(all)
		c = r.putIndexed(r.key("b"), nil, "w_bin", "b")
		r.finds(all, "b b")
		r.delete(r.key("b"), c)
		r.finds(all)
	}},
	{"siblings are found by the terms of each, once", func(r *run) {
		r.putIndexed(r.key("k"), nil, "w_bin", "one", "w_bin", "both")
		r.putIndexed(r.key("k"), nil, "w_bin", "two", "w_bin", "both")
		r.finds(kv.IndexQuery{Field: "w_bin", Start: "", End: "zz", Range: true}, "both k", "one k", "two k")
	}},
	{"where the last write wins only its terms count", func(r *run) {
		k := r.latestKey("k")
		r.putIndexed(k, nil, "w_bin", "first")
		r.putIndexed(k, nil, "w_bin", "last")
		r.findsIn(kv.Bucket{Type: k.Type, Name: k.Bucket}, kv.IndexQuery{Field: "w_bin", Start: "", End: "zz", Range: true}, "last k")
	}},
	{"numbers are in the order of numbers", func(r *run) {
		for _, n := range []string{"-9223372036854775808", "-10", "-9", "0", "7", "10", "9223372036854775807"} {
			r.putIndexed(r.key("k"+n), nil, "n_int", n)
		}
		r.finds(kv.IndexQuery{Field: "n_int", Start: "-10", End: "10", Range: true, Sort: true}, "-10 k-10", "-9 k-9", "0 k0", "7 k7", "10 k10")
		r.finds(kv.IndexQuery{Field: "n_int", Start: "-9223372036854775808", End: "-10", Range: true}, "-9223372036854775808 k-9223372036854775808", "-10 k-10")
		r.finds(kv.IndexQuery{Field: "n_int", Start: "9223372036854775807"}, "9223372036854775807 k9223372036854775807")
	}},
	{"pages in order are the query in order, whatever their size", func(r *run) {
		var want []string
		for i := range 40 {
			term := fmt.Sprintf("t%d", i%4)
			name := fmt.Sprintf("k%02d", i)
			r.putIndexed(r.key(name), nil, "w_bin", term)
			want = append(want, term+" "+name)
		}
		slices.Sort(want)
		for _, limit := range []int{1, 7, 40, 0} {
			r.finds(kv.IndexQuery{Field: "w_bin", Start: "t0", End: "t9", Range: true, Sort: true, Limit: limit}, want...)
			r.finds(kv.IndexQuery{Field: "w_bin", Start: "t0", End: "t9", Range: true, Limit: limit}, want...)
		}
	}},
	{"every bucket has its keys and itself for indexes", func(r *run) {
		for _, name := range []string{"a", "b", "c"} {
			r.put(r.key(name), name, nil)
		}
		r.delete(r.key("b"), nil)
		r.finds(kv.IndexQuery{Field: kv.IndexKey, Start: "a", End: "b", Range: true}, "a a")
		r.finds(kv.IndexQuery{Field: kv.IndexKey, Start: "c"}, "c c")
		r.finds(kv.IndexQuery{Field: kv.IndexBucket}, r.Name()+" a", r.Name()+" c")
	}},
	{"terms can be held against an expression", func(r *run) {
		r.putIndexed(r.key("a"), nil, "w_bin", "alpha", "n_int", "1")
		r.putIndexed(r.key("b"), nil, "w_bin", "beta")
		r.finds(kv.IndexQuery{Field: "w_bin", Start: "", End: "z", Range: true, TermRegex: "^b.*a$"}, "beta b")
		_, err := r.query(r.bucket(), kv.IndexQuery{Field: "n_int", Start: "1", TermRegex: "1"})
		r.wants(err, kv.ErrInvalid, "Can not use term regular expression in integer query")
		_, err = r.query(r.bucket(), kv.IndexQuery{Field: "w_bin", Start: "1", TermRegex: "("})
		r.wants(err, kv.ErrInvalid, "Invalid term regular expression")
	}},
	{"what cannot be meant is refused", func(r *run) {
		for part, q := range map[string]kv.IndexQuery{
			"Unknown field type for field: 'name'.":         {Field: "name", Start: "a"},
			"Could not parse field 'n_int', value 'seven'.": {Field: "n_int", Start: "seven"},
			"Invalid range query":                           {Field: "n_int", Start: "2", End: "1", Range: true},
			"limit":                                         {Field: "n_int", Start: "1", Limit: -1},
			"token":                                         {Field: "n_int", Start: "1", Token: "nonsense"},
		} {
			_, err := r.query(r.bucket(), q)
			r.wants(err, kv.ErrInvalid, part)
		}
		for part, p := range map[string]kv.Pair{
			"Unknown field type for field: 'age'.": {Name: "age", Value: "1"},
			"Could not parse field 'age_int'":      {Name: "age_int", Value: "old"},
		} {
			_, err := r.store.Put(r.Context(), r.key("bad"), kv.Value{Indexes: []kv.Pair{p}}, kv.WriteOptions{})
			r.wants(err, kv.ErrInvalid, part)
		}
	}},
	{"a value that expires is not found any more", func(r *run) {
		if r.o.Pass == nil {
			r.Skip("the clocks of this store cannot be moved")
		}
		at := r.putValue(r.key("clock"), kv.Value{}, kv.WriteOptions{ReturnBody: true}).Values[0].Modified
		v := kv.Value{Expires: at.Add(time.Hour), Indexes: []kv.Pair{{Name: "w_bin", Value: "x"}}}
		r.putValue(r.key("k"), v, kv.WriteOptions{W: kv.All})
		r.finds(kv.IndexQuery{Field: "w_bin", Start: "x"}, "x k")
		r.o.Pass(2 * time.Hour)
		r.finds(kv.IndexQuery{Field: "w_bin", Start: "x"})
	}},
	{"a bucket is listed as long as it has a key", func(r *run) {
		var want []string
		for i := range 5 {
			b := fmt.Sprintf("%s %d", r.Name(), 5*i)
			for j := range 10 {
				r.put(kv.Key{Bucket: b, Name: fmt.Sprint(j)}, "x", nil)
			}
			want = append(want, b)
		}
		for _, limit := range []int{1, 2, 0} {
			r.listsBuckets(limit, want)
		}
		for j := range 10 {
			r.delete(kv.Key{Bucket: want[2], Name: fmt.Sprint(j)}, nil)
		}
		r.listsBuckets(1, slices.Delete(want, 2, 3))
	}},
}

// putIndexed writes a value with index entries: names and terms by turns.
func (r *run) putIndexed(k kv.Key, c kv.Context, pairs ...string) kv.Context {
	r.Helper()
	v := kv.Value{Data: []byte("indexed")}
	for i := 0; i < len(pairs); i += 2 {
		v.Indexes = append(v.Indexes, kv.Pair{Name: pairs[i], Value: pairs[i+1]})
	}
	r.putValue(k, v, kv.WriteOptions{Context: c, W: kv.All})
	return r.contextOf(k)
}

// query is all pages of a query, as "term key".
func (r *run) query(b kv.Bucket, q kv.IndexQuery) ([]string, error) {
	r.Helper()
	s, ok := r.store.(kv.Indexer)
	if !ok {
		r.Skip("this store has no indexes")
	}
	var all []string
	for {
		page, err := s.Index(r.Context(), b, q)
		if err != nil {
			return all, err
		}
		if q.Limit > 0 && len(page.Matches) > q.Limit {
			r.Errorf("a page of %d matches; the limit is %d", len(page.Matches), q.Limit)
		}
		for _, m := range page.Matches {
			all = append(all, m.Term+" "+m.Key)
		}
		if q.Token = page.Next; q.Token == "" {
			return all, nil
		}
	}
}

func (r *run) finds(q kv.IndexQuery, want ...string) {
	r.Helper()
	r.findsIn(r.bucket(), q, want...)
}

func (r *run) findsIn(b kv.Bucket, q kv.IndexQuery, want ...string) {
	r.Helper()
	got, err := r.query(b, q)
	if err != nil {
		r.Fatalf("query %+v: %v", q, err)
	}
	if !q.Sort {
		slices.Sort(got)
		want = slices.Sorted(slices.Values(want))
	}
	if !slices.Equal(got, want) {
		r.Errorf("query %+v finds %q; want %q", q, got, want)
	}
}

// listsBuckets checks which of the test's own buckets are listed.
func (r *run) listsBuckets(limit int, want []string) {
	r.Helper()
	s, ok := r.store.(kv.BucketLister)
	if !ok {
		r.Skip("this store lists no buckets")
	}
	var got []string
	o := kv.ListOptions{Limit: limit}
	for {
		page, err := s.Buckets(r.Context(), "", o)
		if err != nil {
			r.Fatalf("buckets: %v", err)
		}
		for _, b := range page.Buckets {
			if len(b) > len(r.Name()) && b[:len(r.Name())+1] == r.Name()+" " {
				got = append(got, b)
			}
		}
		if o.Token = page.Next; o.Token == "" {
			break
		}
	}
	if !slices.Equal(got, want) {
		r.Errorf("buckets by %d: %q; want %q", limit, got, want)
	}
}
