package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/tanodb/tanodb/kv"
)

// through takes a value to JSON and back.
func through[T any](t interface{ Fatal(...any) }, v T) T {
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var back T
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	return back
}

// The generators draw any bytes where kv has free bytes.
var (
	bytesOf  = rapid.SliceOfN(rapid.Byte(), 0, 20)
	freeText = rapid.Map(bytesOf, func(b []byte) string { return string(b) })
	pairsOf  = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) kv.Pair {
		return kv.Pair{Name: freeText.Draw(t, "name"), Value: freeText.Draw(t, "value")}
	}), 0, 3)
	instant = rapid.Map(rapid.Int64Range(0, 4e9), func(s int64) time.Time { return time.Unix(s, 5e8).UTC() })
	valueOf = rapid.Custom(func(t *rapid.T) kv.Value {
		v := kv.Value{
			Data:            bytesOf.Draw(t, "data"),
			ContentType:     freeText.Draw(t, "content type"),
			Charset:         freeText.Draw(t, "charset"),
			ContentEncoding: freeText.Draw(t, "content encoding"),
			Meta:            pairsOf.Draw(t, "meta"),
			Indexes:         pairsOf.Draw(t, "indexes"),
			Modified:        instant.Draw(t, "modified"),
			VTag:            rapid.StringMatching("[a-z]*").Draw(t, "vtag"),
			Deleted:         rapid.Bool().Draw(t, "deleted"),
		}
		if rapid.Bool().Draw(t, "has expiry") {
			v.Expires = instant.Draw(t, "expires")
		}
		return v
	})
)

func replyOf(partitions int) *rapid.Generator[kv.Reply] {
	return rapid.Custom(func(t *rapid.T) kv.Reply {
		return kv.Reply{
			Partition: kv.Partition{Index: rapid.IntRange(0, partitions-1).Draw(t, "partition"), Of: partitions},
			Node:      rapid.StringMatching("[a-z]+").Draw(t, "node"),
			Role:      rapid.SampledFrom([]kv.Role{kv.Primary, kv.Fallback, kv.Incoming}).Draw(t, "role"),
			Result:    rapid.SampledFrom([]kv.Result{kv.OK, kv.Found, kv.NotFound, kv.Down, kv.Refused, kv.Failed, kv.Pending}).Draw(t, "result"),
			Elapsed:   time.Duration(rapid.IntRange(0, 1e6).Draw(t, "elapsed")) * time.Microsecond,
			Error:     rapid.String().Draw(t, "error"),
			Repaired:  rapid.Bool().Draw(t, "repaired"),
		}
	})
}

// sizeOf draws the size of a ring.
func sizeOf(t *rapid.T) int { return 8 << rapid.IntRange(0, 13).Draw(t, "partitions") }

// same compares what came back; nil and empty are the same to a reader.
func same(t *rapid.T, got, want any, err error) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); err != nil || diff != "" {
		t.Fatalf("error %v, %s", err, diff)
	}
}

func TestObjectsComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := kv.Object{
			Values:  rapid.SliceOfN(valueOf, 0, 3).Draw(t, "values"),
			Context: bytesOf.Draw(t, "context"),
			Replies: rapid.SliceOfN(replyOf(sizeOf(t)), 0, 4).Draw(t, "replies"),
		}
		got, err := through(t, NewObject(want)).KV()
		same(t, got, want, err)
	})
}

func TestReceiptsComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := kv.Receipt{
			Values:  rapid.SliceOfN(valueOf, 0, 3).Draw(t, "values"),
			Context: bytesOf.Draw(t, "context"),
			Replies: rapid.SliceOfN(replyOf(sizeOf(t)), 0, 4).Draw(t, "replies"),
		}
		got, err := through(t, NewReceipt(want)).KV()
		same(t, got, want, err)
	})
}

func TestListingsComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		keys := rapid.SliceOfN(freeText, 0, 4)
		page := kv.KeyPage{Keys: keys.Draw(t, "keys"), Next: rapid.StringMatching("[a-z]*").Draw(t, "next")}
		same(t, through(t, NewKeys(page)).KV(), page, nil)

		var want []kv.ReplicaKeys
		size := 8 << rapid.IntRange(0, 6).Draw(t, "partitions") // an answer for each
		for i := range size {
			r := kv.ReplicaKeys{Partition: kv.Partition{Index: i, Of: size}, Node: "n"}
			if i < 3 {
				r.Keys, r.More, r.Error = keys.Draw(t, "keys"), rapid.Bool().Draw(t, "more"), rapid.String().Draw(t, "error")
			}
			want = append(want, r)
		}
		got, err := KVReplicaKeys(through(t, NewReplicaKeys(want)))
		same(t, got, want, err)
	})
}

func TestPreferenceListsComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfN(replyOf(sizeOf(t)), 0, 4).Draw(t, "replies")
		got, err := through(t, NewExplanation(want)).KV()
		same(t, got, want, err)
	})
}

func TestQuorumErrorsComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := sizeOf(t)
		want := &kv.QuorumError{
			Op: "put", Need: "W", Want: rapid.IntRange(1, 5).Draw(t, "want"), Got: rapid.IntRange(0, 4).Draw(t, "got"),
			Timeout: rapid.Bool().Draw(t, "timeout"), InDoubt: rapid.Bool().Draw(t, "in doubt"),
		}
		for range rapid.IntRange(0, 3).Draw(t, "failures") {
			p := kv.Partition{Index: rapid.IntRange(0, size-1).Draw(t, "partition"), Of: size}
			want.Failures = append(want.Failures, kv.Failure{Partition: p, Node: "n", Why: rapid.String().Draw(t, "why")})
		}
		err := through(t, NewError(want, nil, nil)).Err()
		same(t, err, want, nil)
		if err.Error() != want.Error() {
			t.Fatalf("%q became %q", want, err)
		}
	})
}

