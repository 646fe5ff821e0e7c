package pb

import (
	"os"
	"regexp"
	"strconv"
	"testing"
)

// TestThePageListsWhatIsServed compares the table of docs/compatibility.md with
// the handlers.
func TestThePageListsWhatIsServed(t *testing.T) {
	page, err := os.ReadFile("../../../docs/compatibility.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("(?m)^\\| (\\d+)(?:–(\\d+))? \\| `(\\w+)` \\| ([a-z ]+) \\|")
	type said struct{ name, served string }
	rows := map[int]said{}
	for _, m := range row.FindAllStringSubmatch(string(page), -1) {
		first, _ := strconv.Atoi(m[1]) // they are digits
		last := first
		if m[2] != "" {
			last, _ = strconv.Atoi(m[2])
		}
		for code := first; code <= last; code++ {
			rows[code] = said{m[3], m[4]}
		}
	}
	for code, h := range handlers {
		r, ok := rows[code]
		switch {
		case r.served == "answer" && h.name == "":
		case ok != (h.name != "") || r.name != h.name:
			t.Errorf("code %d: the page says %q, the server %q", code, r.name, h.name)
		case ok && (r.served == "no") != (h.serve == nil):
			t.Errorf("code %d, %s: the page says %q", code, h.name, r.served)
		}
	}
}
