package lint

import (
	"encoding/json"
	"flag"
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

// deadcode turns on the search for dead code. It needs the whole program in
// memory and takes its time, so that a plain "go test ./..." leaves it out;
// "make lint", and with it CI, asks for it.
var deadcode = flag.Bool("deadcode", false, "search the whole program for functions that nothing reaches")

// allowed are functions that nothing reaches and that stay all the same: each
// with the reason.
var allowed = map[string]string{}

// deadPackage is what the tool deadcode prints of a package, as JSON.
type deadPackage struct {
	Path  string
	Funcs []struct {
		Name     string
		Position struct {
			File string
			Line int
		}
	}
}

// checkDead returns the functions that are dead and not allowed to be, and
// those that are allowed and not dead.
func checkDead(dead []deadPackage, allowed map[string]string) []string {
	var findings []string
	used := map[string]bool{}
	for _, p := range dead {
		dir, _ := folder(p.Path)
		for _, f := range p.Funcs {
			name := dir + "." + f.Name
			if allowed[name] != "" {
				used[name] = true
				continue
			}
			findings = append(findings, fmt.Sprintf("%s:%d: neither a program nor a test reaches %s: remove it, or test it if it is public", f.Position.File, f.Position.Line, name))
		}
	}
	for name := range allowed {
		if !used[name] {
			findings = append(findings, name+" is reached, or gone: it needs no allowance")
		}
	}
	return findings
}

func TestNoDeadCode(t *testing.T) {
	if !*deadcode {
		t.Skip("asked for with -deadcode")
	}
	cmd := exec.Command("go", "tool", "deadcode", "-test", "-json", "./...")
	cmd.Dir = repository(t).root
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("deadcode: %v\n%s", err, complaint.String())
	}
	var dead []deadPackage
	if err := json.Unmarshal(out, &dead); err != nil {
		t.Fatal(err)
	}
	report(t, checkDead(dead, allowed))
}

func TestCheckDead(t *testing.T) {
	var dead []deadPackage
	const found = `[{"Path": "` + modulePath + `/kv", "Funcs": [{"Name": "Key.f", "Position": {"File": "kv/kv.go", "Line": 7}}]}]`
	if err := json.Unmarshal([]byte(found), &dead); err != nil {
		t.Fatal(err)
	}
	expect(t, checkDead(nil, nil))
	expect(t, checkDead(dead, nil), "kv/kv.go:7: neither")
	expect(t, checkDead(dead, map[string]string{"kv.Key.f": "for a reason"}))
	expect(t, checkDead(nil, map[string]string{"kv.Key.f": "for a reason"}), "kv.Key.f is reached, or gone")
}
