package coordinator

import (
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"strings"

	"github.com/tanodb/tanodb/kv"
)

// A token says where a listing goes on. It is unpadded URL-safe base64 of
//
//	┌─────────┬───────┬──────────────────┬───────┐
//	│ version │ home  │ CRC-32C of       │ after │
//	│ u8 = 1  │ u32   │ bucket and rest  │       │
//	└─────────┴───────┴──────────────────┴───────┘
//
// so that a token of another bucket, or one that was cut, is noticed.
const (
	tokenVersion = 1
	tokenHead    = 1 + 4 + 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func formatToken(b kv.Bucket, home int, after string) string {
	buf := make([]byte, tokenHead, tokenHead+len(after))
	buf[0] = tokenVersion
	binary.BigEndian.PutUint32(buf[1:], uint32(home))
	buf = append(buf, after...)
	binary.BigEndian.PutUint32(buf[5:], tokenSum(b, buf))
	return base64.RawURLEncoding.EncodeToString(buf)
}

func parseToken(b kv.Bucket, token string, partitions int) (home int, after string, err error) {
	if token == "" {
		return 0, "", nil
	}
	bad := &kv.InvalidError{What: "token", Problem: "is not one that a listing of this bucket has returned"}
	buf, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(buf) < tokenHead || len(buf) > tokenHead+kv.MaxKey || buf[0] != tokenVersion {
		return 0, "", bad
	}
	if binary.BigEndian.Uint32(buf[5:]) != tokenSum(b, buf) {
		return 0, "", bad
	}
	home = int(binary.BigEndian.Uint32(buf[1:]))
	if home >= partitions {
		return 0, "", bad
	}
	return home, string(buf[tokenHead:]), nil
}

func tokenSum(b kv.Bucket, buf []byte) uint32 {
	sum := crc32.Checksum([]byte(b.Type), castagnoli)
	sum = crc32.Update(sum, castagnoli, []byte{0})
	sum = crc32.Update(sum, castagnoli, []byte(b.Name))
	sum = crc32.Update(sum, castagnoli, buf[:5])
	return crc32.Update(sum, castagnoli, buf[tokenHead:])
}

// A token of a gather says where its next page begins. It is unpadded URL-safe base64 of
//
//	┌─────────┬───────┬───────────────────┬────────┬──────┬─────┐
//	│ version │ home  │ CRC-32C of the    │ length │ term │ key │
//	│ u8 = 2  │ u32   │ request and rest  │ u32    │      │     │
//	└─────────┴───────┴───────────────────┴────────┴──────┴─────┘
//
// home is the first of the window, term and key are the last match of the page, if it is
// of that window.
const (
	gatherVersion = 2
	gatherHead    = 1 + 4 + 4 + 4
)

// sealToken makes the token of a cursor. Parts are of the request: one of another is
// noticed.
func sealToken(c cursor, parts ...string) string {
	buf := make([]byte, gatherHead, gatherHead+len(c.last.Term)+len(c.last.Key))
	buf[0] = gatherVersion
	binary.BigEndian.PutUint32(buf[1:], uint32(c.home))
	binary.BigEndian.PutUint32(buf[9:], uint32(len(c.last.Term)))
	buf = append(append(buf, c.last.Term...), c.last.Key...)
	binary.BigEndian.PutUint32(buf[5:], gatherSum(parts, buf))
	return base64.RawURLEncoding.EncodeToString(buf)
}

// openToken reads a token; the windows are of width homes.
func openToken(token string, width, partitions int, parts ...string) (cursor, error) {
	if token == "" {
		return cursor{}, nil
	}
	bad := &kv.InvalidError{What: "token", Problem: "is not one that this query has returned"}
	buf, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(buf) < gatherHead || len(buf) > gatherHead+2*kv.MaxKey || buf[0] != gatherVersion {
		return cursor{}, bad
	}
	if binary.BigEndian.Uint32(buf[5:]) != gatherSum(parts, buf) {
		return cursor{}, bad
	}
	home, size := binary.BigEndian.Uint32(buf[1:]), binary.BigEndian.Uint32(buf[9:])
	rest := string(buf[gatherHead:])
	if home >= uint32(partitions) || home%uint32(width) != 0 || size > uint32(len(rest)) {
		return cursor{}, bad
	}
	return cursor{home: int(home), last: kv.IndexMatch{Term: rest[:size], Key: rest[size:]}}, nil
}

func gatherSum(parts []string, buf []byte) uint32 {
	var lengths []byte
	for _, p := range parts {
		lengths = binary.AppendUvarint(lengths, uint64(len(p)))
	}
	sum := crc32.Checksum(lengths, castagnoli)
	sum = crc32.Update(sum, castagnoli, []byte(strings.Join(parts, "")))
	sum = crc32.Update(sum, castagnoli, buf[:5])
	return crc32.Update(sum, castagnoli, buf[9:])
}
