// Package deploy checks what TanoDB is installed by: the unit of systemd, the image, the
// manifests of Kubernetes, and the script that builds a release.
package deploy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/tanodb/tanodb/internal/config"
)

// read is a file of this folder.
func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.FromSlash(path))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// load is the configuration of a node with a file and an environment, in which every
// variable must be that of an option, or TANODB_CONFIG, as serve has it.
func load(t *testing.T, file string, env map[string]string) *config.Config {
	t.Helper()
	known := map[string]bool{"TANODB_CONFIG": true}
	for _, o := range config.Options {
		known[o.Env()] = true
	}
	for name := range env {
		if strings.HasPrefix(name, "TANODB_") && !known[name] {
			t.Errorf("%s is the variable of no option", name)
		}
	}
	c, err := config.Load(config.Input{Path: "tanodb.toml", Text: []byte(file), Env: func(name string) (string, bool) {
		text, ok := env[name]
		return text, ok
	}})
	if err != nil {
		t.Fatalf("%v\nwith %s%v", err, file, env)
	}
	if err := c.Exposed(); err != nil {
		t.Errorf("the node does not start: %v", err)
	}
	return c
}

// sections are the assignments of a unit, by section.
func sections(t *testing.T, unit string) map[string]map[string][]string {
	t.Helper()
	all := map[string]map[string][]string{}
	var in map[string][]string
	for i, line := range strings.Split(unit, "\n") {
		name, value, assigns := strings.Cut(line, "=")
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "[") && strings.HasSuffix(line, "]"):
			in = map[string][]string{}
			all[line] = in
		case in == nil || !assigns:
			t.Fatalf("line %d is neither a section nor an assignment: %s", i+1, line)
		default:
			in[name] = append(in[name], value)
		}
	}
	return all
}

