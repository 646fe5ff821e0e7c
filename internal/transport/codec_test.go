package transport

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/tanodb/tanodb/internal/coordinator"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
)

var rewrite = flag.Bool("rewrite", false, "write testdata/frames.txt anew")

// same compares messages. Errors are compared by their text and by what
// errors.Is finds in them.
var same = cmp.Options{
	cmpopts.EquateEmpty(),
	cmp.FilterPath(func(p cmp.Path) bool { return p.Last().Type() == errorType }, cmp.Comparer(sameError)),
}

var errorType = reflect.TypeFor[error]()

func sameError(a, b error) bool {
	if a == nil || b == nil {
		return a == b
	}
	var qa, qb *kv.QuorumError
	if errors.As(a, &qa) != errors.As(b, &qb) || !cmp.Equal(qa, qb, cmpopts.EquateEmpty()) {
		return false
	}
	return a.Error() == b.Error() && sentinelsOf(a) == sentinelsOf(b)
}

func key(t *rapid.T) kv.Key {
	return kv.Key{
		Type:   rapid.StringN(0, 10, kv.MaxType).Draw(t, "type"),
		Bucket: rapid.StringN(1, 20, kv.MaxBucket).Draw(t, "bucket"),
		Name:   rapid.StringN(1, 40, kv.MaxKey).Draw(t, "name"),
	}
}

func bucket(t *rapid.T) kv.Bucket {
	k := key(t)
	return kv.Bucket{Type: k.Type, Name: k.Bucket}
}

func blob(t *rapid.T, name string) []byte {
	return rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, name)
}

func small(t *rapid.T, name string) int { return rapid.IntRange(0, 1<<20).Draw(t, name) }

func moment(t *rapid.T, name string) time.Time {
	if !rapid.Bool().Draw(t, name+" is set") {
		return time.Time{}
	}
	return time.Unix(rapid.Int64Range(-1<<33, 1<<33).Draw(t, name), rapid.Int64Range(0, 999_999_999).Draw(t, name+" ns")).UTC()
}

func value(t *rapid.T) kv.Value {
	pairs := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) kv.Pair {
		return kv.Pair{Name: rapid.String().Draw(t, "name"), Value: rapid.String().Draw(t, "value")}
	}), 0, 3)
	return kv.Value{
		Data:            blob(t, "data"),
		ContentType:     rapid.StringN(0, 20, 60).Draw(t, "content type"),
		Charset:         rapid.StringN(0, 8, 20).Draw(t, "charset"),
		ContentEncoding: rapid.StringN(0, 8, 20).Draw(t, "encoding"),
		Meta:            pairs.Draw(t, "meta"),
		Indexes:         pairs.Draw(t, "indexes"),
		Expires:         moment(t, "expires"),
		Modified:        moment(t, "modified"),
		VTag:            rapid.StringN(0, 20, 60).Draw(t, "vtag"),
		Deleted:         rapid.Bool().Draw(t, "deleted"),
	}
}

func place(t *rapid.T) kv.Partition {
	return kv.Partition{Index: small(t, "index"), Of: small(t, "of")}
}

func receipt(t *rapid.T) kv.Receipt {
	return kv.Receipt{
		Context: blob(t, "context"),
		Values:  rapid.SliceOfN(rapid.Custom(value), 0, 3).Draw(t, "values"),
		Replies: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) kv.Reply {
			return kv.Reply{
				Partition: place(t),
				Node:      rapid.StringN(0, 10, maxName).Draw(t, "node"),
				Role:      rapid.SampledFrom(roles).Draw(t, "role"),
				Result:    rapid.SampledFrom(results).Draw(t, "result"),
				Elapsed:   time.Duration(rapid.Int64().Draw(t, "elapsed")),
				Error:     rapid.StringN(0, 30, 100).Draw(t, "error"),
				Repaired:  rapid.Bool().Draw(t, "repaired"),
			}
		}), 0, 4).Draw(t, "replies"),
	}
}

func writeOptions(t *rapid.T) (o kv.WriteOptions) {
	quorum := func(name string) kv.Quorum { return kv.Quorum(rapid.IntRange(-4, 5).Draw(t, name)) }
	o = kv.WriteOptions{
		Context: blob(t, "context"), N: small(t, "n"),
		W: quorum("w"), DW: quorum("dw"), PW: quorum("pw"), R: quorum("r"), PR: quorum("pr"),
		NodeConfirms: small(t, "confirms"), ReturnBody: rapid.Bool().Draw(t, "return body"),
		Timeout: time.Duration(rapid.Int64().Draw(t, "timeout")), Linger: time.Duration(rapid.Int64().Draw(t, "linger")),
	}
	o.RequestID = id(t)
	o.SloppyQuorum = rapid.SampledFrom([]kv.Toggle{kv.Unset, kv.On, kv.Off}).Draw(t, "sloppy")
	return o
}

// failure draws any error that a put can end with, bare, wrapped or joined.
func failure(t *rapid.T) error {
	failures := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) kv.Failure {
		return kv.Failure{Partition: place(t), Node: rapid.StringN(0, 9, 30).Draw(t, "node"), Why: rapid.StringN(0, 9, 40).Draw(t, "why")}
	}), 0, 3)
	errs := []error{
		nil,
		&kv.QuorumError{Op: "put", Need: "W", Want: small(t, "want"), Got: small(t, "got"), Failures: failures.Draw(t, "failures"),
			Timeout: rapid.Bool().Draw(t, "timeout"), InDoubt: rapid.Bool().Draw(t, "doubt")},
		&kv.InvalidError{What: "W", Problem: "is 4; there are 3 replicas"},
	}
	err := rapid.SampledFrom(append(errs, sentinels...)).Draw(t, "error")
	switch {
	case err == nil:
		return nil
	case rapid.Bool().Draw(t, "wrapped"):
		return fmt.Errorf("on the way: %w", err)
	case rapid.Bool().Draw(t, "joined"):
		return errors.Join(err, kv.ErrInDoubt)
	}
	return err
}

