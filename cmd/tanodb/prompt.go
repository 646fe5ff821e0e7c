package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"

	"github.com/charmbracelet/x/term"
)

// terminal asks whoever sits at one for what must not be seen.
type terminal struct {
	in  *os.File
	out io.Writer // what is asked
}

// terminalOf is the terminal that a command reads from; nil: it reads from something else.
func terminalOf(in io.Reader, out io.Writer) *terminal {
	f, ok := in.(*os.File)
	if !ok || !term.IsTerminal(f.Fd()) {
		return nil
	}
	return &terminal{f, out}
}

// password asks for one, which is not shown. Empty is an answer too.
func (t *terminal) password(question string) (string, error) {
	before, err := term.GetState(t.in.Fd())
	if err != nil {
		return "", fmt.Errorf("cannot ask for a password: %w", err)
	}
	// A signal that ended the process would leave the terminal as it is meanwhile: silent.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	type typed struct {
		text []byte
		err  error
	}
	done := make(chan typed, 1)
	fmt.Fprint(t.out, question+": ")
	go func() { // it ends with what is typed, or with the process
		text, err := term.ReadPassword(t.in.Fd())
		done <- typed{text, err}
	}()
	select {
	case got := <-done:
		fmt.Fprintln(t.out)
		if got.err != nil {
			return "", fmt.Errorf("cannot read the password: %w", got.err)
		}
		if len(got.text) > maxPassword {
			return "", fmt.Errorf("the password is longer than %d bytes", maxPassword)
		}
		return strings.TrimSuffix(string(got.text), "\r"), nil
	case sig := <-signals:
		fmt.Fprintln(t.out)
		return "", errors.Join(fmt.Errorf("no password was given: %v", sig), term.Restore(t.in.Fd(), before))
	}
}

// newPassword asks for one twice. Empty: none is wanted.
func (t *terminal) newPassword(question string) (string, error) {
	first, err := t.password(question)
	if err != nil || first == "" {
		return "", err
	}
	second, err := t.password("The same again")
	if err != nil {
		return "", err
	}
	if first != second {
		return "", errors.New("the two passwords are not the same")
	}
	return first, nil
}

// asked is a password that is asked for when it is needed first, if it ever is.
func (t *terminal) asked(user string) func() (string, error) {
	return sync.OnceValues(func() (string, error) {
		p, err := t.password("Password of " + user)
		if err == nil && p == "" {
			err = errors.New("the password is empty")
		}
		return p, err
	})
}
