package sim

import (
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"github.com/tanodb/tanodb/kv"
)

// trace is a hash over everything that happens in a run, and the story of one
// key for whoever looks for a bug. Two runs with one hash did the same.
type trace struct {
	hash  uint64
	watch string // the name of the key whose life is told; empty: none
	out   io.Writer
}

const mixer = 0x9e3779b97f4a7c15

// number adds a number to the hash.
func (t *trace) number(x uint64) {
	h := (t.hash ^ x) * mixer
	t.hash = h ^ h>>29
}

// bytes adds bytes to the hash.
func (t *trace) bytes(b []byte) {
	t.number(uint64(len(b)))
	for len(b) >= 8 {
		t.number(binary.LittleEndian.Uint64(b))
		b = b[8:]
	}
	var rest [8]byte
	copy(rest[:], b)
	t.number(binary.LittleEndian.Uint64(rest[:]))
}

// watches reports whether the key's life is to be told.
func (t *trace) watches(k kv.Key) bool { return t.watch != "" && t.watch == k.Name }

// tell writes a line of the watched key's life.
func (t *trace) tell(now time.Duration, who, format string, args ...any) {
	fmt.Fprintf(t.out, "%12v %-4s %s\n", now, who, fmt.Sprintf(format, args...))
}

// happening tells something that concerns every key, if any is watched.
func (t *trace) happening(now time.Duration, who, what string) {
	if t.watch != "" {
		t.tell(now, who, "%s", what)
	}
}
