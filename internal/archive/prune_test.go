package archive

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tanodb/tanodb/internal/backup"
)

var start = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

// memory is a Store of which each call can be held up or refused.
type memory struct {
	mu    sync.Mutex
	files map[string][]byte
	call  func(what, name string) error // before each; nil: nothing
}

func newMemoryStore() *memory { return &memory{files: map[string][]byte{}} }

func (m *memory) begin(what, name string) error {
	if m.call == nil {
		return nil
	}
	return m.call(what, name)
}

func (m *memory) Put(_ context.Context, name string, data []byte) error {
	if err := m.begin("put", name); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.files[name] = data
	return nil
}

func (m *memory) Get(_ context.Context, name string, _ int64) ([]byte, error) {
	if err := m.begin("get", name); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if b, ok := m.files[name]; ok {
		return b, nil
	}
	return nil, fs.ErrNotExist
}

func (m *memory) Has(ctx context.Context, name string) (bool, error) {
	_, err := m.Get(ctx, name, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func (m *memory) List(_ context.Context, folder string) (names []string, err error) {
	// The 250 folders of chunks that are empty are not worth a step.
	if err := m.begin("list", folder); err != nil && m.any(folder) {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(m.files)) {
		if path.Dir(name) == folder {
			names = append(names, path.Base(name))
		}
	}
	return names, nil
}

func (m *memory) any(folder string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name := range m.files {
		if path.Dir(name) == folder {
			return true
		}
	}
	return false
}

func (*memory) Unfinished(context.Context, string) ([]string, error) { return nil, nil }

func (m *memory) Remove(_ context.Context, names ...string) error {
	for _, name := range names {
		if err := m.begin("remove", name); err != nil {
			return err
		}
		m.mu.Lock()
		delete(m.files, name)
		m.mu.Unlock()
	}
	return nil
}

func (*memory) Where(name string) string { return "memory:" + name }

// chunkOf is the name of the chunk of some text, which stands for what is in it.
func chunkOf(text string) string {
	s := sha256.Sum256([]byte(text))
	return hex.EncodeToString(s[:])
}

// manifestOf is that of a backup of one home with these chunks.
func manifestOf(id string, began time.Time, texts ...string) *backup.Manifest {
	m := &backup.Manifest{ID: id, Began: began, Ended: began, Made: "v1", Whole: true}
	m.Info = backup.Info{Cluster: strings.Repeat("ab", 16), Partitions: 8, Replicas: 3}
	m.Homes = make([]backup.Home, 8)
	for i := range m.Homes {
		m.Homes[i] = backup.Home{Home: i, Read: true, Ranges: []backup.Range{{To: 64}}}
	}
	var chunks []backup.Chunk
	for _, text := range texts {
		chunks = append(chunks, backup.Chunk{SHA256: chunkOf(text), Objects: 1, Bytes: 100})
	}
	m.Homes[0].Ranges[0].Chunks = chunks
	m.Total()
	return m
}

// makeBackup takes a backup as tanodb backup create does, as far as its files go.
func makeBackup(ctx context.Context, a *Archive, id string, now func() time.Time, texts ...string) (err error) {
	w, err := a.Make(ctx, id, now())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Done(ctx)) }()
	for {
		if err = w.Clear(ctx, now()); !errors.Is(err, ErrBusy) {
			break
		}
	}
	if err != nil {
		return err
	}
	for _, text := range texts {
		if _, err := a.PutChunk(ctx, chunkOf(text), []byte(text), false); err != nil {
			return err
		}
	}
	if err := a.PutManifest(ctx, manifestOf(id, start, texts...)); err != nil {
		return err
	}
	if dead, err := w.Revoked(ctx); dead || err != nil {
		return errors.Join(err, ErrRevoked)
	}
	return nil
}

// whole checks that each backup that is listed has all of its chunks, and returns the ids.
func whole(t interface{ Fatalf(string, ...any) }, a *Archive) []string {
	ctx := context.Background()
	ids, err := a.IDs(ctx)
	if err != nil {
		t.Fatalf("%v", err)
	}
	for _, id := range ids {
		m, err := a.Manifest(ctx, id)
		if err != nil {
			t.Fatalf("%v", err)
		}
		for _, c := range m.Homes[0].Ranges[0].Chunks {
			if has, err := a.HasChunk(ctx, c.SHA256); !has || err != nil {
				t.Fatalf("backup %s lacks chunk %s: %v", id, c.SHA256, err)
			}
		}
	}
	return ids
}

// chunksIn are the chunks that are kept.
func chunksIn(m *memory) (names []string) {
	for name := range m.files {
		if strings.HasPrefix(name, chunks+"/") {
			names = append(names, path.Base(name))
		}
	}
	slices.Sort(names)
	return names
}

func idOf(n int) string { return backup.NewID(start.Add(time.Duration(n)*time.Hour), uint32(n)) }

// at is a clock that stands.
func at(t time.Time) func() time.Time { return func() time.Time { return t } }

