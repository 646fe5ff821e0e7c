package backup

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/kv"
)

// A stream carries objects between a node and a client: a Head, records, and an End
// without which it is not whole.
//
//	{ kind u8 | length u32 | payload } …

// Kind is what a part of a stream is.
type Kind byte

// The kinds. Their numbers are fixed.
const (
	KindHead   Kind = 'H' // JSON of a Head
	KindRecord Kind = 'R'
	KindEnd    Kind = 'E' // JSON of an End
)

const (
	partHead = 1 + 4

	// maxRecord is the size of the largest record: the largest object, the largest names,
	// and their lengths.
	maxRecord = kv.MaxObject + kv.MaxKey + kv.MaxBucket + kv.MaxType + 16

	// firstRead is how much memory a part gets on the word of its length.
	firstRead = 1 << 20
)

// Writer writes a stream.
type Writer struct {
	w   io.Writer
	buf []byte
}

// NewWriter writes a stream to w.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// Head writes the beginning.
func (w *Writer) Head(h Head) error { return w.json(KindHead, h) }

// End writes the end.
func (w *Writer) End(e End) error { return w.json(KindEnd, e) }

// Record writes an object.
func (w *Writer) Record(r Record) error {
	return w.part(KindRecord, func(b []byte) []byte { return appendRecord(b, r) })
}

func (w *Writer) json(k Kind, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return w.part(k, func(dst []byte) []byte { return append(dst, b...) })
}

func (w *Writer) part(k Kind, fill func([]byte) []byte) error {
	w.buf = fill(append(w.buf[:0], byte(k), 0, 0, 0, 0))
	binary.BigEndian.PutUint32(w.buf[1:], uint32(len(w.buf)-partHead))
	_, err := w.w.Write(w.buf)
	return err
}

// Reader reads a stream.
type Reader struct{ r *bufio.Reader }

// NewReader reads a stream from r.
func NewReader(r io.Reader) *Reader { return &Reader{bufio.NewReader(r)} }

// Next is the next part: a Head, a Record or an End. A stream that ends without an End
// is an error that wraps ErrCorrupt.
func (r *Reader) Next() (any, error) {
	var head [partHead]byte
	if _, err := io.ReadFull(r.r, head[:]); err != nil {
		return nil, cutOff(err)
	}
	size := int(binary.BigEndian.Uint32(head[1:]))
	if size > maxRecord {
		return nil, corrupt("a part of %d bytes; the limit is %d", size, maxRecord)
	}
	b, err := readPart(r.r, size)
	if err != nil {
		return nil, err
	}
	switch k := Kind(head[0]); k {
	case KindHead:
		var h Head
		err := decodeJSON(b, &h)
		return h, err
	case KindEnd:
		var e End
		err := decodeJSON(b, &e)
		return e, err
	case KindRecord:
		return decodeRecord(b)
	default:
		return nil, fmt.Errorf("%w: a part of kind %q", ErrVersion, byte(k))
	}
}

// readPart reads so many bytes. Memory grows with what comes.
func readPart(r io.Reader, size int) ([]byte, error) {
	b := make([]byte, 0, min(size, firstRead))
	for len(b) < size {
		n := min(size-len(b), max(firstRead, len(b)))
		b = append(b, make([]byte, n)...)
		if _, err := io.ReadFull(r, b[len(b)-n:]); err != nil {
			return nil, cutOff(err)
		}
	}
	return b, nil
}

func cutOff(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return corrupt("it breaks off before its end")
	}
	return err
}

// decodeJSON reads one document.
func decodeJSON(b []byte, v any) error {
	if err := json.Unmarshal(b, v); err != nil {
		return corrupt("%v", err)
	}
	return nil
}

// appendRecord appends a record:
//
//	length uvarint | type | length uvarint | bucket | length uvarint | key | object
func appendRecord(dst []byte, r Record) []byte {
	for _, s := range []string{r.Key.Type, r.Key.Bucket, r.Key.Name} {
		dst = binary.AppendUvarint(dst, uint64(len(s)))
		dst = append(dst, s...)
	}
	return append(dst, r.Object...)
}

// decodeRecord reads one, and checks all of it. The object aliases b.
func decodeRecord(b []byte) (Record, error) {
	var names [3]string
	for i := range names {
		n, size := binary.Uvarint(b)
		if size <= 0 || n > uint64(len(b)-size) {
			return Record{}, corrupt("a record has no whole key")
		}
		names[i] = strings.Clone(string(b[size : size+int(n)]))
		b = b[size+int(n):]
	}
	r := Record{Key: kv.Key{Type: names[0], Bucket: names[1], Name: names[2]}, Object: b}
	if err := r.Key.Validate(); err != nil {
		return Record{}, corrupt("a record's key: %v", err)
	}
	if _, err := object.Decode(b); err != nil {
		return Record{}, corrupt("the object of %s: %v", r.Key, err)
	}
	return r, nil
}
