package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pty is a terminal with nobody before it: what the test writes to the one end is typed at the
// other.
func pty(t *testing.T) (keys, screen *os.File) {
	t.Helper()
	keys, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("there are no pseudo-terminals: ", err)
	}
	t.Cleanup(func() { keys.Close() })
	if err := unix.IoctlSetPointerInt(int(keys.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(keys.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	screen, err = os.OpenFile(fmt.Sprint("/dev/pts/", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { screen.Close() })
	return keys, screen
}

func echoes(t *testing.T, f *os.File) bool {
	t.Helper()
	s, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return s.Lflag&unix.ECHO != 0
}

// silent waits until what is typed is not shown.
func silent(t *testing.T, f *os.File) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for echoes(t, f) {
		<-tick.C
	}
}

// typed is what came of a question.
type typed struct {
	text string
	err  error
}

// What is typed is not shown, and the terminal is afterwards as it was.
func TestPasswordsAreNotShown(t *testing.T) {
	keys, screen := pty(t)
	asked, out := io.Pipe()
	at := terminalOf(screen, out)
	if at == nil {
		t.Fatal("it is taken for no terminal")
	}
	done := make(chan typed, 1)
	go func() {
		p, err := at.newPassword("New password")
		done <- typed{p, err}
	}()
	for _, question := range []string{"New password: ", "The same again: "} {
		got := make([]byte, len(question))
		if _, err := io.ReadFull(asked, got); err != nil || string(got) != question {
			t.Fatalf("asked for %q, error %v", got, err)
		}
		silent(t, screen)
		if _, err := keys.WriteString("correct horse\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(asked, got[:1]); err != nil { // the end of the line
			t.Fatal(err)
		}
	}
	if got := <-done; got.text != "correct horse" || got.err != nil {
		t.Errorf("%q, error %v", got.text, got.err)
	}
	if !echoes(t, screen) {
		t.Error("the terminal stays silent")
	}
	if _, err := screen.WriteString("end\n"); err != nil {
		t.Fatal(err)
	}
	shown := make([]byte, 1024)
	n, err := keys.Read(shown)
	if err != nil || strings.Contains(string(shown[:n]), "horse") {
		t.Errorf("shown is %q, error %v", shown[:n], err)
	}
}

// A signal ends the question, and leaves no silent terminal.
func TestAQuestionCanBeInterrupted(t *testing.T) {
	_, screen := pty(t)
	at := terminalOf(screen, io.Discard)
	done := make(chan typed, 1)
	go func() {
		p, err := at.password("Password")
		done <- typed{p, err}
	}()
	silent(t, screen)
	if err := syscall.Kill(os.Getpid(), syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if got := <-done; got.err == nil || got.text != "" {
		t.Errorf("%q, error %v", got.text, got.err)
	}
	if !echoes(t, screen) {
		t.Error("the terminal stays silent")
	}
	for _, none := range []io.Reader{strings.NewReader("x"), os.NewFile(^uintptr(0), "closed")} {
		if terminalOf(none, io.Discard) != nil {
			t.Errorf("%T is a terminal", none)
		}
	}
}
