package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
)

// table lays out rows in aligned columns, two spaces apart, for people.
type table struct {
	columns int
	b       strings.Builder
	w       *tabwriter.Writer
}

// newTable starts a table with its column names.
func newTable(columns ...string) *table {
	t := &table{columns: len(columns)}
	t.w = tabwriter.NewWriter(&t.b, 0, 0, 2, ' ', 0)
	t.row(columns...)
	return t
}

// row adds a row. Cells that it lacks at its end are empty.
func (t *table) row(cells ...string) {
	for len(cells) < t.columns {
		cells = append(cells, "")
	}
	fmt.Fprintln(t.w, strings.Join(cells, "\t"))
}

// String is the table, a line each row, without blanks at their ends. It ends
// the table.
func (t *table) String() string {
	// A strings.Builder never fails.
	_ = t.w.Flush()
	var out strings.Builder
	for line := range strings.Lines(t.b.String()) {
		out.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	return out.String()
}

// micros shows microseconds with a unit that suits their size.
func micros(us int64) string {
	return brief(time.Duration(us) * time.Microsecond)
}

// brief shows a duration with about three digits.
func brief(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return d.Round(time.Microsecond).String()
	case d < time.Second:
		return d.Round(10 * time.Microsecond).String()
	case d < time.Minute:
		return d.Round(10 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// plural is "1 thing" or "n things".
func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// bytesText shows a number of bytes with a unit that suits its size.
func bytesText(n float64) string {
	units := []string{"KiB", "MiB", "GiB", "TiB"}
	if n < 1<<10 {
		return fmt.Sprintf("%.0f B", n)
	}
	i := -1
	for ; n >= 1<<10 && i < len(units)-1; i++ {
		n /= 1 << 10
	}
	return fmt.Sprintf("%.1f %s", n, units[i])
}
