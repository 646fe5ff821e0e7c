package main

import (
	"context"
	"errors"
	"fmt"
	"image/color"
	"net/http"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/internal/server/api"
	"github.com/tanodb/tanodb/internal/server/view"
)

type topCmd struct {
	Node  string        `help:"Show the load and the work of this node only; none: those of all." placeholder:"NAME"`
	Every time.Duration `help:"How often to look." default:"1s" placeholder:"DURATION"`
	Once  bool          `help:"Print one picture as text, and end; so does --json."`
}

// Help is the long part of the command's help.
func (*topCmd) Help() string {
	return `Shows members, alerts, throughput and latency, transfers, hints and repair of a cluster, as one of its nodes knows them, and keeps that up to date: what the web console shows, in a terminal. q ends it, p stops and goes on, n goes from node to node.

Example:

    tanodb top
    tanodb top --addr http://10.0.0.1:8098 --node n2
    tanodb top --once`
}

// The limits of top.
const (
	minTopEvery = 100 * time.Millisecond
	maxTopEvery = time.Minute
	maxTopRows  = 8 // of each kind of work
)

// Run shows the cluster until it is told to end, or once.
func (c *topCmd) Run(a *app) error {
	if c.Every < minTopEvery || c.Every > maxTopEvery {
		return usagef("--every is %v; it must be from %v to %v", c.Every, minTopEvery, maxTopEvery)
	}
	look := func() tea.Msg { return a.look() }
	if c.Once || a.json {
		return c.once(a, look)
	}
	if terminalOf(a.stdin, nil) == nil || !isTerminal(a.stdout) {
		return usagef("top needs a terminal; without one, use: tanodb top --once")
	}
	_, err := tea.NewProgram(newTopModel(c.Node, c.Every, look), tea.WithInput(a.stdin), tea.WithOutput(a.stdout)).Run()
	if errors.Is(err, tea.ErrInterrupted) {
		return nil
	}
	return err
}

// once looks twice, since rates need that, and prints what it has seen.
func (c *topCmd) once(a *app, look tea.Cmd) error {
	m := newTopModel(c.Node, c.Every, look)
	for range 2 {
		if m.looks > 0 {
			<-time.After(c.Every)
		}
		saw := a.look()
		if saw.err != nil {
			return a.told(saw.err)
		}
		m = m.took(saw)
	}
	if _, err := m.members(); err != nil {
		return err
	}
	m.width = 0 // as wide as it takes
	if a.json {
		return a.printJSON(m.picture())
	}
	_, err := fmt.Fprintln(a.stdout, m.frame(plainStyles()))
	return err
}

// look asks a node for the cluster.
func (a *app) look() sawMsg {
	var s sawMsg
	ctx, cancel := a.requestContext()
	defer cancel()
	var nodes api.Nodes
	if s.err = a.get(ctx, "/cluster", &s.snapshot.Cluster); s.err == nil {
		s.err = a.get(ctx, "/cluster/nodes", &nodes)
	}
	s.snapshot.At, s.snapshot.Nodes = time.Now(), nodes.Nodes
	s.snapshot.Reach = view.Reach{Dark: nodes.NoOwner, Minor: nodes.NoMajority}
	return s
}

// get reads one of our own routes.
func (a *app) get(ctx context.Context, path string, into any) error {
	ans, err := a.ask(ctx, request{method: http.MethodGet, path: ownPrefix + path})
	if err != nil {
		return err
	}
	return ans.decode(into)
}

// sawMsg is what a look has brought.
type sawMsg struct {
	snapshot view.Snapshot
	err      error
}

// tickMsg says that it is time for another look.
type tickMsg struct{}

// topModel is what is shown. It is a value: each message makes a new one.
type topModel struct {
	look  tea.Cmd
	every time.Duration

	node   string // whose load and work are shown; empty: of all
	paused bool
	looks  int
	now    view.Snapshot
	rates  []view.Rate
	err    error // of the last look
	width  int   // of the terminal, in cells; 0: not known
	height int
}

func newTopModel(node string, every time.Duration, look tea.Cmd) topModel {
	return topModel{look: look, every: every, node: node}
}

