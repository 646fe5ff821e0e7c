package audit

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// syncBuffer is written by timers while a test reads.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

// take is what was written since it was taken last.
func (s *syncBuffer) take() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := s.b.String()
	s.b.Reset()
	return text
}

// told is a log, and its lines without their times since they were asked for last.
func told() (*Log, func() []string) {
	var b syncBuffer
	h := slog.NewTextHandler(&b, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})
	return New(slog.New(h)), func() []string { return strings.Split(strings.TrimSuffix(b.take(), "\n"), "\n") }
}

// Who is refused again and again gets few lines, and the count of the others; somebody else's
// lines do not suffer, and in the next second there is room again.
func TestRefusalsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, lines := told()
		for i := range 100 {
			l.Refused(fmt.Sprintf("[2001:db8::%x]:1", i), "a login has failed", "user", "anna") // one who has all of these
		}
		l.Refused("10.0.0.1:5", "a request is refused", "why", "no grant")
		l.Refused("@", "a request is refused")
		got := lines()
		if len(got) != maxLines+2 || got[0] != `level=WARN msg="a login has failed" from=[2001:db8::0]:1 user=anna` ||
			got[maxLines] != `level=WARN msg="a request is refused" from=10.0.0.1:5 why="no grant"` {
			t.Errorf("%q", got)
		}
		time.Sleep(window)
		synctest.Wait()
		want := fmt.Sprintf(`level=WARN msg="refusals have no line of their own" from=2001:db8::/64 count=%d`, 100-maxLines)
		if got := lines(); len(got) != 1 || got[0] != want {
			t.Errorf("%q, want %q", got, want)
		}
		l.Refused("[2001:db8::1]:1", "a login has failed")
		if got := lines(); !strings.Contains(got[0], "a login has failed") {
			t.Errorf("%q", got)
		}
		time.Sleep(window)
		synctest.Wait()
		if got := lines(); got[0] != "" {
			t.Errorf("nothing was left out, and %q", got)
		}
	})
}

// Many addresses have no more lines together than some.
func TestManyAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, lines := told()
		const many = 4 * maxPlaces
		for i := range many {
			l.Refused(fmt.Sprintf("10.0.%d.%d:1", i/256, i%256), "a login has failed")
		}
		if got := lines(); len(got) != maxPlaces {
			t.Errorf("%d lines", len(got))
		}
		time.Sleep(window)
		synctest.Wait()
		if got := lines(); len(got) != 1 || !strings.HasSuffix(got[0], fmt.Sprintf(`from="other addresses" count=%d`, many-maxPlaces)) {
			t.Errorf("%q", got)
		}
	})
}

// Of what is served each has a line.
func TestServed(t *testing.T) {
	l, lines := told()
	for range 2 * maxLines {
		l.Served("user", "anna")
	}
	if got := lines(); len(got) != 2*maxLines || got[0] != `level=INFO msg="a request is served" user=anna` {
		t.Errorf("%q", got)
	}
	New(nil).Served("user", "anna") // nobody hears it
}
