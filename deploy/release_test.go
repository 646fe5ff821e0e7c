package deploy

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// platforms are what TestRelease builds for besides this machine's Linux, which takes
// minutes: go test ./deploy -platforms windows/amd64,darwin/arm64
var platforms = flag.String("platforms", "", "more platforms that TestRelease builds for, with commas between them")

// release runs the script, and returns the folder that it has filled.
func release(t *testing.T, platforms ...string) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("bash", append([]string{"release.sh", "v1.2.3-rc.1", dir}, platforms...)...)
	cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1700000000")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("release.sh: %v\n%s", err, out)
	}
	return dir
}

// TestRelease builds a release for Linux, twice, and looks at what is in it.
func TestRelease(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program twice")
	}
	if runtime.GOOS != "linux" {
		t.Skip("the script needs GNU tar")
	}
	arch := runtime.GOARCH
	all := []string{"linux/" + arch}
	if *platforms != "" {
		all = append(all, strings.Split(*platforms, ",")...)
	}
	dir := release(t, all...)
	binary := filepath.Join(dir, "tanodb-v1.2.3-rc.1-linux-"+arch)
	out, err := exec.Command(binary, "version").CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "tanodb v1.2.3-rc.1\n") && !strings.HasPrefix(string(out), "tanodb v1.2.3-rc.1, commit ") {
		t.Errorf("tanodb version: %v\n%s", err, out)
	}
	check := exec.Command("sha256sum", "--check", "--strict", "SHA256SUMS")
	check.Dir = dir
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("the checksums: %v\n%s", err, out)
	}
	again := release(t, "linux/"+arch)
	for _, name := range []string{filepath.Base(binary), "tanodb_1.2.3-rc.1_" + arch + ".deb"} {
		if !bytes.Equal(contents(t, dir, name), contents(t, again, name)) {
			t.Errorf("%s is not the same the second time", name)
		}
	}
	inspect(t, filepath.Join(dir, "tanodb_1.2.3-rc.1_"+arch+".deb"), binary)
}

func contents(t *testing.T, dir, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// inspect looks at a package with Debian's own tool, where it is, and installs nothing.
func inspect(t *testing.T, deb, binary string) {
	t.Helper()
	if _, err := exec.LookPath("dpkg-deb"); err != nil {
		t.Log("the package is not inspected: there is no dpkg-deb")
		return
	}
	say := func(args ...string) string {
		out, err := exec.Command("dpkg-deb", args...).CombinedOutput()
		if err != nil {
			t.Fatalf("dpkg-deb %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	if got := say("--field", deb, "Version"); got != "1.2.3~rc.1\n" {
		t.Errorf("the version is %s", got)
	}
	if info := say("--info", deb); !strings.Contains(info, "conffiles") || !strings.Contains(info, "postinst") || !strings.Contains(info, "Architecture: "+runtime.GOARCH) {
		t.Errorf("the package is\n%s", info)
	}
	root := t.TempDir()
	say("--extract", deb, root)
	say("--control", deb, filepath.Join(root, "DEBIAN"))
	for _, path := range []string{
		"usr/lib/systemd/system/tanodb.service", "usr/share/man/man1/tanodb.1.gz", "usr/share/doc/tanodb/copyright",
		"usr/share/bash-completion/completions/tanodb", "usr/share/zsh/vendor-completions/_tanodb", "usr/share/fish/vendor_completions.d/tanodb.fish",
	} {
		if len(contents(t, root, path)) == 0 {
			t.Errorf("%s is empty", path)
		}
	}
	if got := string(contents(t, root, "DEBIAN/conffiles")); got != "/etc/tanodb/tanodb.toml\n" {
		t.Errorf("kept when changed: %s", got)
	}
	if c := load(t, string(contents(t, root, "etc/tanodb/tanodb.toml")), nil); c.Dir != "/var/lib/tanodb" {
		t.Errorf("the node of the package keeps its data in %s", c.Dir)
	}
	if !bytes.Equal(contents(t, root, "usr/bin/tanodb"), contents(t, filepath.Dir(binary), filepath.Base(binary))) {
		t.Error("the package has another binary")
	}
	sums := exec.Command("md5sum", "--check", "--strict", "--quiet", "DEBIAN/md5sums")
	sums.Dir = root
	if out, err := sums.CombinedOutput(); err != nil {
		t.Errorf("the package's own sums: %v\n%s", err, out)
	}
	for _, script := range []string{"postinst", "prerm", "postrm"} {
		if out, err := exec.Command("sh", "-n", filepath.Join(root, "DEBIAN", script)).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", script, err, out)
		}
	}
}
