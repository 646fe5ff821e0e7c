package archive

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/tanodb/tanodb/internal/backup"
)

// A packed chunk:
//
//	"TNDBPAK" | version u8 | codec u8 | size u32 of what is packed | bytes
//
// Codec 0 is the bytes as they are, for what cannot be made smaller; 1 is Zstandard.
const (
	packMagic   = "TNDBPAK"
	packVersion = 1
	packHead    = len(packMagic) + 1 + 1 + 4

	codecPlain = 0
	codecZstd  = 1
)

// coders compress whole chunks, without goroutines of their own.
var coders = sync.OnceValues(func() (*zstd.Encoder, *zstd.Decoder) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		panic(err) // the options are wrong
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(backup.MaxChunk))
	if err != nil {
		panic(err) // the same
	}
	return enc, dec
})

func pack(chunk []byte) []byte {
	head := append([]byte(packMagic), packVersion, codecZstd)
	head = binary.BigEndian.AppendUint32(head, uint32(len(chunk)))
	enc, _ := coders()
	out := enc.EncodeAll(chunk, bytes.Clone(head))
	if len(out)-packHead < len(chunk) {
		return out
	}
	head[len(packMagic)+1] = codecPlain
	return append(head, chunk...)
}

// unpack reads what pack has made of a chunk of so many bytes.
func unpack(b []byte, size int) ([]byte, error) {
	if len(b) < packHead || !bytes.HasPrefix(b, []byte(packMagic)) {
		return nil, fmt.Errorf("%w: it does not begin as a packed chunk does", backup.ErrCorrupt)
	}
	version, codec := b[len(packMagic)], b[len(packMagic)+1]
	if version != packVersion {
		return nil, fmt.Errorf("%w: version %d, and this program reads version %d", backup.ErrVersion, version, packVersion)
	}
	if n := binary.BigEndian.Uint32(b[len(packMagic)+2:]); int(n) != size {
		return nil, fmt.Errorf("%w: it says that it holds %d bytes; it should hold %d", backup.ErrCorrupt, n, size)
	}
	b = b[packHead:]
	switch codec {
	case codecPlain:
		return b, nil
	case codecZstd:
		_, dec := coders()
		out, err := dec.DecodeAll(b, make([]byte, 0, min(size, backup.MaxChunk)))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", backup.ErrCorrupt, err)
		}
		return out, nil
	}
	return nil, fmt.Errorf("%w: codec %d", backup.ErrVersion, codec)
}
