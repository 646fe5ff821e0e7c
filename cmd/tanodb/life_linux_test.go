package main

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	operations = "../../docs/operations.md"

	// The page loads so many records. The test loads fewer of them, unless TANODB_LIFE
	// says how many.
	lifeRecords, lifeFewer = 100_000, 5_000

	// A command of the page may take so long. It is for what hangs.
	lifePatience = 10 * time.Minute
)

// TestLife does what the first section of operations.md says, command by command, as
// written: a shell for each machine, in a directory of its own, and the same processes. Only this is
// changed, and changed back in what is printed before it is compared with the page:
//
//   - 10.0.0. is 127.A.B., addresses that Linux gives to its own machine;
//   - scp copies from one machine's directory to another's;
//   - 100000 records are fewer; TANODB_LIFE=100000 takes them all.
func TestLife(t *testing.T) {
	if testing.Short() {
		t.Skip("runs eight nodes, one cluster after the other")
	}
	for _, program := range []string{"sh", "awk", "sed", "sort", "cmp", "curl", "base64"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("the page needs %s", program)
		}
	}
	network := fmt.Sprintf("127.%d.%d.", 1+rand.IntN(250), rand.IntN(250))
	l, err := net.Listen("tcp", network+"1:0")
	if err != nil {
		t.Skipf("this machine has no such addresses: %v", err)
	}
	l.Close()
	page, err := os.ReadFile(operations)
	if err != nil {
		t.Fatal(err)
	}
	records := lifeFewer
	if s := os.Getenv("TANODB_LIFE"); s != "" {
		if records, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	life := &wholeLife{
		t: t, dir: t.TempDir(), machines: map[string]*machine{},
		here: strings.NewReplacer("10.0.0.", network, strconv.Itoa(lifeRecords), strconv.Itoa(records)),
		there: strings.NewReplacer(network, "10.0.0.", strconv.Itoa(records), strconv.Itoa(lifeRecords),
			strconv.Itoa(records-1), strconv.Itoa(lifeRecords-1)), // one is deleted
	}
	life.install()
	commands := parseLife(string(page))
	if len(commands) == 0 {
		t.Fatal("the page has no commands")
	}
	for _, c := range commands {
		life.run(c)
	}
}

// order is a command of the page, the machine that it is given to and what it prints.
type order struct {
	machine string // "" is the operator's own
	command
}

var prompt = regexp.MustCompile(`^(n[0-9]+)?\$ (.*)`)

