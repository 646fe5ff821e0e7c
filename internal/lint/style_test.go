package lint

import (
	"bytes"
	"cmp"
	"encoding/json"
	"go/ast"
	"go/format"
	"go/token"
	"os/exec"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The sizes past which a file or function is mentioned in the log, not failed:
// each should still be one idea.
const (
	longFile     = 700 // lines
	longFunction = 70  // lines
)

// checkComment returns what is wrong with the package comment of the Go files
// of one folder: exactly one file has it, and it begins by saying what the
// package is. In a folder with other files than tests the tests do not count.
func checkComment(sources []source) []string {
	counted := slices.DeleteFunc(slices.Clone(sources), source.isTest)
	if len(counted) == 0 {
		counted = sources
	}
	first := counted[0]
	name := strings.TrimSuffix(first.ast.Name.Name, "_test")
	begins := []string{"Package " + name + " "}
	if name == "main" {
		command := path.Base(first.dir())
		begins = []string{"Command " + command + " ", strings.ToUpper(command[:1]) + command[1:] + " "}
	}
	var findings, having []string
	for _, s := range counted {
		if s.ast.Doc == nil {
			continue
		}
		having = append(having, s.path)
		text := s.ast.Doc.Text()
		if !slices.ContainsFunc(begins, func(b string) bool { return strings.HasPrefix(text, b) }) {
			findings = append(findings, s.path+": the package comment does not begin with "+strconv.Quote(begins[0]))
		}
	}
	switch {
	case len(having) == 0:
		findings = append(findings, first.dir()+": no package comment: say once, at the top, what the package is")
	case len(having) > 1:
		findings = append(findings, first.dir()+": package comments in "+strings.Join(having, " and ")+": keep one")
	}
	return findings
}

func TestOnePackageComment(t *testing.T) {
	for _, sources := range repository(t).packages() {
		report(t, checkComment(sources))
	}
}

func TestCheckComment(t *testing.T) {
	for name, c := range map[string]struct {
		files []string // a path and its text, in turn
		want  []string
	}{
		"one":               {[]string{"a/a.go", "// Package a is one.\npackage a", "a/b.go", "package a"}, nil},
		"none":              {[]string{"a/a.go", "package a"}, []string{"no package comment"}},
		"two":               {[]string{"a/a.go", "// Package a is one.\npackage a", "a/b.go", "// Package a is two.\npackage a"}, []string{"keep one"}},
		"wrong beginning":   {[]string{"a/a.go", "// The a package.\npackage a"}, []string{`does not begin with "Package a "`}},
		"a command":         {[]string{"cmd/tano/a.go", "// Command tano serves.\npackage main"}, nil},
		"a command by name": {[]string{"cmd/tano/a.go", "// Tano serves.\npackage main"}, nil},
		"a nameless main":   {[]string{"cmd/tano/a.go", "// Package main serves.\npackage main"}, []string{"does not begin"}},
		"tests only":        {[]string{"e/e_test.go", "// Package e tries.\npackage e_test"}, nil},
		"comment in a test": {[]string{"a/a.go", "package a", "a/a_test.go", "// Package a is one.\npackage a"}, []string{"no package comment"}},
	} {
		t.Run(name, func(t *testing.T) {
			var sources []source
			for f := range slices.Chunk(c.files, 2) {
				_, s := parse(t, f[0], f[1])
				sources = append(sources, s)
			}
			expect(t, checkComment(sources), c.want...)
		})
	}
}

// checkSleep returns the calls of time.Sleep outside a bubble of fake time: a
// function handed to synctest.Test, or to a helper of the same file that calls
// it, or one that calls synctest.Wait, which panics anywhere else. A sleeping
// test is slow or flaky, and a sleeping service cannot be stopped: wait for an event,
// or for a timer beside a context.
func checkSleep(fset *token.FileSet, s source) []string {
	clock, bubble := "", ""
	for _, spec := range s.ast.Imports {
		switch spec.Path.Value {
		case `"time"`:
			clock = localName(spec, "time")
		case `"testing/synctest"`:
			bubble = localName(spec, "synctest")
		}
	}
	helpers, inside := callers(s, bubble, "Test"), callers(s, bubble, "Wait")
	var findings []string
	ast.Inspect(s.ast, func(n ast.Node) bool {
		if f, ok := n.(*ast.FuncDecl); ok && inside[f.Name.Name] && !helpers[f.Name.Name] {
			return false
		}
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		if id, ok := call.Fun.(*ast.Ident); calls(call, bubble, "Test") || ok && helpers[id.Name] {
			return false // fake time: a sleep costs nothing and is exact
		}
		if calls(call, clock, "Sleep") {
			findings = append(findings, at(fset, call.Pos(), "time.Sleep outside a synctest bubble: wait for an event, or poll with a ticker"))
		}
		return true
	})
	return findings
}

// callers are the names of the file's functions that call pkg.name.
func callers(s source, pkg, name string) map[string]bool {
	found := map[string]bool{}
	for _, d := range s.ast.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok || f.Recv != nil {
			continue
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok && calls(call, pkg, name) {
				found[f.Name.Name] = true
			}
			return true
		})
	}
	return found
}

