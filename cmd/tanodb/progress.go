package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/charmbracelet/x/term"
)

const (
	barEvery  = 100 * time.Millisecond // on a terminal
	lineEvery = 5 * time.Second        // elsewhere
	barWidth  = 30
)

// progress shows on standard error how far a command is: a bar where a person looks on,
// and a line now and then where a file or a log does. A command that is done sooner than
// the first line is shown nothing.
type progress struct {
	w        io.Writer
	what     string
	total    int64 // 0: not known
	terminal bool

	mu    sync.Mutex
	began time.Time
	shown time.Time
	drawn int // characters of the bar that is there
	done  int64
	note  string
}

func newProgress(w io.Writer, what string, total int64) *progress {
	p := &progress{w: w, what: what, total: total, terminal: isTerminal(w)}
	p.began = time.Now()
	p.shown = p.began
	return p
}

// isTerminal reports whether a person looks on.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(f.Fd()) // a device such as /dev/null is none
}

// add says that so much more is done.
func (p *progress) add(n int64, note string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += n
	p.note = note
	every := lineEvery
	if p.terminal {
		every = barEvery
	}
	if now := time.Now(); now.Sub(p.shown) >= every {
		p.shown = now
		p.show(now)
	}
}

// show prints; the caller holds the lock. Nobody can be told that it failed.
func (p *progress) show(now time.Time) {
	text := progressText(p.what, p.note, p.done, p.total, now.Sub(p.began))
	if !p.terminal {
		_, _ = fmt.Fprintln(p.w, text)
		return
	}
	if p.total > 0 {
		text = progressBar(p.done, p.total) + " " + text
	}
	_, _ = fmt.Fprintf(p.w, "\r%s%s", text, strings.Repeat(" ", max(0, p.drawn-len(text))))
	p.drawn = len(text)
}

// end takes the bar away.
func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.drawn > 0 {
		_, _ = fmt.Fprintf(p.w, "\r%s\r", strings.Repeat(" ", p.drawn))
		p.drawn = 0
	}
}

func progressBar(done, total int64) string {
	n := int(min(done, total) * barWidth / total)
	return "[" + strings.Repeat("#", n) + strings.Repeat(".", barWidth-n) + "]"
}

// progressText is one line: 12 of 64 homes, 3s; 1000 objects.
func progressText(what, note string, done, total int64, took time.Duration) string {
	text := fmt.Sprintf("%d %s, %s", done, what, took.Round(time.Second))
	if total > 0 {
		text = fmt.Sprintf("%d of %d %s, %s", done, total, what, took.Round(time.Second))
	}
	if note != "" {
		text += "; " + note
	}
	return text
}
