package reap

import (
	"fmt"
	"slices"
	"time"

	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/internal/planted"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
)

const (
	proposeEvery = 5 * time.Second        // a Mark that does not show in the topology is proposed again
	staleAgain   = 200 * time.Millisecond // who was behind, or knows more, is asked again
	staleTries   = 20                     // and so often
	leastRest    = time.Second            // between two rounds, however short the grace is
	reapAgain    = time.Second            // who has not removed what he is to is told again
	reapTries    = 3                      // and so often, counting the first
)

// Phase is how far a round is.
type Phase string

// The phases, in their order.
const (
	Resting   Phase = "resting"   // until the next round
	Gathering Phase = "gathering" // what is due, in the vnodes of this node
	Attesting Phase = "attesting" // do all places hold it?
	Surveying Phase = "surveying" // does anybody hold something older?
	Bounding  Phase = "bounding"  // up to which epoch may something older have been read?
	Marking   Phase = "marking"   // the mark, and that all have shown it
	Assuring  Phase = "assuring"  // do all places hold it still?
	Agreeing  Phase = "agreeing"  // has nobody held anything older since?
	Reaping   Phase = "reaping"
)

// Reaper reaps for one node. It is not safe for concurrent use.
type Reaper struct {
	self   string
	limits Limits
	now    time.Duration
	wallMs int64
	up     map[string]bool
	state  *membership.State // nil: none yet
	out    []Effect

	phase   Phase
	round   round
	todo    []task
	waiting []waiting
	asks    int // so far
	restAt  time.Duration
	first   int // the home that the next round begins with
	cursors map[ring.Partition][]byte
	wakeAt  time.Duration

	total int64 // tombstones reaped so far
	why   string
}

// round is what is in hand. The zero round is none.
type round struct {
	plots   []*plot
	members []string // all that have not left, sorted
	items   int
	left    bool          // there may be more that is due
	looked  int           // homes that were gathered
	base    uint64        // the newest epoch that any member had when the first survey was over
	until   time.Duration // by then all must have shown the mark
	propose time.Duration // when the mark is to be proposed
}

// plot is what is due in one home.
type plot struct {
	home   ring.Partition
	places []ring.Replica
	since  uint64
	items  []vnode.Item
	absent []bool                    // by item: some place does not hold this version
	said   map[string]vnode.Standing // by member, in the first survey
	life   map[string]uint64
	lost   bool // it is not reaped in this round
}

// task is something to be asked.
type task struct {
	node  string
	to    ring.Partition
	msg   vnode.Message
	plot  *plot // nil: it is about all
	after time.Duration
	tries int
}

// waiting is a task that was asked.
type waiting struct {
	task
	i     int
	until time.Duration
}

// New returns the Reaper of a node that knows nothing yet.
func New(self string, l Limits) *Reaper {
	return &Reaper{self: self, limits: l.withDefaults(), up: make(map[string]bool), phase: Resting, cursors: make(map[ring.Partition][]byte)}
}

// Step consumes one event and appends what is to be done. Now is monotonic time
// since any fixed moment, wallMs the wall clock in Unix milliseconds.
func (r *Reaper) Step(now time.Duration, wallMs int64, ev Event, out []Effect) []Effect {
	r.now, r.wallMs = max(r.now, now), wallMs
	r.out = out
	r.consume(ev)
	if r.state != nil {
		r.expire()
		r.advance()
		r.pump()
		r.wake()
	}
	out, r.out = r.out, nil
	return out
}

func (r *Reaper) consume(ev Event) {
	switch ev := ev.(type) {
	case Adopted:
		if ev.State != nil && (r.state == nil || ev.State.Epoch() > r.state.Epoch()) {
			if r.state != nil && r.phase == Resting && settings(r.state) != settings(ev.State) {
				r.restAt = min(r.restAt, r.now)
			}
			r.state = ev.State
			r.check()
		}
	case NodeUp:
		r.up[ev.Node] = true
		if r.phase == Resting && r.why != "" {
			r.restAt = min(r.restAt, r.now)
		}
	case NodeDown:
		delete(r.up, ev.Node)
		r.check()
	case Replied:
		r.replied(ev.I, ev.Msg)
	case Lost:
		if w, ok := r.take(ev.I); ok {
			r.failed(w.task, ev.Why)
		}
	case Tick:
		if r.now >= r.wakeAt {
			r.wakeAt = 0
		}
	}
}

