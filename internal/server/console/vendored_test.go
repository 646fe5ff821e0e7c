package console

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strings"
	"testing"
)

// TestFilesOfOthersAreUnchanged compares the libraries with what their README says.
func TestFilesOfOthersAreUnchanged(t *testing.T) {
	const folder = "static/vendored"
	table, err := files.ReadFile(folder + "/README.md")
	if err != nil {
		t.Fatal(err)
	}
	sums := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+)` .* `([0-9a-f]{64})` \\|$").FindAllStringSubmatch(string(table), -1) {
		sums[row[1]] = row[2]
	}
	entries, err := files.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".js") && !strings.HasSuffix(e.Name(), ".css") {
			continue
		}
		body, err := files.ReadFile(folder + "/" + e.Name())
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(body)
		if got := hex.EncodeToString(sum[:]); got != sums[e.Name()] {
			t.Errorf("%s has checksum %s, and the README says %q", e.Name(), got, sums[e.Name()])
		}
		delete(sums, e.Name())
	}
	for name := range sums {
		t.Errorf("%s is in the README, and not in the folder", name)
	}
}
