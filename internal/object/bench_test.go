package object

import (
	"testing"

	"github.com/tanodb/tanodb/kv"
)

// benchObject is what most keys are: one value of 1 KB, and a clock of the
// three vnodes that have coordinated its writes.
func benchObject(counters ...uint64) Object {
	clock := vec(counters...)
	body := AppendBody(nil, &kv.Value{Data: make([]byte, 1024), ContentType: "application/json"})
	return Object{Clock: clock, Siblings: []Sibling{{
		Dot: clock[0], Stamp: 1 << 56, Request: kv.RequestID{1}, Size: len(body), Body: body,
	}}}
}

func BenchmarkCompare(b *testing.B) {
	stored, sent := head(benchObject(1_000_000, 2_000_000, 3_000_000)), head(benchObject(1_000_001, 2_000_000, 3_000_000))
	b.ReportAllocs()
	for b.Loop() {
		if Compare(sent, stored) != Newer {
			b.Fatal("not newer")
		}
	}
}

func BenchmarkWrite(b *testing.B) {
	o := benchObject(1_000_000, 2_000_000, 3_000_000)
	s := o.Siblings[0]
	s.Dot.Counter++
	b.ReportAllocs()
	for b.Loop() {
		Write(o, o.Clock, s)
	}
}

func BenchmarkMergeNewer(b *testing.B) {
	stored, sent := benchObject(1_000_000, 2_000_000, 3_000_000), benchObject(1_000_001, 2_000_000, 3_000_000)
	b.ReportAllocs()
	for b.Loop() {
		Merge(stored, sent)
	}
}

func BenchmarkMergeConcurrent(b *testing.B) {
	one, other := benchObject(2, 1, 1), benchObject(1, 2, 1)
	b.ReportAllocs()
	for b.Loop() {
		Merge(one, other)
	}
}

func BenchmarkEncode(b *testing.B) {
	o := benchObject(1_000_000, 2_000_000, 3_000_000)
	b.ReportAllocs()
	for b.Loop() {
		o.Encode()
	}
}

func BenchmarkDecode(b *testing.B) {
	bytes := benchObject(1_000_000, 2_000_000, 3_000_000).Encode()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode(bytes); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeHead(b *testing.B) {
	bytes := benchObject(1_000_000, 2_000_000, 3_000_000).Encode()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeHead(bytes); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkValues(b *testing.B) {
	o := benchObject(1_000_000, 2_000_000, 3_000_000)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := o.Values(testKey, 0, false, false); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkContext(b *testing.B) {
	v := vec(1_000_000, 2_000_000, 3_000_000)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeContext(testKey, EncodeContext(testKey, v)); err != nil {
			b.Fatal(err)
		}
	}
}