func id(t *rapid.T) (id [16]byte) {
	copy(id[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
	return id
}

func items(t *rapid.T) []vnode.Item {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) vnode.Item {
		return vnode.Item{Key: key(t), Hash: rapid.Uint64().Draw(t, "hash"), Object: blob(t, "object")}
	}), 0, 4).Draw(t, "items")
}

func badItems(t *rapid.T) []vnode.BadItem {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) vnode.BadItem {
		bad := vnode.BadItem{Text: rapid.StringN(0, 20, 60).Draw(t, "text")}
		if rapid.Bool().Draw(t, "known") {
			bad.Key = key(t)
		}
		return bad
	}), 0, 3).Draw(t, "bad")
}

func message(t *rapid.T) vnode.Message {
	home := ring.Partition(rapid.Uint16().Draw(t, "home"))
	text := rapid.StringN(0, 30, 100).Draw(t, "text")
	code := vnode.Code(rapid.Uint8().Draw(t, "code"))
	flag := rapid.Bool().Draw(t, "flag")
	kinds := map[string]func() vnode.Message{
		"store": func() vnode.Message { return &vnode.Store{Home: home, Key: key(t), Object: blob(t, "object")} },
		"fetch": func() vnode.Message { return &vnode.Fetch{Home: home, Key: key(t)} },
		"list": func() vnode.Message {
			return &vnode.List{Home: home, Bucket: bucket(t), After: text, Limit: small(t, "limit"), At: int64(small(t, "at"))}
		},
		"census": func() vnode.Message {
			return &vnode.Census{Bucket: bucket(t), Limit: small(t, "limit"), At: int64(small(t, "at"))}
		},
		"query": func() vnode.Message {
			word := rapid.StringN(0, 9, 99)
			return &vnode.Query{
				Home: home, Bucket: bucket(t), Field: word.Draw(t, "field"), Start: text, End: word.Draw(t, "end"), Regex: word.Draw(t, "regex"),
				AfterTerm: word.Draw(t, "after"), AfterKey: word.Draw(t, "key"), Limit: small(t, "limit"), At: int64(small(t, "at")), Latest: flag,
			}
		},
		"matched": func() vnode.Message {
			matches := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) kv.IndexMatch {
				return kv.IndexMatch{Term: rapid.SampledFrom([]string{"", "a", text}).Draw(t, "term"), Key: rapid.StringN(1, 9, 99).Draw(t, "key")}
			}), 0, 9)
			return &vnode.Matched{Matches: some(matches.Draw(t, "matches")), LastTerm: text, LastKey: "k", More: flag}
		},
		"buckets": func() vnode.Message {
			return &vnode.Buckets{Home: home, Type: text, After: text, Inside: "k", Limit: small(t, "limit"), At: int64(small(t, "at"))}
		},
		"bucketsFound": func() vnode.Message {
			found := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) vnode.FoundBucket {
				return vnode.FoundBucket{Name: rapid.StringN(1, 9, 99).Draw(t, "name"), Latest: flag}
			}), 0, 9)
			return &vnode.BucketsFound{Found: some(found.Draw(t, "found")), Last: text, Inside: "k", More: !flag}
		},
		"ping": func() vnode.Message { return &vnode.Ping{} },
		"forward": func() vnode.Message {
			return &coordinator.Forward{Key: key(t), Value: value(t), Deleted: flag, Options: writeOptions(t), Op: operation(t)}
		},
		"stored":  func() vnode.Message { return &vnode.Stored{Live: flag} },
		"fetched": func() vnode.Message { return &vnode.Fetched{Object: blob(t, "object")} },
		"listed": func() vnode.Message {
			return &vnode.Listed{Keys: rapid.SliceOfN(rapid.StringN(1, 9, 99), 0, 9).Draw(t, "keys"), Last: rapid.StringN(0, 9, 99).Draw(t, "last"), More: flag}
		},
		"pong":      func() vnode.Message { return &vnode.Pong{} },
		"forwarded": func() vnode.Message { return &coordinator.Forwarded{Receipt: receipt(t), Err: failure(t)} },
		"refusal": func() vnode.Message {
			return &vnode.Refusal{Code: code, Text: text, Epoch: rapid.Uint64().Draw(t, "epoch")}
		},
		"failure": func() vnode.Message { return &vnode.Failure{Code: code, Text: text} },
		"pull": func() vnode.Message {
			return &vnode.Pull{Home: home, After: blob(t, "after"), Limit: small(t, "limit"), Bare: flag, Whole: !flag}
		},
		"pulled": func() vnode.Message {
			return &vnode.Pulled{Items: items(t), Bad: badItems(t), Last: blob(t, "last"), More: flag}
		},
		"deliver": func() vnode.Message { return &vnode.Deliver{Home: home, Items: items(t), Placed: flag} },
		"sums": func() vnode.Message {
			return &vnode.Sums{Home: home, Branch: rapid.IntRange(vnode.Root, 100).Draw(t, "branch"), Known: rapid.Uint64().Draw(t, "known")}
		},
		"summed": func() vnode.Message {
			return &vnode.Summed{Sum: rapid.Uint64().Draw(t, "sum"), Sums: some(rapid.SliceOfN(rapid.Uint64(), 0, vnode.Branches).Draw(t, "sums"))}
		},
		"versions": func() vnode.Message {
			segments := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) vnode.Segment { return vnode.Segment(rapid.Uint16().Draw(t, "segment")) }), 0, 9)
			return &vnode.Versions{Home: home, Segments: some(segments.Draw(t, "segments")), After: blob(t, "after"), Limit: small(t, "limit")}
		},
		"versioned": func() vnode.Message { return &vnode.Versioned{Items: items(t), Last: blob(t, "last"), More: flag} },
		"pick": func() vnode.Message {
			keys := rapid.SliceOfN(rapid.Custom(key), 0, 4)
			return &vnode.Pick{Home: home, Keys: some(keys.Draw(t, "keys")), Bare: flag, Limit: small(t, "limit")}
		},
		"picked": func() vnode.Message { return &vnode.Picked{Items: items(t)} },
		"order":  func() vnode.Message { return &Order{Do: text, Body: blob(t, "body")} },
		"moment": func() vnode.Message {
			return &Moment{Number: rapid.Uint64().Draw(t, "number"), Msg: &vnode.Pick{Home: home, Keys: []kv.Key{key(t)}, Bare: flag, Limit: small(t, "limit")}}
		},
		"ordered": func() vnode.Message { return &Ordered{Answer: blob(t, "answer")} },
		"attest":  func() vnode.Message { return &vnode.Attest{Home: home, Items: items(t)} },
		"reap":    func() vnode.Message { return &vnode.Reap{Home: home, Items: items(t)} },
		"strays":  func() vnode.Message { return &vnode.Strays{Homes: []ring.Partition{home, 7}} },
		"dropped": func() vnode.Message { return &vnode.Dropped{Gone: small(t, "gone"), Kept: small(t, "kept")} },
		"standing": func() vnode.Message {
			return &vnode.StraysFound{Epoch: rapid.Uint64().Draw(t, "epoch"), Life: rapid.Uint64().Draw(t, "life"), Homes: []vnode.Standing{{Stray: flag, Count: rapid.Uint64().Draw(t, "count")}, {}}}
		},
		"delivered": func() vnode.Message {
			results := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) vnode.ItemResult { return vnode.ItemResult(rapid.Uint8().Draw(t, "result")) }), 0, 9)
			return &vnode.Delivered{Results: results.Draw(t, "results")}
		},
		"log":       func() vnode.Message { return &Log{Data: blob(t, "data")} },
		"logged":    func() vnode.Message { return &Logged{} },
		"stateAsk":  func() vnode.Message { return &StateAsk{Have: rapid.Uint64().Draw(t, "have")} },
		"jobsAsk":   func() vnode.Message { return &JobsAsk{} },
		"jobsGive":  func() vnode.Message { return &JobsGive{Jobs: blob(t, "jobs")} },
		"stateGive": func() vnode.Message { return &StateGive{State: blob(t, "state")} },
		"propose":   func() vnode.Message { return &Propose{ID: id(t), Command: blob(t, "command")} },
		"proposed":  func() vnode.Message { return &Proposed{Code: rapid.StringN(0, 10, 90).Draw(t, "word"), Text: text} },
		"knock": func() vnode.Message {
			return &Knock{Name: text, ID: id(t), Cluster: id(t), Partitions: rapid.Uint32().Draw(t, "q"), Replicas: rapid.Uint32().Draw(t, "n"), Version: text, Address: text}
		},
		"welcome": func() vnode.Message {
			return &Welcome{
				Cluster: id(t), Partitions: rapid.Uint32().Draw(t, "q"), Replicas: rapid.Uint32().Draw(t, "n"), TargetN: rapid.Uint32().Draw(t, "target"),
				Name: text, Refusal: text, State: blob(t, "state"),
			}
		},
	}
	return kinds[rapid.SampledFrom(slices.Sorted(maps.Keys(kinds))).Draw(t, "kind")]()
}

