package backup

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// parse reads backups such as "a1 a2- b3": of cluster a, whole; the second is not.
func parse(text string) (all []Summary) {
	for _, word := range strings.Fields(text) {
		id := strings.TrimSuffix(word, "-")
		all = append(all, Summary{ID: id[1:], Cluster: id[:1], Began: time.Unix(int64(id[1]-'0'), 0), Whole: id == word})
	}
	return all
}

func TestKeep(t *testing.T) {
	for _, c := range []struct {
		backups string
		newest  int
		since   int64 // second; 0: none
		gone    string
	}{
		{"", 1, 0, ""},
		{"a1", 1, 0, ""},
		{"a1 a2 a3", 1, 0, "1 2"},
		{"a1 a2 a3", 2, 0, "1"},
		{"a1 a2 a3", 9, 0, ""},
		{"a1 a2 a3", 0, 0, "1 2"},       // the newest stays whatever is said
		{"a1 a2 a3-", 1, 0, "1"},        // one that is not whole takes nobody's place
		{"a1 a2- a3", 1, 0, "1 2"},      // and goes when it is older than what stays
		{"a1- a2 a3- a4", 2, 0, "1"},    // and not before
		{"a1- a2-", 1, 0, ""},           // with no whole one nothing goes
		{"a1 b2 b3 a4", 1, 0, "1 2"},    // each cluster for itself
		{"a1 b2", 1, 0, ""},             //
		{"a1 a2 a3 a4", 0, 3, "1 2"},    // by age
		{"a1 a2 a3 a4", 3, 4, "1"},      // what either keeps
		{"a1 a2 a3 a4", 1, 2, "1"},      //
		{"a1 a2 a3", 0, 9, "1 2"},       // nothing is so new
		{"a1 a2 a3-", 0, 3, "1"},        //
		{"b1 a2 a3 b4-", 1, 4, "2"},     //
		{"a1 a2 a3- a4- a5", 2, 0, "1"}, //
	} {
		k := Keep{Newest: c.newest}
		if c.since > 0 {
			k.Since = time.Unix(c.since, 0)
		}
		if _, gone := k.Choose(parse(c.backups)); strings.Join(gone, " ") != c.gone {
			t.Errorf("%+v: %v go", c, gone)
		}
	}
}

// Whatever is kept, the newest whole backup of each cluster is, nothing newer than what stays
// goes, and to prune again removes nothing more.
func TestKeepHoldsOn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var all []Summary
		for i := range rapid.IntRange(0, 12).Draw(t, "backups") {
			all = append(all, Summary{
				ID: fmt.Sprintf("%02d", i), Cluster: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "cluster"),
				Began: time.Unix(int64(i), 0), Whole: rapid.Bool().Draw(t, "whole"),
			})
		}
		k := Keep{Newest: rapid.IntRange(0, 4).Draw(t, "keep")}
		if rapid.Bool().Draw(t, "by age") {
			k.Since = time.Unix(int64(rapid.IntRange(0, 12).Draw(t, "since")), 0)
		}
		stay, gone := k.Choose(all)
		if len(stay)+len(gone) != len(all) {
			t.Fatalf("%d stay, %d go, of %d", len(stay), len(gone), len(all))
		}
		var left []Summary
		for i, b := range all {
			if slices.Contains(stay, b.ID) {
				left = append(left, b)
				continue
			}
			whole := 0
			for _, newer := range all[i+1:] {
				if newer.Cluster == b.Cluster && newer.Whole {
					whole++
				}
			}
			if whole < max(1, k.Newest) && b.Whole || whole == 0 || !k.Since.IsZero() && !b.Began.Before(k.Since) {
				t.Fatalf("%+v goes, and there are %d whole ones that are newer", b, whole)
			}
			for _, older := range all[:i] {
				if older.Cluster == b.Cluster && slices.Contains(stay, older.ID) {
					t.Fatalf("%+v goes, and the older %+v stays", b, older)
				}
			}
		}
		if _, more := k.Choose(left); len(more) > 0 {
			t.Fatalf("once more removes %v", more)
		}
	})
}
