package coordinator

import (
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"

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