// some is the slice as it is decoded: without elements it is nil.
func some[T any](s []T) []T {
	if len(s) == 0 {
		return nil
	}
	return s
}

func frame(t *rapid.T) Frame {
	m := message(t)
	var trace Trace
	if !kindOf(m).answer() && rapid.Bool().Draw(t, "traced") {
		copy(trace.ID[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "trace"))
		copy(trace.Span[:], rapid.SliceOfN(rapid.Byte(), 8, 8).Draw(t, "span"))
		trace.Flags = rapid.Byte().Draw(t, "flags")
	}
	return Frame{
		Trace: trace,
		ID:    rapid.Uint64().Draw(t, "id"), Response: kindOf(m).answer(), Epoch: rapid.Uint64().Draw(t, "epoch"),
		Timeout: time.Duration(rapid.Int64Range(0, kv.MaxTimeout.Milliseconds()).Draw(t, "timeout ms")) * time.Millisecond,
		To:      ring.Partition(rapid.Uint16().Draw(t, "to")), Msg: m,
	}
}

// Several frames in a row come out as they went in.
func TestFramesRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		frames := rapid.SliceOfN(rapid.Custom(frame), 1, 4).Draw(t, "frames")
		b := []byte("before")
		for i := range frames {
			var err error
			if b, err = AppendFrame(b, &frames[i]); err != nil {
				t.Fatal(err)
			}
		}
		rest := bytes.TrimPrefix(b, []byte("before"))
		for i := range frames {
			var f Frame
			var err error
			if f, rest, err = DecodeFrame(rest); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(frames[i], f, same); diff != "" {
				t.Fatalf("frame %d (-sent +received):\n%s", i, diff)
			}
		}
		if len(rest) != 0 {
			t.Fatalf("%d bytes left", len(rest))
		}
	})
}

