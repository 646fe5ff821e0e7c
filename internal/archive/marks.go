package archive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"
)

// A backup that is being made needs chunks that no manifest names yet: those that it has
// written, and older ones that it found. So that no prune takes them away, both say that
// they are at work, each by a mark of its own, and then look for the other's. Whoever
// comes second sees the first, and both may see each other: then the prune gives way, and
// the backup waits.
//
// A mark is renewed while the work goes on. One that is not was left by a process that was
// killed, or that stands still: it is revoked, which is for ever, and is said before
// anything is done that the other could not bear. A revoked backup is none, even if its
// manifest appears later; a revoked prune removes nothing more.
const (
	making  = "making"  // marks of backups that are being made
	pruning = "pruning" // marks of prunes
	revoked = "revoked" // marks that were taken from either

	// RenewEvery is how often who is at work renews his mark.
	RenewEvery = time.Minute

	// staleAfter is how old a mark is that nobody renews any more. The clocks of those who
	// share a place may be apart by so much less the time between two renewals.
	staleAfter = 15 * time.Minute

	// forgetAfter is how long a revoked mark is kept.
	forgetAfter = 30 * 24 * time.Hour

	maxMark = 1 << 10 // bytes
)

// ErrBusy says that somebody is at work in the place.
var ErrBusy = errors.New("archive: others are at work here")

// Work is a backup that is being made, or a prune.
type Work struct {
	archive *Archive
	kind    string
	id      string
}

// Make marks that a backup is being made. It is to begin when Clear is nil.
func (a *Archive) Make(ctx context.Context, id string, now time.Time) (*Work, error) {
	w := &Work{a, making, id}
	return w, w.Renew(ctx, now)
}

// Clear is nil if there is no prune, or an error that wraps ErrBusy.
func (w *Work) Clear(ctx context.Context, now time.Time) error {
	return w.archive.nobody(ctx, pruning, w.id, now)
}

// Renew says that the work goes on.
func (w *Work) Renew(ctx context.Context, now time.Time) error {
	return w.archive.store.Put(ctx, path.Join(w.kind, w.id), []byte(now.UTC().Format(time.RFC3339)+"\n"))
}

// Revoked reports whether somebody has taken this work for dead.
func (w *Work) Revoked(ctx context.Context) (bool, error) {
	return w.archive.store.Has(ctx, path.Join(revoked, w.id))
}

// Done takes the mark away.
func (w *Work) Done(ctx context.Context) error {
	return w.archive.store.Remove(ctx, path.Join(w.kind, w.id))
}

// nobody is nil if no other does such work. Marks that are not renewed are revoked.
func (a *Archive) nobody(ctx context.Context, kind, but string, now time.Time) error {
	ids, err := a.store.List(ctx, kind)
	if err != nil {
		return a.name(kind, err)
	}
	for _, id := range ids {
		if id == but {
			continue
		}
		since, err := a.mark(ctx, kind, id)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return err
		case now.Sub(since) <= staleAfter:
			return goesOn(kind, id, since)
		default:
			if err := a.revoke(ctx, kind, id, now); err != nil {
				return err
			}
		}
	}
	return nil
}

// mark is when a mark was renewed. One that cannot be read is as old as can be.
func (a *Archive) mark(ctx context.Context, kind, id string) (time.Time, error) {
	b, err := a.store.Get(ctx, path.Join(kind, id), maxMark)
	if err != nil {
		return time.Time{}, a.name(path.Join(kind, id), err)
	}
	since, _ := time.Parse(time.RFC3339, strings.TrimSpace(string(b)))
	return since, nil
}

// goesOn says that somebody is at work.
func goesOn(kind, id string, since time.Time) error {
	what := map[string]string{making: "the backup", pruning: "the prune"}[kind]
	return fmt.Errorf("%w: %s %s said at %s that it goes on", ErrBusy, what, id, since.Format(time.RFC3339))
}

// revoke takes work for dead. If its mark was renewed since it was looked at, it may have seen
// that it was not revoked before it was, and be in the middle of something: it does nothing more
// after that, but is not over yet.
func (a *Archive) revoke(ctx context.Context, kind, id string, now time.Time) error {
	if err := a.store.Put(ctx, path.Join(revoked, id), []byte(now.UTC().Format(time.RFC3339)+"\n")); err != nil {
		return err
	}
	switch since, err := a.mark(ctx, kind, id); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case now.Sub(since) <= staleAfter:
		return goesOn(kind, id, since)
	}
	return a.store.Remove(ctx, path.Join(kind, id))
}

// forget removes the revoked marks that are old, and whose backups have no manifest.
func (a *Archive) forget(ctx context.Context, now time.Time) error {
	ids, err := a.store.List(ctx, revoked)
	if err != nil {
		return a.name(revoked, err)
	}
	manifested, err := a.store.List(ctx, manifests)
	if err != nil {
		return a.name(manifests, err)
	}
	for _, id := range ids {
		since, err := a.mark(ctx, revoked, id)
		if errors.Is(err, fs.ErrNotExist) || err == nil && (now.Sub(since) < forgetAfter || slices.Contains(manifested, id)) {
			continue
		}
		if err == nil {
			err = a.store.Remove(ctx, path.Join(revoked, id))
		}
		if err != nil {
			return err
		}
	}
	return nil
}
