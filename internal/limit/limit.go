// Package limit stands at a node's door: it refuses requests of buckets and of users that
// have had their share, and lists of all keys where they are not wanted. Both protocols pass
// through the same door, since it is a Node with some methods in front; what it
// refuses reads as kv.ErrOverload, and says when to come again.
//
// A limit is so many requests, and so many bytes, a second. Each is a bucket of
// tokens that fills with time up to what a second gives. A request is let in while there
// is something left, and then taken from it with all that it moves, so that a value which
// is larger than the bytes of a second gets through, and others wait for it.
package limit

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/internal/pace"
	"github.com/tanodb/tanodb/kv"
)

// Rates are what one may have a second; 0: as much as it likes.
type Rates struct{ Requests, Bytes int64 }

// Rules are the limits of a node. The zero value has none.
type Rules struct {
	Each    Rates               // of every bucket
	Buckets map[kv.Bucket]Rates // of those that have others
	User    Rates               // of every user; who is not known has none
	Users   map[string]Rates    // of those that have others
	NoLists bool                // lists of all keys or buckets in one request are refused
}

// of are the rates of a bucket.
func (r *Rules) of(b kv.Bucket) Rates {
	if own, ok := r.Buckets[b]; ok {
		return own
	}
	return r.Each
}

// ofUser are the rates of a user.
func (r *Rules) ofUser(name string) Rates {
	if own, ok := r.Users[name]; ok {
		return own
	}
	return r.User
}

// any reports whether there are rates at all.
func (r *Rules) any() bool {
	return r.Each != Rates{} || r.User != Rates{} || len(r.Buckets) > 0 || len(r.Users) > 0
}

// Error refuses a request.
type Error struct {
	User   string // whose share it was; empty: that of the bucket
	Bucket kv.Bucket
	What   string // "requests" or "bytes"
	Rate   int64  // of those, a second
	Wait   time.Duration
}

func (e *Error) Error() string {
	if e.User != "" {
		return fmt.Sprintf("overload: the user %q has had the share of a user for now, %d %s a second; see the options user-requests, user-bytes and user-limits", clip(e.User), e.Rate, e.What)
	}
	return fmt.Sprintf("overload: the bucket %q has had its share for now, %d %s a second; see the options bucket-requests, bucket-bytes and bucket-limits", clip(e.Bucket.Name), e.Rate, e.What)
}

// clip is the beginning of a name from outside, for a message.
func clip(s string) string { return s[:min(len(s), 64)] }

// Is makes errors.Is(err, kv.ErrOverload) true.
func (e *Error) Is(target error) bool { return target == kv.ErrOverload }

// RetryAfter is how long there is nothing to be had.
func (e *Error) RetryAfter() time.Duration { return e.Wait }

// Door is what requests of clients pass. Its rules may change at any time.
type Door struct {
	rules   atomic.Pointer[Rules]
	buckets Table[kv.Bucket]
	users   Table[string]
	begun   time.Time

	registry *prometheus.Registry
	refused  *prometheus.CounterVec
}

// NewDoor makes a door without rules.
func NewDoor() *Door {
	d := &Door{begun: time.Now(), registry: prometheus.NewRegistry(), refused: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tanodb_refused_total", Help: "Requests of clients that a limit of the options has refused: requests or bytes of a bucket or of a user, or a list of all keys.",
	}, []string{"limit"})}
	for _, what := range []string{whatRequests, whatBytes, whatLists, ofUsers + whatRequests, ofUsers + whatBytes} {
		d.refused.WithLabelValues(what)
	}
	d.registry.MustRegister(d.refused)
	d.Set(Rules{})
	return d
}

// The limits, as metrics and errors name them.
const (
	whatRequests = "requests"
	whatBytes    = "bytes"
	whatLists    = "lists"
	ofUsers      = "user_" // before the first two
)

// Set replaces the rules. What buckets and users have had of this second stays taken.
func (d *Door) Set(r Rules) { d.rules.Store(&r) }

// Metrics are the door's Prometheus metrics.
func (d *Door) Metrics() prometheus.Gatherer { return d.registry }

// AllowsLists reports whether all keys, or all buckets, may be listed in one request, and
// counts the request that it forbids.
func (d *Door) AllowsLists() bool {
	if !d.rules.Load().NoLists {
		return true
	}
	d.refused.WithLabelValues(whatLists).Inc()
	return false
}

