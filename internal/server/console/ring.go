package console

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/tanodb/tanodb/internal/server/view"
	"github.com/tanodb/tanodb/kv"
)

// maxDrawn is how many partitions are drawn, and listed, at most. Of a larger ring one in so many is
// drawn: an arc of less than a dot tells nobody anything.
const maxDrawn = 2048

// palette is how many colours there are for nodes; console.css has them. More nodes share
// them: names tell them apart.
const palette = 12

// The ring as a picture, from the outside in: who will own, who owns, who serves the keys of a
// partition now (one lane for each replica), and for whom data waits. Radii and widths are of
// a view of 400 by 400.
const (
	center     = 200
	nextRadius = 188.0
	nextWidth  = 7
	ownRadius  = 168.0
	ownWidth   = 24
	lanesFrom  = 148.0
	lanesWidth = 42
	hintRadius = 92.0
	hintWidth  = 7
)

// drawing is the ring, ready for the template.
type drawing struct {
	Own    []stroke // one for each partition
	Gone   string   // path over those whose owner is down
	Next   []stroke // one for each colour
	Lanes  []stroke // one for each lane and colour
	Spare  []stroke // path over what stand-ins serve, one for each lane
	Hints  []stroke // one for each colour
	Center []line
	Label  string // all of it in words
}

// line is a line of text in the middle.
type line struct {
	Text    string
	Trouble bool
}

// stroke is some arcs of one colour.
type stroke struct {
	Path  string
	Color int
	Width float64
	Title string
}

// arc is the path of partition i of so many, at a radius. Partitions are drawn apart where
// there is room.
func arc(i, of int, radius float64) string {
	gap := 0.0
	if of <= 256 {
		gap = 0.12
	}
	turn := func(at float64) (x, y float64) {
		sin, cos := math.Sincos(2 * math.Pi * at / float64(of))
		return center + radius*sin, center - radius*cos
	}
	x0, y0 := turn(float64(i) + gap/2)
	x1, y1 := turn(float64(i) + 1 - gap/2)
	return fmt.Sprintf("M%.1f %.1fA%.0f %.0f 0 0 1 %.1f %.1f", x0, y0, radius, radius, x1, y1)
}

// draw makes the picture.
func draw(s view.Snapshot) drawing {
	all, colors := view.Ring(s), view.Colors(s)
	var d drawing
	d.words(s, all)
	arcs, step := thinned(all)
	if step > 1 {
		d.Center = append(d.Center, line{Text: fmt.Sprintf("1 of %d is drawn", step)})
	}
	var gone strings.Builder
	next, hints := map[int]*strings.Builder{}, map[int]*strings.Builder{}
	for i, a := range arcs {
		d.Own = append(d.Own, stroke{Path: arc(i, len(arcs), ownRadius), Color: colors[a.Owner], Title: describe(a)})
		if a.OwnerDown {
			gone.WriteString(arc(i, len(arcs), ownRadius))
		}
		if a.Next != "" {
			collect(next, colors[a.Next], arc(i, len(arcs), nextRadius))
		}
		if len(a.Waiting) > 0 {
			collect(hints, colors[a.Waiting[0]], arc(i, len(arcs), hintRadius))
		}
	}
	d.Gone = gone.String()
	d.Next, d.Hints = strokes(next, nextWidth), strokes(hints, hintWidth)
	d.lanes(arcs, colors)
	return d
}

// thinned is every so many-th arc, and how many that is.
func thinned(all []view.Arc) (arcs []view.Arc, step int) {
	step = (len(all) + maxDrawn - 1) / maxDrawn
	if step <= 1 {
		return all, 1
	}
	for i := 0; i < len(all); i += step {
		arcs = append(arcs, all[i])
	}
	return arcs, step
}

// lanes draws who serves what.
func (d *drawing) lanes(arcs []view.Arc, colors map[string]int) {
	n := 0
	for _, a := range arcs {
		n = max(n, len(a.Replicas))
	}
	for lane := range n {
		width := float64(lanesWidth) / float64(n)
		radius := lanesFrom - width*float64(lane) - width/2
		byColor := map[int]*strings.Builder{}
		var spare strings.Builder
		for i, a := range arcs {
			if lane >= len(a.Replicas) {
				continue
			}
			r := a.Replicas[lane]
			path := arc(i, len(arcs), radius)
			collect(byColor, colors[r.Node], path)
			if r.Role == kv.Fallback {
				spare.WriteString(path)
			}
		}
		d.Lanes = append(d.Lanes, strokes(byColor, width-1)...)
		if spare.Len() > 0 {
			d.Spare = append(d.Spare, stroke{Path: spare.String(), Width: width / 4})
		}
	}
}

func collect(into map[int]*strings.Builder, color int, path string) {
	if into[color] == nil {
		into[color] = &strings.Builder{}
	}
	into[color].WriteString(path)
}

func strokes(byColor map[int]*strings.Builder, width float64) []stroke {
	var all []stroke
	for color, b := range byColor {
		all = append(all, stroke{Path: b.String(), Color: color, Width: width})
	}
	slices.SortFunc(all, func(a, b stroke) int { return a.Color - b.Color })
	return all
}

// describe is a partition in words.
func describe(a view.Arc) string {
	s := fmt.Sprintf("partition %d, owned by %s", a.Index, a.Owner)
	if a.OwnerDown {
		s += ", which is down"
	}
	if a.Next != "" {
		s += fmt.Sprintf("; it goes to %s", a.Next)
	}
	if in := a.StandIns(); len(in) > 0 {
		s += "; for keys that begin here " + strings.Join(in, " and ") + " stands in"
	}
	if len(a.Waiting) > 0 {
		s += "; data waits for " + strings.Join(a.Waiting, ", ")
	}
	return s
}

// words says what the picture shows, in its middle and as a whole.
func (d *drawing) words(s view.Snapshot, arcs []view.Arc) {
	down, routed, moving, waiting := 0, 0, 0, 0
	for _, a := range arcs {
		if a.OwnerDown {
			down++
		}
		if len(a.StandIns()) > 0 {
			routed++
		}
		if a.Next != "" {
			moving++
		}
		if len(a.Waiting) > 0 {
			waiting++
		}
	}
	all := len(arcs)
	d.Center = append(d.Center, line{Text: fmt.Sprintf("%d partitions", all)}, line{Text: fmt.Sprintf("%d copies each", s.Cluster.Replicas)})
	for _, c := range []struct {
		n       int
		what    string
		trouble bool
	}{{down, "owner down", true}, {routed, "routed around", true}, {waiting, "hints wait", true}, {moving, "to move", false}} {
		if c.n > 0 {
			d.Center = append(d.Center, line{fmt.Sprintf("%s: %d", c.what, c.n), c.trouble})
		}
	}
	var words []string
	for _, l := range d.Center {
		words = append(words, l.Text)
	}
	d.Label = fmt.Sprintf("The ring: %s. The page of the ring has the same as a table.", strings.Join(words, ", "))
}
