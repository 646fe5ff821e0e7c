package lint

import (
	"go/ast"
	"go/build"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/go/packages"
)

// hidden are the functions of the standard library through which a clock, a
// global source of chance or the process comes in, by package; code below the
// line may not use them.
var hidden = map[string][]string{
	"time": {"Now", "Sleep", "After", "AfterFunc", "NewTimer", "NewTicker", "Since", "Until", "Tick"},
	"fmt":  {"Print", "Printf", "Println", "Scan", "Scanf", "Scanln"},
}

// seeded are the functions of math/rand and math/rand/v2 that do not use the
// global source.
var seeded = []string{"New", "NewSource", "NewZipf", "NewPCG", "NewChaCha8"}

// unordered are the functions of package maps whose sequence has no order, and
// sorters those of package slices that give it one.
var (
	unordered = []string{"All", "Keys", "Values"}
	sorters   = []string{"Sorted", "SortedFunc", "SortedStableFunc"}
)

// mark lets one line range over a map in the order that Go chooses, because
// the outcome does not depend on it. A reason must follow.
var mark = regexp.MustCompile(`^//det:ok\b\s*(.*)$`)

// purity looks for what would make code below the line answer differently to
// the same events: goroutines, channels, clocks, chance, map order, and
// package variables that change.
type purity struct {
	fset     *token.FileSet
	info     *types.Info
	marks    map[int]bool      // lines of the file with a mark; true: it was needed
	sorted   map[ast.Expr]bool // calls whose sequence is sorted at once
	findings []string
}

// checkPurity returns the findings in one type-checked file.
func checkPurity(fset *token.FileSet, info *types.Info, file *ast.File) []string {
	p := &purity{fset: fset, info: info, marks: map[int]bool{}, sorted: map[ast.Expr]bool{}}
	p.readMarks(file)
	ast.Inspect(file, func(n ast.Node) bool {
		if n != nil {
			p.visit(n)
		}
		return true
	})
	p.checkMarks(file)
	return slices.Compact(p.findings)
}

func (p *purity) add(n ast.Node, format string, args ...any) {
	p.findings = append(p.findings, at(p.fset, n.Pos(), format, args...))
}

func (p *purity) line(n ast.Node) int { return p.fset.Position(n.Pos()).Line }

func (p *purity) readMarks(file *ast.File) {
	for _, group := range file.Comments {
		for _, c := range group.List {
			m := mark.FindStringSubmatch(c.Text)
			if m == nil {
				continue
			}
			p.marks[p.line(c)] = false
			if m[1] == "" {
				p.add(c, "//det:ok needs a reason")
			}
		}
	}
}

// checkMarks finds marks that mark nothing.
func (p *purity) checkMarks(file *ast.File) {
	start := p.fset.File(file.Pos())
	for l, needed := range p.marks {
		if !needed {
			p.findings = append(p.findings, at(p.fset, start.LineStart(l), "//det:ok marks no range over a map"))
		}
	}
	slices.Sort(p.findings)
}

// excused is true if the node's line has a mark, which is then needed.
func (p *purity) excused(n ast.Node) bool {
	_, ok := p.marks[p.line(n)]
	if ok {
		p.marks[p.line(n)] = true
	}
	return ok
}

func (p *purity) visit(n ast.Node) {
	switch n := n.(type) {
	case *ast.GoStmt:
		p.add(n, "go statement below the line")
	case *ast.SelectStmt:
		p.add(n, "select below the line")
	case *ast.SendStmt:
		p.add(n, "channel below the line")
	case *ast.RangeStmt:
		p.visitRange(n)
		p.changed(n.Key)
		p.changed(n.Value)
	case *ast.AssignStmt:
		for _, e := range n.Lhs {
			p.changed(e)
		}
	case *ast.IncDecStmt:
		p.changed(n.X)
	case *ast.UnaryExpr:
		if n.Op == token.AND {
			p.changed(n.X)
		}
	case *ast.CallExpr:
		p.visitCall(n)
	case *ast.SelectorExpr:
		p.visitMethod(n)
	}
	if e, ok := n.(ast.Expr); ok {
		p.visitExpr(e)
	}
}

// visitExpr finds channels, whatever makes them, and functions that are
// forbidden, whether called or passed on.
func (p *purity) visitExpr(e ast.Expr) {
	if t := p.info.TypeOf(e); t != nil {
		if _, ok := t.Underlying().(*types.Chan); ok {
			p.add(e, "channel below the line")
		}
	}
	id, ok := e.(*ast.Ident)
	if !ok {
		return
	}
	pkg, name := p.function(id)
	switch {
	case slices.Contains(hidden[pkg], name):
		p.add(id, "%s.%s below the line: time comes as an argument, and what is to be said goes out as an event", pkg, name)
	case strings.HasPrefix(pkg, "math/rand") && !slices.Contains(seeded, name):
		p.add(id, "%s.%s uses the global source: chance comes as an argument", pkg, name)
	case pkg == "" && (name == "print" || name == "println"):
		p.add(id, "%s below the line", name)
	}
}

