package main

import (
	"bytes"
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"
)

// A server is silent only while it is waited for, and not while the client waits for its limit.
func TestStreamPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		const patience = 30 * time.Second
		silent := func() { cancel(context.DeadlineExceeded) }
		w := &watched{io.NopCloser(bytes.NewReader([]byte("abc"))), time.AfterFunc(patience, silent), patience}
		for range 3 {
			if _, err := w.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * patience)
		}
		if ctx.Err() != nil {
			t.Error("the client's own pauses are taken for silence")
		}
		in, out := io.Pipe()
		w = &watched{in, time.AfterFunc(patience, silent), patience}
		go func() {
			<-ctx.Done()
			_ = out.CloseWithError(context.Cause(ctx))
		}()
		if _, err := w.Read(make([]byte, 1)); err == nil {
			t.Error("a silent server is waited for without end")
		}
	})
}