// threeBackups are backups 1 to 3, and what one that broke off has left.
func threeBackups(t *testing.T) (*memory, *Archive) {
	t.Helper()
	m := newMemoryStore()
	a := &Archive{m}
	ctx := t.Context()
	for _, err := range []error{
		a.Begin(ctx),
		makeBackup(ctx, a, idOf(1), at(start), "a", "b"),
		makeBackup(ctx, a, idOf(2), at(start), "b", "c"),
		makeBackup(ctx, a, idOf(3), at(start), "c", "d"),
		m.Put(ctx, chunkFile(chunkOf("left")), nil),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return m, a
}

func keep(n int) PruneOptions {
	return PruneOptions{ID: idOf(100), Keep: backup.Keep{Newest: n}, Now: at(start)}
}

func TestPrune(t *testing.T) {
	m, a := threeBackups(t)
	dry := keep(1)
	dry.Only = true
	before := maps.Clone(m.files)
	want := Pruned{Removed: []string{idOf(1), idOf(2)}, Kept: []string{idOf(3)}, Chunks: 3}
	for _, o := range []PruneOptions{dry, keep(1)} {
		if o.Only != (len(m.files) == len(before)) && o.Only {
			t.Error("a dry run has changed something")
		}
		got, err := a.Prune(t.Context(), o)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("dry %t: %v (-want +got):\n%s", o.Only, err, diff)
		}
		if o.Only && !maps.EqualFunc(before, m.files, slices.Equal) {
			t.Error("a dry run has changed something")
		}
	}
	if ids := whole(t, a); !slices.Equal(ids, []string{idOf(3)}) || !slices.Equal(chunksIn(m), slices.Sorted(slices.Values([]string{chunkOf("c"), chunkOf("d")}))) {
		t.Errorf("%v, with %v", ids, chunksIn(m))
	}
	for name := range m.files {
		if strings.HasPrefix(name, pruning) || strings.HasPrefix(name, making) {
			t.Errorf("a mark has stayed: %s", name)
		}
	}
}

// Of a manifest that cannot be read nobody knows what it needs: nothing is removed.
func TestPruneOfDamagedManifest(t *testing.T) {
	m, a := threeBackups(t)
	file := path.Join(manifests, idOf(2))
	m.files[file] = m.files[file][:len(m.files[file])-9]
	before := maps.Clone(m.files)
	if _, err := a.Prune(t.Context(), keep(1)); !errors.Is(err, backup.ErrCorrupt) || !strings.Contains(err.Error(), file) {
		t.Errorf("%v", err)
	}
	if !maps.EqualFunc(before, m.files, slices.Equal) {
		t.Error("something was removed")
	}
}

// A prune that is killed after any of its steps leaves whole backups, and the next one does the
// rest.
func TestPruneIsKilled(t *testing.T) {
	killed := errors.New("killed")
	for steps, ended := 0, false; !ended; steps++ {
		m, a := threeBackups(t)
		left := steps
		m.call = func(string, string) error {
			if left--; left < 0 {
				return killed
			}
			return nil
		}
		_, err := a.Prune(t.Context(), keep(1))
		if ended = err == nil; !ended && !errors.Is(err, killed) {
			t.Fatalf("after %d steps: %v", steps, err)
		}
		m.call = nil
		whole(t, a)
		later := start.Add(staleAfter + time.Second)
		if _, marked := m.files[path.Join(pruning, idOf(100))]; marked {
			o := keep(1)
			o.ID = idOf(101)
			if _, err := a.Prune(t.Context(), o); !errors.Is(err, ErrBusy) {
				t.Fatalf("after %d steps another one begins at once: %v", steps, err)
			}
		}
		o := keep(1)
		o.ID, o.Now = idOf(102), at(later)
		if _, err := a.Prune(t.Context(), o); err != nil {
			t.Fatalf("after %d steps: %v", steps, err)
		}
		if ids := whole(t, a); len(ids) != 1 || len(chunksIn(m)) != 2 {
			t.Fatalf("after %d steps there are %v, and chunks %v", steps, ids, chunksIn(m))
		}
	}
}

// While a backup is being made nothing is removed; one that was killed stands in the way for a
// while.
func TestPruneGivesWay(t *testing.T) {
	m, a := threeBackups(t)
	w, err := a.Make(t.Context(), idOf(4), start)
	if err != nil {
		t.Fatal(err)
	}
	before := maps.Clone(m.files)
	if _, err := a.Prune(t.Context(), keep(1)); !errors.Is(err, ErrBusy) || !strings.Contains(err.Error(), idOf(4)) {
		t.Errorf("%v", err)
	}
	if !maps.EqualFunc(before, m.files, slices.Equal) {
		t.Error("something was removed")
	}
	o := keep(1)
	o.Now = at(start.Add(staleAfter + time.Second))
	if _, err := a.Prune(t.Context(), o); err != nil {
		t.Error(err)
	}
	if dead, err := w.Revoked(t.Context()); !dead || err != nil {
		t.Errorf("%v, %v", dead, err)
	}
	if err := a.PutManifest(t.Context(), manifestOf(idOf(4), start, "a")); err != nil {
		t.Fatal(err)
	}
	if ids := whole(t, a); !slices.Equal(ids, []string{idOf(3)}) {
		t.Errorf("what was taken for dead is listed: %v", ids)
	}
	o.ID, o.Now = idOf(101), at(start.Add(2*forgetAfter))
	if got, err := a.Prune(t.Context(), o); err != nil || got.Others != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	if ids := whole(t, a); len(ids) != 1 || m.any(revoked) || m.any(making) {
		t.Errorf("%v, and of marks there are %v", ids, slices.Sorted(maps.Keys(m.files)))
	}
}

