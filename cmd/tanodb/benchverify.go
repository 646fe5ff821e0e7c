package main

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// verifyWithin is how long reading everything back may go on failing before
	// a key counts as unreadable: nodes that were down may be coming up.
	verifyWithin = 30 * time.Second

	// verifyEvery is how long a worker waits before it reads again.
	verifyEvery = 200 * time.Millisecond

	// maxFindings is how many keys the report names of each kind.
	maxFindings = 20
)

// verification is what reading everything back has shown.
type verification struct {
	Keys         int       `json:"keys"`         // read back
	Acknowledged int       `json:"acknowledged"` // writes, superseded ones too
	InDoubt      int       `json:"in_doubt"`     // writes whose outcome was not told
	Lost         int       `json:"lost"`         // keys without an acknowledged write that nothing has replaced
	Wrong        int       `json:"wrong"`        // keys with a value that was replaced, refused, or never written
	Unreadable   int       `json:"unreadable"`   // keys that could not be read
	Findings     []finding `json:"findings,omitempty"`
}

// finding is one key that is not as it must be.
type finding struct {
	Key     string `json:"key"`
	Problem string `json:"problem"`
}

func (v *verification) good() bool { return v.Lost == 0 && v.Wrong == 0 && v.Unreadable == 0 }

// summary is the outcome in a line.
func (v *verification) summary() string {
	if v.good() {
		return "nothing is lost"
	}
	return fmt.Sprintf("%d keys lost, %d keys wrong, %d keys unreadable", v.Lost, v.Wrong, v.Unreadable)
}

// String is the outcome for people.
func (v *verification) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "verified %s, %s acknowledged, %d in doubt: %s\n", plural(v.Keys, "key"), plural(v.Acknowledged, "write"), v.InDoubt, v.summary())
	for _, f := range v.Findings {
		fmt.Fprintf(&b, "  %s: %s\n", f.Key, f.Problem)
	}
	return b.String()
}

// verify reads back every key that was written, with the quorum of the load's
// reads, and judges what it finds.
func (b *bench) verify(ctx context.Context) *verification {
	probes, stop := context.WithCancel(ctx)
	var probing sync.WaitGroup
	probing.Go(func() { b.target.nodes.watch(probes) })
	defer probing.Wait()
	defer stop()

	ctx, cancel := context.WithTimeout(ctx, verifyWithin)
	defer cancel()
	total := &verification{}
	var mu sync.Mutex
	b.each(func(w *worker) {
		v := w.verify(ctx)
		mu.Lock()
		defer mu.Unlock()
		total.add(v)
	})
	slices.SortFunc(total.Findings, func(a, b finding) int { return strings.Compare(a.Key, b.Key) })
	return total
}

func (v *verification) add(o verification) {
	v.Keys += o.Keys
	v.Acknowledged += o.Acknowledged
	v.InDoubt += o.InDoubt
	v.Lost += o.Lost
	v.Wrong += o.Wrong
	v.Unreadable += o.Unreadable
	room := min(maxFindings-len(v.Findings), len(o.Findings))
	v.Findings = append(v.Findings, o.Findings[:room]...)
}

// verify reads back the worker's own keys.
func (w *worker) verify(ctx context.Context) verification {
	var v verification
	for i := range w.own {
		h, key := &w.own[i], w.key(i)
		if h.sent == 0 {
			continue
		}
		v.Keys++
		v.Acknowledged += h.acks
		v.InDoubt += h.unsure
		name := w.b.c.keyName(key)
		values, err := w.readBack(ctx, key)
		if err != nil {
			v.find(&v.Unreadable, name, "%v", err)
			continue
		}
		shown, err := w.b.recognise(values, key)
		if err != nil {
			v.find(&v.Wrong, name, "%v", err)
			continue
		}
		v.judge(name, h, shown)
	}
	return v
}

// find counts a key that is not as it must be.
func (v *verification) find(count *int, key, format string, args ...any) {
	*count++
	if len(v.Findings) < maxFindings {
		v.Findings = append(v.Findings, finding{key, fmt.Sprintf(format, args...)})
	}
}

// judge compares what a key shows with its history.
func (v *verification) judge(key string, h *history, shown []int) {
	lost, wrong := h.check(shown)
	if len(lost) > 0 {
		v.find(&v.Lost, key, "acknowledged write %v of %d is missing; there is %v", lost, h.sent, shown)
	}
	if len(wrong) > 0 {
		v.find(&v.Wrong, key, "write %v of %d is there and must not be; there may be %v", wrong, h.sent, h.open)
	}
}

// recognise is the numbers of a key's values, all of this run and all as they
// were written, byte by byte.
func (b *bench) recognise(values [][]byte, key int) ([]int, error) {
	var shown []int
	for _, v := range values {
		n, err := parseBenchValue(v, b.run, key)
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(v, benchValue(b.c.ValueSize, b.run, key, n)) {
			return nil, fmt.Errorf("the value of write %d is damaged", n)
		}
		shown = append(shown, n)
	}
	return shown, nil
}

// readBack reads a key until that works or the context ends.
func (w *worker) readBack(ctx context.Context, key int) ([][]byte, error) {
	for {
		ans := w.carrier.get(time.Now().Add(w.b.timeout), w.b.c.keyName(key), true)
		if ans.kind == "" {
			return ans.values, nil
		}
		wait := time.NewTimer(verifyEvery)
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return nil, fmt.Errorf("cannot be read within %v: %s", verifyWithin, ans.text)
		}
	}
}