// Any one changed byte is noticed, and any cut.
func TestDamageIsNoticed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := frame(t)
		b, err := AppendFrame(nil, &f)
		if err != nil {
			t.Fatal(err)
		}
		bad := bytes.Clone(b)
		bad[rapid.IntRange(0, len(b)-1).Draw(t, "at")] ^= byte(rapid.IntRange(1, 255).Draw(t, "flip"))
		if _, _, err := DecodeFrame(bad); !errors.Is(err, ErrFrame) {
			t.Fatalf("a changed byte: %v", err)
		}
		if _, _, err := DecodeFrame(b[:rapid.IntRange(0, len(b)-1).Draw(t, "cut")]); !errors.Is(err, ErrFrame) {
			t.Fatalf("a cut: %v", err)
		}
	})
}

func TestTimeoutIsRoundedUp(t *testing.T) {
	b, err := AppendFrame(nil, &Frame{Timeout: 1, Msg: &vnode.Ping{}})
	if err != nil {
		t.Fatal(err)
	}
	if f, _, err := DecodeFrame(b); err != nil || f.Timeout != time.Millisecond {
		t.Fatalf("timeout %v, error %v", f.Timeout, err)
	}
}

// What may not travel is refused before it is on its way, and leaves the
// buffer as it was.
func TestRefusedFrames(t *testing.T) {
	long := strings.Repeat("x", kv.MaxKey+1)
	k := kv.Key{Bucket: "b", Name: "k"}
	tests := map[string]struct {
		f    Frame
		want string
	}{
		"nothing":                 {Frame{}, "does not travel"},
		"a Coordinate":            {Frame{Msg: &vnode.Coordinate{Key: k}}, "does not travel"},
		"a Minted":                {Frame{Msg: &vnode.Minted{}, Response: true}, "does not travel"},
		"a request as answer":     {Frame{Msg: &vnode.Ping{}, Response: true}, "Response true"},
		"an answer as request":    {Frame{Msg: &vnode.Pong{}}, "Response false"},
		"a negative timeout":      {Frame{Msg: &vnode.Ping{}, Timeout: -1}, "is not between"},
		"a timeout too long":      {Frame{Msg: &vnode.Ping{}, Timeout: kv.MaxTimeout + 1}, "is not between"},
		"no key":                  {Frame{Msg: &vnode.Fetch{Key: kv.Key{Bucket: "b"}}}, "zero-length"},
		"no bucket":               {Frame{Msg: &vnode.Census{}}, "zero-length"},
		"a key too long":          {Frame{Msg: &vnode.Fetch{Key: kv.Key{Bucket: "b", Name: long}}}, "65537 bytes"},
		"a negative limit":        {Frame{Msg: &vnode.Census{Bucket: kv.Bucket{Name: "b"}, Limit: -1}}, "Limit is -1"},
		"an After too long":       {Frame{Msg: &vnode.List{Bucket: kv.Bucket{Name: "b"}, After: long}}, "65537 bytes"},
		"an object too large":     {Frame{Msg: &vnode.Store{Key: k, Object: make([]byte, kv.MaxObject+1)}}, "object is"},
		"a listed key too long":   {Frame{Msg: &vnode.Listed{Keys: []string{long}}, Response: true}, "65537 bytes"},
		"a listed key of nothing": {Frame{Msg: &vnode.Listed{Keys: []string{""}}, Response: true}, "0 bytes"},
		"too many keys":           {Frame{Msg: &vnode.Listed{Keys: make([]string, maxKeys+1)}, Response: true}, "65537 keys"},
		"a context too long":      {Frame{Msg: &coordinator.Forward{Key: k, Options: kv.WriteOptions{Context: []byte(long)}}}, "context is"},
		"metadata too large":      {Frame{Msg: &coordinator.Forward{Key: k, Value: kv.Value{ContentType: strings.Repeat("x", kv.MaxValueMeta+1)}}}, "metadata"},
		"an unknown role":         {forwarded(kv.Reply{Role: "understudy"}), "understudy"},
		"an unknown result":       {forwarded(kv.Reply{Result: "perhaps"}), "perhaps"},
		"a node name too long":    {forwarded(kv.Reply{Node: long}), "node is"},
		"an item without a key":   {Frame{Msg: &vnode.Deliver{Items: make([]vnode.Item, 1)}}, "zero-length"},
		"too many items":          {Frame{Msg: &vnode.Deliver{Items: make([]vnode.Item, maxItems+1)}}, "65537 items"},
		"too many bad items":      {Frame{Response: true, Msg: &vnode.Pulled{Bad: make([]vnode.BadItem, maxItems+1)}}, "65537 unreadable"},
		"too many results":        {Frame{Response: true, Msg: &vnode.Delivered{Results: make([]vnode.ItemResult, maxItems+1)}}, "65537 results"},
		"too many homes":          {Frame{Msg: &vnode.Strays{Homes: make([]ring.Partition, maxItems+1)}}, "65537 homes"},
		"too many standings":      {Frame{Response: true, Msg: &vnode.StraysFound{Homes: make([]vnode.Standing, maxItems+1)}}, "65537 homes"},
		"a page from far away":    {Frame{Msg: &vnode.Pull{After: make([]byte, maxAfter+1)}}, "After is"},
		"a page without a limit":  {Frame{Msg: &vnode.Pull{Limit: -1}}, "Limit is -1"},
		"a write of a moment":     {Frame{Msg: &Moment{Msg: &vnode.Reap{}}}, "cannot be asked of a moment"},
		"too many segments":       {Frame{Msg: &vnode.Versions{Segments: make([]vnode.Segment, maxSegments+1)}}, "4097 segments"},
		"too many sums":           {Frame{Response: true, Msg: &vnode.Summed{Sums: make([]uint64, vnode.Branches+1)}}, "65 sums"},
		"too many picked keys":    {Frame{Msg: &vnode.Pick{Keys: make([]kv.Key, maxItems+1)}}, "65537 keys"},
		"a branch below the root": {Frame{Msg: &vnode.Sums{Branch: vnode.Root - 1}}, "Branch is"},
		"too many matches":        {Frame{Response: true, Msg: &vnode.Matched{Matches: make([]kv.IndexMatch, maxKeys+1)}}, "65537 matches"},
		"too many buckets":        {Frame{Response: true, Msg: &vnode.BucketsFound{Found: make([]vnode.FoundBucket, maxKeys+1)}}, "65537 buckets"},
		"a regex too long":        {Frame{Msg: &vnode.Query{Bucket: kv.Bucket{Name: "b"}, Regex: long}}, "Regex is"},
		"an order too long":       {Frame{Msg: &Order{Do: long}}, "order is"},
		"a log message too large": {Frame{Msg: &Log{Data: make([]byte, maxLog+1)}}, "log message is"},
		"a state too large":       {Frame{Response: true, Msg: &StateGive{State: make([]byte, maxState+1)}}, "state is"},
		"a welcome too large":     {Frame{Response: true, Msg: &Welcome{State: make([]byte, maxState+1)}}, "state is"},
		"a command too large":     {Frame{Msg: &Propose{Command: make([]byte, maxCommand+1)}}, "command is"},
		"a code too long":         {Frame{Response: true, Msg: &Proposed{Code: long}}, "code is"},
		"a name too long":         {Frame{Msg: &Knock{Name: long}}, "name is"},
		"an address too long":     {Frame{Msg: &Knock{Address: long}}, "address is"},
		"a toggle of no meaning":  {Frame{Msg: &coordinator.Forward{Key: k, Options: kv.WriteOptions{SloppyQuorum: 3}}}, "neither on, off"},
		"a frame too large":       {Frame{Msg: &vnode.Listed{Keys: repeated(long[1:], 960)}, Response: true}, "the limit is"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			b, err := AppendFrame([]byte("before"), &tt.f)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v; want one with %q", err, tt.want)
			}
			if string(b) != "before" {
				t.Errorf("left %d bytes", len(b))
			}
		})
	}
}

