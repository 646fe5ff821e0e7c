package httpd

import (
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/tanodb/tanodb/kv"
)

// firstRead is how much memory a body gets on the word of its Content-Length. A larger
// one gets the rest once so much has come.
const firstRead = 1 << 20

// body reads the body of a request. The caller calls release when the request
// is over.
func (h *handler) body(w http.ResponseWriter, r *http.Request) (data []byte, release func(), err error) {
	release = func() {}
	if r.ContentLength == 0 {
		return nil, release, nil
	}
	if r.ContentLength > kv.MaxObject {
		return nil, release, errBodyLarge
	}
	reserved := int64(0)
	release = func() { h.bodies.Add(-reserved) }
	reserve := func(n int64) bool {
		if h.bodies.Add(n) > h.o.MaxBodies {
			h.bodies.Add(-n)
			return false
		}
		reserved += n
		return true
	}
	control := http.NewResponseController(w)
	// A connection without deadlines, as in tests, has no slow clients either.
	_ = control.SetReadDeadline(time.Now().Add(h.o.allowance(r.ContentLength)))
	data, err = readBody(http.MaxBytesReader(w, r.Body, kv.MaxObject), r.ContentLength, reserve)
	_ = control.SetReadDeadline(time.Time{})
	return data, release, err
}

// allowance is how long a body of n bytes may take; an unknown size (-1), and one that
// is larger than any that is read, has the time of the largest.
func (o *Options) allowance(n int64) time.Duration {
	if n < 0 || n > kv.MaxObject {
		n = kv.MaxObject
	}
	return o.patience(o.ReadGrace, n)
}

// patience is the grace, and as long as the slowest client needs for n bytes.
func (o *Options) patience(grace time.Duration, n int64) time.Duration {
	return grace + time.Duration(float64(n)/float64(o.Slowest)*float64(time.Second))
}

// readBody reads a body of n bytes, -1 if unknown. A body of a known size up to
// firstRead is one exact allocation.
func readBody(r io.Reader, n int64, reserve func(int64) bool) ([]byte, error) {
	size := int64(firstRead)
	if n >= 0 {
		size = min(n, firstRead)
	}
	if !reserve(size) {
		return nil, errBodies
	}
	buf := make([]byte, 0, size)
	for {
		m, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+m]
		switch {
		case int64(len(buf)) == n:
			return buf, nil
		case err == io.EOF && n < 0:
			return buf, nil
		case err != nil:
			return nil, bodyError(err)
		case len(buf) < cap(buf):
			continue
		}
		next := 2 * int64(cap(buf))
		if n >= 0 {
			next = n
		}
		if !reserve(next - int64(cap(buf))) {
			return nil, errBodies
		}
		buf = append(make([]byte, 0, next), buf...)
	}
}

func bodyError(err error) error {
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return errBodyLarge
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errBodySlow
	}
	return errBodyShort
}
