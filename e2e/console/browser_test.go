package console

import (
	"context"
	"fmt"
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// programs are the names under which Chromium is installed.
var programs = []string{"chromium", "chromium-browser", "google-chrome"}

// patience is how long anything may take.
const patience = 2 * time.Minute

// browser is one page of a browser of its own.
type browser struct {
	t    *testing.T
	ctx  context.Context
	base string // of the node whose console it shows

	mu       sync.Mutex
	errors   []string // that the console of the browser has
	strange  []string // addresses of other hosts that were asked
	allowed  bool     // errors are: a node is about to be stopped
	requests int
}

// newBrowser starts Chromium, or skips the test where there is none.
func newBrowser(t *testing.T, base string, more ...chromedp.ExecAllocatorOption) *browser {
	t.Helper()
	i := slices.IndexFunc(programs, func(name string) bool { _, err := exec.LookPath(name); return err == nil })
	if i < 0 {
		t.Skipf("none of %s is installed: the console is not tried in a browser", strings.Join(programs, ", "))
	}
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]),
		chromedp.ExecPath(programs[i]), chromedp.UserDataDir(t.TempDir()), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.WindowSize(1280, 1100))
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), append(options, more...)...)
	t.Cleanup(cancel)
	ctx, cancelPage := chromedp.NewContext(ctx)
	t.Cleanup(cancelPage)
	b := &browser{t: t, ctx: ctx, base: base}
	chromedp.ListenTarget(ctx, b.hear)
	if err := chromedp.Run(ctx, network.Enable(), log.Enable(), runtime.Enable()); err != nil {
		t.Fatalf("%s does not start: %v", programs[i], err)
	}
	t.Cleanup(b.check)
	return b
}

// hear notes errors, and requests to hosts that are none of the node's.
func (b *browser) hear(ev any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch ev := ev.(type) {
	case *network.EventRequestWillBeSent:
		b.requests++
		u, err := url.Parse(ev.Request.URL)
		if err != nil || u.Scheme != "data" && u.Scheme+"://"+u.Host != b.base {
			b.strange = append(b.strange, ev.Request.URL)
		}
	case *runtime.EventExceptionThrown:
		b.errors = append(b.errors, ev.ExceptionDetails.Error())
	case *runtime.EventConsoleAPICalled:
		if ev.Type == runtime.APITypeError {
			b.errors = append(b.errors, fmt.Sprint("console.error: ", ev.Args))
		}
	case *log.EventEntryAdded:
		if ev.Entry.Level == log.LevelError && !b.allowed {
			b.errors = append(b.errors, ev.Entry.Text+" "+ev.Entry.URL)
		}
	}
}

// allow says that errors are to be expected from now on: connections that break.
func (b *browser) allow() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.allowed = true
}

// check fails the test if there was an error, or a request to somebody else.
func (b *browser) check() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.errors) > 0 {
		b.t.Errorf("the browser has %d errors: %q", len(b.errors), b.errors[:min(len(b.errors), 3)])
	}
	if len(b.strange) > 0 {
		b.t.Errorf("the page has asked others: %q", b.strange)
	}
	if b.requests == 0 {
		b.t.Error("the browser has asked for nothing")
	}
}

// do does something in the page.
func (b *browser) do(what string, actions ...chromedp.Action) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Run(ctx, actions...); err != nil {
		b.t.Fatalf("%s: %v\nthe page is:\n%s", what, err, b.text())
	}
}

// text is what the page shows.
func (b *browser) text() string {
	ctx, cancel := context.WithTimeout(b.ctx, 5*time.Second)
	defer cancel()
	var s string
	if err := chromedp.Run(ctx, chromedp.Evaluate("document.body ? document.body.innerText : ''", &s)); err != nil {
		return err.Error()
	}
	return s
}

// open opens a view.
func (b *browser) open(path string) {
	b.t.Helper()
	b.do("opening "+path, chromedp.Navigate(b.base+"/_tanodb/console"+path))
}

// waitFor waits until an expression of JavaScript is true.
func (b *browser) waitFor(what, expression string) {
	b.t.Helper()
	b.do("waiting until "+what, chromedp.Poll(expression, nil, chromedp.WithPollingTimeout(patience), chromedp.WithPollingInterval(50*time.Millisecond)))
}

// shows waits until an element has a text.
func (b *browser) shows(id, text string) {
	b.t.Helper()
	b.waitFor(id+" shows "+text, fmt.Sprintf("(document.getElementById(%q)?.textContent ?? '').includes(%q)", id, text))
}

// value is that of an expression.
func value[T any](b *browser, expression string) T {
	b.t.Helper()
	var v T
	b.do(expression, chromedp.Evaluate(expression, &v))
	return v
}

// dark makes the reader prefer dark pages, or light ones.
func (b *browser) dark(yes bool) {
	b.t.Helper()
	scheme := "light"
	if yes {
		scheme = "dark"
	}
	b.do("choosing "+scheme, chromedp.ActionFunc(func(ctx context.Context) error {
		return emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}).Do(cdp.WithExecutor(ctx, chromedp.FromContext(ctx).Target))
	}))
}
