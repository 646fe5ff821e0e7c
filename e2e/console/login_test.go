package console

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/fetch"
	"github.com/chromedp/chromedp"
)

// The user of the console, and somebody's guess.
const (
	consoleUser     = "admin"
	consolePassword = "correct horse"
	consoleGuess    = "wrong battery"
)

// secured starts a node with certificates and users, and returns its URL and its log.
func secured(t *testing.T) (base string, log *syncBuffer) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a real process and a browser")
	}
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	port := freePorts(t, 1)
	base = fmt.Sprintf("https://127.0.0.1:%d", port)
	c := &cluster{t: t, program: path, dir: dir}
	ca, tls, password := filepath.Join(dir, "ca"), filepath.Join(dir, "tls"), filepath.Join(dir, "admin.pw")
	if err := os.WriteFile(password, []byte(consolePassword+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.run("cert", "init", "--ca-dir", ca)
	c.run("cert", "node", "secret-name", "--host", "127.0.0.1", "--ca-dir", ca, "--out", tls)
	log = &syncBuffer{}
	node := exec.Command(path, "serve", "--dir", filepath.Join(dir, "data"), "--name", "secret-name", "--tls-dir", tls,
		"--http", fmt.Sprintf("127.0.0.1:%d", port), "--pb", "off", "--partitions", "8")
	node.Stdout, node.Stderr = log, log
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = node.Process.Signal(os.Interrupt)
		if err := node.Wait(); err != nil {
			t.Errorf("tanodb serve: %v\n%s", err, log)
		}
	})
	there := []string{"--addr", base, "--ca", filepath.Join(tls, "ca.crt")}
	for _, args := range [][]string{
		{"ping", "--wait", patience.String()},
		{"security", "add-user", consoleUser, "--password-from", password},
		{"security", "grant", "tanodb.admin,tanodb.read_admin", "on", "any", "to", consoleUser},
		{"security", "add-source", consoleUser, "127.0.0.0/8", "password"},
		{"security", "enable"},
	} {
		c.run(append(args, there...)...)
	}
	return base, log
}

// syncBuffer is a buffer that a process writes to while a test reads it.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// dialog answers when the browser asks for a name and a password: with the passwords that
// are given, one after the other, and then it is closed.
type dialog struct {
	b *browser

	mu        sync.Mutex
	passwords []string
	asked     int
}

// newDialog takes the place of the browser's own.
func newDialog(b *browser) *dialog {
	d := &dialog{b: b}
	chromedp.ListenTarget(b.ctx, func(ev any) {
		switch ev := ev.(type) {
		case *fetch.EventRequestPaused:
			go d.answer(fetch.ContinueRequest(ev.RequestID))
		case *fetch.EventAuthRequired:
			go d.answer(fetch.ContinueWithAuth(ev.RequestID, d.next()))
		}
	})
	b.do("asking for passwords here", fetch.Enable().WithHandleAuthRequests(true))
	return d
}

// answer does what an event asks for; the browser may have ended meanwhile.
func (d *dialog) answer(a chromedp.Action) {
	_ = a.Do(cdp.WithExecutor(d.b.ctx, chromedp.FromContext(d.b.ctx).Target))
}

// next is what is entered now.
func (d *dialog) next() *fetch.AuthChallengeResponse {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked++
	if len(d.passwords) == 0 {
		return &fetch.AuthChallengeResponse{Response: fetch.AuthChallengeResponseResponseCancelAuth}
	}
	p := d.passwords[0]
	d.passwords = d.passwords[1:]
	return &fetch.AuthChallengeResponse{Response: fetch.AuthChallengeResponseResponseProvideCredentials, Username: consoleUser, Password: p}
}

// enters says what is entered from now on, and forgets how often was asked.
func (d *dialog) enters(passwords ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.passwords, d.asked = passwords, 0
}

func (d *dialog) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.asked
}

// TestWrongPassword: to who gives no password, or a wrong one, the console shows nothing, and
// the browser asks again. With the right one it is there, and goes on by itself.
func TestWrongPassword(t *testing.T) {
	base, log := secured(t)
	b := newBrowser(t, base, chromedp.Flag("ignore-certificate-errors", true))
	d := newDialog(b)
	b.allow()                                                            // a 401 is an error to the browser
	for name, c := range map[string]struct{ passwords, views []string }{ // to find a guess wrong takes its time
		"nothing":     {nil, []string{"/", "/keys", "/watch", "/static/console.js", "/no-such-page"}},
		"two guesses": {[]string{consoleGuess, consoleGuess + "!"}, []string{"/"}},
	} {
		for _, view := range c.views {
			d.enters(c.passwords...)
			b.open(view)
			if got := strings.TrimSpace(b.text()); got != `{"error":"Unauthorized","code":"request","replies":null}` {
				t.Errorf("%s, %s: the page shows %q", name, view, got)
			}
			if html := value[string](b, "document.documentElement.outerHTML"); strings.Contains(html, "secret-name") || strings.Contains(html, "TanoDB") {
				t.Errorf("%s, %s: the page tells\n%s", name, view, html)
			}
			if got := d.count(); got != len(c.passwords)+1 {
				t.Errorf("%s, %s: the browser has asked %d times for a password, want %d", name, view, got, len(c.passwords)+1)
			}
		}
	}
	if !strings.Contains(log.String(), "a login has failed") {
		t.Errorf("the log does not tell of it:\n%s", log)
	}
	d.enters(consoleGuess, consolePassword)
	b.open("/")
	b.updated(2) // the stream asks with the password as well
	if text := b.text(); !strings.Contains(text, "secret-name") {
		t.Errorf("the right password shows\n%s", text)
	}
	for _, secret := range []string{consolePassword, consoleGuess} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("%q is in the log:\n%s", secret, log)
		}
	}
}