// TestUnit reads the unit: what it runs, and that the node may end in its own time.
func TestUnit(t *testing.T) {
	t.Parallel()
	unit := sections(t, read(t, "systemd/tanodb.service"))
	service := unit["[Service]"]
	one := func(name string) string {
		if len(service[name]) != 1 {
			t.Fatalf("%s is given %d times", name, len(service[name]))
		}
		return service[name][0]
	}
	start := strings.Fields(one("ExecStart"))
	if start[0] != "/usr/bin/tanodb" || start[1] != "serve" {
		t.Errorf("it runs %v", start)
	}
	for _, word := range start[2:] {
		if name, flag := strings.CutPrefix(word, "--"); flag && name != "config" {
			name, _, _ = strings.Cut(name, "=")
			if _, ok := config.Lookup(name); !ok {
				t.Errorf("there is no option %s", word)
			}
		}
	}
	stop, err := time.ParseDuration(one("TimeoutStopSec"))
	if err != nil {
		t.Fatal(err)
	}
	if drain := load(t, "", nil).Drain; stop < 2*drain {
		t.Errorf("systemd kills the node after %v, and requests may take %v to end", stop, drain)
	}
	if got := one("Restart"); got != "on-failure" {
		t.Errorf("Restart is %s, and a node that has left must stay down", got)
	}
	for name, want := range map[string]string{
		"User": "tanodb", "StateDirectory": "tanodb", "ProtectSystem": "strict", "NoNewPrivileges": "yes",
		"CapabilityBoundingSet": "", "PrivateDevices": "yes", "ProtectHome": "yes", "MemoryDenyWriteExecute": "yes",
	} {
		if got := one(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if unit["[Install]"]["WantedBy"] == nil {
		t.Error("it cannot be enabled")
	}
}

// TestUnitIsVerified asks systemd itself, where it is.
func TestUnitIsVerified(t *testing.T) {
	t.Parallel()
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("there is no systemd-analyze")
	}
	// Only a program that exists is verified; this one stands for the binary.
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	unit := filepath.Join(t.TempDir(), "tanodb.service")
	text := strings.Replace(read(t, "systemd/tanodb.service"), "/usr/bin/tanodb", self, 1)
	if err := os.WriteFile(unit, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(analyze, "verify", "--man=no", unit).CombinedOutput()
	if err != nil || len(bytes.TrimSpace(out)) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

// TestDockerfile reads the image: who it runs as, with which options, and that it takes
// all that the build needs.
func TestDockerfile(t *testing.T) {
	t.Parallel()
	text := strings.ReplaceAll(read(t, "docker/Dockerfile"), "\\\n", " ")
	last := text[strings.LastIndex(text, "\nFROM "):]
	env := map[string]string{}
	given := map[string]bool{}
	for _, line := range strings.Split(last, "\n") {
		instruction, rest, _ := strings.Cut(line, " ")
		given[instruction] = true
		switch instruction {
		case "ENV":
			for _, word := range strings.Fields(rest) {
				name, value, _ := strings.Cut(word, "=")
				env[name] = value
			}
		case "USER":
			if strings.HasPrefix(rest, "0") || strings.HasPrefix(rest, "root") {
				t.Errorf("the user is %s", rest)
			}
		case "FROM":
			if rest != "scratch" {
				t.Errorf("the last stage is made from %s", rest)
			}
		}
	}
	for _, instruction := range []string{"USER", "VOLUME", "HEALTHCHECK", "ENTRYPOINT", "CMD"} {
		if !given[instruction] {
			t.Errorf("there is no %s", instruction)
		}
	}
	if c := load(t, "", env); c.Dir != "/data" || c.HTTP != "0.0.0.0:8098" {
		t.Errorf("the node's directory is %s, and it listens at %s", c.Dir, c.HTTP)
	}
	sent := read(t, "docker/Dockerfile.dockerignore")
	for _, folder := range []string{"client", "cmd", "internal", "kv", "storage"} {
		if _, err := os.Stat(filepath.Join("..", folder)); err != nil || !strings.Contains(sent, "\n!"+folder+"\n") {
			t.Errorf("the build is not sent %s (%v)", folder, err)
		}
	}
}

// object is a document of the manifests, as far as they are looked at.
type object struct {
	Kind     string            `yaml:"kind"`
	Version  string            `yaml:"apiVersion"`
	Metadata meta              `yaml:"metadata"`
	Data     map[string]string `yaml:"data"`
	Spec     struct {
		Ingress        []rule             `yaml:"ingress"`
		ClusterIP      string             `yaml:"clusterIP"`
		NotReady       bool               `yaml:"publishNotReadyAddresses"`
		Replicas       int                `yaml:"replicas"`
		ServiceName    string             `yaml:"serviceName"`
		MaxUnavailable int                `yaml:"maxUnavailable"`
		Ports          []port             `yaml:"ports"`
		Selector       map[string]any     `yaml:"selector"`
		Template       struct{ Spec pod } `yaml:"template"`
	} `yaml:"spec"`
}

type meta struct {
	Name   string            `yaml:"name"`
	Labels map[string]string `yaml:"labels"`
}

type port struct {
	Name   string `yaml:"name"`
	Port   int    `yaml:"port"`
	Target string `yaml:"targetPort"`
	Inside int    `yaml:"containerPort"`
}

// rule is who may reach which ports, by their names.
type rule struct {
	From  []map[string]any `yaml:"from"`
	Ports []struct {
		Port string `yaml:"port"`
	} `yaml:"ports"`
}

type pod struct {
	Grace    int `yaml:"terminationGracePeriodSeconds"`
	Affinity struct {
		Anti map[string]any `yaml:"podAntiAffinity"`
	} `yaml:"affinity"`
	Security struct {
		NonRoot bool `yaml:"runAsNonRoot"`
	} `yaml:"securityContext"`
	Containers []struct {
		Args []string `yaml:"args"`
		Env  []struct {
			Name  string `yaml:"name"`
			Value string `yaml:"value"`
			From  struct {
				Field struct {
					Path string `yaml:"fieldPath"`
				} `yaml:"fieldRef"`
			} `yaml:"valueFrom"`
		} `yaml:"env"`
		Ports     []port `yaml:"ports"`
		Liveness  probe  `yaml:"livenessProbe"`
		Readiness probe  `yaml:"readinessProbe"`
		Startup   probe  `yaml:"startupProbe"`
		Lifecycle struct {
			PreStop struct {
				Sleep struct {
					Seconds int `yaml:"seconds"`
				} `yaml:"sleep"`
			} `yaml:"preStop"`
		} `yaml:"lifecycle"`
	} `yaml:"containers"`
}

type probe struct {
	Get struct {
		Path string `yaml:"path"`
		Port string `yaml:"port"`
	} `yaml:"httpGet"`
}

// manifests are the documents by kind and name. None is lost by a key that is twice: the
// parser refuses it.
func manifests(t *testing.T) map[string]object {
	t.Helper()
	all := map[string]object{}
	for d := yaml.NewDecoder(strings.NewReader(read(t, "kubernetes/tanodb.yaml"))); ; {
		var o object
		err := d.Decode(&o)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if o.Version == "" || o.Metadata.Labels["app"] != "tanodb" {
			t.Errorf("%s %s has no version, or is not labelled", o.Kind, o.Metadata.Name)
		}
		all[o.Kind+" "+o.Metadata.Name] = o
	}
}

// TestManifests reads them all, and starts each pod as far as its configuration goes.
func TestManifests(t *testing.T) {
	t.Parallel()
	all := manifests(t)
	set := all["StatefulSet tanodb"]
	pod := set.Spec.Template.Spec
	if len(pod.Containers) != 1 {
		t.Fatalf("the stateful set has %d containers", len(pod.Containers))
	}
	c := pod.Containers[0]
	named := map[string]int{}
	for _, p := range c.Ports {
		named[p.Name] = p.Inside
	}
	for _, service := range []string{"Service tanodb", "Service tanodb-client"} {
		for _, p := range all[service].Spec.Ports {
			if named[p.Target] != p.Port {
				t.Errorf("%s: port %d leads to %s, which is %d", service, p.Port, p.Target, named[p.Target])
			}
		}
	}
	if s := all["Service tanodb"].Spec; s.ClusterIP != "None" || !s.NotReady || set.Spec.ServiceName != "tanodb" {
		t.Errorf("nodes do not find each other by name before they are ready: %+v", s)
	}
	if got := all["PodDisruptionBudget tanodb"].Spec.MaxUnavailable; got != 1 {
		t.Errorf("%d nodes may be away", got)
	}
	if pod.Affinity.Anti == nil || !pod.Security.NonRoot || c.Args[0] != "serve" {
		t.Errorf("pods may share a machine, or run as root, or do not serve: %+v", pod)
	}
	for _, p := range []probe{c.Liveness, c.Readiness, c.Startup} {
		if named[p.Get.Port] == 0 || !served(t, p.Get.Path) {
			t.Errorf("nothing serves the probe %+v", p.Get)
		}
	}
	for _, r := range all["NetworkPolicy tanodb"].Spec.Ingress {
		if len(r.From) == 0 {
			t.Errorf("anybody may reach %v", r.Ports)
		}
		for _, p := range r.Ports {
			if named[p.Port] == 0 {
				t.Errorf("the policy names a port %q", p.Port)
			}
			delete(named, p.Port)
		}
	}
	if len(named) > 0 {
		t.Errorf("nobody may reach %v", named)
	}
	startPods(t, set, all["ConfigMap tanodb"].Data)
}

// startPods has each pod that there is a file for configured: with its environment and
// its file a node begins the cluster, or joins it, under its own name.
func startPods(t *testing.T, set object, files map[string]string) {
	t.Helper()
	pod := set.Spec.Template.Spec
	stop := pod.Containers[0].Lifecycle.PreStop.Sleep.Seconds
	first := fmt.Sprintf("tanodb-%d.toml", set.Spec.Replicas)
	for i := range len(files) {
		name := fmt.Sprintf("tanodb-%d", i)
		env := podEnv(name, pod)
		file, ok := files[strings.TrimPrefix(env["TANODB_CONFIG"], "/etc/tanodb/")]
		if !ok {
			t.Fatalf("pod %s has no file %s", name, env["TANODB_CONFIG"])
		}
		node := load(t, file, env)
		if node.Name != name || node.Advertise != name+".tanodb:7098" {
			t.Errorf("pod %s is node %s at %s", name, node.Name, node.Advertise)
		}
		if begins := i < set.Spec.Replicas; begins != (len(node.Bootstrap) == set.Spec.Replicas) || begins == (len(node.AutoJoin) > 0) {
			t.Errorf("pod %s begins a cluster by %v, and joins one at %v", name, node.Bootstrap, node.AutoJoin)
		}
		for _, m := range node.Members() {
			if m.Address != m.Name+".tanodb:7098" {
				t.Errorf("the file of %s names %s at %s", name, m.Name, m.Address)
			}
		}
		if most := time.Duration(pod.Grace-stop) * time.Second; most < 2*node.Drain {
			t.Errorf("pod %s is killed after %v, and requests may take %v to end", name, most, node.Drain)
		}
	}
	if _, ok := files[first]; !ok {
		t.Errorf("the set cannot grow: %s is missing", first)
	}
}

// podEnv is the environment of a pod.
func podEnv(name string, p pod) map[string]string {
	env := map[string]string{}
	for _, e := range p.Containers[0].Env {
		if e.From.Field.Path == "metadata.name" {
			e.Value = name
		}
		// A variable names only those before it, as in Kubernetes.
		env[e.Name] = os.Expand(strings.NewReplacer("$(", "${", ")", "}").Replace(e.Value), func(v string) string { return env[v] })
	}
	return env
}

// served reports whether the HTTP server has the path among its resources.
func served(t *testing.T, path string) bool {
	t.Helper()
	row := regexp.MustCompile(`(?m)^\t"` + regexp.QuoteMeta(strings.TrimPrefix(path, "/")) + `": +\w+,$`)
	return row.MatchString(read(t, "../internal/server/http/path.go"))
}