// settings are what the topology says of deletes.
func settings(s *membership.State) string {
	return s.Setting(membership.DeleteMode) + " " + s.Setting(membership.DeleteGrace)
}

func (r *Reaper) emit(e Effect) { r.out = append(r.out, e) }

// check ends the round, or parts of it, if it may not go on.
func (r *Reaper) check() {
	if r.phase == Resting || r.state == nil {
		return
	}
	if why := r.hindrance(); why != "" {
		r.end(why)
		return
	}
	if !slices.Equal(members(r.state), r.round.members) {
		r.end("there are other members than when it began")
		return
	}
	for _, p := range r.round.plots {
		if !p.lost && (r.state.Since(p.home) != p.since || moving(r.state, p.home)) {
			r.lose(p, "its places change")
		}
	}
}

// hindrance is why nothing can be reaped now; empty: nothing is.
func (r *Reaper) hindrance() string {
	if _, on := r.state.Reaps(); !on {
		return "tombstones are kept, by the setting " + membership.DeleteMode
	}
	for _, m := range r.state.Members() {
		switch {
		case m.Status == membership.StatusLeft || planted.Is(planted.ReapWithoutDown):
		case m.Status == membership.StatusDown || m.Name != r.self && !r.up[m.Name]:
			return m.Name + " is down, and may hold something older"
		}
	}
	return ""
}

// members are the names of all that have not left.
func members(s *membership.State) []string {
	var names []string
	for _, m := range s.Members() {
		if m.Status != membership.StatusLeft {
			names = append(names, m.Name)
		}
	}
	return names
}

// moving reports whether a transfer may change the places of a home.
func moving(s *membership.State, home ring.Partition) bool {
	size := s.Ring().Size()
	for _, t := range s.Transfers() {
		if away := (int(t.Partition) - int(home) + size) % size; away < 2*s.Replicas() {
			return true
		}
	}
	return false
}

// lose leaves a home out of the round.
func (r *Reaper) lose(p *plot, why string) {
	if !p.lost {
		p.lost = true
		r.emit(Note{Kind: NoteSpared, Count: len(p.items), Text: fmt.Sprintf("of home %d: %s", p.home, why)})
	}
}

// end ends the round.
func (r *Reaper) end(why string) {
	if r.phase == Resting {
		return
	}
	r.why = why
	if why != "" && r.round.items > 0 {
		r.emit(Note{Kind: NoteEnded, Count: r.round.items, Text: why})
	}
	grace, _ := r.state.Reaps()
	rest := min(r.limits.Every, max(leastRest, grace/4))
	if r.round.left && why == "" {
		rest = r.limits.Pause
	}
	r.phase, r.restAt = Resting, r.now+rest
	r.round, r.todo, r.waiting = round{}, nil, nil
}

// advance goes on to the next phases, as far as there is nothing to wait for.
func (r *Reaper) advance() {
	for {
		if r.phase == Resting {
			if r.now < r.restAt || !r.begin() {
				return
			}
			continue
		}
		if len(r.todo)+len(r.waiting) > 0 {
			return
		}
		if r.phase == Marking && !r.marked() {
			return
		}
		r.next()
	}
}

// begin begins a round, if one may.
func (r *Reaper) begin() bool {
	if why := r.hindrance(); why != "" {
		r.why, r.restAt = why, r.now+r.limits.Pause
		return false
	}
	r.phase, r.why = Gathering, ""
	r.round = round{members: members(r.state)}
	return true
}