// Init looks for the first time.
func (m topModel) Init() tea.Cmd { return m.look }

// Update takes a message.
func (m topModel) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case sawMsg:
		return m.took(msg), tea.Tick(m.every, func(time.Time) tea.Msg { return tickMsg{} })
	case tickMsg:
		if m.paused {
			return m, nil
		}
		return m, m.look
	case tea.KeyPressMsg:
		return m.pressed(msg.String())
	}
	return m, nil
}

// pressed does what a key stands for.
func (m topModel) pressed(key string) (tea.Model, tea.Cmd) {
	switch key {
	case "q", "esc", "ctrl+c":
		return m, tea.Quit
	case "p", "space":
		if m.paused = !m.paused; !m.paused {
			return m, m.look
		}
	case "n":
		m.node = m.nextNode()
	}
	return m, nil
}

// nextNode goes from all nodes to the first, and after the last to all again.
func (m topModel) nextNode() string {
	members := view.Members(m.now)
	for i, member := range members {
		if m.node == "" {
			return member.Name
		}
		if member.Name == m.node && i+1 < len(members) {
			return members[i+1].Name
		}
	}
	return ""
}

// took takes over what a look has brought. A look that has failed leaves what was there.
func (m topModel) took(saw sawMsg) topModel {
	if m.err = saw.err; saw.err != nil {
		return m
	}
	if m.looks > 0 {
		m.rates = view.Rates(m.only(m.now), m.only(saw.snapshot))
	}
	m.now = saw.snapshot
	m.looks++
	return m
}

// only is the snapshot with the node's own account alone, if one is chosen.
func (m topModel) only(s view.Snapshot) view.Snapshot {
	if m.node == "" {
		return s
	}
	all := s.Nodes
	s.Nodes = nil
	for _, n := range all {
		if n.Node == m.node {
			s.Nodes = append(s.Nodes, n)
		}
	}
	return s
}

// members are those to show; it is an error if there is none of the chosen name.
func (m topModel) members() ([]view.Member, error) {
	all := view.Members(m.now)
	if m.node == "" {
		return all, nil
	}
	for _, member := range all {
		if member.Name == m.node {
			return []view.Member{member}, nil
		}
	}
	return nil, fmt.Errorf("there is no node %s in the cluster", m.node)
}

// View is the screen.
func (m topModel) View() tea.View {
	v := tea.NewView(m.fit(m.frame(screenStyles())))
	v.AltScreen = true
	return v
}

// fit cuts what the terminal has no room for, so that the head stays where it is.
func (m topModel) fit(frame string) string {
	if m.width == 0 {
		return frame
	}
	lines := strings.Split(frame, "\n")
	if m.height > 0 && len(lines) > m.height {
		lines = append(lines[:m.height-1], fmt.Sprintf("… %d lines more", len(lines)-m.height+1))
	}
	cut := lipgloss.NewStyle().MaxWidth(m.width)
	for i := range lines {
		lines[i] = cut.Render(lines[i])
	}
	return strings.Join(lines, "\n")
}

// styles are the looks of the parts of a frame.
type styles struct {
	head, dim, good, warn, bad func(...string) string
}

func screenStyles() styles {
	in := func(c color.Color) func(...string) string { return lipgloss.NewStyle().Foreground(c).Render }
	return styles{
		head: lipgloss.NewStyle().Bold(true).Foreground(lipgloss.Cyan).Render,
		dim:  lipgloss.NewStyle().Faint(true).Render,
		good: in(lipgloss.Green), warn: in(lipgloss.Yellow), bad: in(lipgloss.Red),
	}
}

func plainStyles() styles {
	as := func(s ...string) string { return strings.Join(s, " ") }
	return styles{as, as, as, as, as}
}

