package compat

import (
	"os"
	"strings"
	"testing"
)

// TestThePageHasTheFeatures compares the tables of docs/compatibility.md with what is
// expected here, row by row.
func TestThePageHasTheFeatures(t *testing.T) {
	page, err := os.ReadFile("../../docs/compatibility.md")
	if err != nil {
		t.Fatal(err)
	}
	for title, name := range map[string]string{"### The official client": "features.json", "### HTTP": "http.json"} {
		want := features(t, name)
		rows := tableBelow(string(page), title)
		for i := range max(len(want), len(rows)) {
			switch {
			case i >= len(rows):
				t.Errorf("%s: no row for %q", title, want[i].Feature)
			case i >= len(want):
				t.Errorf("%s: the row %q is of no feature", title, rows[i])
			case len(rows[i]) != 4 || rows[i][0] != want[i].Feature || rows[i][1] != want[i].At || rows[i][2] != want[i].Verdict:
				t.Errorf("%s: the row %q should be of %+v", title, rows[i], want[i])
			case want[i].Verdict != supported && rows[i][3] == "":
				t.Errorf("%s: %q does not say why", title, want[i].Feature)
			}
		}
	}
}

// tableBelow is the cells of the rows of the first table below a title.
func tableBelow(page, title string) [][]string {
	_, below, _ := strings.Cut(page, title+"\n")
	_, below, _ = strings.Cut(below, "| --- |")
	_, below, _ = strings.Cut(below, "\n")
	var rows [][]string
	for line := range strings.Lines(below) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") {
			break
		}
		var cells []string
		for cell := range strings.SplitSeq(strings.Trim(line, "|"), "|") {
			cells = append(cells, strings.ReplaceAll(strings.TrimSpace(cell), "`", ""))
		}
		rows = append(rows, cells)
	}
	return rows
}