func forwarded(r kv.Reply) Frame {
	return Frame{Response: true, Msg: &coordinator.Forwarded{Receipt: kv.Receipt{Replies: []kv.Reply{r}}}}
}

func repeated(s string, n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = s
	}
	return all
}

// sealed is a frame around any payload, with a right length and checksum.
func sealed(k kind, payload []byte) []byte {
	b := []byte{FrameVersion, 0, 0, 0, 0, byte(k), 0, 0, 0, 0, 0, 0, 0, 7, 1, 0, 0, 3}
	b = append(b, payload...)
	binary.BigEndian.PutUint32(b[lengthAt:], uint32(len(b)+checksum))
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// traced is sealed for a frame that says that it has a trace.
func traced(k kind, payload []byte) []byte {
	b := sealed(k, payload)
	b = b[:len(b)-checksum]
	b[0] = TracedVersion
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func TestBrokenFrames(t *testing.T) {
	huge := binary.AppendUvarint(nil, 1<<62)
	good := sealed(kindPing, nil)
	tests := map[string]struct {
		b    []byte
		want string
	}{
		"nothing":                      {nil, "too few"},
		"zeroes":                       {make([]byte, 8192), "version 0"},
		"a later version":              {append([]byte{9}, good[1:]...), "version 9"},
		"a length of nothing":          {append([]byte{1, 0, 0, 0, 0}, good[5:]...), "a length of 0"},
		"a length of 4 GB":             {append([]byte{1, 255, 255, 255, 255}, good[5:]...), "a length of 4294967295"},
		"a length past the end":        {append([]byte{1, 0, 0, 1, 0}, good[5:]...), "are missing"},
		"bytes after a Ping":           {sealed(kindPing, []byte{1}), "1 bytes too many"},
		"a Store of nothing":           {sealed(kindStore, nil), "too early"},
		"a Store with a claimed size":  {sealed(kindStore, append([]byte{0, 0, 0, 1, 1, 'b', 'k'}, huge...)), "object is"},
		"a Listed of countless keys":   {sealed(kindListed, huge), "keys; the limit"},
		"a Listed of absent keys":      {sealed(kindListed, []byte{100, 1, 1, 'a'}), "do not fit"},
		"a Listed of a nameless key":   {sealed(kindListed, []byte{1, 0, 0, 0, 0}), "zero-length"},
		"a Stored that is neither":     {sealed(kindStored, []byte{2}), "neither true nor false"},
		"a Fetch without a bucket":     {sealed(kindFetch, []byte{0, 0, 0, 0, 1, 'k'}), "zero-length"},
		"a Forwarded of absent values": {sealed(kindForwarded, []byte{0, 90, 0}), "do not fit"},
		"a Forwarded of many replies":  {sealed(kindForwarded, append([]byte{0, 0}, huge...)), "replies; the limit"},
		"an error of no form":          {sealed(kindForwarded, []byte{0, 0, 0, 9}), "form 9"},
		"an error without a sentinel":  {sealed(kindForwarded, []byte{0, 0, 0, formPlain, 0, 0}), "no set of errors"},
		"a Deliver of countless items": {sealed(kindDeliver, append([]byte{0, 0}, huge...)), "items; the limit"},
		"a Deliver of absent items":    {sealed(kindDeliver, []byte{0, 0, 9, 0, 1, 1, 'b', 'k'}), "do not fit"},
		"a Pulled of absent bad items": {sealed(kindPulled, []byte{0, 99, 0}), "do not fit"},
		"a Delivered of no results":    {sealed(kindDelivered, []byte{4, 1}), "do not fit"},
		"a Pull from far away":         {sealed(kindPull, append([]byte{0, 0}, huge...)), "After is"},
		"a Versions of absent ones":    {sealed(kindVersions, []byte{0, 0, 99, 0}), "do not fit"},
		"a Summed of countless sums":   {sealed(kindSummed, append(make([]byte, 8), huge...)), "sums; the limit"},
		"a Pick of absent keys":        {sealed(kindPick, []byte{0, 0, 9, 0, 1, 1, 'b', 'k'}), "do not fit"},
		"a Log of a claimed size":      {sealed(kindLog, huge), "log message is"},
		"a StateGive of absent bytes":  {sealed(kindStateGive, []byte{5, 1}), "too early"},
		"a Propose without an id":      {sealed(kindPropose, []byte{1, 2, 3}), "too early"},
		"a Propose of a claimed size":  {sealed(kindPropose, append(make([]byte, 16), huge...)), "command is"},
		"a Knock of nothing":           {sealed(kindKnock, nil), "a number"},
		"a Welcome of nothing":         {sealed(kindWelcome, nil), "too early"},
		"a Refusal without an epoch":   {sealed(kindRefusal, []byte{3, 0}), "a number"},
		"a Matched of absent matches":  {sealed(kindMatched, []byte{9, 1, 1}), "do not fit"},
		"a Matched that says it again": {sealed(kindMatched, []byte{1, 0, 0, 1, 'k', 0, 0, 0}), "is repeated"},
		"a BucketsFound of countless":  {sealed(kindFound, huge), "buckets; the limit"},
		"a trace and nothing else":     {traced(kindPing, bytes.Repeat([]byte{1}, traceSize-1)), "too short for its trace"},
		"a trace of zeroes":            {traced(kindPing, make([]byte, traceSize)), "a trace that is empty"},
		"a trace of an answer":         {traced(kindPong, bytes.Repeat([]byte{1}, traceSize)), "of an answer"},
		"an endless number":            {sealed(kindCensus, append([]byte{0, 1, 'b'}, bytes.Repeat([]byte{0xff}, 11)...)), "a number"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, _, err := DecodeFrame(tt.b)
			if !errors.Is(err, ErrFrame) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v; want one with %q", err, tt.want)
			}
		})
	}
}

