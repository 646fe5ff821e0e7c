package lint

import (
	"fmt"
	"go/token"
	"path"
	"regexp"
	"strings"
	"testing"
)

// architecture is the page that names every folder.
const architecture = "docs/ARCHITECTURE.md"

// folders is the heading there, under which a fenced block names each folder
// at the start of a line.
const folders = "The folders"

// readme lists what README.md must have a heading about.
var readme = []*regexp.Regexp{
	regexp.MustCompile(`(?i)start|try it|two commands`),
	regexp.MustCompile(`(?i)program|in go\b|embed`),
	regexp.MustCompile(`(?i)three|session|cluster`),
	regexp.MustCompile(`(?i)project structure`),
}

var (
	heading = regexp.MustCompile(`^#+ +(.*?) *#*$`)
	fence   = regexp.MustCompile("^ *(```|~~~)")
	link    = regexp.MustCompile(`\[[^\]]*\]\(([^()\s]+)\)`)
	code    = regexp.MustCompile("`[^`]*`")
	scheme  = regexp.MustCompile(`^[a-z]+:`)
)

// page is a Markdown file: its headings, its links, and its fenced blocks.
type page struct {
	path     string
	headings []string
	links    []string
	blocks   map[string][]string // lines of all fenced blocks, by the heading they stand under
}

// readPage reads the parts of a Markdown file that the rules look at.
func readPage(f textFile) page {
	p := page{path: f.path, blocks: map[string][]string{}}
	under, fenced := "", false
	for l := range strings.Lines(string(f.text)) {
		l = strings.TrimRight(l, "\n")
		switch {
		case fence.MatchString(l):
			fenced = !fenced
		case fenced:
			p.blocks[under] = append(p.blocks[under], l)
		case heading.MatchString(l):
			under = heading.FindStringSubmatch(l)[1]
			p.headings = append(p.headings, under)
		default:
			for _, m := range link.FindAllStringSubmatch(code.ReplaceAllString(l, ""), -1) {
				p.links = append(p.links, m[1])
			}
		}
	}
	return p
}

// anchor is the fragment by which a heading is linked to.
func anchor(heading string) string {
	keep := func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case strings.ContainsRune("-_", r), '0' <= r && r <= '9', 'a' <= r && r <= 'z', r > 127:
			return r
		}
		return -1
	}
	return strings.Map(keep, strings.ToLower(heading))
}

// checkLinks returns the relative links of a page that lead nowhere.
func checkLinks(p page, exists func(path string) bool, pages map[string]page) []string {
	var findings []string
	for _, l := range p.links {
		if scheme.MatchString(l) {
			continue
		}
		target, fragment, _ := strings.Cut(l, "#")
		to := path.Join(path.Dir(p.path), target)
		if target == "" {
			to = p.path
		}
		if !exists(to) {
			findings = append(findings, fmt.Sprintf("%s: the link to %s leads nowhere", p.path, l))
			continue
		}
		if linked, ok := pages[to]; ok && fragment != "" && !linked.hasAnchor(fragment) {
			findings = append(findings, fmt.Sprintf("%s: the link to %s leads to no heading", p.path, l))
		}
	}
	return findings
}

func (p page) hasAnchor(fragment string) bool {
	for _, h := range p.headings {
		if anchor(h) == fragment {
			return true
		}
	}
	return false
}

// pages are all Markdown files of the repository, by path.
func (m *module) pages() map[string]page {
	pages := map[string]page{}
	for _, f := range m.files {
		if strings.HasSuffix(f.path, ".md") && !strings.Contains("/"+f.path, "/testdata/") {
			pages[f.path] = readPage(f)
		}
	}
	return pages
}

// exists is true for files and folders of the repository.
func (m *module) exists(p string) bool {
	if p == "." || m.file(p) != nil {
		return true
	}
	for _, f := range m.files {
		if strings.HasPrefix(f.path, p+"/") {
			return true
		}
	}
	return false
}

func TestLinksLeadSomewhere(t *testing.T) {
	m := repository(t)
	pages := m.pages()
	for _, p := range pages {
		report(t, checkLinks(p, m.exists, pages))
	}
}

func TestCheckLinks(t *testing.T) {
	pages := map[string]page{"docs/b.md": readPage(textFile{path: "docs/b.md", text: []byte("# B, the `second`\n")})}
	exists := func(p string) bool { return p == "docs/b.md" || p == "docs/a.md" || p == "Makefile" }
	text := "# A\n" +
		"[b](b.md) [up](../Makefile) [b](b.md#b-the-second) [here](#a) [far](https://example.com/x) `[code](gone.md)`\n" +
		"```\n[fenced](gone.md)\n```\n" +
		"[one](gone.md) [two](b.md#third) [three](/Makefile)\n"
	p := readPage(textFile{path: "docs/a.md", text: []byte(text)})
	pages["docs/a.md"] = p
	expect(t, checkLinks(p, exists, pages),
		"gone.md leads nowhere", "b.md#third leads to no heading", "/Makefile leads nowhere")
}

// named is a page of the documentation as comments in the code name it.
var named = regexp.MustCompile(`\bdocs/[\w./-]+\.md\b`)

// checkNamed returns the pages that the comments of a source name and that are
// not there.
func checkNamed(fset *token.FileSet, s source, exists func(path string) bool) []string {
	var findings []string
	for _, group := range s.ast.Comments {
		for _, c := range group.List {
			for _, p := range named.FindAllString(c.Text, -1) {
				if !exists(p) {
					findings = append(findings, at(fset, c.Pos(), "names %s, which is not there", p))
				}
			}
		}
	}
	return findings
}

func TestNamedPagesExist(t *testing.T) {
	m := repository(t)
	for _, s := range m.sources {
		report(t, checkNamed(m.fset, s, m.exists))
	}
}

func TestCheckNamed(t *testing.T) {
	fset, s := parse(t, "a/a.go", "// Package a is drawn in docs/a.md\n// and docs/b/c.md.\npackage a\n")
	exists := func(p string) bool { return p == "docs/a.md" }
	expect(t, checkNamed(fset, s, exists), "a/a.go:2: names docs/b/c.md")
}

// TestArchitectureNamesEveryFolder compares the tree in docs/ARCHITECTURE.md
// with the packages that there are, both ways.
func TestArchitectureNamesEveryFolder(t *testing.T) {
	m := repository(t)
	listed := map[string]bool{}
	for _, l := range m.pages()[architecture].blocks[folders] {
		if f := strings.Fields(l); len(f) > 0 {
			listed[strings.TrimSuffix(f[0], "/")] = true
		}
	}
	for dir := range m.packages() {
		if !listed[dir] {
			t.Errorf("%s: no line for %s/ in the block under %q", architecture, dir, folders)
		}
	}
	for dir := range listed {
		if !m.exists(dir) {
			t.Errorf("%s: names %s/, which is not there", architecture, dir)
		}
	}
}

// TestReadmeIsWhole keeps the sections that a newcomer looks for.
func TestReadmeIsWhole(t *testing.T) {
	p, ok := repository(t).pages()["README.md"]
	if !ok {
		t.Fatal("there is no README.md")
	}
	all := strings.Join(p.headings, "\n")
	for _, want := range readme {
		if !want.MatchString(all) {
			t.Errorf("README.md: no heading matches %s", want)
		}
	}
}
