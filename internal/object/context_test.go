package object

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"slices"
	"strings"
	"testing"

	"github.com/tanodb/tanodb/kv"
	"pgregory.net/rapid"
)

func TestContextRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := kv.Key{Type: rapid.String().Draw(t, "type"), Bucket: rapid.String().Draw(t, "bucket"), Name: rapid.String().Draw(t, "name")}
		v := genVector(t, "v")
		c := EncodeContext(k, v)
		if (len(c) == 0) != (len(v) == 0) {
			t.Fatalf("%v gives %d bytes", v, len(c))
		}
		got, err := DecodeContext(k, c)
		if err != nil || !got.Equal(v) {
			t.Fatalf("got %v and error %v, want %v", got, err, v)
		}
	})
}

// sealContext makes a context of any vector's bytes, with a good checksum.
func sealContext(k kv.Key, vector []byte) kv.Context {
	c := binary.BigEndian.AppendUint32([]byte{contextVersion}, hashKey(k))
	c = append(c, vector...)
	return binary.BigEndian.AppendUint32(c, crc32.Checksum(c, castagnoli))
}

func TestBadContextsSayWhatIsWrong(t *testing.T) {
	good := EncodeContext(testKey, vec(1, 2, 3))
	damaged := slices.Clone(good)
	damaged[9] ^= 1
	later := slices.Clone(good)
	later[0]++
	for _, c := range []struct {
		name    string
		context kv.Context
		want    string
	}{
		{"another key's", EncodeContext(kv.Key{Bucket: "mybucket", Name: "k2"}, vec(1)), "belongs to another key than mybucket/k1"},
		{"another bucket's", EncodeContext(kv.Key{Bucket: "mybucketk", Name: "1"}, vec(1)), "belongs to another key"},
		{"another type's", EncodeContext(kv.Key{Type: "m", Bucket: "ybucket", Name: "k1"}, vec(1)), "belongs to another key"},
		{"text", kv.Context("a85hYGBgzGDKBVIcypz/fgaUHjmdwZTImMfKcN3h1Um+LAA="), "not a context"},
		{"a later version's", later, "not a context, or one of a later version"},
		{"one byte", kv.Context{contextVersion}, "cut short"},
		{"without its end", good[:len(good)-1], "checksum does not match"},
		{"with more behind it", append(slices.Clone(good), 0), "checksum does not match"},
		{"damaged", damaged, "checksum does not match"},
		{"too long", make(kv.Context, kv.MaxContext+1), "65537 bytes long; the limit is 65536"},
		{"of nothing, in bytes", sealContext(testKey, join(0)), "cut short"},
		{"out of order", sealContext(testKey, join(2, actor(2), 1, actor(1), 1)), "actors are out of order"},
		{"with bytes left over", sealContext(testKey, join(1, actor(2), 1, 0)), "bytes are left over"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := DecodeContext(testKey, c.context)
			if !errors.Is(err, kv.ErrContext) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got error %v, want %q", err, c.want)
			}
		})
	}
}

func TestContextAtTheLimit(t *testing.T) {
	var v Vector
	for n := range 4000 {
		var a Actor
		binary.BigEndian.PutUint32(a[:], uint32(n))
		v = append(v, Dot{a, 1 << 40})
	}
	c := EncodeContext(testKey, v)
	if len(c) > kv.MaxContext {
		t.Fatalf("4,000 actors take %d bytes", len(c))
	}
	if got, err := DecodeContext(testKey, c); err != nil || !got.Equal(v) {
		t.Errorf("error %v", err)
	}
}
