package mapreduce

import (
	"context"
	"sync"

	"github.com/tanodb/tanodb/kv"
)

// budget bounds the bytes of the objects that all jobs of a Runner hold. The zero value is
// ready for use.
type budget struct {
	mu    sync.Mutex
	used  int64         // more than MaxObjects only by what a guess was too low, or was taken by force
	freed chan struct{} // closed when there is less; nil: nobody waits
}

// take takes so many bytes, if there are so many. One who wants more than all gets it alone.
func (b *budget) take(n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used > 0 && b.used+n > MaxObjects {
		return false
	}
	b.used += n
	return true
}

// wait takes so many bytes once there are.
func (b *budget) wait(ctx context.Context, n int64) error {
	for {
		b.mu.Lock()
		if b.freed == nil {
			b.freed = make(chan struct{})
		}
		freed := b.freed
		b.mu.Unlock()
		if b.take(n) {
			return nil
		}
		select {
		case <-freed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// add takes more, whether there is or not, or gives back.
func (b *budget) add(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used += n
	if n < 0 && b.freed != nil {
		close(b.freed)
		b.freed = nil
	}
}

// source is what one job reads, and how much of it it holds. It is of one goroutine.
type source struct {
	Store
	budget *budget
	held   int64 // bytes of its objects. Invariant: they are in what is used of the budget
	guess  int64 // bytes of an object before it is read
}

const leastGuess = 64 << 10

func newSource(s Store, b *budget) *source { return &source{Store: s, budget: b, guess: kv.MaxObject} }

// fetch reads the first of some keys: as many as there is memory for, and one in any case. It
// waits for that, unless the job holds something: two jobs would wait for each other.
func (s *source) fetch(ctx context.Context, keys []kv.Key, o kv.ReadOptions) ([]kv.Object, []error, error) {
	guess := s.guess
	switch {
	case s.budget.take(guess):
	case s.held > 0:
		s.budget.add(guess)
	default:
		if err := s.budget.wait(ctx, guess); err != nil {
			return nil, nil, err
		}
	}
	n := 1
	for n < min(len(keys), fetches) && s.budget.take(guess) {
		n++
	}
	objects, errs := Fetch(ctx, s.Store, keys[:n], o)
	largest := int64(0)
	for i := range objects {
		size := objectBytes(&objects[i])
		largest = max(largest, size)
		s.budget.add(size - guess)
		s.held += size
	}
	s.guess = min(max(2*largest, leastGuess), kv.MaxObject) // the next ones are about as large
	return objects, errs, nil
}

// release gives back what an object of so many bytes took.
func (s *source) release(size int64) {
	s.held -= size
	s.budget.add(-size)
}

// objectBytes is about what an object takes in memory.
func objectBytes(o *kv.Object) (size int64) {
	for i := range o.Values {
		v := &o.Values[i]
		size += int64(len(v.Data))
		for _, list := range [][]kv.Pair{v.Meta, v.Indexes} {
			for _, p := range list {
				size += int64(len(p.Name) + len(p.Value))
			}
		}
	}
	return size
}