// enter lets a request for a bucket in that brings so many bytes, or returns *Error. The
// user comes first: who has had his share takes nothing from that of the bucket.
func (d *Door) enter(ctx context.Context, b kv.Bucket, bytes int) error {
	rules := d.rules.Load()
	if !rules.any() {
		return nil
	}
	now := time.Since(d.begun)
	if user := tanodb.UserOf(ctx); user != "" {
		rates := rules.ofUser(user)
		if what, wait := d.users.Enter(now, user, rates, bytes); what != "" {
			d.refused.WithLabelValues(ofUsers + what).Inc()
			return &Error{User: user, Bucket: b, What: what, Rate: rates.rate(what), Wait: wait}
		}
	}
	rates := rules.of(b)
	what, wait := d.buckets.Enter(now, b, rates, bytes)
	if what == "" {
		return nil
	}
	d.refused.WithLabelValues(what).Inc()
	return &Error{Bucket: b, What: what, Rate: rates.rate(what), Wait: wait}
}

// rate is the one that a word names.
func (r Rates) rate(what string) int64 {
	if what == whatRequests {
		return r.Requests
	}
	return r.Bytes
}

// took takes what the answer of a request has moved.
func (d *Door) took(ctx context.Context, b kv.Bucket, bytes int) {
	rules := d.rules.Load()
	if bytes == 0 || !rules.any() {
		return
	}
	now := time.Since(d.begun)
	if user := tanodb.UserOf(ctx); user != "" {
		d.users.Took(now, user, rules.ofUser(user), bytes)
	}
	d.buckets.Took(now, b, rules.of(b), bytes)
}

// maxKeys is how many keys a Table knows at once. Names of buckets come from clients, so
// there may be any number; those that have had nothing lately are forgotten first.
const maxKeys = 1 << 16

// Table holds what each of many has had lately: buckets, and anything else that has a
// name. The zero Table is ready.
type Table[K comparable] struct {
	mu  sync.Mutex
	all map[K]*budgets
}

// budgets are those of one key.
type budgets struct{ requests, bytes pace.Bucket }

// Enter takes a request and its bytes from a key, unless it has had all: then it says what
// of, and how long there will be nothing. Now is monotonic.
func (t *Table[K]) Enter(now time.Duration, key K, r Rates, bytes int) (what string, wait time.Duration) {
	if r == (Rates{}) {
		return "", 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.budgets(now, key, r)
	if !b.requests.Open(now, r.Requests) {
		return whatRequests, b.requests.Opens(now, r.Requests) - now
	}
	if !b.bytes.Open(now, r.Bytes) {
		return whatBytes, b.bytes.Opens(now, r.Bytes) - now
	}
	b.requests.Take(now, r.Requests, 1)
	b.bytes.Take(now, r.Bytes, bytes)
	return "", 0
}

// Took takes more bytes from a key, whether it has any or not.
func (t *Table[K]) Took(now time.Duration, key K, r Rates, bytes int) {
	if r.Bytes == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.budgets(now, key, r).bytes.Take(now, r.Bytes, bytes)
}

// budgets are those of a key; the caller holds the lock.
func (t *Table[K]) budgets(now time.Duration, key K, r Rates) *budgets {
	if b, ok := t.all[key]; ok {
		return b
	}
	if t.all == nil {
		t.all = make(map[K]*budgets)
	}
	if len(t.all) >= maxKeys {
		t.forget(now, r)
	}
	b := new(budgets)
	t.all[key] = b
	return b
}

// forget makes room for a key: of some that the map happens to begin with, those go that
// have all their tokens, or would by the rates of the new one. If none has, the first
// goes: it gets a little more than its share, and the table no larger.
func (t *Table[K]) forget(now time.Duration, r Rates) {
	const look = 16
	looked := 0
	var first K
	for key, b := range t.all {
		if looked == 0 {
			first = key
		}
		if b.requests.Full(now, r.Requests) && b.bytes.Full(now, r.Bytes) {
			delete(t.all, key)
		}
		if looked++; looked == look {
			break
		}
	}
	if len(t.all) >= maxKeys {
		delete(t.all, first)
	}
}
