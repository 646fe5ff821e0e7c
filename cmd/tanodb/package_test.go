package main

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/tanodb/tanodb/internal/config"
)

func readDeploy(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "deploy", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// The commands that the unit runs are commands of this program, with options that it has.
func TestUnitRunsWhatThereIs(t *testing.T) {
	unit := readDeploy(t, "systemd/tanodb.service")
	lines := regexp.MustCompile(`(?m)^Exec\w+=/usr/bin/tanodb (.*)$`).FindAllStringSubmatch(unit, -1)
	if len(lines) != 2 {
		t.Fatalf("%d lines run the program", len(lines))
	}
	for _, l := range lines {
		var c cli
		parser, err := newParser(&c, io.Discard, io.Discard, func(int) {})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parser.Parse(strings.Fields(l[1])); err != nil {
			t.Errorf("tanodb %s: %v", l[1], err)
		}
	}
	for _, want := range []string{"User=tanodb", "NoNewPrivileges=yes", "ProtectSystem=strict", "StateDirectory=tanodb", "CapabilityBoundingSet=\n", "Restart=always"} {
		if !strings.Contains(unit, "\n"+want) {
			t.Errorf("the unit has no %s", want)
		}
	}
}

// What containers give by the environment are options, with values that these can have.
func TestContainersGiveOptionsThatThereAre(t *testing.T) {
	inYAML := regexp.MustCompile(`\{name: (TANODB_\w+), value: "?([^"}]*)"?\}`)
	inDocker := regexp.MustCompile(`\b(TANODB_\w+)=(\S+)`)
	manifest, image := readDeploy(t, "kubernetes/tanodb.yaml"), readDeploy(t, "docker/Dockerfile")
	given := append(inYAML.FindAllStringSubmatch(manifest, -1), inDocker.FindAllStringSubmatch(image, -1)...)
	if len(given) < 15 {
		t.Fatalf("%d options are given; the test has read them wrongly", len(given))
	}
	for _, g := range given {
		i := slices.IndexFunc(config.Options, func(o config.Option) bool { return o.Env() == g[1] })
		if i < 0 {
			t.Errorf("%s is no option", g[1])
			continue
		}
		line := "--" + config.Options[i].Name + " " + strings.ReplaceAll(g[2], "$(TANODB_NAME)", "n1")
		if config.Options[i].Name == "auto-join" {
			line += " --listen 0.0.0.0:7098"
		}
		if _, err := settingsFor(t, line); err != nil {
			t.Errorf("%s=%s: %v", g[1], g[2], err)
		}
	}
	for _, probe := range []string{"/healthz", "/readyz"} {
		if strings.Count(manifest, "path: "+probe+",") < 2 {
			t.Errorf("the manifest does not ask for %s", probe)
		}
	}
	if !strings.Contains(image, "\nUSER 65532") || !strings.Contains(manifest, "runAsNonRoot: true") {
		t.Error("a container runs as root")
	}
}

// There is a page for each command that people can see, with its name, its flags and its examples,
// and no line that troff would take for a request.
func TestManPages(t *testing.T) {
	var c cli
	parser, err := newParser(&c, io.Discard, io.Discard, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	nodes := manNodes(parser.Model.Node)
	if len(nodes) < 40 {
		t.Fatalf("%d pages", len(nodes))
	}
	request := regexp.MustCompile(`^\.(TH|SH|TP|B|PP|RS|RE|nf|fi)\b`)
	for _, node := range nodes {
		page := manPage(node)
		for line := range strings.Lines(page) {
			if line[0] == '.' && !request.MatchString(line) || line[0] == '\'' {
				t.Errorf("%s: troff would take %q for a request", manName(node), line)
			}
		}
		if strings.Count(page, "\n.nf\n") != strings.Count(page, "\n.fi\n") {
			t.Errorf("%s: an example does not end", manName(node))
		}
		for _, want := range []string{"\n.SH NAME\n", "\n.SH SYNOPSIS\n", "\n.SH DESCRIPTION\n", `\-\-json`} {
			if !strings.Contains(page, want) {
				t.Errorf("%s: no %q", manName(node), want)
			}
		}
		if strings.Contains(page, "complete ") && node.Name == "complete" {
			t.Error("what is hidden has a page")
		}
	}
	dir := t.TempDir()
	if err := (&manCmd{Dir: dir}).Run(nil, parser); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "tanodb*.1"))
	if err != nil || len(files) != len(nodes) {
		t.Errorf("%d files for %d pages: %v", len(files), len(nodes), err)
	}
	serve, err := os.ReadFile(filepath.Join(dir, "tanodb-serve.1"))
	if err != nil || !strings.Contains(string(serve), `\-\-slow\-request`) {
		t.Errorf("the page of serve does not have its options: %v", err)
	}
}