// parseLife collects the commands of the blocks that are marked console. A command ends
// with its line, unless that ends in a backslash, or within quotes.
func parseLife(page string) []order {
	var all []order
	for _, b := range blocks(page) {
		if b.mark != "console" {
			continue
		}
		open := false // the last command has not ended yet
		for i, line := range strings.Split(strings.TrimSuffix(b.text, "\n"), "\n") {
			m := prompt.FindStringSubmatch(line)
			switch {
			case open:
				all[len(all)-1].text += "\n" + line
			case m != nil:
				all = append(all, order{machine: m[1], command: command{line: b.line + i, text: m[2]}})
			default:
				last := &all[len(all)-1]
				last.want = append(last.want, line)
				continue
			}
			text := all[len(all)-1].text
			_, err := shellWords(text)
			open = err != nil || strings.HasSuffix(text, `\`)
		}
	}
	return all
}

// wholeLife is the life of a cluster, as the page tells it.
type wholeLife struct {
	t           *testing.T
	dir         string // of the machines, and of the programs that they share
	machines    map[string]*machine
	here, there *strings.Replacer // from the page to this machine, and back
}

// machine is a shell in a directory of its own.
type machine struct {
	in  io.Writer
	out *bufio.Reader
}

// install makes what the machines share, an scp that knows where they are, and gives the
// program to the operator.
func (l *wholeLife) install() {
	l.t.Helper()
	const scp = `#!/bin/sh
# scp [-r] FROM... MACHINE:
for last; do :; done
while [ $# -gt 1 ]; do
	[ "$1" = -r ] || cp -pr "$1" "$MACHINES/${last%%:*}/" || exit
	shift
done
`
	program, err := exec.LookPath("tanodb")
	if err != nil {
		l.t.Fatal(err)
	}
	bin := filepath.Join(l.dir, "bin")
	for _, err := range []error{
		os.MkdirAll(filepath.Join(l.dir, "m", "n1"), 0o755),
		os.Mkdir(filepath.Join(l.dir, "m", "n2"), 0o755),
		os.Mkdir(filepath.Join(l.dir, "m", "n3"), 0o755),
		os.Mkdir(filepath.Join(l.dir, "m", "n4"), 0o755),
		os.Symlink(program, filepath.Join(l.dir, "m", "tanodb")),
		os.Mkdir(bin, 0o755),
		os.WriteFile(filepath.Join(bin, "scp"), []byte(scp), 0o755),
	} {
		if err != nil {
			l.t.Fatal(err)
		}
	}
}

// on is the shell of a machine, which is started when it is first needed.
func (l *wholeLife) on(name string) *machine {
	l.t.Helper()
	if m := l.machines[name]; m != nil {
		return m
	}
	cmd := exec.Command("sh")
	cmd.Dir = filepath.Join(l.dir, "m", name)
	cmd.Env = append(os.Environ(), "MACHINES="+filepath.Join(l.dir, "m"), "HOME="+cmd.Dir, "PATH="+filepath.Join(l.dir, "bin")+":"+os.Getenv("PATH"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // what it has started ends with it
	in, err := cmd.StdinPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	out, w, err := os.Pipe()
	if err != nil {
		l.t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	w.Close()
	l.t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
		out.Close()
		if l.t.Failed() {
			l.showLogs(cmd.Dir)
		}
	})
	l.machines[name] = &machine{in: in, out: bufio.NewReader(out)}
	return l.machines[name]
}

// showLogs shows how the logs of a machine end.
func (l *wholeLife) showLogs(dir string) {
	const most = 4000 // bytes
	logs, _ := filepath.Glob(filepath.Join(dir, "*.log"))
	for _, name := range logs {
		b, err := os.ReadFile(name)
		l.t.Logf("%s: %v\n%s", name, err, b[max(0, len(b)-most):])
	}
}

// run gives a command to its machine and compares what it prints. One that fails must
// have been said to: it prints a line that begins with "tanodb: ".
func (l *wholeLife) run(o order) {
	l.t.Helper()
	m := l.on(o.machine)
	begun := time.Now()
	type answer struct {
		text string
		err  error
	}
	answers := make(chan answer, 1)
	go func() {
		text, err := m.out.ReadString(separator[0])
		answers <- answer{text, err}
	}()
	if _, err := fmt.Fprintf(m.in, "%s\nprintf '\\n%%d\\036' $?\n", l.here.Replace(o.text)); err != nil {
		l.t.Fatalf("operations.md:%d: %v", o.line, err)
	}
	var got string
	select {
	case a := <-answers:
		if got = a.text; a.err != nil {
			l.t.Fatalf("operations.md:%d: %s: the shell has ended: %v\n%s", o.line, o.text, a.err, got)
		}
	case <-time.After(lifePatience):
		l.t.Fatalf("operations.md:%d: %s: has not ended after %v", o.line, o.text, lifePatience)
	}
	got, code := cutCode(strings.TrimSuffix(got, separator))
	got = l.there.Replace(got)
	l.t.Logf("%s$ %s (%v)\n%s", o.machine, o.text, time.Since(begun).Round(time.Millisecond), got)
	if fails := strings.Contains(strings.Join(o.want, "\n"), "tanodb: "); fails != (code != "0") {
		l.t.Fatalf("operations.md:%d: %s$ %s\nends with exit code %s, and prints\n%s", o.line, o.machine, o.text, code, got)
	}
	if !agrees(o.want, strings.Split(strings.TrimRight(got, "\n"), "\n")) {
		l.t.Errorf("operations.md:%d: %s$ %s\nprints\n%s\nand the page says\n%s", o.line, o.machine, o.text, got, strings.Join(o.want, "\n"))
	}
}

// cutCode takes the exit code off the end of what a command has printed, and what some
// shells say of a job that was killed.
func cutCode(out string) (text, code string) {
	i := strings.LastIndexByte(out, '\n')
	var lines []string
	for _, line := range strings.Split(out[:i], "\n") {
		if !killedJob.MatchString(line) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n"), out[i+1:]
}

var killedJob = regexp.MustCompile(`^(sh: .*|\[[0-9]+\].*)?\bKilled\b`)
