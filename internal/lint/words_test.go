package lint

import (
	"bytes"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// word is something that no file may contain.
type word struct {
	pattern *regexp.Regexp
	why     string
}

// words are written so that they do not match themselves.
var words = []word{
	{regexp.MustCompile(`(^|[^\w.])/(home|root|Users|work)/`), "is a path of one machine"},
	{regexp.MustCompile(`\b((proxy|sum)\.golang|registry\.npmjs|deb\.debian)\.org\b`), "is a package registry's host; which one to use is the environment's choice"},
	{regexp.MustCompile(`\b(T[O]DO|F[I]XME|X{3})\b`), "marks something unfinished: finish it, or file an issue"},
}

// checkWords returns the lines of a text file that contain one of the words.
func checkWords(f textFile, words []word) []string {
	if bytes.IndexByte(f.text, 0) >= 0 {
		return nil // not text
	}
	var findings []string
	for _, w := range words {
		for _, place := range w.pattern.FindAllIndex(f.text, -1) {
			found := bytes.TrimSpace(f.text[place[0]:place[1]])
			findings = append(findings, fmt.Sprintf("%s:%d: %q %s", f.path, lineOf(f.text, place[1]-1), found, w.why))
		}
	}
	return findings
}

// wordsHere are the words, and the module proxy of this machine if it has one
// of its own.
func wordsHere(t *testing.T) []word {
	t.Helper()
	out, err := exec.Command("go", "env", "GOPROXY").Output()
	if err != nil {
		t.Fatal(err)
	}
	all := words
	for _, m := range regexp.MustCompile(`://([^/,|\s]+)`).FindAllStringSubmatch(string(out), -1) {
		host := regexp.QuoteMeta(m[1])
		all = append(all, word{regexp.MustCompile(`\b` + host + `\b`), "is this machine's module proxy"})
	}
	return all
}

func TestWordsThatStayOut(t *testing.T) {
	here := wordsHere(t)
	for _, f := range repository(t).files {
		report(t, checkWords(f, here))
	}
}

func TestCheckWords(t *testing.T) {
	for text, want := range map[string][]string{
		"plain words, a todo list and method XXXL": nil,
		"data in /var/lib/tanodb and ./work/x":     nil,
		"see\n" + "/wor" + "k/main":                {"a.md:2: "},
		"(/ho" + "me/me/x)":                        {"a path of one machine"},
		"// TO" + "DO: later":                      {"unfinished"},
		"XX" + "X":                                 {"unfinished"},
		"https://proxy.go" + "lang.org/x":          {"registry"},
		"/wor" + "k/\x00":                          nil,
	} {
		expect(t, checkWords(textFile{path: "a.md", text: []byte(text)}, words), want...)
	}
}

// TestTextIsTidy finds what editors leave behind: carriage returns, spaces at
// line ends and a missing end of the last line. Files under testdata are as
// they are, and those of others under vendored.
func TestTextIsTidy(t *testing.T) {
	for _, f := range repository(t).files {
		if bytes.IndexByte(f.text, 0) >= 0 || strings.Contains("/"+f.path, "/testdata/") || strings.Contains(f.path, "/vendored/") {
			continue
		}
		report(t, checkTidy(f))
	}
}

var trailing = regexp.MustCompile(`[ \t\r]+(\n|$)`)

func checkTidy(f textFile) []string {
	var findings []string
	for _, place := range trailing.FindAllIndex(f.text, -1) {
		findings = append(findings, fmt.Sprintf("%s:%d: blanks at the end of the line", f.path, lineOf(f.text, place[0])))
	}
	if len(f.text) > 0 && !bytes.HasSuffix(f.text, []byte("\n")) {
		findings = append(findings, f.path+": the last line has no end")
	}
	return findings
}

func TestCheckTidy(t *testing.T) {
	for text, want := range map[string][]string{
		"":           nil,
		"a\n\nb\n":   nil,
		"a \nb\n":    {"a.md:1: blanks"},
		"a\r\n":      {"a.md:1: blanks"},
		"a\nb":       {"no end"},
		"a\n\t\nb\n": {"a.md:2: blanks"},
	} {
		expect(t, checkTidy(textFile{path: "a.md", text: []byte(text)}), want...)
	}
}
