package lint

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const modulePath = "github.com/tanodb/tanodb"

// textFile is a file of the repository. Its path is relative to the root, with
// slashes.
type textFile struct {
	path string
	text []byte
}

// source is a Go file of the repository outside testdata.
type source struct {
	textFile
	ast *ast.File
}

// isTest is true for files that only tests are built from.
func (s source) isTest() bool { return strings.HasSuffix(s.path, "_test.go") }

// dir is the folder of the file's package; the root package's is ".".
func (s source) dir() string { return path.Dir(s.path) }

// imports are the paths that the file imports.
func (s source) imports() []string {
	var paths []string
	for _, spec := range s.ast.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err == nil {
			paths = append(paths, p)
		}
	}
	return paths
}

// module is what the rules look at: the files that are, or are about to be,
// under version control.
type module struct {
	root    string // folder of go.mod
	fset    *token.FileSet
	files   []textFile // sorted by path
	sources []source   // sorted by path
}

// packages are the folders that hold Go files, each with its files.
func (m *module) packages() map[string][]source {
	dirs := map[string][]source{}
	for _, s := range m.sources {
		dirs[s.dir()] = append(dirs[s.dir()], s)
	}
	return dirs
}

// file is the file of that path, or nil.
func (m *module) file(p string) *textFile {
	i, ok := slices.BinarySearchFunc(m.files, p, func(f textFile, p string) int {
		return strings.Compare(f.path, p)
	})
	if !ok {
		return nil
	}
	return &m.files[i]
}

// repository is the module that this test is part of, read once.
func repository(t *testing.T) *module {
	t.Helper()
	m, err := readRepository()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

var readRepository = sync.OnceValues(func() (*module, error) {
	root, err := filepath.Abs("../..")
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		return nil, err
	}
	paths, err := listFiles(root)
	if err != nil {
		return nil, err
	}
	m := &module{root: root, fset: token.NewFileSet()}
	for _, p := range paths {
		if err := m.read(p); err != nil {
			return nil, err
		}
	}
	return m, nil
})

// read adds a file. One that is listed but gone is left out: it is being
// removed.
func (m *module) read(p string) error {
	text, err := os.ReadFile(filepath.Join(m.root, p))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	f := textFile{path: p, text: text}
	m.files = append(m.files, f)
	if !strings.HasSuffix(p, ".go") || strings.Contains("/"+p, "/testdata/") {
		return nil
	}
	tree, err := parser.ParseFile(m.fset, p, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	m.sources = append(m.sources, source{textFile: f, ast: tree})
	return nil
}

// listFiles lists the files under version control and those that are neither
// there nor ignored. Without git, say in an unpacked archive, it lists all but
// hidden files.
func listFiles(root string) ([]string, error) {
	git := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	git.Dir = root
	out, err := git.Output()
	if err != nil {
		return walkFiles(root)
	}
	paths := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
	slices.Sort(paths)
	return slices.Compact(paths), nil
}

func walkFiles(root string) ([]string, error) {
	var paths []string
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		hidden := strings.HasPrefix(d.Name(), ".") && p != root
		if hidden && d.IsDir() {
			return fs.SkipDir
		}
		if hidden || !d.Type().IsRegular() {
			return nil
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		paths = append(paths, filepath.ToSlash(rel))
		return nil
	})
	slices.Sort(paths)
	return paths, err
}

// parse makes a source of a text, for the tests of the rules.
func parse(t *testing.T, p, text string) (*token.FileSet, source) {
	t.Helper()
	fset := token.NewFileSet()
	tree, err := parser.ParseFile(fset, p, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	return fset, source{textFile: textFile{path: p, text: []byte(text)}, ast: tree}
}

// at words a finding about a place in a source.
func at(fset *token.FileSet, pos token.Pos, format string, args ...any) string {
	p := fset.Position(pos)
	return fmt.Sprintf("%s:%d: %s", p.Filename, p.Line, fmt.Sprintf(format, args...))
}

// lineOf is the number of the line that holds byte i of a text.
func lineOf(text []byte, i int) int { return 1 + bytes.Count(text[:i], []byte("\n")) }

// report fails the test once for each finding.
func report(t *testing.T, findings []string) {
	t.Helper()
	for _, f := range findings {
		t.Error(f)
	}
}

// expect fails the test unless there is exactly one finding for each of the
// wanted pieces of text, in order.
func expect(t *testing.T, findings []string, want ...string) {
	t.Helper()
	if len(findings) != len(want) {
		t.Errorf("found %d, want %d: %q", len(findings), len(want), findings)
		return
	}
	for i, w := range want {
		if !strings.Contains(findings[i], w) {
			t.Errorf("finding %q does not say %q", findings[i], w)
		}
	}
}

func TestWalkFindsWhatGitLists(t *testing.T) {
	m := repository(t)
	walked, err := walkFiles(m.root)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range m.sources {
		if _, ok := slices.BinarySearch(walked, s.path); !ok {
			t.Errorf("%s is in the repository but was not found by walking it", s.path)
		}
	}
}
