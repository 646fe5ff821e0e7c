package archive

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"time"

	"github.com/tanodb/tanodb/internal/backup"
)

// removeTime is how long one removal of some files may take. It is well below staleAfter, so
// that who stands still in the middle of one has not been taken for dead yet.
const removeTime = 5 * time.Minute

// freshFor is how old its mark may be when a removal begins. The clocks of others may be ahead.
const freshFor = staleAfter - removeTime - 2*RenewEvery

// Pruned is what a prune has done, or would do.
type Pruned struct {
	Removed []string // backups
	Kept    []string
	Chunks  int // files of chunks that are removed
	Others  int // unfinished files, and manifests of backups that were taken for dead
}

// PruneOptions say what stays.
type PruneOptions struct {
	ID   string // of the prune
	Keep backup.Keep
	Only bool             // tell what would be removed, and remove nothing
	Now  func() time.Time // never nil
}

// ErrRevoked says that this work was taken for dead, since it did not go on for long.
var ErrRevoked = errors.New("archive: it stood still for so long that others took it for dead; begin again")

// Prune removes backups that are not to be kept, and then all files that no backup needs.
// A backup is gone before any of its chunks is, so that one that is still there when a
// prune is cut off is whole; the next prune does the rest.
func (a *Archive) Prune(ctx context.Context, o PruneOptions) (p Pruned, err error) {
	if err := a.Check(ctx); err != nil {
		return p, err
	}
	run := &prune{archive: a, work: &Work{a, pruning, o.ID}, o: o, p: &p, needed: map[[32]byte]struct{}{}}
	steps := []func(context.Context) error{run.choose, run.manifests, run.chunks}
	if !o.Only {
		steps = append([]func(context.Context) error{run.enter}, append(steps, run.marks)...)
		defer func() { err = errors.Join(err, run.work.Done(context.WithoutCancel(ctx))) }()
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return p, err
		}
	}
	return p, nil
}

// prune is one that goes on.
type prune struct {
	archive *Archive
	work    *Work
	o       PruneOptions
	p       *Pruned
	needed  map[[32]byte]struct{} // chunks of backups that are kept
	renewed time.Time             // when the mark was
}

// enter marks that it begins, unless others are at work.
func (r *prune) enter(ctx context.Context) error {
	if err := r.goesOn(ctx); err != nil {
		return err
	}
	for _, kind := range []string{pruning, making} {
		if err := r.archive.nobody(ctx, kind, r.o.ID, r.o.Now()); err != nil {
			return err
		}
	}
	return nil
}

// goesOn renews the mark when it is time.
func (r *prune) goesOn(ctx context.Context) error {
	now := r.o.Now()
	if r.o.Only || now.Sub(r.renewed) < RenewEvery {
		return nil
	}
	r.renewed = now
	return r.work.Renew(ctx, now)
}

// manifest reads that of a backup that was listed. If it has gone since, another prune is at work.
func (r *prune) manifest(ctx context.Context, id string) (*backup.Manifest, error) {
	m, err := r.archive.Manifest(ctx, id)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: backup %s has gone meanwhile: %w", ErrBusy, id, err)
	}
	return m, err
}

// choose finds out what is to be removed. A manifest that cannot be read ends it: its backup
// may be mended, and may need any chunk.
func (r *prune) choose(ctx context.Context) error {
	ids, err := r.archive.IDs(ctx)
	if err != nil {
		return err
	}
	var heads []backup.Summary
	for _, id := range ids {
		m, err := r.manifest(ctx, id)
		if err == nil {
			err = r.goesOn(ctx)
		}
		if err != nil {
			return fmt.Errorf("nothing is removed, since it cannot be told what this backup needs: %w", err)
		}
		heads = append(heads, backup.Summary{ID: m.ID, Cluster: m.Cluster, Began: m.Began, Whole: m.Whole})
	}
	r.p.Kept, r.p.Removed = r.o.Keep.Choose(heads)
	for _, id := range r.p.Kept {
		m, err := r.manifest(ctx, id) // once more: all at a time may be too much for memory
		if err == nil {
			err = r.goesOn(ctx)
		}
		if err != nil {
			return err
		}
		for _, h := range m.Homes {
			for _, rg := range h.Ranges {
				for _, c := range rg.Chunks {
					r.needed[sum(c.SHA256)] = struct{}{}
				}
			}
		}
	}
	return nil
}

// sum is the hash that names a chunk; zero: it is no name of one.
func sum(name string) (s [32]byte) {
	if b, err := hex.DecodeString(name); err == nil && len(b) == len(s) {
		copy(s[:], b)
	}
	return s
}

// manifests removes those that are not kept: the backups are gone then.
func (r *prune) manifests(ctx context.Context) error {
	files, err := r.archive.store.List(ctx, manifests)
	if err != nil {
		return r.archive.name(manifests, err)
	}
	var gone []string
	for _, f := range files {
		if !backup.ValidID(f) || slices.Contains(r.p.Kept, f) {
			continue
		}
		// What is neither kept nor to be removed was revoked, or has come since: no backup
		// can have been made meanwhile.
		if !slices.Contains(r.p.Removed, f) {
			if is, err := r.archive.store.Has(ctx, path.Join(revoked, f)); err != nil || !is {
				return errors.Join(err, fmt.Errorf("%w: %s has appeared meanwhile, by a program that does not mark its work", ErrBusy, f))
			}
			r.p.Others++
		}
		gone = append(gone, path.Join(manifests, f))
	}
	return r.remove(ctx, gone)
}

// chunks removes those that no backup needs, folder by folder, and what was left unfinished.
func (r *prune) chunks(ctx context.Context) error {
	for i := range 256 {
		if err := r.goesOn(ctx); err != nil {
			return err
		}
		folder := path.Join(chunks, hex.EncodeToString([]byte{byte(i)}))
		files, err := r.archive.store.List(ctx, folder)
		if err != nil {
			return r.archive.name(folder, err)
		}
		var gone []string
		for _, f := range files {
			if _, needed := r.needed[sum(f)]; !needed && sum(f) != [32]byte{} {
				gone = append(gone, path.Join(folder, f))
			}
		}
		r.p.Chunks += len(gone)
		if err := r.rest(ctx, folder, gone); err != nil {
			return err
		}
	}
	return r.rest(ctx, manifests, nil)
}

// rest removes files, and those of their folder that were never finished.
func (r *prune) rest(ctx context.Context, folder string, gone []string) error {
	left, err := r.archive.store.Unfinished(ctx, folder)
	if err != nil {
		return r.archive.name(folder, err)
	}
	r.p.Others += len(left)
	for _, f := range left {
		gone = append(gone, path.Join(folder, f))
	}
	return r.remove(ctx, gone)
}

// marks forgets what was revoked long ago.
func (r *prune) marks(ctx context.Context) error {
	if r.o.Only {
		return nil
	}
	return r.archive.forget(ctx, r.o.Now())
}

// remove removes files of one folder, as long as this prune was not taken for dead.
func (r *prune) remove(ctx context.Context, files []string) error {
	if len(files) == 0 || r.o.Only {
		return nil
	}
	for {
		if err := r.goesOn(ctx); err != nil {
			return err
		}
		switch gone, err := r.work.Revoked(ctx); {
		case err != nil:
			return err
		case gone:
			return ErrRevoked
		}
		if r.o.Now().Sub(r.renewed) < freshFor {
			break // else it has stood still in between, and may be taken for dead any moment
		}
	}
	ctx, cancel := context.WithTimeout(ctx, removeTime)
	defer cancel()
	return r.archive.store.Remove(ctx, files...)
}
