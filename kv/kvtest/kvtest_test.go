package kvtest

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tanodb/tanodb/kv"
)

func TestMemory(t *testing.T) {
	now := time.Now()
	Test(t, func(t *testing.T) kv.Store {
		return &Memory{Now: func() time.Time { return now }}
	}, Options{Pass: func(d time.Duration) { now = now.Add(d) }, Large: !testing.Short()})
}

// mutantName is the environment variable that says which broken store a child
// process is to test.
const mutantName = "KVTEST_MUTANT"

// The suite is worth something only if it fails: each mutant breaks one promise
// of a store, and the suite is run on it in a process of its own.
func TestTheSuiteFindsEveryMutant(t *testing.T) {
	for _, name := range slices.Sorted(maps.Keys(mutants)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestMutant$", "-test.failfast")
			child.Env = append(os.Environ(), mutantName+"="+name)
			out, err := child.CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || !strings.Contains(string(out), "--- FAIL: TestMutant") {
				t.Errorf("the suite did not fail: %v\n%s", err, out)
			}
		})
	}
}

// TestMutant is the child process of TestTheSuiteFindsEveryMutant.
func TestMutant(t *testing.T) {
	breakIt, ok := mutants[os.Getenv(mutantName)]
	if !ok {
		t.Skip("runs in a child process only")
	}
	Test(t, func(*testing.T) kv.Store {
		m := &mutant{Memory: &Memory{}}
		breakIt(m)
		return m
	}, Options{})
}

// mutant is a Memory of which one thing is broken.
type mutant struct {
	*Memory
	key     func(kv.Key) kv.Key
	read    func(kv.Key, *kv.ReadOptions)
	value   func(*kv.Value)
	write   func(kv.Key, *kv.WriteOptions)
	list    func(*kv.Bucket, *kv.ListOptions)
	object  func(kv.Key, *kv.Object, *error)
	receipt func(*kv.Receipt, *error)
	page    func(*kv.KeyPage, *error)
	query   func(*kv.IndexQuery)
	matches func(*kv.IndexPage)
	buckets func(*kv.BucketPage)
	context func(context.Context) context.Context
}

func (m *mutant) Index(ctx context.Context, b kv.Bucket, q kv.IndexQuery) (kv.IndexPage, error) {
	if m.query != nil {
		m.query(&q)
	}
	page, err := m.Memory.Index(ctx, b, q)
	if m.matches != nil {
		m.matches(&page)
	}
	return page, err
}

func (m *mutant) Buckets(ctx context.Context, bucketType string, o kv.ListOptions) (kv.BucketPage, error) {
	page, err := m.Memory.Buckets(ctx, bucketType, o)
	if m.buckets != nil {
		m.buckets(&page)
	}
	return page, err
}

func (m *mutant) Get(ctx context.Context, k kv.Key, o kv.ReadOptions) (kv.Object, error) {
	if m.context != nil {
		ctx = m.context(ctx)
	}
	if m.key != nil {
		k = m.key(k)
	}
	if m.read != nil {
		m.read(k, &o)
	}
	obj, err := m.Memory.Get(ctx, k, o)
	if m.object != nil {
		m.object(k, &obj, &err)
	}
	return obj, err
}

func (m *mutant) Put(ctx context.Context, k kv.Key, v kv.Value, o kv.WriteOptions) (kv.Receipt, error) {
	ctx, k = m.prepare(ctx, k, &o)
	if m.value != nil {
		m.value(&v)
	}
	receipt, err := m.Memory.Put(ctx, k, v, o)
	if m.receipt != nil {
		m.receipt(&receipt, &err)
	}
	return receipt, err
}

func (m *mutant) Delete(ctx context.Context, k kv.Key, o kv.WriteOptions) (kv.Receipt, error) {
	ctx, k = m.prepare(ctx, k, &o)
	receipt, err := m.Memory.Delete(ctx, k, o)
	if m.receipt != nil {
		m.receipt(&receipt, &err)
	}
	return receipt, err
}

func (m *mutant) prepare(ctx context.Context, k kv.Key, o *kv.WriteOptions) (context.Context, kv.Key) {
	if m.context != nil {
		ctx = m.context(ctx)
	}
	if m.key != nil {
		k = m.key(k)
	}
	if m.write != nil {
		m.write(k, o)
	}
	return ctx, k
}

func (m *mutant) Keys(ctx context.Context, b kv.Bucket, o kv.ListOptions) (kv.KeyPage, error) {
	if m.list != nil {
		m.list(&b, &o)
	}
	page, err := m.Memory.Keys(ctx, b, o)
	if m.page != nil {
		m.page(&page, &err)
	}
	return page, err
}

