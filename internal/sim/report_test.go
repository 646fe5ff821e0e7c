package sim

import (
	"bufio"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
)

var publishFrom = flag.String("publish", "", "the file of reports that TestPublish makes the page on reliability of; empty: skip it")

// The page, and the lines that the table stands between.
const (
	reliabilityPage = "../../docs/testing.md"
	tableBegins     = "<!-- reliability: the lines down to the next mark are written by make reliability-report -->"
	tableEnds       = "<!-- reliability: end -->"
)

// TestPublish writes what runs have reported into the page. Nobody types a figure.
func TestPublish(t *testing.T) {
	if *publishFrom == "" {
		t.Skip("no -publish")
	}
	f, err := os.Open(*publishFrom)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []tally
	for sc := bufio.NewScanner(f); sc.Scan(); {
		all = append(all, tally{})
		if err := json.Unmarshal(sc.Bytes(), &all[len(all)-1]); err != nil {
			t.Fatalf("%s: %v", *publishFrom, err)
		}
	}
	page, err := os.ReadFile(reliabilityPage)
	if err != nil {
		t.Fatal(err)
	}
	next, err := withTable(string(page), table(all))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(reliabilityPage, []byte(next), 0o666); err != nil {
		t.Fatal(err)
	}
}

// TestPageHasAPlace holds the page against the marks: the place for the table is there, once.
func TestPageHasAPlace(t *testing.T) {
	page, err := os.ReadFile(reliabilityPage)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := withTable(string(page), ""); err != nil {
		t.Error(err)
	}
}

// TestTable adds up what runs of a kind have reported, and leaves the rest of a page as it is.
func TestTable(t *testing.T) {
	text := table([]tally{
		{Kind: "seeds", Runs: 3, Operations: 1000, Events: 5000, Simulated: 60, Took: 30, Faults: map[string]int{"crashes": 2}},
		{Kind: "seeds", Runs: 4, Operations: 2000, Events: 6000, Simulated: 60, Took: 60, Faults: map[string]int{"crashes": 5, "cuts": 1}},
		{Kind: "lives", Runs: 1, Chapters: 300, Operations: 1_000_000, Events: 7000, Passed: 600, Simulated: 3600, Took: 120, Violations: 1},
		{Kind: "planted", Found: 49, Planted: 50},
	})
	for _, line := range []string{
		"| runs | 7 | 1, of 300 chapters |",
		"| operations | 3,000 | 1,000,000 |",
		"| operations a minute | 2,000 | 500,000 |",
		"| events | 11,000 | 7,000 |",
		"| hours by the clocks | 0 | 601 |",
		"| crashes | 7 | 0 |",
		"| cuts | 1 | 0 |",
		"| **violations** | **0** | **1** |",
		"Planted bugs found: **49 of 50**.",
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("the table has no line %q:\n%s", line, text)
		}
	}
	page := "before\n" + tableBegins + "\nold\n" + tableEnds + "\nafter\n"
	next, err := withTable(page, text)
	if want := "before\n" + tableBegins + "\n" + text + tableEnds + "\nafter\n"; err != nil || next != want {
		t.Errorf("the page becomes %q, %v", next, err)
	}
	if again, err := withTable(next, text); err != nil || again != next {
		t.Errorf("the second time it becomes %q, %v", again, err)
	}
	if _, err := withTable("no mark", text); err == nil {
		t.Error("a page without marks has a place")
	}
}

// withTable puts the table between the marks of a page.
func withTable(page, text string) (string, error) {
	before, rest, begins := strings.Cut(page, tableBegins+"\n")
	_, after, ends := strings.Cut(rest, tableEnds)
	if !begins || !ends {
		return "", fmt.Errorf("the page has no lines %q and %q", tableBegins, tableEnds)
	}
	return before + tableBegins + "\n" + text + tableEnds + after, nil
}

// table sums up the reports, in Markdown.
func table(all []tally) string {
	seeds, lives, bugs := sumOfKind(all, "seeds"), sumOfKind(all, "lives"), sumOfKind(all, "planted")
	var b strings.Builder
	row := func(what, one, other string) { fmt.Fprintf(&b, "| %s | %s | %s |\n", what, one, other) }
	row("", "seeds", "lives")
	row("---", "---", "---")
	row("runs", grouped(seeds.Runs), fmt.Sprintf("%s, of %s chapters", grouped(lives.Runs), grouped(lives.Chapters)))
	row("operations", grouped(seeds.Operations), grouped(lives.Operations))
	row("operations a minute", grouped(seeds.perMinute()), grouped(lives.perMinute()))
	row("events", grouped(int(seeds.Events)), grouped(int(lives.Events)))
	row("hours by the clocks", grouped(seeds.hours()), grouped(lives.hours()))
	for _, kind := range faultKinds {
		row(kind.name, grouped(seeds.Faults[kind.name]), grouped(lives.Faults[kind.name]))
	}
	row("**violations**", "**"+grouped(seeds.Violations)+"**", "**"+grouped(lives.Violations)+"**")
	fmt.Fprintf(&b, "\nPlanted bugs found: **%d of %d**.\n", bugs.Found, bugs.Planted)
	return b.String()
}

func sumOfKind(all []tally, kind string) *tally {
	sum := newTally(kind)
	for i := range all {
		s := &all[i]
		if s.Kind != kind {
			continue
		}
		sum.Runs += s.Runs
		sum.Chapters += s.Chapters
		sum.Operations += s.Operations
		sum.Events += s.Events
		sum.Simulated += s.Simulated
		sum.Passed += s.Passed
		sum.Took += s.Took
		sum.Violations += s.Violations
		sum.Found += s.Found
		sum.Planted += s.Planted
		for what, n := range s.Faults {
			sum.Faults[what] += n
		}
	}
	return sum
}

func (s *tally) perMinute() int { return int(60 * float64(s.Operations) / max(s.Took, 1)) }

func (s *tally) hours() int { return int(math.Round(s.Simulated/3600 + s.Passed)) }

// grouped writes a number with its thousands apart.
func grouped(n int) string {
	digits := fmt.Sprint(n)
	var groups []string
	for len(digits) > 3 {
		groups = append(groups, digits[len(digits)-3:])
		digits = digits[:len(digits)-3]
	}
	groups = append(groups, cmp.Or(digits, "0"))
	slices.Reverse(groups)
	return strings.Join(groups, ",")
}