func (p *purity) visitRange(n *ast.RangeStmt) {
	t := p.info.TypeOf(n.X)
	if t == nil {
		return
	}
	if _, ok := t.Underlying().(*types.Map); ok && !p.excused(n) {
		p.add(n, "range over a map: its order is Go's whim; sort the keys, or say why it does not matter with //det:ok REASON on this line")
	}
}

func (p *purity) visitCall(n *ast.CallExpr) {
	pkg, name := p.function(ident(n.Fun))
	switch {
	case pkg == "slices" && slices.Contains(sorters, name) && len(n.Args) > 0:
		p.sorted[n.Args[0]] = true
	case pkg == "maps" && slices.Contains(unordered, name) && !p.sorted[n] && !p.excused(n):
		p.add(n, "maps.%s in no order: hand it to slices.Sorted, or say why the order does not matter with //det:ok REASON on this line", name)
	case pkg == "" && slices.Contains([]string{"clear", "copy", "delete"}, name) && len(n.Args) > 0:
		p.changed(n.Args[0])
	}
}

// visitMethod finds methods that may change the package variable they are
// called on.
func (p *purity) visitMethod(n *ast.SelectorExpr) {
	s := p.info.Selections[n]
	if s == nil || s.Kind() != types.MethodVal {
		return
	}
	receiver := s.Obj().Type().(*types.Signature).Recv().Type()
	_, wantsPointer := receiver.Underlying().(*types.Pointer)
	_, hasPointer := s.Recv().Underlying().(*types.Pointer)
	if wantsPointer && !hasPointer {
		p.changed(n.X)
	}
}

// changed is told of an expression whose value may change here, and finds out
// whether it is in a package variable.
func (p *purity) changed(e ast.Expr) {
	for e != nil {
		if v, ok := p.info.Uses[ident(e)].(*types.Var); ok && v.Pkg() != nil && v.Parent() == v.Pkg().Scope() {
			p.add(e, "package variable %s changes: state belongs to a value that someone owns", v.Name())
			return
		}
		e = inner(e)
	}
}

// inner is the expression that e is a part of, or nil.
func inner(e ast.Expr) ast.Expr {
	switch e := e.(type) {
	case *ast.ParenExpr:
		return e.X
	case *ast.StarExpr:
		return e.X
	case *ast.IndexExpr:
		return e.X
	case *ast.SliceExpr:
		return e.X
	case *ast.SelectorExpr:
		return e.X
	}
	return nil
}

// ident is the identifier that names what e is: x of x, pkg.x and f[T]; nil if
// there is none.
func ident(e ast.Expr) *ast.Ident {
	switch e := e.(type) {
	case *ast.Ident:
		return e
	case *ast.SelectorExpr:
		return e.Sel
	case *ast.IndexExpr:
		return ident(e.X)
	}
	return nil
}

// function is the package path and name of the function that the identifier
// names; a builtin has no package, and a method no name here.
func (p *purity) function(id *ast.Ident) (pkg, name string) {
	if id == nil {
		return "", ""
	}
	switch f := p.info.Uses[id].(type) {
	case *types.Builtin:
		return "", f.Name()
	case *types.Func:
		if f.Signature().Recv() == nil && f.Pkg() != nil {
			return f.Pkg().Path(), f.Name()
		}
	}
	return "", ""
}

// deterministic are packages that are not below the line but must repeat a run
// from its seed all the same.
var deterministic = []string{"internal/sim", "internal/sim/check"}

// purePackages are the patterns of the packages below the line that exist, and
// of the deterministic ones.
func purePackages(m *module) []string {
	var patterns []string
	existing := m.packages()
	for _, dir := range deterministic {
		if len(existing[dir]) > 0 {
			patterns = append(patterns, "./"+dir)
		}
	}
	for _, l := range table {
		for _, dir := range l.packages {
			if l.pure && len(existing[dir]) > 0 {
				patterns = append(patterns, "./"+dir)
			}
		}
	}
	return patterns
}

func TestBelowTheLineIsPure(t *testing.T) {
	m := repository(t)
	pkgs, err := packages.Load(&packages.Config{
		Dir: m.root,
		Mode: packages.NeedName | packages.NeedFiles | packages.NeedCompiledGoFiles | packages.NeedImports |
			packages.NeedTypes | packages.NeedTypesSizes | packages.NeedSyntax | packages.NeedTypesInfo,
	}, purePackages(m)...)
	if err != nil {
		t.Fatal(err)
	}
	if len(pkgs) == 0 {
		t.Fatal("no package below the line was found")
	}
	for _, pkg := range pkgs {
		for _, e := range pkg.Errors {
			t.Errorf("%s: %v", pkg.PkgPath, e)
		}
		for _, file := range pkg.Syntax {
			report(t, checkPurity(pkg.Fset, pkg.TypesInfo, file))
		}
	}
}