func TestErrorsComeBack(t *testing.T) {
	sentinels := []error{
		kv.ErrNotFound, kv.ErrTimeout, kv.ErrOverload, kv.ErrQuorum, kv.ErrInDoubt, kv.ErrInvalid, kv.ErrContext,
		kv.ErrTooManySiblings, kv.ErrTooLarge, kv.ErrClosed, kv.ErrInternal, context.Canceled,
	}
	for _, want := range []error{
		kv.ErrNotFound, kv.ErrTimeout, kv.ErrInDoubt, kv.ErrContext, kv.ErrTooManySiblings, kv.ErrTooLarge, kv.ErrClosed, kv.ErrInternal,
		fmt.Errorf("%w: the door", kv.ErrOverload),
		&kv.InvalidError{What: "key", Problem: "cannot be zero-length"},
		errors.Join(kv.ErrTimeout, kv.ErrInDoubt),
		context.Canceled,
		&kv.QuorumError{Op: "get", Need: "R", Want: 2, Timeout: true},
		&kv.QuorumError{Op: "put", Need: "W", Want: 2, InDoubt: true},
	} {
		got := through(t, NewError(want, nil, nil)).Err()
		if got.Error() != want.Error() {
			t.Errorf("%q became %q", want, got)
		}
		for _, s := range sentinels {
			if errors.Is(got, s) != errors.Is(want, s) {
				t.Errorf("%q is %q: %v; it came back and is: %v", want, s, errors.Is(want, s), errors.Is(got, s))
			}
		}
	}
	deadline := through(t, NewError(context.DeadlineExceeded, nil, nil)).Err()
	if !errors.Is(deadline, kv.ErrTimeout) {
		t.Errorf("a deadline became %v", deadline)
	}
	unknown := Error{Text: "something new", Code: "of_a_later_version", InDoubt: true}.Err()
	if !errors.Is(unknown, kv.ErrInDoubt) || unknown.Error() != "something new" {
		t.Errorf("an unknown error became %v", unknown)
	}
}

func TestPartitionsThatAreNone(t *testing.T) {
	for _, c := range []struct {
		position   string
		partitions int
	}{
		{"", 64}, {"x", 64}, {"-1", 64}, {"1", 64}, {"0", 0}, {"0", -1}, {"0x10", 64},
		{"1461501637330902918203684832716283019655932542976", 64}, // the end of the ring
		{"22835963083295358096932575511191922182123945984", 32},   // of a ring of 64
	} {
		if p, err := ParsePartition(c.position, c.partitions); err == nil {
			t.Errorf("%q of %d is %+v, want an error", c.position, c.partitions, p)
		}
	}
	bad := []Reply{{Partition: "1"}}
	if _, err := (Object{Replies: bad, Partitions: 64}).KV(); err == nil {
		t.Error("an object with a partition that is none came back")
	}
	if err := (Error{Code: CodeQuorum, Failures: []Failure{{Partition: "1"}}, Partitions: 64}).Err(); errors.Is(err, kv.ErrQuorum) {
		t.Errorf("a failure with a partition that is none became %v", err)
	}
}

func TestTextInJSON(t *testing.T) {
	for text, want := range map[Text]string{
		"k1":           `"k1"`,
		"":             `""`,
		"ключ\x00\"":   `"ключ\u0000\""`,
		"\ufffd😀":      "\"\ufffd😀\"",
		"\xff":         `{"base64":"/w=="}`,
		"\xed\xa0\x80": `{"base64":"7aCA"}`,
	} {
		b, err := json.Marshal(text)
		if err != nil || string(b) != want {
			t.Errorf("%q is %s, error %v, want %s", text, b, err, want)
		}
		var back Text
		if err := json.Unmarshal(b, &back); err != nil || back != text {
			t.Errorf("%s became %q, error %v", b, back, err)
		}
	}
	for _, bad := range []string{`1`, `null`, `{}`, `{"base64":"%"}`, `{"base64":7}`, `[]`, "\"a\xff\"", `"\ud800"`, `"\ufffd\udc00"`} {
		var text Text
		if err := json.Unmarshal([]byte(bad), &text); err == nil {
			t.Errorf("%s became %q, want an error", bad, text)
		}
	}
}

// No bytes make the conversions panic.
func FuzzAnswers(f *testing.F) {
	f.Add([]byte(`{"values":[{"data":"NDI="}],"context":"AA==","partitions":64,"replies":[{"partition":"0"}]}`))
	f.Add([]byte(`{"error":"x","code":"quorum","got":1,"failures":[{"partition":"0"}],"partitions":-1}`))
	f.Add([]byte(`{"keys":["a",{"base64":"/w=="}],"next":"x"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var o Object
		if json.Unmarshal(b, &o) == nil {
			_, _ = o.KV()
		}
		var e Error
		if json.Unmarshal(b, &e) == nil && e.Err() == nil {
			t.Fatal("an error became nil")
		}
		var k Keys
		if json.Unmarshal(b, &k) == nil {
			k.KV()
		}
		var r []ReplicaKeys
		if json.Unmarshal(b, &r) == nil {
			_, _ = KVReplicaKeys(r)
		}
	})
}
