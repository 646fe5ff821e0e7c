package tanodb

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tanodb/tanodb/kv"
)

// The limits of what is logged of slow requests: so many lines within so long. The others are
// counted in the next line.
const (
	slowLines  = 10
	slowPeriod = time.Second

	defaultSlowRequest = time.Second
)

// story is what there is to tell of a request: how it was meant, and each replica's part.
type story struct {
	options any
	replies []kv.Reply
}

func ofBucket(b kv.Bucket) kv.Key { return kv.Key{Type: b.Type, Bucket: b.Name} }

// tell logs a call that was slow, unless there were too many.
func (l *slowLog) tell(c *call, took time.Duration, err error, tale func() story) {
	n := c.node
	n.metrics.slow.Inc()
	unlogged, may := l.take(n.elapsed())
	if !may {
		return
	}
	s := tale()
	fields := []any{
		"node", n.self, "op", c.op, "target", c.key.String(), "took", took.String(), "options", optionsText(s.options),
		"outcome", outcome(err), "replies", repliesText(s.replies),
	}
	if err != nil {
		fields = append(fields, "error", err.Error())
	}
	if unlogged > 0 {
		fields = append(fields, "unlogged_before", unlogged)
	}
	n.log.Warn("a request was slow", fields...)
}

// slowLog is how much of the slow requests is logged.
type slowLog struct {
	mu       sync.Mutex
	since    time.Duration // when the period began
	lines    int           // in it
	unlogged int           // requests that were passed over since the last line
}

// take reports whether a line may be written, and how many requests had none since the last.
func (l *slowLog) take(now time.Duration) (unlogged int, may bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now-l.since >= slowPeriod {
		l.since, l.lines = now, 0
	}
	if l.lines >= slowLines {
		l.unlogged++
		return 0, false
	}
	l.lines++
	unlogged, l.unlogged = l.unlogged, 0
	return unlogged, true
}

// untold are options that say nothing to people, or are long.
var untold = []string{"Context", "RequestID", "Token"}

// optionsText are the options that differ from their defaults: R=2 Timeout=5s.
func optionsText(options any) string {
	v := reflect.ValueOf(options)
	if v.Kind() != reflect.Struct {
		return ""
	}
	var out []string
	for i := range v.NumField() {
		if f := v.Type().Field(i); f.IsExported() && !v.Field(i).IsZero() && !slices.Contains(untold, f.Name) {
			out = append(out, fmt.Sprintf("%s=%v", f.Name, v.Field(i).Interface()))
		}
	}
	return strings.Join(out, " ")
}

// repliesText are the parts of the replicas: n2/17 primary found 1.2ms, repaired.
func repliesText(replies []kv.Reply) []string {
	out := make([]string, 0, len(replies))
	for _, r := range replies {
		s := fmt.Sprintf("%s/%d %s %s %v", r.Node, r.Partition.Index, r.Role, r.Result, r.Elapsed.Round(time.Microsecond))
		if r.Repaired {
			s += ", repaired"
		}
		if r.Error != "" {
			s += ": " + r.Error
		}
		out = append(out, s)
	}
	return out
}
