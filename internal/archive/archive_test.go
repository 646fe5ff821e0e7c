package archive

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/tanodb/tanodb/internal/backup"
	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/kv"
)

// s3Server is a store in memory that speaks S3, with a bucket of this name.
func s3Server(t *testing.T, bucket string) {
	t.Helper()
	backend := s3mem.New()
	if err := backend.CreateBucket(bucket); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(gofakes3.New(backend).Server())
	t.Cleanup(server.Close)
	t.Setenv("AWS_ENDPOINT_URL", server.URL)
	t.Setenv("AWS_ENDPOINT_URL_S3", "")
	t.Setenv("AWS_REGION", "us-east-1")
	t.Setenv("AWS_ACCESS_KEY_ID", "id")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "key")
}

// places are an empty one of each kind.
func places(t *testing.T) map[string]string {
	s3Server(t, "backups")
	return map[string]string{
		"directory":     filepath.Join(t.TempDir(), "a", "b"),
		"s3":            "s3://backups",
		"s3, in prefix": "s3://backups/some/where/",
	}
}

func open(t *testing.T, place string) *Archive {
	t.Helper()
	a, err := Open(place)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestStoresKeepFiles(t *testing.T) {
	for kind, place := range places(t) {
		t.Run(kind, func(t *testing.T) {
			ctx := t.Context()
			s := open(t, place).store
			if _, err := s.Get(ctx, "x/y", 10); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("a file that is not there: %v", err)
			}
			if has, err := s.Has(ctx, "x/y"); has || err != nil {
				t.Errorf("it is there: %v, %v", has, err)
			}
			if names, err := s.List(ctx, "x"); len(names) > 0 || err != nil {
				t.Errorf("in a folder that is not there: %v, %v", names, err)
			}
			for name, data := range map[string]string{"x/y": "1", "x/z": "4", "x/w/deep": "2", "y": "3"} {
				if err := s.Put(ctx, name, []byte(data)); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Put(ctx, "x/y", []byte("11")); err != nil {
				t.Fatal(err)
			}
			b, err := s.Get(ctx, "x/y", 2)
			if err != nil || string(b) != "11" {
				t.Errorf("%q, %v", b, err)
			}
			if _, err := s.Get(ctx, "x/y", 1); err == nil || !strings.Contains(err.Error(), "longer than 1 bytes") {
				t.Errorf("a file that is too long: %v", err)
			}
			if has, err := s.Has(ctx, "x/z"); !has || err != nil {
				t.Errorf("a file: %v, %v", has, err)
			}
			names, err := s.List(ctx, "x")
			if diff := cmp.Diff([]string{"y", "z"}, names); err != nil || diff != "" {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
			if err := s.Remove(ctx, "x/y", "x/never-there"); err != nil {
				t.Error(err)
			}
			if err := s.Remove(ctx, "no/such/folder"); err != nil {
				t.Error(err)
			}
			if names, err := s.List(ctx, "x"); len(names) != 1 || names[0] != "z" || err != nil {
				t.Errorf("after a removal: %v, %v", names, err)
			}
			if left, err := s.Unfinished(ctx, "x"); len(left) != 0 || err != nil {
				t.Errorf("unfinished: %v, %v", left, err)
			}
		})
	}
}

func TestPlaces(t *testing.T) {
	for kind, place := range places(t) {
		t.Run(kind, func(t *testing.T) {
			ctx := t.Context()
			a := open(t, place)
			if _, err := a.IDs(ctx); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "there are no backups in") {
				t.Errorf("an empty place: %v", err)
			}
			for range 2 {
				if err := a.Begin(ctx); err != nil {
					t.Fatal(err)
				}
			}
			if ids, err := a.IDs(ctx); len(ids) > 0 || err != nil {
				t.Errorf("%v, %v", ids, err)
			}
			if err := a.store.Put(ctx, formatFile, []byte("tanodb-backups 2\n")); err != nil {
				t.Fatal(err)
			}
			if err := a.Begin(ctx); !errors.Is(err, backup.ErrVersion) || !strings.Contains(err.Error(), formatFile) {
				t.Errorf("a later version: %v", err)
			}
		})
	}
	for _, place := range []string{"", "s3://", "s3:///x", "ftp://x/y"} {
		if _, err := Open(place); err == nil {
			t.Errorf("%q is a place", place)
		}
	}
}

// A chunk is kept under its name, once, and every damage of its file is told with that. The
// server of the test keeps no empty files.
func TestChunks(t *testing.T) {
	for kind, place := range places(t) {
		t.Run(kind, func(t *testing.T) {
			ctx := t.Context()
			a := open(t, place)
			chunk := []byte("TNDBCHK\x01") // no records
			name := backup.NameOf(chunk)
			for i, anew := range []bool{false, false, true} {
				n, err := a.PutChunk(ctx, name, chunk, anew)
				if err != nil || (n > 0) != (i != 1) {
					t.Errorf("time %d: %d bytes, %v", i, n, err)
				}
			}
			if has, err := a.HasChunk(ctx, name); !has || err != nil {
				t.Errorf("%v, %v", has, err)
			}
			c := backup.Chunk{SHA256: name, Bytes: len(chunk)}
			each := func(backup.Record) error { return nil }
			if err := a.Chunk(ctx, c, each); err != nil {
				t.Error(err)
			}
			packed := pack(chunk)
			for i := range packed {
				bad := bytes.Clone(packed)
				bad[i] ^= 0x55
				for what, data := range map[string][]byte{"changed": bad, "cut": packed[:max(i, 1)]} {
					if err := a.store.Put(ctx, chunkFile(name), data); err != nil {
						t.Fatal(err)
					}
					err := a.Chunk(ctx, c, each)
					if !errors.Is(err, backup.ErrCorrupt) && !errors.Is(err, backup.ErrVersion) || !strings.Contains(err.Error(), name) {
						t.Fatalf("%s at %d: %v", what, i, err)
					}
				}
			}
		})
	}
}

func TestPackIsUndone(t *testing.T) {
	for _, b := range [][]byte{{}, []byte("x"), bytes.Repeat([]byte("abc"), 10_000)} {
		packed := pack(b)
		if len(packed) > packHead+len(b) {
			t.Errorf("%d bytes became %d", len(b), len(packed))
		}
		got, err := unpack(packed, len(b))
		if err != nil || !bytes.Equal(got, b) {
			t.Errorf("%d bytes became %d, %v", len(b), len(got), err)
		}
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(pack([]byte("hello")), 5)
	f.Add(pack(bytes.Repeat([]byte("x"), 3000)), 3000)
	f.Fuzz(func(t *testing.T, b []byte, size int) {
		_, err := unpack(b, size)
		if err != nil && !errors.Is(err, backup.ErrCorrupt) && !errors.Is(err, backup.ErrVersion) {
			t.Fatalf("error %v", err)
		}
	})
}

// Nothing of a file that could not be written stays, and the error says where.
func TestUnwritableDirectory(t *testing.T) {
	base := t.TempDir()
	file := filepath.Join(base, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := open(t, file).Begin(t.Context()); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("a file in the place of the directory: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := open(t, base).Begin(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("nobody waits: %v", err)
	}
}

// /dev/full is a disk without space.
func TestFullDisk(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("there is no /dev/full here")
	}
	f, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer f.Close()
	if err := fill(f, []byte("x")); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("error %v", err)
	}
}

func TestS3Refuses(t *testing.T) {
	s3Server(t, "backups")
	a := open(t, "s3://nowhere/x")
	if err := a.Begin(t.Context()); err == nil || !strings.Contains(err.Error(), "s3://nowhere/x") {
		t.Errorf("a bucket that is not there: %v", err)
	}
	t.Setenv("AWS_ENDPOINT_URL", "nonsense")
	if _, err := Open("s3://backups"); err == nil || !strings.Contains(err.Error(), "AWS_ENDPOINT_URL") {
		t.Errorf("an endpoint that is none: %v", err)
	}
}

// What a process that was killed has begun to write is seen as unfinished, and as nothing else.
func TestUnfinishedFiles(t *testing.T) {
	d := dir(t.TempDir())
	if err := d.Put(t.Context(), "x/y", []byte("1")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.path("x/z"+unfinished+"123"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	left, err := d.Unfinished(t.Context(), "x")
	names, err2 := d.List(t.Context(), "x")
	if err := errors.Join(err, err2); err != nil || len(left) != 1 || len(names) != 1 || names[0] != "y" {
		t.Errorf("%v, %v, %v", left, names, err)
	}
	if err := d.Remove(t.Context(), "x/"+left[0]); err != nil {
		t.Fatal(err)
	}
	if left, err := d.Unfinished(t.Context(), "x"); len(left) > 0 || err != nil {
		t.Errorf("%v, %v", left, err)
	}
}

// failing is a store whose next reads fail.
type failing struct {
	Store
	with  error
	left  int
	asked int
}

func (f *failing) Get(ctx context.Context, name string, limit int64) ([]byte, error) {
	f.asked++
	if f.left--; f.left >= 0 {
		return nil, f.with
	}
	return f.Store.Get(ctx, name, limit)
}

// A read that fails is tried again; a file that is gone or damaged is not.
func TestReadsAreTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		record := backup.Record{Key: kv.Key{Bucket: "b", Name: "k"}, Object: object.Write(object.Object{}, object.Vector{}, object.Sibling{
			Dot: object.Dot{Actor: object.Actor{1}, Counter: 1}, Stamp: 7,
		}).Encode()}
		var chunk []byte
		b, err := backup.NewBuilder(backup.Ask{}, nil, func(_ string, b []byte) error {
			chunk = b
			return nil
		})
		if err == nil {
			err = b.Add(record)
		}
		if err != nil {
			t.Fatal(err)
		}
		ranges, err := b.Ranges()
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(ranges, func(r backup.Range) bool { return len(r.Chunks) > 0 })
		c := ranges[i].Chunks[0]
		store := dir(t.TempDir())
		if _, err := (&Archive{store}).PutChunk(t.Context(), c.SHA256, chunk, false); err != nil {
			t.Fatal(err)
		}
		for _, x := range []struct {
			with              error
			left, asked, read int
		}{
			{errors.New("503"), 0, 1, 1}, {errors.New("503"), 3, 4, 1}, {errors.New("503"), 4, 4, 0},
			{fs.ErrNotExist, 1, 1, 0}, {backup.ErrCorrupt, 1, 1, 0},
		} {
			f, read := &failing{store, x.with, x.left, 0}, 0
			err := (&Archive{f}).Chunk(t.Context(), c, func(backup.Record) error {
				read++
				return nil
			})
			if (err == nil) != (x.read > 0) || read != x.read || f.asked != x.asked {
				t.Errorf("%v, %d times: %v, %d records after %d reads", x.with, x.left, err, read, f.asked)
			}
		}
	})
}
