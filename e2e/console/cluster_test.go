package console

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/tanodb/tanodb/internal/testports"
)

// program is built once, when the first test needs it.
var program = sync.OnceValues(func() (string, error) {
	if err := seeSources(); err != nil {
		return "", err
	}
	path := filepath.Join(folder, "tanodb")
	// Unlike go build, go run keeps what it has linked for others who need the same.
	if out, err := exec.Command("go", "run", "-exec", "cp", "github.com/tanodb/tanodb/cmd/tanodb", path).CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return path, nil
})

// seeSources reads all folders of the module. "go test" takes note of what tests read, and
// could not know otherwise that these depend on the sources of the program.
func seeSources() error {
	const root = "../.."
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != root {
			return fs.SkipDir
		}
		return err
	})
}

// folder holds the program.
var folder string

func TestMain(m *testing.M) {
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	var err error
	if folder, err = os.MkdirTemp("", "tanodb-console-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(folder)
	return m.Run()
}

// cluster is a running "tanodb dev".
type cluster struct {
	t       *testing.T
	program string
	dir     string
	bases   []string // URLs
}

// start starts a cluster of so many nodes; there is room for two more.
func start(t *testing.T, nodes int, flags ...string) *cluster {
	t.Helper()
	if testing.Short() {
		t.Skip("starts real processes and a browser")
	}
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, program: path, dir: filepath.Join(t.TempDir(), "dev")}
	var said bytes.Buffer
	base, err := testports.Console.Take(2 * (nodes + 2))
	if err != nil {
		t.Fatal(err)
	}
	dev := exec.Command(path, append([]string{"dev", "--dir", c.dir, "--nodes", strconv.Itoa(nodes), "--base-port", strconv.Itoa(base)}, flags...)...)
	dev.Stdout, dev.Stderr = &said, &said
	if err := dev.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = dev.Process.Signal(os.Interrupt)
		if err := dev.Wait(); err != nil {
			t.Errorf("tanodb dev: %v\n%s", err, said.String())
		}
	})
	c.run("dev", "status", "--dir", c.dir, "--wait", patience.String())
	c.look()
	return c
}

// look reads where the nodes are.
func (c *cluster) look() {
	c.t.Helper()
	var processes []struct{ HTTP string }
	if err := json.Unmarshal([]byte(c.run("dev", "status", "--dir", c.dir, "--json")), &processes); err != nil {
		c.t.Fatal(err)
	}
	c.bases = nil
	for _, p := range processes {
		c.bases = append(c.bases, p.HTTP)
	}
}

// run runs the program, which has to succeed.
func (c *cluster) run(args ...string) string {
	c.t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.Command(c.program, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		c.t.Fatalf("tanodb %s: %v\n%s%s", strings.Join(args, " "), err, out.String(), errs.String())
	}
	return out.String()
}

// dev does something to a node.
func (c *cluster) dev(action string, nodes ...string) {
	c.t.Helper()
	c.run(append([]string{"dev", action, "--dir", c.dir}, nodes...)...)
}

// put writes a value through the first node.
func (c *cluster) put(bucket, key, value string) {
	c.t.Helper()
	c.run("put", bucket, key, value, "--addr", c.bases[0])
}
