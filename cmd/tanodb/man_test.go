package main

import (
	"io"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// model is the command line as the parser sees it.
func model(t *testing.T) *kong.Node {
	t.Helper()
	var c cli
	parser, err := newParser(&c, io.Discard, io.Discard, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	return parser.Model.Node
}

// TestManPageHasAll looks for every command and every flag that --help shows, and for
// what must not be in a page of the manual.
func TestManPageHasAll(t *testing.T) {
	root := model(t)
	page := manPage(root, "v1.2.3")
	var look func(*kong.Node)
	look = func(node *kong.Node) {
		for _, f := range node.Flags {
			if !f.Hidden && f.Name != "help" && !strings.Contains(page, roff("--"+f.Name)) {
				t.Errorf("%s --%s is not in the page", node.FullPath(), f.Name)
			}
		}
		for _, child := range node.Children {
			heading := "\n.SS " + roff(child.FullPath())
			if strings.Contains(page, heading+"\n") || strings.Contains(page, heading+" ") {
				if child.Hidden {
					t.Errorf("%s is hidden, and in the page", child.FullPath())
				}
			} else if !child.Hidden {
				t.Errorf("%s is not in the page", child.FullPath())
			}
			look(child)
		}
	}
	look(root)
	macro := regexp.MustCompile(`^\.(TH|SH|SS|PP|TP|B|nf|fi)( |$)`)
	for i, line := range strings.Split(page, "\n") {
		if strings.HasPrefix(line, "'") || strings.HasPrefix(line, ".") && !macro.MatchString(line) {
			t.Errorf("line %d begins as a request to the formatter: %s", i+1, line)
		}
		if strings.IndexFunc(line, func(r rune) bool { return r > 126 }) >= 0 {
			t.Errorf("line %d is not ASCII: %s", i+1, line)
		}
	}
	if again := manPage(model(t), "v1.2.3"); again != page {
		t.Error("it is not the same the second time")
	}
}

func TestRoff(t *testing.T) {
	for text, want := range map[string]string{
		"plain":   "plain",
		"a-b":     `a\-b`,
		".x":      `\&.x`,
		"'x'":     `\&'x'`,
		"x.y":     "x.y",
		`\d`:      `\ed`,
		"a,…":     `a,\[u2026]`,
		"--flag=": `\-\-flag=`,
	} {
		if got := roff(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}

// TestManPageFormats lets the formatter complain, where there is one.
func TestManPageFormats(t *testing.T) {
	groff, err := exec.LookPath("groff")
	if err != nil {
		t.Skip("there is no groff")
	}
	cmd := exec.Command(groff, "-man", "-Tutf8", "-ww", "-z")
	cmd.Stdin = strings.NewReader(manPage(model(t), "v1.2.3"))
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("groff: %v\n%s", err, out)
	}
}