// frame is everything, as lines.
func (m topModel) frame(st styles) string {
	var b strings.Builder
	m.head(&b, st)
	if m.looks == 0 {
		return strings.TrimRight(b.String(), "\n")
	}
	for _, a := range view.Alerts(m.now, m.rates) {
		style := st.warn
		switch a.Level {
		case view.Critical:
			style = st.bad
		case view.Info:
			style = st.dim
		}
		b.WriteString(style(strings.ToUpper(string(a.Level))+" "+a.Text) + "\n")
		if a.Do != "" {
			b.WriteString("  " + a.Do + "\n")
		}
	}
	m.showMembers(&b, st)
	m.showRates(&b, st)
	m.showWork(&b, st)
	m.showRepair(&b, st)
	return strings.TrimRight(b.String(), "\n")
}

// head is the first line, and that of an error.
func (m topModel) head(b *strings.Builder, st styles) {
	c := &m.now.Cluster
	line := "TanoDB"
	if m.looks > 0 {
		up := 0
		members := view.Members(m.now)
		for _, member := range members {
			if member.State == view.StateUp {
				up++
			}
		}
		line += fmt.Sprintf(" · seen by %s · %d of %d members up · %d partitions, %d copies · epoch %d", c.Node, up, len(members), c.Partitions, c.Replicas, c.Epoch)
	}
	if m.node != "" {
		line += " · only " + m.node
	}
	if m.paused {
		line += " · PAUSED"
	}
	b.WriteString(st.head(line) + "\n")
	if m.err != nil {
		b.WriteString(st.bad("the last look has failed, and what you see is old: "+m.err.Error()) + "\n")
	} else if m.looks == 0 {
		b.WriteString("looking …\n")
	}
}

func (m topModel) showMembers(b *strings.Builder, st styles) {
	members, err := m.members()
	if err != nil {
		b.WriteString("\n" + st.bad(err.Error()) + "\n")
		return
	}
	t := newTable("MEMBER", "STATE", "SINCE", "ZONE", "PARTITIONS", "DISK", "CLOCK", "REQUESTS")
	for _, v := range members {
		state := v.State
		if v.Status != "valid" && v.Status != "" {
			state += ", " + v.Status
		}
		owned := fmt.Sprint(v.Partitions)
		if v.Pending != v.Partitions {
			owned += fmt.Sprintf(" → %d", v.Pending)
		}
		disk, clock, requests := "-", "-", "-"
		if v.Known {
			disk, clock, requests = bytesText(float64(v.Storage.Bytes)), fmt.Sprintf("%+dms", v.Ahead.Milliseconds()), fmt.Sprint(v.Requests)
			if v.Storage.ReadOnly {
				disk += " FULL"
			}
		}
		t.row(v.Name, state, brief(v.Since), or(v.Zone), owned, disk, clock, requests)
	}
	for i, line := range strings.Split(strings.TrimRight(t.String(), "\n"), "\n") {
		switch {
		case i == 0:
			line = "\n" + st.dim(line)
		case members[i-1].State == view.StateUp:
			line = st.good(line)
		case members[i-1].State == view.StateSilent:
			line = st.warn(line)
		default:
			line = st.bad(line)
		}
		b.WriteString(line + "\n")
	}
}

func (m topModel) showRates(b *strings.Builder, st styles) {
	t := newTable("OPERATION", "PER SECOND", "FAILED", "P50", "P99")
	for _, r := range m.rates {
		t.row(r.Op, fmt.Sprintf("%.1f", r.PerSecond), fmt.Sprintf("%.1f", r.Failed), latency(r.P50), latency(r.P99))
	}
	if m.looks < 2 {
		t.row("being measured")
	} else if len(m.rates) == 0 {
		t.row("none yet")
	}
	writeTable(b, st, t)
}

// latency is a time that is only about right.
func latency(d time.Duration) string {
	if d == 0 {
		return "-"
	}
	return brief(d)
}