// A kind of a later version leaves the rest of the stream readable.
func TestUnknownKind(t *testing.T) {
	for _, k := range []kind{0x33, answerBit | 0x33} {
		b := append(sealed(k, []byte("anything")), sealed(kindPing, nil)...)
		f, rest, err := DecodeFrame(b)
		var unknown *UnknownKindError
		if !errors.As(err, &unknown) || unknown.Kind != uint8(k) || errors.Is(err, ErrFrame) {
			t.Fatalf("error %v", err)
		}
		if f.ID != 7 || f.To != 3 || f.Response != k.answer() {
			t.Errorf("frame %+v", f)
		}
		if f, _, err := DecodeFrame(rest); err != nil || f.Msg == nil {
			t.Errorf("the next frame: %+v, %v", f, err)
		}
	}
}

// Errors are found by errors.Is and errors.As on the other side as on this one.
func TestErrorsTravel(t *testing.T) {
	quorum := &kv.QuorumError{Op: "put", Need: "W", Want: 3, Got: 1, Timeout: true, InDoubt: true,
		Failures: []kv.Failure{{Partition: kv.Partition{Index: 1, Of: 64}, Node: "n2", Why: "down"}}}
	wrapped := fmt.Errorf("forward: %w", quorum)
	travel := func(err error) error {
		b, encodeErr := AppendFrame(nil, &Frame{Response: true, Msg: &coordinator.Forwarded{Err: err}})
		if encodeErr != nil {
			t.Fatal(encodeErr)
		}
		f, _, decodeErr := DecodeFrame(b)
		if decodeErr != nil {
			t.Fatal(decodeErr)
		}
		return f.Msg.(*coordinator.Forwarded).Err
	}
	for _, s := range sentinels {
		if got := travel(s); got != s {
			t.Errorf("%v came back as %v", s, got)
		}
	}
	var gotQuorum *kv.QuorumError
	if got := travel(wrapped); !errors.As(got, &gotQuorum) || got.Error() != wrapped.Error() {
		t.Errorf("%v came back as %v", wrapped, got)
	}
	if diff := cmp.Diff(quorum, gotQuorum); diff != "" {
		t.Errorf("quorum error (-sent +received):\n%s", diff)
	}
	for _, target := range []error{kv.ErrQuorum, kv.ErrTimeout, kv.ErrInDoubt} {
		if !errors.Is(gotQuorum, target) {
			t.Errorf("%v is not %v", gotQuorum, target)
		}
	}
	var invalid *kv.InvalidError
	if got := travel(&kv.InvalidError{What: "W", Problem: "is 4"}); !errors.As(got, &invalid) || invalid.What != "W" || invalid.Problem != "is 4" {
		t.Errorf("invalid error came back as %v", got)
	}
	if got := travel(errors.New("nobody knows")); !errors.Is(got, kv.ErrInternal) || got.Error() != "internal error: nobody knows" {
		t.Errorf("unknown error came back as %v", got)
	}
	if got := travel(errors.New(strings.Repeat("long ", maxText))); len(got.Error()) != maxText {
		t.Errorf("long text came back with %d bytes", len(got.Error()))
	}
}