// localName is what a file calls a package that it imports.
func localName(spec *ast.ImportSpec, name string) string {
	if spec.Name != nil {
		return spec.Name.Name
	}
	return name
}

// calls is true for a call of pkg.name.
func calls(call *ast.CallExpr, pkg, name string) bool {
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || sel.Sel.Name != name {
		return false
	}
	id, ok := sel.X.(*ast.Ident)
	return ok && id.Name == pkg
}

func TestNobodySleeps(t *testing.T) {
	m := repository(t)
	for _, s := range m.sources {
		report(t, checkSleep(m.fset, s))
	}
}

func TestCheckSleep(t *testing.T) {
	for name, c := range map[string]struct {
		source string
		want   []string
	}{
		"in a test":      {`import "time"; func f() { time.Sleep(1) }`, []string{"time.Sleep outside"}},
		"renamed":        {`import clock "time"; func f() { clock.Sleep(1) }`, []string{"time.Sleep outside"}},
		"in a bubble":    {`import ("testing/synctest"; "time"); func f() { synctest.Test(nil, func() { time.Sleep(1) }) }`, nil},
		"by a bubble":    {`import ("testing/synctest"; "time"); func f() { synctest.Test(nil, nil); time.Sleep(1) }`, []string{"time.Sleep outside"}},
		"by a helper":    {`import ("testing/synctest"; "time"); func g(f func()) { synctest.Test(nil, f) }; func f() { g(func() { time.Sleep(1) }); time.Sleep(2) }`, []string{"time.Sleep outside"}},
		"with a wait":    {`import ("testing/synctest"; "time"); func f() { time.Sleep(1); synctest.Wait() }`, nil},
		"other packages": {`import "nap"; func f() { nap.Sleep(1) }`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			fset, s := parse(t, "a_test.go", "package a\n"+c.source)
			expect(t, checkSleep(fset, s), c.want...)
		})
	}
}

func TestGofmt(t *testing.T) {
	for _, s := range repository(t).sources {
		formatted, err := format.Source(s.text)
		if err != nil {
			t.Errorf("%s: %v", s.path, err)
			continue
		}
		if !bytes.Equal(formatted, s.text) {
			t.Errorf("%s: gofmt would change it", s.path)
		}
	}
}

// TestLongPiecesAreMentioned fails for nothing; with -v it prints what may have
// become more than one idea, longest first.
func TestLongPiecesAreMentioned(t *testing.T) {
	m := repository(t)
	type piece struct {
		name  string
		lines int
	}
	var pieces []piece
	for _, s := range m.sources {
		if s.isTest() || ast.IsGenerated(s.ast) {
			continue
		}
		if n := bytes.Count(s.text, []byte("\n")); n > longFile {
			pieces = append(pieces, piece{s.path, n})
		}
		for _, d := range s.ast.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if n := m.fset.Position(f.End()).Line - m.fset.Position(f.Pos()).Line + 1; n > longFunction {
				pieces = append(pieces, piece{s.path + " " + f.Name.Name, n})
			}
		}
	}
	slices.SortFunc(pieces, func(a, b piece) int { return cmp.Compare(b.lines, a.lines) })
	for _, p := range pieces {
		t.Logf("%d lines: %s", p.lines, p.name)
	}
}

// TestToolsArePinned makes sure that a check means the same for everybody: the
// tools that make lint runs have their versions in go.mod, and nothing is
// replaced there by what only one machine has.
func TestToolsArePinned(t *testing.T) {
	m := repository(t)
	cmd := exec.Command("go", "mod", "edit", "-json")
	cmd.Dir = m.root
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var mod struct {
		Module  struct{ Path string }
		Tool    []struct{ Path string }
		Replace []struct{ Old struct{ Path string } }
	}
	if err := json.Unmarshal(out, &mod); err != nil {
		t.Fatal(err)
	}
	if mod.Module.Path != modulePath {
		t.Errorf("the module is %s, but the rules are about %s", mod.Module.Path, modulePath)
	}
	for _, r := range mod.Replace {
		t.Errorf("go.mod replaces %s", r.Old.Path)
	}
	for _, want := range []string{"honnef.co/go/tools/cmd/staticcheck", "golang.org/x/tools/cmd/deadcode"} {
		if !slices.ContainsFunc(mod.Tool, func(t struct{ Path string }) bool { return t.Path == want }) {
			t.Errorf("go.mod has no tool %s", want)
		}
	}
}