func (m topModel) showWork(b *strings.Builder, st styles) {
	only := m.only(m.now)
	moves := view.Ownership(only)
	if len(moves) > 0 {
		t := newTable("TRANSFER", "FROM", "TO", "PHASE", "DONE", "OBJECTS", "BYTES", "RATE")
		work := map[uint64]tanodb.TransferState{}
		for _, w := range view.Fills(only) {
			work[w.ID] = w
		}
		for _, o := range moves[:min(len(moves), maxTopRows)] {
			w := work[o.ID]
			done := "-"
			if w.Homes > 0 {
				done = fmt.Sprintf("%d/%d", w.HomesDone, w.Homes)
			}
			t.row(fmt.Sprint(o.Index), o.From, o.To, o.Phase, done, fmt.Sprint(w.Objects), bytesText(float64(w.Bytes)), bytesText(w.Rate)+"/s")
		}
		writeTable(b, st, t)
		andMore(b, len(moves))
	}
	hints := view.HintsByNode(only)
	if len(hints) == 0 {
		b.WriteString("\nno hints: all data is at home\n")
		return
	}
	t := newTable("HINTS FOR", "KEPT BY", "RANGES", "NOW", "HANDED OVER")
	for _, h := range hints[:min(len(hints), maxTopRows)] {
		t.row(or(h.To), strings.Join(h.Holders, ","), fmt.Sprint(h.Ranges), h.Phase, fmt.Sprintf("%s, %s", plural(int(h.Objects), "object"), bytesText(float64(h.Bytes))))
	}
	writeTable(b, st, t)
	andMore(b, len(hints))
}

// andMore says how many rows are not shown.
func andMore(b *strings.Builder, rows int) {
	if rows > maxTopRows {
		fmt.Fprintf(b, "and %d more\n", rows-maxTopRows)
	}
}

func (m topModel) showRepair(b *strings.Builder, st styles) {
	members, err := m.members()
	if err != nil {
		return // it is told above
	}
	t := newTable("REPAIR", "COMPARED", "DUE", "NOW", "DIFFERED", "IN", "OUT", "TOMBSTONES", "REAPED")
	for _, v := range members {
		if !v.Known {
			t.row(v.Name, v.State+": not known")
			continue
		}
		r := v.Repair
		compared := fmt.Sprintf("%d/%d", r.Pairs-r.Due, r.Pairs)
		if r.Paused {
			compared += " paused"
		}
		count := "-"
		if v.Tombs.Count >= 0 {
			count = fmt.Sprint(v.Tombs.Count)
		}
		t.row(v.Name, compared, fmt.Sprint(r.Due), fmt.Sprint(len(r.Running)), fmt.Sprint(r.Different), fmt.Sprint(r.Received), fmt.Sprint(r.Sent), count, fmt.Sprint(v.Tombs.Reaped))
	}
	writeTable(b, st, t)
}

// writeTable adds a table below an empty line, with its head faint.
func writeTable(b *strings.Builder, st styles, t *table) {
	head, rows, _ := strings.Cut(t.String(), "\n")
	b.WriteString("\n" + st.dim(head) + "\n" + rows)
}

// topPicture is what --once prints as JSON.
type topPicture struct {
	Node    string        `json:"node"` // that was asked
	Members []topMember   `json:"members"`
	Alerts  []view.Alert  `json:"alerts"`
	Rates   []topRate     `json:"rates"`
	Hints   int           `json:"hint_ranges"`
	Moves   int           `json:"transfers"`
	Every   time.Duration `json:"every_ns"`
}

type topMember struct {
	Name  string `json:"name"`
	State string `json:"state"`
}

type topRate struct {
	Op        string        `json:"op"`
	PerSecond float64       `json:"per_second"`
	Failed    float64       `json:"failed_per_second"`
	P50       time.Duration `json:"p50_ns"`
	P99       time.Duration `json:"p99_ns"`
}

// picture is the frame for programs.
func (m topModel) picture() topPicture {
	p := topPicture{Node: m.now.Cluster.Node, Members: []topMember{}, Alerts: append([]view.Alert{}, view.Alerts(m.now, m.rates)...), Rates: []topRate{}, Every: m.every}
	members, _ := m.members() // it was asked for before
	for _, v := range members {
		p.Members = append(p.Members, topMember{v.Name, v.State})
	}
	for _, r := range m.rates {
		p.Rates = append(p.Rates, topRate{r.Op, r.PerSecond, r.Failed, r.P50, r.P99})
	}
	for _, h := range view.HintsByNode(m.only(m.now)) {
		p.Hints += h.Ranges
	}
	p.Moves = len(view.Ownership(m.now))
	return p
}