// current is the context of what a key holds now.
func (m *mutant) current(k kv.Key) kv.Context {
	obj, _ := m.Memory.Get(context.Background(), k, kv.ReadOptions{})
	return obj.Context
}

var mutants = map[string]func(*mutant){
	"a write replaces everything": func(m *mutant) {
		m.write = func(k kv.Key, o *kv.WriteOptions) { o.Context = m.current(k) }
	},
	"a write with a context replaces everything": func(m *mutant) {
		m.write = func(k kv.Key, o *kv.WriteOptions) {
			if len(o.Context) > 0 {
				o.Context = m.current(k)
			}
		}
	},
	"contexts are ignored": func(m *mutant) {
		m.write = func(_ kv.Key, o *kv.WriteOptions) { o.Context = nil }
	},
	"bad contexts are ignored": func(m *mutant) {
		m.write = func(k kv.Key, o *kv.WriteOptions) {
			if _, err := readContext(k, o.Context); err != nil {
				o.Context = nil
			}
		}
	},
	"long contexts are cut": func(m *mutant) {
		m.write = func(_ kv.Key, o *kv.WriteOptions) { o.Context = o.Context[:min(16, len(o.Context))] }
	},
	"keys end at a zero byte": func(m *mutant) {
		m.key = func(k kv.Key) kv.Key {
			if name, _, found := strings.Cut(k.Name, "\x00"); found && name != "" {
				k.Name = name
			}
			return k
		}
	},
	"types are ignored": func(m *mutant) {
		m.key = func(k kv.Key) kv.Key { k.Type = ""; return k }
	},
	"types and buckets run together": func(m *mutant) {
		m.key = func(k kv.Key) kv.Key { k.Type, k.Bucket = "", k.Type+k.Bucket; return k }
	},
	"a key is cut at its limit": func(m *mutant) {
		m.key = func(k kv.Key) kv.Key { k.Name = k.Name[:min(len(k.Name), kv.MaxKey)]; return k }
	},
	"metadata is sorted": func(m *mutant) {
		m.value = func(v *kv.Value) {
			v.Meta = slices.Clone(v.Meta)
			slices.SortFunc(v.Meta, func(a, b kv.Pair) int { return cmp.Compare(a.Name, b.Name) })
		}
	},
	"indexes are lost":        func(m *mutant) { m.value = func(v *kv.Value) { v.Indexes = nil } },
	"the charset is lost":     func(m *mutant) { m.value = func(v *kv.Value) { v.Charset = "" } },
	"expiry is lost":          func(m *mutant) { m.value = func(v *kv.Value) { v.Expires = time.Time{} } },
	"request ids are ignored": func(m *mutant) { m.write = func(_ kv.Key, o *kv.WriteOptions) { o.RequestID = kv.RequestID{} } },
	"the body is never returned": func(m *mutant) {
		m.write = func(_ kv.Key, o *kv.WriteOptions) { o.ReturnBody = false }
	},
	"the body is always returned": func(m *mutant) {
		m.write = func(_ kv.Key, o *kv.WriteOptions) { o.ReturnBody = true }
	},
	"a W that is too large is lowered": func(m *mutant) {
		m.write = func(_ kv.Key, o *kv.WriteOptions) { o.W = min(o.W, 3) }
	},
	"an R that is too large is lowered": func(m *mutant) {
		m.read = func(_ kv.Key, o *kv.ReadOptions) { o.R = min(o.R, 3) }
	},
	"node_confirms of a write is ignored": func(m *mutant) {
		m.write = func(_ kv.Key, o *kv.WriteOptions) { o.NodeConfirms = 0 }
	},
	"node_confirms of a read is ignored": func(m *mutant) {
		m.read = func(_ kv.Key, o *kv.ReadOptions) { o.NodeConfirms = 0 }
	},
	"N of a read is ignored": func(m *mutant) { m.read = func(_ kv.Key, o *kv.ReadOptions) { o.N = 0 } },
	"a head has the data":    func(m *mutant) { m.read = func(_ kv.Key, o *kv.ReadOptions) { o.Head = false } },
	"tombstones are never shown": func(m *mutant) {
		m.read = func(_ kv.Key, o *kv.ReadOptions) { o.Tombstones = false }
	},
	"tombstones are always shown": func(m *mutant) {
		m.read = func(_ kv.Key, o *kv.ReadOptions) { o.Tombstones = true }
	},
	"negative timeouts are ignored": func(m *mutant) {
		m.read = func(_ kv.Key, o *kv.ReadOptions) { o.Timeout = max(o.Timeout, 0) }
	},
	"a deleted key has no context": func(m *mutant) {
		m.object = func(_ kv.Key, o *kv.Object, err *error) {
			if *err != nil {
				o.Context = nil
			}
		}
	},
	"an absent key is an empty object": func(m *mutant) {
		m.object = func(_ kv.Key, _ *kv.Object, err *error) { *err = nil }
	},
	"deleting an absent key succeeds": func(m *mutant) {
		m.receipt = func(_ *kv.Receipt, err *error) {
			if errors.Is(*err, kv.ErrNotFound) {
				*err = nil
			}
		}
	},
	"only one sibling is returned": func(m *mutant) {
		m.object = func(_ kv.Key, o *kv.Object, _ *error) { o.Values = o.Values[:min(1, len(o.Values))] }
	},
	"all reads share their bytes": func(m *mutant) {
		shared := map[kv.Key]kv.Object{}
		m.object = func(k kv.Key, o *kv.Object, err *error) {
			if before, ok := shared[k]; ok && *err == nil && before.Values[0].VTag == o.Values[0].VTag && len(o.Values) == 1 {
				o.Values[0].Data = before.Values[0].Data
			}
			shared[k] = *o
			if *err != nil {
				delete(shared, k)
			}
		}
	},
	"all versions have one tag": func(m *mutant) {
		m.object = func(_ kv.Key, o *kv.Object, _ *error) {
			for i := range o.Values {
				o.Values[i].VTag = "tag"
			}
		}
	},
	"a reply is missing": func(m *mutant) {
		m.receipt = func(r *kv.Receipt, _ *error) { r.Replies = r.Replies[:min(2, len(r.Replies))] }
	},
	"a replica replies twice": func(m *mutant) {
		m.receipt = func(r *kv.Receipt, _ *error) {
			if len(r.Replies) > 1 {
				r.Replies[1] = r.Replies[0]
			}
		}
	},
	"too many siblings are dropped in silence": func(m *mutant) {
		m.receipt = func(_ *kv.Receipt, err *error) {
			if errors.Is(*err, kv.ErrTooManySiblings) {
				*err = nil
			}
		}
	},
	"pages may be too long": func(m *mutant) {
		m.list = func(_ *kv.Bucket, o *kv.ListOptions) {
			if o.Limit > 0 {
				o.Limit = min(o.Limit+1, kv.MaxPage)
			}
		}
	},
	"a listing ends after its first page": func(m *mutant) {
		m.page = func(p *kv.KeyPage, _ *error) { p.Next = "" }
	},
	"a key is listed twice": func(m *mutant) {
		m.page = func(p *kv.KeyPage, _ *error) {
			if len(p.Keys) > 2 {
				p.Keys = append(p.Keys, p.Keys[0])
			}
		}
	},
	"keys come in any order": func(m *mutant) {
		m.page = func(p *kv.KeyPage, _ *error) { slices.Reverse(p.Keys) }
	},
	"bad tokens begin anew": func(m *mutant) {
		m.list = func(_ *kv.Bucket, o *kv.ListOptions) {
			if _, err := readToken(o.Token); err != nil {
				o.Token = ""
			}
		}
	},
	"types are ignored in listings": func(m *mutant) {
		m.list = func(b *kv.Bucket, _ *kv.ListOptions) { b.Type = "" }
	},
	"a range is an equality":            func(m *mutant) { m.query = func(q *kv.IndexQuery) { q.Range = false } },
	"expressions for terms are ignored": func(m *mutant) { m.query = func(q *kv.IndexQuery) { q.TermRegex = "" } },
	"matches come in any order":         func(m *mutant) { m.matches = func(p *kv.IndexPage) { slices.Reverse(p.Matches) } },
	"a query ends after its first page": func(m *mutant) { m.matches = func(p *kv.IndexPage) { p.Next = "" } },
	"a match is found twice": func(m *mutant) {
		m.matches = func(p *kv.IndexPage) {
			if len(p.Matches) > 1 {
				p.Matches = append(p.Matches, p.Matches[0])
			}
		}
	},
	"buckets are listed by halves": func(m *mutant) { m.buckets = func(p *kv.BucketPage) { p.Buckets = p.Buckets[:len(p.Buckets)/2] } },
	"cancelling is ignored":        func(m *mutant) { m.context = context.WithoutCancel },
}
