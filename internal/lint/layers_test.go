package lint

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"
)

// line is one line of the layer table: packages that do not know each other.
type line struct {
	packages []string // folders; "." is the root package
	pure     bool     // below the line: decides, and touches nothing
}

// table is the order of the packages, top to bottom. A package imports only
// packages on lines below its own. Some folders are named before they exist.
var table = []line{
	{packages: []string{"cmd/tanodb"}},
	{packages: []string{"internal/config", "internal/limit", "internal/certs"}}, // how a node is set up, and what stands at its door
	{packages: []string{"internal/server/http", "internal/server/pb", "internal/server/console", "client"}},
	{packages: []string{"internal/mapreduce", "internal/server/audit"}},                           // what both servers run
	{packages: []string{"internal/server/api", "internal/server/riakpb", "internal/server/view"}}, // what server and client say to each other, and people are shown
	{packages: []string{"."}},
	{packages: []string{"internal/transport", "storage/disk", "internal/archive"}},

	{pure: true, packages: []string{"internal/coordinator", "internal/handoff", "internal/antientropy", "internal/reap", "internal/backup"}},
	{pure: true, packages: []string{"internal/vnode", "internal/membership", "internal/quorum", "internal/pace", "internal/sketch"}},
	{pure: true, packages: []string{"internal/ring"}},
	{pure: true, packages: []string{"internal/crdt"}},
	{pure: true, packages: []string{"internal/object", "storage"}},
	{pure: true, packages: []string{"kv"}},
	{pure: true, packages: []string{"internal/planted"}}, // the switch of the simulator's bugs
}

// testPackages exist for tests: they may import everything, and only tests and
// each other import them.
var testPackages = []string{"kv/kvtest", "storage/storagetest", "internal/sim", "internal/sim/check", "internal/lint", "internal/testports", "e2e", "e2e/compat", "e2e/console", "deploy"}

// edge packages are written on the public API only, as a user's program is.
var edge = []string{"internal/server/http", "internal/server/pb", "internal/server/console", "internal/server/audit", "internal/server/api", "internal/server/riakpb", "internal/server/view", "internal/mapreduce", "client"}

// public are the packages that a user's program can import.
var public = []string{".", "kv", "storage", "storage/disk", "client"}

// impure are the imports that code below the line may not have; a path
// forbids what is under it as well. The functions of time and math/rand that
// read a clock or a global source are forbidden one by one in purity_test.go.
var impure = []string{
	"net", "os", "io/ioutil", "path/filepath", "sync", "context", "log", "runtime", "unsafe", "syscall",
	"crypto/rand", "hash/maphash", "testing", "expvar", "flag", "plugin",
}

// exceptions are the impure or foreign imports that a pure package may have
// all the same, each with its reason.
var exceptions = map[[2]string]string{
	{"kv", "context"}:                       "the Store interface names it; kv does nothing with it",
	{"storage", "sync"}:                     "an Engine is used by many goroutines; Memory's lock decides nothing",
	{"storage", "github.com/tidwall/btree"}: "Memory's ordered map: no clock, no goroutine, no file",

	{"internal/membership", "net/netip"}:                        "addresses as values: it parses and compares them, and reaches nobody",
	{"internal/membership", "go.etcd.io/raft/v3"}:               "its RawNode is a machine as ours are; its only chance, in election timeouts, is not used",
	{"internal/membership", "go.etcd.io/raft/v3/raftpb"}:        "what that machine takes and gives",
	{"internal/membership", "google.golang.org/protobuf/proto"}: "the encoding of raftpb, which has no maps and so one order",
}

// lineOfPackage is the package's place in the table, or -1.
func lineOfPackage(dir string) int {
	return slices.IndexFunc(table, func(l line) bool { return slices.Contains(l.packages, dir) })
}

// checkImport says what is wrong with an import by a file of package dir that
// is not a test; empty: nothing.
func checkImport(dir, imported string) string {
	to, inside := folder(imported)
	switch {
	case slices.Contains(testPackages, dir):
		return ""
	case inside && slices.Contains(testPackages, to):
		return fmt.Sprintf("%s is for tests only", to)
	case inside:
		return checkOrder(dir, to)
	case table[lineOfPackage(dir)].pure:
		return checkPure(dir, imported)
	}
	return ""
}

// checkOrder judges the import of one package of the table by another.
func checkOrder(dir, to string) string {
	if lineOfPackage(to) < 0 {
		return "" // reported where the package itself is
	}
	if lineOfPackage(to) <= lineOfPackage(dir) {
		return fmt.Sprintf("%s is not on a line below %s in the table of internal/lint/layers_test.go", to, dir)
	}
	if slices.Contains(edge, dir) && !slices.Contains(edge, to) && !slices.Contains(public, to) {
		return fmt.Sprintf("%s is not public, and %s is written on the public API only", to, dir)
	}
	return ""
}