// turns lets goroutines go on one at a time, one call of the store each, as is drawn.
type turns struct {
	waits []chan string // by actor, what it is about to do
	goes  []chan struct{}
	next  []string // by actor that waits
}

// store is the view of an actor.
func (u *turns) store(m *memory, actor int) *memory {
	return &memory{files: m.files, call: func(what, name string) error {
		if what == "list" && strings.HasPrefix(name, chunks) && !m.any(name) {
			return nil
		}
		u.waits[actor] <- what + " " + name
		<-u.goes[actor]
		return nil
	}}
}

// Backups and prunes at once, one call of the store after another in any order, some of them
// standing still for so long that others take them for dead: each backup that is listed is whole.
func TestPruneAmongBackups(t *testing.T) {
	made, stopped := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		base := newMemoryStore()
		ctx := context.Background()
		a := &Archive{base}
		for _, err := range []error{a.Begin(ctx), makeBackup(ctx, a, idOf(1), at(start), "a", "b"), makeBackup(ctx, a, idOf(2), at(start), "b", "c"), base.Put(ctx, chunkFile(chunkOf("x")), nil)} {
			if err != nil {
				t.Fatalf("%v", err)
			}
		}
		var clock sync.Mutex
		now := start
		read := func() time.Time {
			clock.Lock()
			defer clock.Unlock()
			return now
		}
		texts := func(label string) []string {
			return rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c", "d", "x"}), 1, 3, rapid.ID[string]).Draw(t, label)
		}
		backups := rapid.IntRange(1, 2).Draw(t, "backups")
		u := &turns{}
		var errs []error
		count := backups + rapid.IntRange(1, 2).Draw(t, "prunes")
		for i := range count {
			u.waits, u.goes, u.next = append(u.waits, make(chan string)), append(u.goes, make(chan struct{})), append(u.next, "")
			errs = append(errs, nil)
			view := &Archive{u.store(base, i)}
			var content []string
			if i < backups {
				content = texts(fmt.Sprint("content ", i))
			}
			go func() {
				defer close(u.waits[i])
				if i < backups {
					errs[i] = makeBackup(ctx, view, idOf(10+i), read, content...)
					return
				}
				_, errs[i] = view.Prune(ctx, PruneOptions{ID: idOf(50 + i), Keep: backup.Keep{Newest: 1}, Now: read})
			}()
		}
		u.drive(t, backups, func(later time.Duration) {
			clock.Lock()
			defer clock.Unlock()
			now = now.Add(later)
		})
		ids := whole(t, a)
		for i, err := range errs {
			is := slices.Contains(ids, idOf(10+i))
			if i < backups && err == nil {
				made++
			}
			if i < backups && err != nil && !errors.Is(err, ErrRevoked) || i >= backups && err != nil && !errors.Is(err, ErrBusy) && !errors.Is(err, ErrRevoked) {
				t.Fatalf("%d: %v", i, err)
			}
			if err != nil {
				stopped++
			}
			if i < backups && is && err != nil {
				t.Fatalf("backup %d failed, %v, and is listed", i, err)
			}
		}
	})
	if made == 0 || stopped == 0 {
		t.Errorf("%d backups were made, and %d works stopped", made, stopped)
	}
}

// drive draws who goes on until all have ended. Time passes too, but not while a prune has
// begun to remove: that may not take so long.
func (u *turns) drive(t *rapid.T, backups int, pass func(time.Duration)) {
	for {
		var alive []int
		removing := false
		for i := range u.waits {
			if u.next[i] == "" {
				u.next[i] = <-u.waits[i] // empty: it has ended
			}
			if u.next[i] != "" {
				alive = append(alive, i)
			}
			removing = removing || i >= backups && (strings.HasPrefix(u.next[i], "remove "+chunks) || strings.HasPrefix(u.next[i], "remove "+manifests))
		}
		if len(alive) == 0 {
			return
		}
		if !removing && rapid.IntRange(0, 15).Draw(t, "time") == 0 {
			pass(staleAfter + time.Second)
		}
		i := rapid.SampledFrom(alive).Draw(t, "who")
		for range rapid.IntRange(1, 6).Draw(t, "steps") {
			u.next[i] = ""
			u.goes[i] <- struct{}{}
			if u.next[i] = <-u.waits[i]; u.next[i] == "" {
				break
			}
		}
	}
}