// The bytes of each kind are what testdata/frames.txt says: a change of them
// is a change of the protocol.
func TestGoldenFrames(t *testing.T) {
	const file = "testdata/frames.txt"
	var b strings.Builder
	for _, f := range examples() {
		enc, err := AppendFrame(nil, &f)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s %s\n", strings.TrimPrefix(fmt.Sprintf("%T", f.Msg), "*"), hex.EncodeToString(enc))
	}
	if *rewrite {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("(-golden +now):\n%s", diff)
	}
}

// Golden frames of earlier builds are read as what they were.
func TestGoldenFramesDecode(t *testing.T) {
	r, err := os.Open("testdata/frames.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	want := examples()
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if len(want) == 0 {
			t.Fatal("more lines than examples")
		}
		_, h, _ := strings.Cut(lines.Text(), " ")
		b, err := hex.DecodeString(h)
		if err != nil {
			t.Fatal(err)
		}
		f, _, err := DecodeFrame(b)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want[0], f, same); diff != "" {
			t.Errorf("(-example +decoded):\n%s", diff)
		}
		want = want[1:]
	}
	if len(want) > 0 {
		t.Errorf("%d examples have no line", len(want))
	}
}

// examples has one frame of each kind.
// operation draws an operation of a data type, or none.
func operation(t *rapid.T) kv.Op {
	elems := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) []byte { return blob(t, "element") }), 1, 3)
	switch rapid.IntRange(0, 4).Draw(t, "operation") {
	case 1:
		return kv.CounterOp(rapid.Int64().Draw(t, "amount"))
	case 2:
		return kv.SetOp{Adds: elems.Draw(t, "adds"), Removes: elems.Draw(t, "removes")}
	case 3:
		return kv.HLLOp(elems.Draw(t, "adds"))
	case 4:
		f := kv.Field{Name: rapid.StringN(0, 9, 99).Draw(t, "field"), Kind: kv.Flag}
		return kv.MapOp{Removes: []kv.Field{f}, Updates: []kv.FieldOp{{Field: f, Op: kv.FlagOp(true)}}}
	}
	return nil
}

func examples() []Frame {
	k := kv.Key{Type: "t", Bucket: "mybucket", Name: "k1"}
	b := kv.Bucket{Name: "mybucket"}
	at := time.Unix(1_800_000_000, 5_000_000).UTC()
	v := kv.Value{Data: []byte("42"), ContentType: "text/plain", Expires: at, Modified: at, VTag: "v1"}
	messages := []vnode.Message{
		&vnode.Store{Home: 10, Key: k, Object: []byte("object")},
		&vnode.Fetch{Home: 10, Key: k},
		&vnode.List{Home: 10, Bucket: b, After: "k0", Limit: 1000, At: 1_700_000_000_000},
		&vnode.Census{Bucket: b, Limit: 10, At: 1_700_000_000_000},
		&vnode.Ping{},
		&coordinator.Forward{Key: k, Value: v, Options: kv.WriteOptions{Context: kv.Context("seen"), W: kv.All, DW: 1, SloppyQuorum: kv.Off, RequestID: kv.RequestID{1, 2}}},
		&vnode.Stored{Live: true},
		&vnode.Fetched{Object: []byte("object")},
		&vnode.Listed{Keys: []string{"k1", "k2"}, Last: "k2", More: true},
		&vnode.Pong{},
		&coordinator.Forwarded{
			Receipt: kv.Receipt{Context: kv.Context("new"), Values: []kv.Value{v}, Replies: []kv.Reply{
				{Partition: kv.Partition{Index: 10, Of: 64}, Node: "n1", Role: kv.Primary, Result: kv.OK, Elapsed: time.Millisecond}}},
			Err: &kv.QuorumError{Op: "put", Need: "W", Want: 3, Got: 1, InDoubt: true},
		},
		&vnode.Refusal{Code: vnode.CodeStale, Text: "epoch 300", Epoch: 301},
		&vnode.Failure{Code: vnode.CodeStorage, Text: "disk"},
		&vnode.Pull{Home: 10, After: []byte("after"), Limit: 1000, Bare: true},
		&vnode.Pulled{Items: []vnode.Item{{Key: k, Hash: 1 << 60, Object: []byte("object")}}, Bad: []vnode.BadItem{{Key: k, Text: "checksum"}, {Text: "no key"}}, Last: []byte("last"), More: true},
		&vnode.Deliver{Home: 10, Items: []vnode.Item{{Key: k, Hash: 1 << 60}, {Key: k, Hash: 2, Object: []byte("object")}}},
		&vnode.Delivered{Results: []vnode.ItemResult{vnode.ItemHeld, vnode.ItemWanted, vnode.ItemBad}},
		&vnode.Attest{Home: 10, Items: []vnode.Item{{Key: k, Hash: 1 << 60}}},
		&vnode.Reap{Home: 10, Items: []vnode.Item{{Key: k, Hash: 1 << 60}}},
		&vnode.Dropped{Gone: 3, Kept: 1},
		&vnode.Strays{Homes: []ring.Partition{10, 11}},
		&vnode.StraysFound{Epoch: 300, Life: 1 << 63, Homes: []vnode.Standing{{Count: 300}, {Stray: true}}},
		&Log{Data: []byte("raft")},
		&Logged{},
		&StateAsk{Have: 300},
		&StateGive{State: []byte("state")},
		&JobsAsk{},
		&JobsGive{Jobs: []byte("jobs")},
		&vnode.Deliver{Home: 10, Items: []vnode.Item{{Key: k, Hash: 2, Object: []byte("object")}}, Placed: true},
		&vnode.Sums{Home: 10, Branch: vnode.Root, Known: 1 << 60},
		&vnode.Sums{Home: 10, Branch: 63},
		&vnode.Summed{Sum: 3, Sums: []uint64{1, 2}},
		&vnode.Versions{Home: 10, Segments: []vnode.Segment{1, 4095}, After: []byte("after"), Limit: 1000},
		&vnode.Versioned{Items: []vnode.Item{{Key: k, Hash: 1 << 60}}, Last: []byte("last"), More: true},
		&vnode.Pick{Home: 10, Keys: []kv.Key{k}, Bare: true, Limit: 1000},
		&vnode.Picked{Items: []vnode.Item{{Key: k, Hash: 2, Object: []byte("object")}, {Key: k}}},
		&Order{Do: "verify", Body: []byte("{}")},
		&Ordered{Answer: []byte("state")},
		&Propose{ID: [16]byte{1, 2}, Command: []byte("command")},
		&Proposed{Code: "not_member", Text: "n9 is not a member"},
		&Knock{Name: "n4", ID: [16]byte{1, 2}, Cluster: [16]byte{3, 4}, Partitions: 64, Replicas: 3, Version: "v1", Address: "h4:7000"},
		&vnode.Query{Home: 10, Bucket: b, Field: "age_int", Start: "1", End: "7", Regex: ".", AfterTerm: "3", AfterKey: "k0", Limit: 1000, At: 1_700_000_000_000, Latest: true},
		&vnode.Matched{Matches: []kv.IndexMatch{{Term: "3", Key: "k1"}, {Term: "3", Key: "k2"}}, LastTerm: "4", LastKey: "k2", More: true},
		&vnode.Buckets{Home: 10, Type: "t", After: "mybucket", Inside: "k1", Limit: 1000, At: 1_700_000_000_000},
		&vnode.BucketsFound{Found: []vnode.FoundBucket{{Name: "mybucket", Latest: true}}, Last: "mybucket", Inside: "k1", More: true},
		&Welcome{Cluster: [16]byte{5, 6}, Partitions: 64, Replicas: 3, TargetN: 4, Name: "n1", Refusal: "because", State: []byte("state")},
		&coordinator.Forward{Key: k, Options: kv.WriteOptions{Context: kv.Context("seen")}, Op: kv.SetOp{Adds: [][]byte{[]byte("x")}, Removes: [][]byte{[]byte("y")}}},
		&Moment{Number: 1 << 60, Msg: &vnode.Sums{Home: 10, Branch: vnode.Root, Known: 7}},
	}
	var frames []Frame
	for i, m := range messages {
		f := Frame{ID: uint64(i + 1), Response: kindOf(m).answer(), Epoch: 300, To: 11, Msg: m}
		if !f.Response {
			f.Timeout = 1500 * time.Millisecond
		}
		frames = append(frames, f)
	}
	traced := frames[0]
	copy(traced.Trace.ID[:], "a trace's own id")
	copy(traced.Trace.Span[:], "the span")
	traced.Trace.Flags = 1
	return append(frames, traced)
}

