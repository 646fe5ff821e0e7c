package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/tanodb/tanodb/kv"
)

// openStream posts a question whose answer may take long, and returns that answer as it
// comes. If nothing comes for as long as a request may take, it breaks off.
func (a *app) openStream(ctx context.Context, cancel context.CancelCauseFunc, base, path string, ask any) (io.ReadCloser, error) {
	body, err := json.Marshal(ask)
	if err != nil {
		return nil, err
	}
	patience := a.timeout
	silent := time.AfterFunc(patience, func() { cancel(fmt.Errorf("%s sent nothing for %v: %w", base, patience, kv.ErrTimeout)) })
	resp, err := a.as().send(ctx, base, request{
		method: http.MethodPost, path: path, header: http.Header{"Content-Type": {"application/json"}}, body: body,
	})
	if err != nil {
		silent.Stop()
		return nil, brokenOff(ctx, base, err)
	}
	if resp.StatusCode >= http.StatusBadRequest {
		defer resp.Body.Close()
		silent.Stop()
		text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
		if err != nil {
			return nil, explainTransport(base, err)
		}
		return nil, answer{base: base, status: resp.StatusCode, header: resp.Header, body: text}.failure()
	}
	silent.Stop()
	return &watched{resp.Body, silent, patience}, nil
}

// watched is an answer that must go on.
type watched struct {
	io.ReadCloser
	silent   *time.Timer
	patience time.Duration
}

// Read waits so long and no longer. What the caller does between two reads, such as waiting for
// its own limit, is no silence of the server.
func (w *watched) Read(b []byte) (int, error) {
	w.silent.Reset(w.patience)
	defer w.silent.Stop()
	return w.ReadCloser.Read(b)
}

func (w *watched) Close() error {
	w.silent.Stop()
	return w.ReadCloser.Close()
}

// brokenOff is the error of a stream: why it was ended here, if it was.
func brokenOff(ctx context.Context, base string, err error) error {
	var final *finalError
	if cause := context.Cause(ctx); cause != nil && !errors.As(err, &final) {
		return cause
	}
	if errors.As(err, &final) {
		return err
	}
	return fmt.Errorf("%s: %w", base, err)
}

// limiter bounds bytes a second. The zero rate is no limit.
type limiter struct {
	rate int64

	mu   sync.Mutex
	free time.Time // when the next bytes may go
}

func newLimiter(rate int64) *limiter { return &limiter{rate: rate} }

// wait waits until so many bytes may go.
func (l *limiter) wait(ctx context.Context, n int) error {
	if l.rate <= 0 {
		return nil
	}
	now := time.Now()
	l.mu.Lock()
	if l.free.Before(now) {
		l.free = now
	}
	d := l.free.Sub(now)
	l.free = l.free.Add(time.Duration(float64(n) / float64(l.rate) * float64(time.Second)))
	l.mu.Unlock()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
