package backup

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"slices"

	"github.com/tanodb/tanodb/internal/vnode"
)

// A chunk is its first bytes, and records with their lengths, in the order of positions:
//
//	"TNDBCHK" | version u8 | { length uvarint | record } …

const (
	chunkMagic   = "TNDBCHK"
	chunkVersion = 1

	// target is how many bytes a chunk has, to which its last record may add its own, and
	// how many the objects of a range have, to which those of a branch may.
	target = 4 << 20

	// MaxChunk is the size of the largest chunk.
	MaxChunk = target + maxRecord + 64
)

// NameOf is the name of a chunk.
func NameOf(chunk []byte) string {
	sum := sha256.Sum256(chunk)
	return hex.EncodeToString(sum[:])
}

// appendChunk appends a record to a chunk; one that is empty is begun.
func appendChunk(b []byte, r Record) []byte {
	if len(b) == 0 {
		b = append(append(b, chunkMagic...), chunkVersion)
	}
	payload := appendRecord(nil, r)
	b = binary.AppendUvarint(b, uint64(len(payload)))
	return append(b, payload...)
}

// DecodeChunk reads the records of a chunk that should be c, which is checked: its hash,
// its order and each object. Errors wrap ErrCorrupt or ErrVersion, or are those of each.
func DecodeChunk(b []byte, c Chunk, each func(Record) error) error {
	if len(b) != c.Bytes {
		return corrupt("it has %d bytes; it should have %d", len(b), c.Bytes)
	}
	if name := NameOf(b); name != c.SHA256 {
		return corrupt("its bytes have the hash %s", name)
	}
	return decodeChunk(b, c.Objects, each)
}

func decodeChunk(b []byte, objects int, each func(Record) error) error {
	rest, ok := bytes.CutPrefix(b, []byte(chunkMagic))
	if !ok || len(rest) == 0 {
		return corrupt("it does not begin as a chunk does")
	}
	if rest[0] != chunkVersion {
		return corruptVersion("chunk", int(rest[0]), chunkVersion)
	}
	var last []byte
	n := 0
	for rest = rest[1:]; len(rest) > 0; n++ {
		length, size := binary.Uvarint(rest)
		if size <= 0 || length > uint64(len(rest)-size) {
			return corrupt("record %d is not whole", n)
		}
		end := size + int(length)
		r, err := decodeRecord(rest[size:end:end])
		if err != nil {
			return err
		}
		at := vnode.Position(r.Key)
		if bytes.Compare(last, at) >= 0 {
			return corrupt("%s is not in its place", r.Key)
		}
		last, rest = at, rest[end:]
		if err := each(r); err != nil {
			return err
		}
	}
	if n != objects {
		return corrupt("it has %d objects; it should have %d", n, objects)
	}
	return nil
}

// Builder makes the ranges and chunks of one home, from its records in order.
type Builder struct {
	emit   func(name string, chunk []byte) error
	target int
	steps  []step // that are to come, in order
	ranges []Range

	reading bool  // a run of branches is being read
	run     Range // its part in hand; From and Sum are what they are so far
	end     int   // where the run ends
	size    int   // bytes in the part so far
	chunk   []byte
	count   int // records in it
	branch  int // of the last record
}

// step is a range that is taken over, or a run of branches that is read.
type step struct {
	Range
	keep bool
}

// NewBuilder makes the ranges of what was asked for, of which these are the same. It gives
// each chunk to emit when it is full; the bytes are its own then.
func NewBuilder(a Ask, same []int, emit func(name string, chunk []byte) error) (*Builder, error) {
	b := &Builder{emit: emit, target: target}
	for _, i := range same {
		if i < 0 || i >= len(a.Known) {
			return nil, corrupt("range %d of %d is said to be the same", i, len(a.Known))
		}
		b.steps = append(b.steps, step{a.Known[i], true})
	}
	for _, r := range a.Wanted(same) {
		b.steps = append(b.steps, step{r, false})
	}
	slices.SortFunc(b.steps, func(x, y step) int { return cmp.Compare(x.From, y.From) })
	return b, nil
}

// next goes to the next step.
func (b *Builder) next() error {
	if b.reading {
		b.reading = false
		if err := b.cut(b.end); err != nil {
			return err
		}
	}
	s := b.steps[0]
	b.steps = b.steps[1:]
	if s.keep {
		b.ranges = append(b.ranges, s.Range)
		return nil
	}
	b.reading, b.end, b.branch = true, s.To, s.From
	b.run = Range{From: s.From, Chunks: []Chunk{}}
	return nil
}

// Add adds a record. One that is not of a run that is read is an error.
func (b *Builder) Add(r Record) error {
	branch, term := r.Term()
	for (!b.reading || branch >= b.end) && len(b.steps) > 0 {
		if err := b.next(); err != nil {
			return err
		}
	}
	if !b.reading || branch < b.branch || branch >= b.end {
		return corrupt("%s is of branch %d, which is not the next", r.Key, branch)
	}
	if branch != b.branch && b.size >= b.target {
		if err := b.cut(branch); err != nil {
			return err
		}
	}
	b.branch = branch
	before := len(b.chunk)
	b.chunk = appendChunk(b.chunk, r)
	b.size += len(b.chunk) - before
	b.count++
	b.run.Sum ^= Sum(term)
	if len(b.chunk) >= b.target {
		return b.flush()
	}
	return nil
}

// cut ends the range in hand where a branch begins.
func (b *Builder) cut(branch int) error {
	if err := b.flush(); err != nil {
		return err
	}
	b.run.To = branch
	b.ranges = append(b.ranges, b.run)
	b.run, b.size = Range{From: branch, Chunks: []Chunk{}}, 0
	return nil
}

func (b *Builder) flush() error {
	if b.count == 0 {
		return nil
	}
	c := Chunk{SHA256: NameOf(b.chunk), Objects: b.count, Bytes: len(b.chunk)}
	b.run.Chunks = append(b.run.Chunks, c)
	chunk := b.chunk
	b.chunk, b.count = nil, 0
	return b.emit(c.SHA256, chunk)
}

// Ranges are those of the home, once all has come.
func (b *Builder) Ranges() ([]Range, error) {
	for len(b.steps) > 0 {
		if err := b.next(); err != nil {
			return nil, err
		}
	}
	if b.reading {
		b.reading = false
		if err := b.cut(b.end); err != nil {
			return nil, err
		}
	}
	return b.ranges, covers(b.ranges)
}