// checkDecoded holds what is true of all that decodes: it encodes again, and
// decodes to the same.
func checkDecoded(t *testing.T, b []byte) {
	f, rest, err := DecodeFrame(b)
	if err != nil {
		return
	}
	if len(rest) >= len(b) {
		t.Fatalf("%d bytes became %d", len(b), len(rest))
	}
	again, err := AppendFrame(nil, &f)
	if err != nil {
		t.Fatalf("decoded, but does not encode: %v", err)
	}
	g, _, err := DecodeFrame(again)
	if err != nil {
		t.Fatalf("encoded, but does not decode: %v", err)
	}
	if diff := cmp.Diff(f, g, same); diff != "" {
		t.Fatalf("(-first +second):\n%s", diff)
	}
}

func FuzzDecodeFrame(f *testing.F) {
	for _, e := range examples() {
		b, err := AppendFrame(nil, &e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(checkDecoded)
}

// payloadAt is where the payload of a frame begins.
func payloadAt(f *Frame) int {
	e := encoder{}
	e.uvarint(f.Epoch)
	e.uvarint(uint64(f.Timeout.Milliseconds()))
	return fixedHead + len(e.b) + 2
}

// FuzzDecodePayload works below the checksum, which a fuzzer does not get past.
func FuzzDecodePayload(f *testing.F) {
	for _, e := range examples() {
		b, err := AppendFrame(nil, &e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(kindOf(e.Msg)), b[payloadAt(&e):len(b)-checksum])
	}
	f.Fuzz(func(t *testing.T, k uint8, payload []byte) { checkDecoded(t, sealed(kind(k), payload)) })
}

func BenchmarkStoreEncode(b *testing.B) {
	f := Frame{ID: 1, Epoch: 1, Timeout: time.Second, Msg: &vnode.Store{Key: kv.Key{Bucket: "mybucket", Name: "some-key"}, Object: make([]byte, 1100)}}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if buf, err = AppendFrame(buf[:0], &f); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkStoreDecode(b *testing.B) {
	f := Frame{ID: 1, Epoch: 1, Timeout: time.Second, Msg: &vnode.Store{Key: kv.Key{Bucket: "mybucket", Name: "some-key"}, Object: make([]byte, 1100)}}
	buf, err := AppendFrame(nil, &f)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := DecodeFrame(buf); err != nil {
			b.Fatal(err)
		}
	}
}
