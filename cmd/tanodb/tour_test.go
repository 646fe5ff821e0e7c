package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/tanodb/tanodb/internal/testports"
)

// tour is the page that TestTour runs.
const tour = "../../docs/tour.md"

// command is a command of the tour and what it prints there.
type command struct {
	line int // in the page
	text string
	want []string
}

// parseTour collects the commands of the fenced blocks that are marked console:
// a line that begins with "$ " is a command, the lines after it are its output.
func parseTour(page string) []command {
	var all []command
	inside := false
	for i, line := range strings.Split(page, "\n") {
		text, isCommand := strings.CutPrefix(line, "$ ")
		switch {
		case strings.HasPrefix(line, "```"):
			inside = line == "```console"
		case inside && isCommand:
			all = append(all, command{line: i + 1, text: text})
		case inside:
			last := &all[len(all)-1]
			last.want = append(last.want, line)
		}
	}
	return all
}

// separator parts the outputs of the commands of one shell.
const separator = "\x1e"

// runTour runs the commands in one shell and returns what each printed.
func runTour(t *testing.T, commands []command, env []string, dir string) []string {
	t.Helper()
	var script strings.Builder
	for _, c := range commands {
		// The exit code is kept for a command that asks for it.
		fmt.Fprintf(&script, "%s\ncode=$?; printf '%s'; (exit $code)\n", c.text, `\036`)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	cmd.Stdin = strings.NewReader(script.String())
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Errorf("the shell: %v", err)
	}
	return strings.Split(out.String(), separator)
}

// TestTour runs every command of the tour and compares what it prints with
// what the page says.
func TestTour(t *testing.T) { runPage(t, tour) }

// runPage does that for any page, in a directory of its own.
func runPage(t *testing.T, path string) {
	if testing.Short() {
		t.Skip("runs a single node, and a cluster of real processes")
	}
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("there is no shell")
	}
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	base, err := testports.Commands.Take(20)
	if err != nil {
		t.Fatal(err)
	}
	pb := base + 19
	env := []string{
		fmt.Sprintf("TANODB_ADDR=http://127.0.0.1:%d", base),
		fmt.Sprintf("TANODB_HTTP=127.0.0.1:%d", base),
		fmt.Sprintf("TANODB_PB=127.0.0.1:%d", pb),
		fmt.Sprintf("TANODB_BASE_PORT=%d", base),
	}
	commands := parseTour(string(page))
	outputs := runTour(t, commands, env, t.TempDir())
	for i, c := range commands {
		if i >= len(outputs) {
			t.Fatalf("%s:%d: %s: was not reached", filepath.Base(path), c.line, c.text)
		}
		got := strings.ReplaceAll(outputs[i], loopback(base), "127.0.0.1:8098")
		got = strings.ReplaceAll(got, loopback(pb), defaultPB)
		if !agrees(c.want, strings.Split(strings.TrimRight(got, "\n"), "\n")) {
			t.Errorf("%s:%d: $ %s\nprints\n%s\nand the page says\n%s", filepath.Base(path), c.line, c.text, got, strings.Join(c.want, "\n"))
		}
	}
}

var (
	blanks    = regexp.MustCompile(`\s+`)
	durations = regexp.MustCompile(`\b[0-9]+(\.[0-9]+)? ?(µs|ms|s)\b`)
)

// agrees reports whether output is what the page says, where blanks count as
// one, all durations are alike, … in a line stands for anything in it, and a line
// of … alone for any lines.
func agrees(want, got []string) bool {
	for len(want) > 0 && strings.TrimSpace(want[len(want)-1]) == "" {
		want = want[:len(want)-1]
	}
	var pattern strings.Builder
	pattern.WriteString("^")
	for _, line := range want {
		if line == "…" {
			pattern.WriteString(`(?:[^\n]*\n)*`)
			continue
		}
		pattern.WriteString(strings.ReplaceAll(regexp.QuoteMeta(plain(line)), "…", `[^\n]*`) + "\n")
	}
	pattern.WriteString("$")
	var text strings.Builder
	for _, line := range got {
		text.WriteString(plain(line) + "\n")
	}
	if len(want) == 0 {
		return strings.TrimSpace(text.String()) == ""
	}
	return regexp.MustCompile(pattern.String()).MatchString(text.String())
}

// plain is a line without what differs from run to run.
func plain(line string) string {
	return durations.ReplaceAllString(strings.TrimSpace(blanks.ReplaceAllString(line, " ")), "TIME")
}

func TestAgrees(t *testing.T) {
	for name, c := range map[string]struct {
		want, got string
		agree     bool
	}{
		"the same":          {"a b", "a  b", true},
		"another":           {"a b", "a c", false},
		"durations":         {"took 1.5ms", "took 99µs", true},
		"a longer one":      {"for 2.0 s", "for 12.1 s", true},
		"not a duration":    {"took 1.5ms", "took long", false},
		"anything":          {"a … c", "a b b c", true},
		"anything, not end": {"a … c", "a b b", false},
		"lines":             {"a\n…\nd", "a\nb\nc\nd", true},
		"no lines":          {"a\n…\nd", "a\nd", true},
		"more lines":        {"a", "a\nb", false},
		"fewer lines":       {"a\nb", "a", false},
		"nothing":           {"", "", true},
		"something":         {"", "a", false},
	} {
		if got := agrees(strings.Split(c.want, "\n"), strings.Split(c.got, "\n")); got != c.agree {
			t.Errorf("%s: %v, want %v", name, got, c.agree)
		}
	}
}