// next begins what comes after a phase that is over.
func (r *Reaper) next() {
	switch r.phase {
	case Gathering:
		if r.gather() {
			return
		}
		r.attest(Attesting)
	case Attesting:
		r.sift()
		r.survey(Surveying)
	case Surveying:
		if planted.Is(planted.ReapAtOnce) {
			r.reap()
			return
		}
		r.bound()
	case Bounding:
		r.phase, r.round.until, r.round.propose = Marking, r.now+r.limits.MarkWithin, r.now
	case Marking:
		r.attest(Assuring)
	case Assuring:
		r.sift()
		r.survey(Agreeing)
	case Agreeing:
		r.reap()
	case Reaping:
		r.end("")
	}
}

// gather asks for what is due in the next home whose first place is here; false:
// there is enough, or no other one.
func (r *Reaper) gather() bool {
	size := r.state.Ring().Size()
	grace, _ := r.state.Reaps()
	for ; r.round.looked < size; r.round.looked++ {
		if r.round.items >= r.limits.Items {
			r.round.left = true
			break
		}
		home := ring.Partition((r.first + r.round.looked) % size)
		places := r.state.Ring().Primaries(home, r.state.Replicas())
		if len(places) == 0 || places[0].Node != r.self || moving(r.state, home) {
			continue
		}
		p := &plot{home: home, places: places, since: r.state.Since(home)}
		r.round.looked++
		r.todo = append(r.todo, task{node: r.self, to: places[0].Partition, plot: p, msg: &vnode.Graves{
			Home: home, Before: r.wallMs - grace.Milliseconds(), After: r.cursors[home], Limit: r.limits.PageItems,
		}})
		return true
	}
	r.first = (r.first + r.round.looked) % size
	return false
}

// live are the homes that are still in the round.
func (r *Reaper) live() []*plot {
	return slices.DeleteFunc(slices.Clone(r.round.plots), func(p *plot) bool { return p.lost })
}

// attest asks all places whether they hold what is due.
func (r *Reaper) attest(phase Phase) {
	r.phase = phase
	for _, p := range r.live() {
		p.absent = make([]bool, len(p.items))
		for i, place := range p.places {
			if planted.Is(planted.ReapUnasked) && i == len(p.places)-1 || r.passedOver(place.Node) {
				continue
			}
			r.todo = append(r.todo, task{node: place.Node, to: place.Partition, plot: p, msg: &vnode.Attest{Home: p.home, Items: p.items}})
		}
	}
}

// passedOver is true of nobody, but for a planted bug.
func (r *Reaper) passedOver(node string) bool {
	return planted.Is(planted.ReapWithoutDown) && node != r.self && !r.up[node]
}

// sift leaves out what some place does not hold.
func (r *Reaper) sift() {
	for _, p := range r.live() {
		var held []vnode.Item
		for i, it := range p.items {
			if !p.absent[i] {
				held = append(held, it)
			}
		}
		if spared := len(p.items) - len(held); spared > 0 {
			r.emit(Note{Kind: NoteSpared, Count: spared, Text: fmt.Sprintf("of home %d: not all places hold them", p.home)})
		}
		if p.items = held; len(held) == 0 {
			p.lost = true
		}
	}
}

// survey asks all members whether they hold what they should not.
func (r *Reaper) survey(phase Phase) {
	r.phase = phase
	live := r.live()
	if len(live) == 0 {
		r.end("")
		return
	}
	if planted.Is(planted.ReapStrays) {
		return
	}
	m := &vnode.Strays{}
	for _, p := range live {
		m.Homes = append(m.Homes, p.home)
	}
	r.askMembers(m)
}

// bound asks all members for their epochs, now that none of them can have read
// anything older any more.
func (r *Reaper) bound() {
	r.phase, r.round.base = Bounding, r.state.Epoch()
	if len(r.live()) == 0 {
		r.end("")
		return
	}
	r.askMembers(&vnode.Strays{})
}

func (r *Reaper) askMembers(m *vnode.Strays) {
	for _, node := range r.round.members {
		if !r.passedOver(node) {
			r.todo = append(r.todo, task{node: node, msg: m})
		}
	}
}

