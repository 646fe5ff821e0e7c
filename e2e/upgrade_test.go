package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// agesBack are how many steps of the main line lie between this commit and the one that
// TestRollingUpgrade upgrades from, the largest that can be.
var agesBack = []int{40, 20, 10, 5, 3, 2, 1}

// TestRollingUpgrade takes a cluster from an earlier commit's program to this one, node
// by node and under load, as docs/operations.md says, with one step back on the way.
// Requests fail around the restarts alone, nothing acknowledged is lost, and while the
// versions are mixed each kind of node serves what the other has written.
func TestRollingUpgrade(t *testing.T) {
	needProgram(t)
	old := buildEarlier(t)
	nodes := threeNodes(t, here)
	for _, n := range nodes {
		n.program = old
	}
	start(nodes)
	l := startLoadAt(t, here, "--workers", "8", "--addr", bases(nodes))
	pass(t, between)

	var events []span
	to := func(n *process, program string) {
		t.Helper()
		n.program = program
		events = append(events, restart(n))
		mixed(t, nodes, len(events))
	}
	to(nodes[0], program)
	to(nodes[0], old) // somebody has second thoughts
	for _, n := range nodes {
		to(n, program)
	}
	wantErrorsOnlyAround(t, l.end(), events)
}

// restart stops a node in order, starts it as what it is to be now, and waits until the
// cluster is whole.
func restart(n *process) span {
	n.t.Helper()
	begun := time.Now()
	n.stop()
	start([]*process{n})
	return span{begun, time.Now()}
}

// mixed writes through each node with all replicas, reads it through each, and has the
// topology log carry a change from each to all.
func mixed(t *testing.T, nodes []*process, number int) {
	t.Helper()
	step := fmt.Sprintf("step %d", number)
	must := func(n *process, args ...string) string {
		t.Helper()
		out, errs, code := run(t, append(args, "--addr", n.base())...)
		if code != 0 {
			t.Fatalf("%s, %s: tanodb %s: exit code %d\n%s%s", step, n.name, strings.Join(args, " "), code, out, errs)
		}
		return out
	}
	for i, writer := range nodes {
		key, value := writer.name, step+" by "+writer.name
		must(writer, "put", "upgrade", key, value, "--replace", "-w", "3", "--no-sloppy")
		limit := strconv.Itoa(30 + number*len(nodes) + i) // another one each time
		must(writer, "bucket", "set", "upgrade-"+key, "siblings_maximum="+limit)
		for _, reader := range nodes {
			if got := must(reader, "get", "upgrade", key, "-r", "3", "--no-sloppy"); strings.TrimSpace(got) != value {
				t.Errorf("%s: %s reads %q, which %s has written as %q", step, reader.name, got, writer.name, value)
			}
			if got := must(reader, "bucket", "props", "upgrade-"+key); !strings.Contains(got, limit) {
				t.Errorf("%s: %s does not know that %s has set siblings_maximum to %s:\n%s", step, reader.name, writer.name, limit, got)
			}
		}
	}
	if got := strings.Fields(must(nodes[0], "keys", "upgrade")); len(got) != len(nodes) {
		t.Errorf("%s: the keys are %v", step, got)
	}
}

// buildEarlier builds the program of an earlier commit that speaks a protocol of this
// one, or skips the test: a tree without its history has none.
func buildEarlier(t *testing.T) string {
	t.Helper()
	if out, err := git("rev-parse", "--is-inside-work-tree"); err != nil || strings.TrimSpace(out) != "true" {
		t.Skip("this tree is no git work tree: there is no earlier version to upgrade from")
	}
	commit, err := earlier()
	if errors.Is(err, errNoEarlier) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "earlier")
	archive := filepath.Join(t.TempDir(), "earlier.tar")
	if _, err := git("archive", "--format=tar", "--output", archive, commit); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("tar", "-xf", archive, "-C", dir).CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	path := filepath.Join(programs, "tanodb-earlier")
	// Without the folder's name, what has not changed since then is compiled already.
	cmd := exec.Command("go", "run", "-trimpath", "-exec", "cp", "./cmd/tanodb", path)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building %s: %v\n%s", commit, err, out)
	}
	subject, _ := git("log", "-1", "--format=%h of %cs, %s", commit)
	t.Logf("upgrading from %s", strings.TrimSpace(subject))
	return path
}

// protocolLine is where the sources say which protocols are spoken.
var protocolLine = regexp.MustCompile(`(?m)^\s*(low|high)Protocol\s*=\s*(\d+)\b`)

// protocols are those that the sources of a version speak, from low to high; 0: they do
// not say.
func protocols(source string) (low, high int) {
	for _, m := range protocolLine.FindAllStringSubmatch(source, -1) {
		n, _ := strconv.Atoi(m[2]) // digits, as the pattern says
		if m[1] == "low" {
			low = n
		} else {
			high = n
		}
	}
	return low, high
}

// earlier is the commit to upgrade from: the oldest of a few with which this one has a
// protocol in common. The error says why there is none.
func earlier() (string, error) {
	const file = "internal/transport/hello.go"
	now, err := os.ReadFile(filepath.Join("..", filepath.FromSlash(file)))
	if err != nil {
		return "", err
	}
	low, high := protocols(string(now))
	if low == 0 || high < low {
		return "", fmt.Errorf("%s does not say which protocols are spoken: %d to %d", file, low, high)
	}
	for _, age := range agesBack {
		commit, err := git("rev-parse", "--verify", "--quiet", fmt.Sprintf("HEAD~%d^{commit}", age))
		if err != nil {
			continue // the history, or what is here of it, is not that long
		}
		commit = strings.TrimSpace(commit)
		then, err := git("show", commit+":"+file)
		if err != nil {
			continue
		}
		if l, h := protocols(then); l <= high && h >= low {
			return commit, nil
		}
	}
	return "", errNoEarlier
}

// errNoEarlier is why there may be nothing to upgrade from.
var errNoEarlier = errors.New("no earlier commit is here that speaks a protocol of this one: the clone is shallow, or the protocol is new")

func TestProtocols(t *testing.T) {
	low, high := protocols("const (\n\tlowProtocol  = 5\n\thighProtocol = 16 // a reason\n)\n")
	if low != 5 || high != 16 {
		t.Errorf("%d to %d, want 5 to 16", low, high)
	}
}

// git runs git in the repository.
func git(args ...string) (string, error) {
	cmd := exec.Command("git", args...)
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %w", strings.Join(args, " "), err)
	}
	return string(out), nil
}
