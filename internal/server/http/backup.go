package httpd

import (
	"context"
	"io"
	"mime"
	"net/http"
	"time"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/internal/server/api"
	"github.com/tanodb/tanodb/kv"
)

// The routes of backup and restore:
//
//	GET  /_tanodb/backup         what a backup has of the cluster itself
//	POST /_tanodb/backup/home    {"home", "known"}; the answer is a stream of objects
//	POST /_tanodb/restore        a stream of objects, of type application/x-tanodb-objects
//	POST /_tanodb/restore/types  the bucket types and properties that a backup has
//
// docs/formats.md draws the streams. Neither body can be sent by a page that a browser
// shows, as of the routes of the cluster.

// Backups is what a backup asks of a node.
type Backups interface {
	BackupInfo() tanodb.BackupInfo
	Backup(ctx context.Context, ask tanodb.BackupAsk, w io.Writer) (begun bool, err error)
	Restore(ctx context.Context, r io.Reader) (tanodb.Restored, error)
	RestoreProps(ctx context.Context, p tanodb.BackupProps) ([]string, error)
}

const (
	// maxBackupOrder is how many bytes may say what a backup has of a home already.
	maxBackupOrder = 1 << 20

	// maxRestore is how many bytes one restore may bring: the largest object, or a page.
	maxRestore = kv.MaxObject + 16<<20

	objectStream = "application/x-tanodb-objects"
)

// backupHome streams a home.
func (h *handler) backupHome(w http.ResponseWriter, r *http.Request, t target) {
	body, err := h.orderBody(w, r, maxBackupOrder)
	var ask tanodb.BackupAsk
	if err == nil {
		err = strictly(body, &ask)
	}
	if err != nil {
		h.refuse(w, t, err)
		return
	}
	out := &begun{w: w}
	// An error that comes later is in the stream.
	if started, err := h.node.Backup(r.Context(), ask, out); err != nil && !started {
		h.refuse(w, t, err)
	}
}

// begun sets the type of the answer once there is one.
type begun struct {
	w    http.ResponseWriter
	done bool
}

func (b *begun) Write(p []byte) (int, error) {
	if !b.done {
		b.done = true
		b.w.Header()["Content-Type"] = []string{objectStream}
	}
	return b.w.Write(p)
}

// restore merges what the body brings into the cluster.
func (h *handler) restore(w http.ResponseWriter, r *http.Request, t target) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != objectStream {
		h.refuse(w, t, &requestError{http.StatusUnsupportedMediaType, "Content-Type must be " + objectStream + "\n"})
		return
	}
	if r.ContentLength > maxRestore {
		h.refuse(w, t, errBodyLarge)
		return
	}
	size := r.ContentLength
	if size < 0 { // it does not say
		size = maxRestore
	}
	if h.bodies.Add(size) > h.o.MaxBodies {
		h.bodies.Add(-size)
		h.refuse(w, t, errBodies)
		return
	}
	defer h.bodies.Add(-size)
	control := http.NewResponseController(w)
	// A connection without deadlines, as in tests, has no slow clients either.
	_ = control.SetReadDeadline(time.Now().Add(h.o.allowance(size)))
	defer func() { _ = control.SetReadDeadline(time.Time{}) }()
	done, err := h.node.Restore(r.Context(), http.MaxBytesReader(w, r.Body, maxRestore))
	if err != nil {
		h.refuse(w, t, err)
		return
	}
	writeJSON(w, http.StatusOK, done)
}

func restoreProps(ctx context.Context, n Node, p tanodb.BackupProps) (any, error) {
	done, err := n.RestoreProps(ctx, p)
	return api.RestoredProps{Done: done}, err
}