// checkPure judges an import from outside the module by a package below the
// line.
func checkPure(dir, imported string) string {
	if _, ok := exceptions[[2]string{dir, imported}]; ok {
		return ""
	}
	for _, p := range impure {
		if imported == p || strings.HasPrefix(imported, p+"/") {
			return imported + " touches the world; below the line, time, chance and effects are arguments and results"
		}
	}
	if first, _, _ := strings.Cut(imported, "/"); strings.Contains(first, ".") {
		return imported + " is foreign, so nothing here proves it pure; add it to the exceptions with a reason, or do without"
	}
	return ""
}

// folder turns an import path into a folder of this module.
func folder(imported string) (dir string, inside bool) {
	if imported == modulePath {
		return ".", true
	}
	return strings.CutPrefix(imported, modulePath+"/")
}

func TestEveryPackageHasItsPlace(t *testing.T) {
	for dir := range repository(t).packages() {
		if lineOfPackage(dir) < 0 && !slices.Contains(testPackages, dir) {
			t.Errorf("package %s is unknown: add it to the table or to testPackages in internal/lint/layers_test.go, and to docs/ARCHITECTURE.md", dir)
		}
	}
}

func TestTableNamesEachPackageOnce(t *testing.T) {
	seen := map[string]bool{}
	for _, l := range append(slices.Clone(table), line{packages: testPackages}) {
		for _, p := range l.packages {
			if seen[p] || path.Clean(p) != p {
				t.Errorf("package %s is named twice, or not by its clean path", p)
			}
			seen[p] = true
		}
	}
}

func TestImportsFollowTheLayers(t *testing.T) {
	m := repository(t)
	for _, s := range m.sources {
		if s.isTest() || lineOfPackage(s.dir()) < 0 {
			continue
		}
		for _, imported := range s.imports() {
			if problem := checkImport(s.dir(), imported); problem != "" {
				t.Errorf("%s: imports %s: %s", s.path, imported, problem)
			}
		}
	}
}

// TestExceptionsAreUsed keeps the list of exceptions from outliving its need.
// An exception of a package that does not exist yet is not asked for.
func TestExceptionsAreUsed(t *testing.T) {
	used := map[[2]string]bool{}
	packages := repository(t).packages()
	for dir, sources := range packages {
		for _, s := range sources {
			for _, imported := range s.imports() {
				used[[2]string{dir, imported}] = true
			}
		}
	}
	for e := range exceptions {
		if len(packages[e[0]]) > 0 && !used[e] {
			t.Errorf("%s does not import %s any more: remove the exception", e[0], e[1])
		}
	}
}

func TestCheckImport(t *testing.T) {
	const m = modulePath + "/"
	for _, c := range []struct{ dir, imported, problem string }{
		{"internal/ring", m + "kv", ""},
		{"internal/ring", m + "internal/vnode", "not on a line below"},
		{"internal/ring", m + "internal/planted", ""},
		{"internal/vnode", m + "internal/quorum", "not on a line below"},
		{"kv", modulePath, "not on a line below"},
		{".", m + "internal/transport", ""},
		{".", m + "internal/sim", "for tests only"},
		{".", m + "client", "not on a line below"},
		{"internal/sim", m + "internal/transport", ""},
		{"kv/kvtest", m + "kv", ""},
		{"client", m + "internal/ring", "public API only"},
		{"client", m + "internal/server/api", ""},
		{"internal/server/http", modulePath, ""},
		{"internal/server/http", m + "client", "not on a line below"},
		{"cmd/tanodb", m + "internal/server/http", ""},
		{"internal/coordinator", "context", "touches the world"},
		{"internal/coordinator", "net/http", "touches the world"},
		{"internal/coordinator", "sync/atomic", "touches the world"},
		{"internal/coordinator", "log/slog", "touches the world"},
		{"internal/coordinator", "network", ""},
		{"internal/coordinator", "golang.org/x/exp/maps", "foreign"},
		{"internal/coordinator", "encoding/binary", ""},
		{"kv", "context", ""},
		{"kv", "sync", "touches the world"},
		{"storage", "sync", ""},
		{"internal/transport", "net", ""},
		{".", "golang.org/x/sys/unix", ""},
	} {
		got := checkImport(c.dir, c.imported)
		if !strings.Contains(got, c.problem) || c.problem == "" && got != "" {
			t.Errorf("%s imports %s: got %q, want %q", c.dir, c.imported, got, c.problem)
		}
	}
}
