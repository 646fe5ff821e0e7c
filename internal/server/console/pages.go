package console

import (
	"bytes"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/internal/server/view"
)

// piecesOf are the pieces of each page that is kept up to date.
var piecesOf = map[string][]string{
	"overview": {"summary", "alerts", "ring", "members", "rates"},
	"activity": {"summary", "alerts", "transfers", "hints", "repair", "tombstones"},
	"ring":     {"summary", "alerts", "ringtable"},
}

// maxRows is how many rows of work a table shows.
const maxRows = 200

var templates = template.Must(template.New("").Funcs(template.FuncMap{
	"prefix":    func() string { return Prefix },
	"hue":       func(i int) string { return "c" + strconv.Itoa(i%palette) },
	"short":     short,
	"ago":       func(d time.Duration) string { return rough(d) },
	"bytes":     bytesText,
	"bytesrate": func(f float64) string { return bytesText(int64(f)) },
	"rate":      rateText,
	"show":      show,
	"join":      func(s []string) string { return strings.Join(s, ", ") },
	"pct":       func(part, of int) string { return fmt.Sprintf("%.0f %%", 100*float64(part)/float64(max(of, 1))) },
	"less":      func(a, b int) int { return a - b },
	"micros":    func(d time.Duration) string { return fmt.Sprintf("%.3f", millis(d)) },
	"quorums":   func() []string { return []string{"one", "quorum", "all"} },
	"keysAt":    keysAt, "watchAt": watchAt,
}).ParseFS(files, "templates/*.html"))

// page is what every page is made of.
type page struct {
	Name   string // of the page, as in the navigation
	Node   string
	Pieces map[string]template.HTML
	Body   any // of the page itself
}

// piece is what the pieces are made of.
type piece struct {
	Snapshot  view.Snapshot
	Members   []view.Member
	Alerts    []view.Alert
	Rates     []view.Rate
	Measuring bool
	Drawing   drawing
	Arcs      []view.Arc
	MoreArcs  int
	Colors    map[string]int
	Moves     []move
	MoreMoves int
	Hints     []view.HintsFor
	HintRows  []tanodb.TransferState
	MoreHints int
	Fills     []tanodb.TransferState
	Up        int
}

// move is a change of owner, with what its next owner says of the copying.
type move struct {
	tanodb.TransferState
	Work tanodb.TransferState
}

// newPiece gathers what the pieces of a moment are made of.
func newPiece(m *moment) *piece {
	s := m.snapshot
	p := &piece{
		Snapshot: s, Members: view.Members(s), Alerts: view.Alerts(s, m.rates), Rates: m.rates, Measuring: m.rates == nil,
		Drawing: draw(s), Arcs: view.Ring(s), Colors: view.Colors(s), Hints: view.HintsByNode(s), Fills: first(view.Fills(s)),
	}
	p.Moves, p.MoreMoves = moves(s)
	p.MoreArcs = max(0, len(p.Arcs)-maxDrawn)
	p.Arcs = p.Arcs[:len(p.Arcs)-p.MoreArcs]
	p.HintRows = view.Hints(s)
	p.MoreHints = max(0, len(p.HintRows)-maxRows)
	p.HintRows = first(p.HintRows)
	for _, m := range p.Members {
		if m.State == view.StateUp {
			p.Up++
		}
	}
	return p
}

func first[T any](all []T) []T { return all[:min(len(all), maxRows)] }

// moves are the changes of owner to show, and how many there are beside.
func moves(s view.Snapshot) (all []move, more int) {
	work := view.Fills(s)
	owners := view.Ownership(s)
	for _, t := range first(owners) {
		v := move{TransferState: t}
		if i := slices.IndexFunc(work, func(w tanodb.TransferState) bool { return w.ID != 0 && w.ID == t.ID }); i >= 0 {
			v.Work = work[i]
		}
		all = append(all, v)
	}
	return all, len(owners) - len(all)
}

// render makes HTML of a template. One that fails is a mistake in it, which the tests of
// all templates would have found.
func render(name string, data any) string {
	var b bytes.Buffer
	if err := templates.ExecuteTemplate(&b, name, data); err != nil {
		return template.HTMLEscapeString("this cannot be shown: " + err.Error())
	}
	return b.String()
}

// write answers with a page.
func (c *Console) write(w http.ResponseWriter, status int, p page) {
	p.Node = c.node.Cluster().Node
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	// Whoever has asked is gone if this fails.
	_, _ = w.Write([]byte(render("page", p)))
}

// live serves a page that is kept up to date.
func (c *Console) live(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		m := c.watcher.now()
		p := page{Name: name, Pieces: map[string]template.HTML{}}
		for _, id := range piecesOf[name] {
			p.Pieces[id] = template.HTML(m.piece(id)) // made by a template
		}
		c.write(w, http.StatusOK, p)
	}
}

// short shows a duration with three digits at most.
func short(d time.Duration) string {
	switch {
	case d == 0:
		return "–"
	case d < time.Millisecond:
		return fmt.Sprintf("%d µs", d.Microseconds())
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.2f ms", millis(d))
	case d < time.Second:
		return fmt.Sprintf("%.0f ms", millis(d))
	}
	return fmt.Sprintf("%.2f s", d.Seconds())
}

// rough shows how long something lasts, in its largest two units.
func rough(d time.Duration) string {
	if d < 0 {
		return "-" + rough(-d)
	}
	s := int64(d / time.Second)
	switch {
	case s < 60:
		return fmt.Sprintf("%d s", s)
	case s < 3600:
		return fmt.Sprintf("%d min %d s", s/60, s%60)
	case s < 86400:
		return fmt.Sprintf("%d h %d min", s/3600, s%3600/60)
	}
	return fmt.Sprintf("%d d %d h", s/86400, s%86400/3600)
}

// bytesText shows a number of bytes in the unit that suits it.
func bytesText(n int64) string {
	f, units := float64(n), []string{"KiB", "MiB", "GiB", "TiB"}
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	i := -1
	for ; f >= 1<<10 && i < len(units)-1; i++ {
		f /= 1 << 10
	}
	return fmt.Sprintf("%.1f %s", f, units[i])
}

// rateText shows a number each second.
func rateText(f float64) string {
	if f < 10 {
		return fmt.Sprintf("%.1f", f)
	}
	return fmt.Sprintf("%.0f", f)
}

// maxShown is how many bytes of a name are shown.
const maxShown = 200

// show is a name for people: as it is, or quoted as in Go where it has bytes that
// would not be seen, or that change what is seen.
func show(s string) string {
	cut := ""
	if len(s) > maxShown {
		s, cut = s[:maxShown], "…"
	}
	if plain(s) {
		return s + cut
	}
	return strconv.QuoteToASCII(s) + cut
}

// plain reports whether a name can be shown, and typed into a form, as it is.
func plain(s string) bool {
	return utf8.ValidString(s) && s != "" && s[0] != '"' && s == strings.TrimSpace(s) &&
		strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}

// query is a page with parameters, those that are not empty.
func query(page string, pairs ...string) string {
	q := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	if len(q) == 0 {
		return Prefix + page
	}
	return Prefix + page + "?" + q.Encode()
}