// marked reports whether all have shown a mark that is newer than what may be left of anything
// older. If there is none, it is proposed.
func (r *Reaper) marked() bool {
	if r.state.Reaped() > r.round.base {
		return true
	}
	if r.now >= r.round.until {
		r.end("not all members have shown the mark in time")
		return false
	}
	if r.state.Mark() <= r.round.base && r.now >= r.round.propose {
		r.round.propose = r.now + proposeEvery
		r.emit(Propose{membership.Mark{After: r.round.base}})
	}
	return false
}

// reap has all places remove what is left in the round.
func (r *Reaper) reap() {
	r.phase = Reaping
	for _, p := range r.live() {
		for _, place := range p.places {
			r.todo = append(r.todo, task{node: place.Node, to: place.Partition, plot: p, msg: &vnode.Reap{Home: p.home, Items: p.items}})
		}
	}
}

// pump asks what is to be asked, as much as may be on its way.
func (r *Reaper) pump() {
	for n := 0; n < len(r.todo) && len(r.waiting) < r.limits.Asks; {
		t := r.todo[n]
		if r.now < t.after {
			n++
			continue
		}
		r.todo = slices.Delete(r.todo, n, n+1)
		if t.plot != nil && t.plot.lost {
			continue
		}
		r.asks++
		r.waiting = append(r.waiting, waiting{task: t, i: r.asks, until: r.now + r.limits.AskTimeout})
		if t.node == r.self {
			r.emit(Do{I: r.asks, To: t.to, Msg: t.msg})
		} else {
			r.emit(Ask{I: r.asks, Node: t.node, To: t.to, Msg: t.msg})
		}
	}
	if len(r.todo)+len(r.waiting) == 0 && r.phase != Resting && r.phase != Marking {
		r.advance()
		if len(r.todo) > 0 {
			r.pump()
		}
	}
}

// take is the task of number I, which is over.
func (r *Reaper) take(i int) (waiting, bool) {
	n := slices.IndexFunc(r.waiting, func(w waiting) bool { return w.i == i })
	if n < 0 {
		return waiting{}, false
	}
	w := r.waiting[n]
	r.waiting = slices.Delete(r.waiting, n, n+1)
	return w, true
}

// expire gives up what was not answered in time.
func (r *Reaper) expire() {
	for _, w := range slices.Clone(r.waiting) {
		if r.now >= w.until {
			if w, ok := r.take(w.i); ok {
				r.failed(w.task, fmt.Sprintf("%s has not answered in %v", w.node, r.limits.AskTimeout))
			}
		}
	}
}

// failed leaves out of the round what the task was about.
func (r *Reaper) failed(t task, why string) {
	switch {
	case r.phase == Reaping: // where it stays it comes to the others again, and a later round takes it
		if t.tries++; t.tries < reapTries {
			t.after = r.now + reapAgain
			r.todo = append(r.todo, t)
		}
	case t.plot == nil:
		r.end(why)
	default:
		r.lose(t.plot, why)
	}
}

func (r *Reaper) replied(i int, msg vnode.Message) {
	w, ok := r.take(i)
	if !ok {
		return
	}
	switch msg := msg.(type) {
	case *vnode.Refusal:
		if t := w.task; msg.Code == vnode.CodeStale && t.tries < staleTries {
			t.tries++
			t.after = r.now + staleAgain
			r.todo = append(r.todo, t)
			return
		}
		r.failed(w.task, w.node+": "+msg.Text)
	case *vnode.Failure:
		r.failed(w.task, w.node+": "+msg.Text)
	case *vnode.Buried:
		r.gathered(w.plot, msg)
	case *vnode.Delivered:
		r.attested(w.task, msg)
	case *vnode.StraysFound:
		r.surveyed(w.task, msg)
	case *vnode.Dropped:
		if w.node == r.self && w.plot != nil && w.to == w.plot.places[0].Partition && msg.Gone > 0 {
			r.total += int64(msg.Gone)
			r.emit(Note{Kind: NoteReaped, Count: msg.Gone, Text: fmt.Sprintf("of home %d", w.plot.home)})
		}
	default:
		r.failed(w.task, fmt.Sprintf("%s answers with %T", w.node, msg))
	}
}

