package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"pgregory.net/rapid"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/internal/backup"
	"github.com/tanodb/tanodb/internal/server/api"
	httpd "github.com/tanodb/tanodb/internal/server/http"
	"github.com/tanodb/tanodb/kv"
)

// served is a cluster of nodes of this process, and the address of one of them.
func served(t *testing.T, nodes, partitions int, wrap func(http.Handler) http.Handler) (*tanodb.Node, string) {
	t.Helper()
	cluster, _ := tanodb.NewTestCluster(t, nodes, tanodb.Options{Partitions: partitions})
	handler := httpd.New(cluster[0], httpd.Options{})
	if wrap != nil {
		handler = wrap(handler)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return cluster[0], server.URL
}

// fillNode writes so many keys.
func fillNode(t *testing.T, n *tanodb.Node, keys int) {
	t.Helper()
	for i := range keys {
		k := kv.Key{Bucket: "b", Name: fmt.Sprint("k", i)}
		if _, err := n.Put(t.Context(), k, kv.Value{Data: bytes.Repeat([]byte("x"), 10*i)}, kv.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

// invoke runs a command that must end with this exit code.
func invoke(t *testing.T, code int, args ...string) (stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	if got := run(args, strings.NewReader(""), &out, &errs); got != code {
		t.Fatalf("%v: exit code %d, want %d\n%s%s", args, got, code, &out, &errs)
	}
	return out.String(), errs.String()
}

// readAll reads what fillNode has written.
func readAll(t *testing.T, n *tanodb.Node, keys int) {
	t.Helper()
	for i := range keys {
		o, err := n.Get(t.Context(), kv.Key{Bucket: "b", Name: fmt.Sprint("k", i)}, kv.ReadOptions{})
		if err != nil || len(o.Values) != 1 || len(o.Values[0].Data) != 10*i {
			t.Fatalf("k%d: %+v, %v", i, o.Values, err)
		}
	}
}

// A backup goes to an S3 store and comes back into a cluster of another size.
func TestBackupInS3(t *testing.T) {
	backend := s3mem.New()
	if err := backend.CreateBucket("backups"); err != nil {
		t.Fatal(err)
	}
	store := httptest.NewServer(gofakes3.New(backend).Server())
	t.Cleanup(store.Close)
	t.Setenv("AWS_ENDPOINT_URL", store.URL)
	t.Setenv("AWS_ACCESS_KEY_ID", "the-id")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "the-secret")
	const place = "s3://backups/shop"
	from, addr := served(t, 3, 8, nil)
	fillNode(t, from, 100)
	invoke(t, exitDone, "backup", "create", "--to", place, "--addr", addr)
	out, _ := invoke(t, exitDone, "backup", "create", "--to", place, "--addr", addr, "--json", "--rate", "100MB")
	if !strings.Contains(out, `"new_objects": 0`) {
		t.Errorf("nothing has changed, and the second backup is %s", out)
	}
	out, _ = invoke(t, exitDone, "backup", "list", "--from", place)
	if strings.Count(out, " whole\n") != 2 {
		t.Errorf("%s", out)
	}
	invoke(t, exitDone, "backup", "verify", "--from", place, "--all")
	to, addr := served(t, 2, 16, nil)
	invoke(t, exitDone, "backup", "restore", "--from", place, "--addr", addr)
	readAll(t, to, 100)

	// Nothing secret is in what is kept.
	objects, err := backend.ListBucket("backups", nil, gofakes3.ListBucketPage{})
	if err != nil || len(objects.Contents) < 4 {
		t.Fatalf("%+v, %v", objects, err)
	}
	for _, c := range objects.Contents {
		o, err := backend.GetObject("backups", c.Key, nil)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(o.Contents)
		if err != nil || bytes.Contains(b, []byte("the-secret")) || bytes.Contains(b, []byte("the-id")) {
			t.Errorf("%s tells who has written it, or cannot be read: %v", c.Key, err)
		}
	}
}

// filesIn are all files below a directory.
func filesIn(t *testing.T, dir string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// Each file of a backup that is changed, cut or gone is named, by verify and by restore, and
// a full backup makes it whole again.
func TestDamagedBackupIsRefused(t *testing.T) {
	n, addr := served(t, 1, 8, nil)
	fillNode(t, n, 40)
	dir := t.TempDir()
	invoke(t, exitDone, "backup", "create", "--to", dir, "--addr", addr)
	for _, file := range filesIn(t, dir) {
		whole, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		changed := bytes.Clone(whole)
		changed[len(changed)/2] ^= 1
		for what, b := range map[string][]byte{"changed": changed, "cut": whole[:len(whole)-1], "empty": {}, "gone": nil} {
			if b == nil {
				err = os.Remove(file)
			} else {
				err = os.WriteFile(file, b, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, args := range [][]string{{"backup", "verify", "--from", dir}, {"backup", "restore", "--from", dir, "--addr", addr}} {
				out, errs := invoke(t, exitFailed, args...)
				where := file
				if what == "gone" && !strings.Contains(file, "chunks") {
					where = dir
				}
				if !strings.Contains(out+errs, where) {
					t.Errorf("%s is %s, and %v does not name it:\n%s%s", file, what, args, out, errs)
				}
			}
			if err := os.WriteFile(file, whole, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	chunk := filesIn(t, filepath.Join(dir, "chunks"))[0]
	if err := os.WriteFile(chunk, []byte("rotten"), 0o600); err != nil {
		t.Fatal(err)
	}
	invoke(t, exitDone, "backup", "create", "--to", dir, "--addr", addr, "--full")
	invoke(t, exitDone, "backup", "verify", "--from", dir)
	if err := os.Remove(chunk); err != nil {
		t.Fatal(err)
	}
	invoke(t, exitDone, "backup", "create", "--to", dir, "--addr", addr) // it sees that a chunk is gone
	invoke(t, exitDone, "backup", "verify", "--from", dir)
}

// A backup that was not whole when it was taken is none after a look at its files either.
func TestVerifyOfABackupThatIsNotWhole(t *testing.T) {
	n, addr := served(t, 1, 8, nil)
	fillNode(t, n, 40)
	dir := t.TempDir()
	invoke(t, exitDone, "backup", "create", "--to", dir, "--addr", addr)
	place, ids, err := openBackups(t.Context(), dir, "")
	if err != nil {
		t.Fatal(err)
	}
	m, err := place.Manifest(t.Context(), ids[0])
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*backup.Home){
		"8 homes were not read": func(h *backup.Home) { h.Read = false }, "16 objects were not": func(h *backup.Home) { h.Bad = 2 },
	} {
		changed := *m
		changed.Homes = slices.Clone(m.Homes)
		for i := range changed.Homes {
			change(&changed.Homes[i])
		}
		changed.Total()
		if err := place.PutManifest(t.Context(), &changed); err != nil {
			t.Fatal(err)
		}
		out, _ := invoke(t, exitFailed, "backup", "verify", "--from", dir)
		count, _, _ := strings.Cut(name, " ")
		if strings.Contains(out, "all whole") || !strings.Contains(out, count+" ") || !strings.Contains(out, m.ID) {
			t.Errorf("%s: %s", name, out)
		}
	}
}

// A restore of one bucket has nothing to do with the bucket types of others.
func TestRestoreOfOneBucketNeedsItsTypesOnly(t *testing.T) {
	ctx := t.Context()
	typed := func(n *tanodb.Node, name string, props kv.Properties) {
		if err := errors.Join(n.CreateBucketType(ctx, name, props), n.ActivateBucketType(ctx, name)); err != nil {
			t.Fatal(err)
		}
	}
	from, addr := served(t, 1, 8, nil)
	typed(from, "counts", kv.Properties{{Name: "datatype", Value: "counter"}})
	typed(from, "other", nil)
	typed(from, "unused", nil)
	for _, k := range []kv.Key{{Type: "counts", Bucket: "c", Name: "k"}, {Type: "other", Bucket: "b", Name: "k"}} {
		var err error
		if k.Type == "counts" {
			_, err = from.Update(ctx, k, kv.CounterOp(1), kv.WriteOptions{})
		} else {
			_, err = from.Put(ctx, k, kv.Value{Data: []byte("v")}, kv.WriteOptions{})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	invoke(t, exitDone, "backup", "create", "--to", dir, "--addr", addr)
	to, addr := served(t, 1, 8, nil)
	typed(to, "counts", kv.Properties{{Name: "datatype", Value: "set"}})
	out, _ := invoke(t, exitDone, "backup", "restore", "--from", dir, "--addr", addr, "--bucket", "b")
	if o, err := to.Get(ctx, kv.Key{Type: "other", Bucket: "b", Name: "k"}, kv.ReadOptions{}); err != nil || len(o.Values) != 1 || strings.Contains(out, "unused") {
		t.Errorf("%+v, %v\n%s", o, err, out)
	}
	if _, errs := invoke(t, exitUsage, "backup", "restore", "--from", dir, "--addr", addr, "--bucket", "c"); !strings.Contains(errs, "would mean something else") {
		t.Errorf("%s", errs)
	}
}

// What a node is asked does not grow with the backup that it is compared with.
func TestBackupOrderIsSmall(t *testing.T) {
	var named atomic.Int64
	n, addr := served(t, 1, 8, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, err := io.ReadAll(r.Body)
			if err != nil || bytes.Contains(b, []byte("sha256")) {
				named.Add(1)
			}
			r.Body = io.NopCloser(bytes.NewReader(b))
			h.ServeHTTP(w, r)
		})
	})
	fillNode(t, n, 40)
	dir := t.TempDir()
	invoke(t, exitDone, "backup", "create", "--to", dir, "--addr", addr)
	out, _ := invoke(t, exitDone, "backup", "create", "--to", dir, "--addr", addr, "--json")
	if !strings.Contains(out, `"new_objects": 0`) || !strings.Contains(out, `"objects": 40`) || named.Load() > 0 {
		t.Errorf("%d orders name chunks; the second backup is %s", named.Load(), out)
	}
}

// A node that breaks off in the middle is asked again, and a restore that was broken off goes
// on when it is run again.
func TestBackupThatBreaksOff(t *testing.T) {
	var cut atomic.Int64 // requests until one is cut off; then every one is
	cut.Store(1 << 30)
	breaking := func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch left := cut.Add(-1); {
			case r.Method != http.MethodPost || left > 0:
				h.ServeHTTP(w, r)
			case left == 0:
				h.ServeHTTP(&cutWriter{ResponseWriter: w}, r)
			default:
				panic(http.ErrAbortHandler)
			}
		})
	}
	from, addr := served(t, 3, 8, breaking)
	fillNode(t, from, 100)
	dir := t.TempDir()
	cut.Store(4)
	_, errs := invoke(t, exitFailed, "backup", "create", "--to", dir, "--addr", addr)
	if !strings.Contains(errs, "home ") {
		t.Errorf("%s", errs)
	}
	if out, _ := invoke(t, exitDone, "backup", "list", "--from", dir); strings.Contains(out, "whole") {
		t.Errorf("a backup that has broken off is listed:\n%s", out)
	}
	cut.Store(1 << 30)
	invoke(t, exitDone, "backup", "create", "--to", dir, "--addr", addr)
	to, addr := served(t, 2, 16, breaking)
	cut.Store(4)
	_, errs = invoke(t, exitFailed, "backup", "restore", "--from", dir, "--addr", addr)
	if !strings.Contains(errs, "run it again") {
		t.Errorf("%s", errs)
	}
	cut.Store(1 << 30)
	invoke(t, exitDone, "backup", "restore", "--from", dir, "--addr", addr)
	readAll(t, to, 100)
}

// cutWriter breaks an answer off after its first bytes.
type cutWriter struct {
	http.ResponseWriter
	written int
}

func (w *cutWriter) Write(b []byte) (int, error) {
	const most = 150
	if w.written+len(b) > most {
		panic(http.ErrAbortHandler)
	}
	w.written += len(b)
	return w.ResponseWriter.Write(b)
}

// texts draws bytes, some of which are text.
func texts(t *rapid.T, label string) api.Text {
	if rapid.Bool().Draw(t, label+" is bytes") {
		return api.Text(rapid.SliceOf(rapid.Byte()).Draw(t, label))
	}
	return api.Text(rapid.StringOf(rapid.SampledFrom([]rune("ab\r\n\",; 0é\x00"))).Draw(t, label))
}

// What is written in a format is read as it was, whatever the bytes.
func TestLinesAreRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var all []exchanged
		for range rapid.IntRange(0, 4).Draw(t, "lines") {
			x := exchanged{
				Type: "t", Bucket: texts(t, "bucket"), Key: texts(t, "key"), Value: texts(t, "value"), ContentType: texts(t, "content type"),
				Charset: texts(t, "charset"), ContentEncoding: texts(t, "encoding"), Sibling: rapid.IntRange(0, 3).Draw(t, "sibling"),
			}
			if rapid.Bool().Draw(t, "with more") {
				x.Meta = []api.Pair{{Name: texts(t, "name"), Value: texts(t, "meta")}}
				x.Indexes = []api.Pair{{Name: texts(t, "field"), Value: texts(t, "term")}}
				x.Expires = time.UnixMilli(rapid.Int64Range(1, 4e12).Draw(t, "expires")).UTC()
			}
			all = append(all, x)
		}
		for _, format := range []string{formatJSON, formatCSV} {
			var b bytes.Buffer
			w, err := newLineWriter(&b, format, true)
			for _, x := range all {
				err = errors.Join(err, w.write(x))
			}
			if err = errors.Join(err, w.flush()); err != nil {
				t.Fatal(err)
			}
			r, err := newLineReader(&b, format)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range all {
				got, _, err := r.read()
				if diff := cmp.Diff(want, got); err != nil || diff != "" {
					t.Fatalf("%s: %v (-written +read):\n%s", format, err, diff)
				}
			}
			if _, _, err := r.read(); err != io.EOF {
				t.Fatalf("%s: after the last line: %v", format, err)
			}
		}
	})
}

func FuzzLines(f *testing.F) {
	f.Add([]byte(`{"bucket":"b","key":"k","value":{"base64":"/w=="}}`+"\n{}\n"), true)
	f.Add([]byte(strings.Join(csvColumns, ",")+"\n,b,k,v,value,,,,,,,\n,b,\"k\n\",v,,,,,2090-01-02T03:04:05Z,[],null,1\n"), false)
	f.Fuzz(func(t *testing.T, b []byte, jsonLines bool) {
		format := formatCSV
		if jsonLines {
			format = formatJSON
		}
		r, err := newLineReader(bytes.NewReader(b), format)
		for n := 0; err == nil; n++ {
			if n > 2*len(b)+2 {
				t.Fatal("there is no end of lines")
			}
			_, _, err = r.read()
			var bad *lineError
			if errors.As(err, &bad) {
				err = nil
			}
		}
	})
}

// An export goes on from page to page, and where one has ended.
func TestExportResumes(t *testing.T) {
	n, addr := served(t, 1, 8, nil)
	fillNode(t, n, 50)
	var first api.Keys
	resp, err := http.Get(addr + "/_tanodb/buckets/b/keys?limit=20")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&first); err != nil || first.Next == "" {
		t.Fatalf("%+v, %v", first, err)
	}
	file := filepath.Join(t.TempDir(), "out")
	invoke(t, exitDone, "export", file, "--bucket", "b", "--addr", addr)
	all, err := os.ReadFile(file)
	if err != nil || bytes.Count(all, []byte("\n")) != 50 {
		t.Fatalf("%d lines of 50, %v", bytes.Count(all, []byte("\n")), err)
	}
	lines := bytes.SplitAfter(all, []byte("\n"))
	if err := os.WriteFile(file, bytes.Join(lines[:len(first.Keys)], nil), 0o600); err != nil {
		t.Fatal(err)
	}
	invoke(t, exitDone, "export", file, "--bucket", "b", "--resume", first.Next, "--addr", addr)
	again, err := os.ReadFile(file)
	if diff := cmp.Diff(string(all), string(again)); err != nil || diff != "" {
		t.Errorf("%v (-all +in two parts):\n%s", err, diff)
	}
}

func TestProgress(t *testing.T) {
	if got := progressBar(16, 64); got != "[#######.......................]" {
		t.Errorf("%s", got)
	}
	for want, got := range map[string]string{
		"16 of 64 homes, 3s; more": progressText("homes", "more", 16, 64, 3*time.Second),
		"16 keys, 0s":              progressText("keys", "", 16, 0, 0),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	var b bytes.Buffer
	p := newProgress(&b, "keys", 10)
	p.add(1, "")
	if b.Len() > 0 {
		t.Errorf("what is done at once shows %q", &b)
	}
	p.shown = p.shown.Add(-lineEvery)
	p.add(1, "")
	if b.String() != "2 of 10 keys, 0s\n" {
		t.Errorf("%q", &b)
	}
	b.Reset()
	p.terminal = true
	p.shown = p.shown.Add(-barEvery)
	p.add(1, "")
	p.end()
	if got := b.String(); !strings.HasPrefix(got, "\r[#########") || !strings.HasSuffix(got, " \r") {
		t.Errorf("%q", got)
	}
}