// goroot is where the standard library is.
func goroot(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

func TestCheckPurity(t *testing.T) {
	if build.Default.GOROOT == "" { // a test built with -trimpath does not know it
		build.Default.GOROOT = goroot(t)
	}
	std := importer.Default()
	for name, c := range map[string]struct {
		source string
		want   []string
	}{
		"arguments and results": {`import ("time"; "math/rand/v2"; "slices"; "maps"; "fmt")
			var names = []string{"a"}
			var table = map[string]int{"a": 1}
			func f(now time.Duration, seed uint64, m map[string]int) (string, []string) {
				r := rand.New(rand.NewPCG(seed, 1))
				delete(m, "x")
				m["y"] = len(names) + table["a"]
				return fmt.Sprint(now, r.Uint64()), slices.Sorted(maps.Keys(m))
			}`, nil},
		"a clock":                {`import "time"; func f() time.Time { return time.Now() }`, []string{"time.Now"}},
		"a clock, passed on":     {`import "time"; func f() func() time.Time { return time.Now }`, []string{"time.Now"}},
		"a clock, renamed":       {`import t "time"; func f(x t.Time) t.Duration { return t.Since(x) }`, []string{"time.Since"}},
		"a method named Now":     {`type c struct{}; func (c) Now() int { return 0 }; func f(x c) int { return x.Now() }`, nil},
		"global chance":          {`import "math/rand/v2"; func f() int { return rand.IntN(3) }`, []string{"global source"}},
		"a goroutine":            {`func f() { go f() }`, []string{"go statement"}},
		"a select":               {`func f() { select {} }`, []string{"select"}},
		"a channel type":         {`type t struct { c chan int }`, []string{"channel"}},
		"a receive":              {`import "context"; func f(c context.Context) { <-c.Done() }`, []string{"channel"}},
		"a print":                {`import "fmt"; func f() { fmt.Println() }`, []string{"fmt.Println"}},
		"a builtin print":        {`func f() { println() }`, []string{"println"}},
		"a range over a map":     {`func f(m map[int]int) { for range m { f(m) } }`, []string{"range over a map"}},
		"a named map":            {"type m map[int]int\nfunc f(x m) { for k := range x { _ = k } }", []string{"range over a map"}},
		"a marked range":         {"func f(m map[int]int) (n int) {\n for range m { //det:ok only counted\n n++ }\n return n }", nil},
		"a mark without reason":  {"func f(m map[int]int) {\n for range m { //det:ok\n }}", []string{"needs a reason"}},
		"a mark without a range": {"func f() {} //det:ok nothing here", []string{"marks no range"}},
		"unsorted map keys":      {`import ("maps"; "slices"); func f(m map[int]int) []int { return slices.Collect(maps.Keys(m)) }`, []string{"maps.Keys"}},
		"an assigned variable":   {"var v int\nfunc f() { v = 1 }", []string{"variable v changes"}},
		"a counted variable":     {"var v int\nfunc f() { v++ }", []string{"variable v changes"}},
		"a filled map":           {"var v = map[int]int{}\nfunc init() { v[1] = 2 }", []string{"variable v changes"}},
		"a deleted entry":        {"var v = map[int]int{}\nfunc f() { delete(v, 1) }", []string{"variable v changes"}},
		"a changed field":        {"var v struct{ a [3]int }\nfunc f() { (v.a)[1]++ }", []string{"variable v changes"}},
		"a taken address":        {"var v int\nfunc f() *int { return &v }", []string{"variable v changes"}},
		"a ranged variable":      {"var v int\nfunc f() { for v = range 3 { f() } }", []string{"variable v changes"}},
		"a changing method":      {"type c int\nfunc (x *c) inc() { *x++ }\nvar v c\nfunc f() { v.inc() }", []string{"variable v changes"}},
		"a reading method":       {"type c int\nfunc (x c) get() c { return x }\nvar v c\nfunc f() c { return v.get() }", nil},
		"another's variable":     {"import \"time\"\nfunc f() { time.Local = nil }", []string{"variable Local changes"}},
		"a local variable":       {`func f() { v := 1; v++; p := &v; *p = 2 }`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			fset := token.NewFileSet()
			file, err := parser.ParseFile(fset, "p.go", "package p\n"+c.source, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			info := &types.Info{
				Types: map[ast.Expr]types.TypeAndValue{}, Uses: map[*ast.Ident]types.Object{},
				Defs: map[*ast.Ident]types.Object{}, Selections: map[*ast.SelectorExpr]*types.Selection{},
			}
			if _, err := (&types.Config{Importer: std}).Check("p", fset, []*ast.File{file}, info); err != nil {
				t.Fatal(err)
			}
			expect(t, checkPurity(fset, info, file), c.want...)
		})
	}
}