func (r *Reaper) gathered(p *plot, msg *vnode.Buried) {
	if p == nil || r.phase != Gathering {
		return
	}
	delete(r.cursors, p.home)
	if msg.More {
		r.cursors[p.home] = msg.Last
		r.round.left = true
	}
	if p.items = r.due(msg); len(p.items) > 0 && !p.lost {
		r.round.plots = append(r.round.plots, p)
		r.round.items += len(p.items)
	}
}

// due are those of a page that their buckets let go.
func (r *Reaper) due(msg *vnode.Buried) []vnode.Item {
	var items []vnode.Item
	for i, item := range msg.Items {
		props, err := r.state.Props(kv.Bucket{Type: item.Key.Type, Name: item.Key.Bucket})
		if err != nil || i >= len(msg.At) {
			continue // nobody can say what its bucket wants
		}
		if !props.Keeps() && msg.At[i] < r.wallMs-props.Grace().Milliseconds() {
			items = append(items, item)
		}
	}
	return items
}

func (r *Reaper) attested(t task, msg *vnode.Delivered) {
	if t.plot == nil || len(msg.Results) != len(t.plot.items) {
		r.failed(t, t.node+" has not answered what it was asked")
		return
	}
	for i, result := range msg.Results {
		if result != vnode.ItemHeld {
			t.plot.absent[i] = true
		}
	}
}

// surveyed takes what a member says of the homes in the round.
func (r *Reaper) surveyed(t task, msg *vnode.StraysFound) {
	asked, ok := t.msg.(*vnode.Strays)
	if !ok || len(msg.Homes) != len(asked.Homes) {
		r.failed(t, t.node+" has not answered what it was asked")
		return
	}
	if r.phase == Bounding {
		r.round.base = max(r.round.base, msg.Epoch)
		return
	}
	for i, home := range asked.Homes {
		n := slices.IndexFunc(r.round.plots, func(p *plot) bool { return p.home == home })
		if n >= 0 {
			r.stands(r.round.plots[n], t.node, msg.Life, msg.Homes[i])
		}
	}
}

// stands takes what a member says of one home.
func (r *Reaper) stands(p *plot, node string, life uint64, s vnode.Standing) {
	switch {
	case s.Stray:
		r.lose(p, node+" holds something of it for others")
	case r.phase == Surveying:
		if p.said == nil {
			p.said, p.life = make(map[string]vnode.Standing), make(map[string]uint64)
		}
		p.said[node], p.life[node] = s, life
	case p.said[node] != s || p.life[node] != life:
		r.lose(p, node+" has begun anew since, or has held something of it for others")
	}
}

// wake asks for a Tick when there is something to do next.
func (r *Reaper) wake() {
	at := time.Duration(0)
	sooner := func(t time.Duration) {
		if t = max(t, r.now+1); at == 0 || t < at {
			at = t
		}
	}
	if r.phase == Resting {
		sooner(r.restAt)
	}
	if r.phase == Marking {
		sooner(r.round.until)
		if r.state.Mark() <= r.round.base {
			sooner(r.round.propose)
		}
	}
	for _, w := range r.waiting {
		sooner(w.until)
	}
	for _, t := range r.todo {
		if len(r.waiting) < r.limits.Asks {
			sooner(t.after)
		}
	}
	if at != 0 && at != r.wakeAt {
		r.wakeAt = at
		r.emit(Wake{At: at})
	}
}

// Progress is what a Reaper is at, for people.
type Progress struct {
	Phase  Phase
	Items  int   // tombstones in the round
	Reaped int64 // so far
	Why    string
}

// Progress is what the Reaper is at.
func (r *Reaper) Progress() Progress {
	return Progress{Phase: r.phase, Items: r.round.items, Reaped: r.total, Why: r.why}
}
