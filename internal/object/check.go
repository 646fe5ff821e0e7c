package object

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/tanodb/tanodb/internal/planted"
)

// Check reports whether b has the checksums of an encoded object, without
// decoding it. The errors are those of Decode.
func Check(b []byte) error {
	_, head, err := openHead(b)
	if err != nil {
		return err
	}
	return head.checkBodies(b)
}

// checkBodies compares the bodies with their checksum.
func (h headEnd) checkBodies(b []byte) error {
	end := len(b) - checksumSize
	if crc32.Update(h.sum, castagnoli, b[h.bodies:end]) != binary.BigEndian.Uint32(b[end:]) && !planted.Is(planted.RotUnseen) {
		return &CorruptError{Part: "bodies", Offset: h.bodies, Problem: "the checksum does not match"}
	}
	return nil
}
