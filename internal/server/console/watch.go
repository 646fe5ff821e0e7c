package console

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/kv"
)

const (
	maxForm       = 1 << 20 // bytes of the form
	maxTold       = 256     // events that may wait to be shown
	maxEvents     = 400     // events that are shown
	redraw        = 200 * time.Millisecond
	repairWithin  = 5 * time.Second // after the answer, for what a read still does
	watchPatience = 10 * time.Second
)

// watchPage is the form, and below it the story.
type watchPage struct {
	Ops   []watchOp
	Form  watchForm
	Types []tanodb.BucketType
	Error string
	Story *story
}

// watchForm is what is to be done.
type watchForm struct {
	Op, Type, Bucket, Key string
	Escaped               bool
	Value                 string
	Quorum, Primaries     string // R and PR, or W and PW
}

// watchForm serves the empty form, or that of a key.
func (c *Console) watchForm(w http.ResponseWriter, r *http.Request) {
	p := watchPage{Ops: watchOps, Form: watchForm{Op: "get"}}
	k, err := readNames(r.URL.Query().Get)
	if err == nil {
		p.Types, err = c.node.BucketTypes(r.Context())
	}
	p.Form.Type = k.Type
	p.Form.Bucket, p.Form.Key, p.Form.Escaped = typed(k)
	status := http.StatusOK
	if err != nil {
		p.Error, status = err.Error(), statusOf(err)
	}
	c.write(w, status, page{Name: "watch", Body: p})
}

// watchOp is something that can be done to a key.
type watchOp struct {
	Name  string
	Text  string   // beside it
	steps []string // its phases, and the answer
}

// The steps of requests, as their machines have them.
var (
	stepsOfRead   = []string{"prepare", "execute", "waiting", "answer", "repairing"}
	stepsOfWrite  = []string{"prepare", "execute", "waiting", "answer"} // there is nothing to repair
	stepsOfDelete = []string{"prepare", "reading", "writing", "answer"}
)

// watchOps are what can be watched.
var watchOps = []watchOp{
	{"get", "get", stepsOfRead},
	{"put", "put", stepsOfWrite},
	{"delete", "delete", stepsOfDelete},
	{"fetch", "fetch a data type", stepsOfRead},
	{"increment", "add to a counter", stepsOfWrite},
	{"add", "add to a set", stepsOfWrite},
	{"remove", "remove from a set", stepsOfWrite},
}

// watched is a request that is to be watched.
type watched struct {
	op                watchOp
	key               kv.Key
	value             []byte
	data              kv.Op // of a data type; nil: it is another request
	quorum, primaries kv.Quorum
}

// readWatched reads the form.
func readWatched(get func(string) string) (q watched, err error) {
	if q.key, err = readNames(get); err != nil {
		return q, err
	}
	if err = q.key.Validate(); err != nil {
		return q, err
	}
	i := slices.IndexFunc(watchOps, func(o watchOp) bool { return o.Name == get("op") })
	if i < 0 {
		return q, &kv.InvalidError{What: "operation", Problem: "must be one of those of the form"}
	}
	q.op, q.value = watchOps[i], []byte(get("value"))
	if q.data, err = dataOp(q.op.Name, q.value); err != nil {
		return q, err
	}
	for name, into := range map[string]*kv.Quorum{"quorum": &q.quorum, "primaries": &q.primaries} {
		if get(name) == "" {
			continue
		}
		if *into, err = kv.ParseQuorum(get(name)); err != nil {
			return q, err
		}
	}
	return q, nil
}

// dataOp is the operation on a data type that is meant; nil: it is none.
func dataOp(name string, value []byte) (kv.Op, error) {
	switch name {
	case "increment":
		n, err := strconv.ParseInt(strings.TrimSpace(string(value)), 10, 64)
		if err != nil {
			return nil, &kv.InvalidError{What: "value", Problem: "must be a whole number to add to a counter"}
		}
		return kv.CounterOp(n), nil
	case "add":
		return kv.SetOp{Adds: [][]byte{value}}, nil
	case "remove":
		return kv.SetOp{Removes: [][]byte{value}}, nil
	}
	return nil, nil
}

// watch runs a request. A page with scripts is sent its story as it happens; to another, all of
// it is shown when it is over.
func (c *Console) watch(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	control := http.NewResponseController(w)
	// A connection without deadlines, as in tests, has no slow clients either.
	_ = control.SetReadDeadline(time.Now().Add(takeWithin))
	err := r.ParseForm()
	_ = control.SetReadDeadline(time.Time{})
	if err != nil {
		http.Error(w, "the form is not understood, or too large: "+err.Error(), http.StatusBadRequest)
		return
	}
	q, err := readWatched(r.PostForm.Get)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	leave := c.stream(w, r)
	if leave == nil {
		return
	}
	defer leave()
	if !strings.Contains(r.Header.Get("Accept"), "text/event-stream") {
		s := c.follow(r.Context(), q, func(*story) error { return nil })
		f := watchForm{Op: r.PostForm.Get("op"), Type: q.key.Type, Value: string(q.value), Quorum: r.PostForm.Get("quorum"), Primaries: r.PostForm.Get("primaries")}
		f.Bucket, f.Key, f.Escaped = typed(q.key)
		c.write(w, http.StatusOK, page{Name: "watch", Body: watchPage{Ops: watchOps, Form: f, Story: s}})
		return
	}
	stream := newSSE(w)
	s := c.follow(r.Context(), q, func(s *story) error {
		return stream.send("story", map[string]string{"html": render("story", s)})
	})
	if s.Over {
		// Whoever has asked is gone if this fails.
		_ = stream.send("end", struct{}{})
	}
}

// outcome is how a request has ended.
type outcome struct {
	replies []kv.Reply
	values  []kv.Value
	text    string // if there is no error
	err     error
}

// follow runs a request and shows its story, until it is over or show fails. What is shown
// has the times at which it happened here, not those at which it was sent on.
func (c *Console) follow(ctx context.Context, q watched, show func(*story) error) *story {
	events := make(chan tanodb.TraceEvent, maxTold)
	done := make(chan outcome, 1)
	begun := time.Now()
	var running sync.WaitGroup
	defer running.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	running.Go(func() {
		done <- c.request(tanodb.WithTrace(ctx, func(e tanodb.TraceEvent) {
			select {
			case events <- e:
			default: // more than a request should ever tell; what is shown has a gap
			}
		}), q)
	})
	s := newStory(q)
	tick := time.NewTicker(redraw)
	defer tick.Stop()
	var late <-chan time.Time
	for !s.Over {
		select {
		case e := <-events:
			s.add(e)
			s.drain(events)
		case o := <-done:
			s.drain(events) // all that has led to the answer is told before it
			s.answered(o, time.Since(begun))
			late = time.After(repairWithin)
		case <-tick.C:
		case <-late:
			s.Over = true
		case <-ctx.Done():
			return s
		case <-c.closed:
			return s
		}
		s.draw(time.Since(begun))
		if show(s) != nil {
			return s
		}
	}
	return s
}

// request does what is watched.
func (c *Console) request(ctx context.Context, q watched) outcome {
	read := kv.ReadOptions{R: q.quorum, PR: q.primaries, Timeout: watchPatience}
	write := kv.WriteOptions{W: q.quorum, PW: q.primaries, Timeout: watchPatience}
	switch q.op.Name {
	case "put":
		r, err := c.node.Put(ctx, q.key, kv.Value{Data: q.value, ContentType: "text/plain"}, write)
		return outcome{replies: r.Replies, text: "written", err: err}
	case "delete":
		write.R, write.PR = q.quorum, q.primaries
		r, err := c.node.Delete(ctx, q.key, write)
		return outcome{replies: r.Replies, text: "deleted", err: err}
	case "fetch":
		return outcomeOf(c.node.Fetch(ctx, q.key, read))
	case "get":
		obj, err := c.node.Get(ctx, q.key, read)
		o := outcome{replies: obj.Replies, values: obj.Values, text: "one value", err: err}
		if len(obj.Values) != 1 {
			o.text = fmt.Sprintf("%d values that were written concurrently", len(obj.Values))
		}
		return o
	}
	write.ReturnBody = true
	return outcomeOf(c.node.Update(ctx, q.key, q.data, write))
}

// outcomeOf is the outcome of a request about a data type.
func outcomeOf(d kv.Data, err error) outcome {
	o := outcome{replies: d.Replies, text: "a " + d.Kind.String(), err: err}
	if err == nil {
		o.values = []kv.Value{{Data: []byte(d.Value.String())}}
	}
	return o
}

// story is what has happened to a request so far.
type story struct {
	Op, Key string
	Phases  []phaseMark
	Events  []told
	Bars    []bar
	Ticks   []tick
	Height  int
	Answer  *answer
	Over    bool
	Missing bool // there were more events than are shown

	ended    bool          // the request has told all
	last     time.Duration // of the newest event
	answerAt time.Duration
}

// told is an event in words.
type told struct {
	tanodb.TraceEvent
	Who string
	New string // how the counting stands, if it has changed
}

// phaseMark is one of the steps of a request, and whether it has come to it.
type phaseMark struct {
	Name    string
	Reached bool
	Now     bool
}

// bar is one question to a replica in the picture.
type bar struct {
	Who, Text, Result string
	Class             string // open, ok, bad or sent
	X, Width, Y       float64
	from, to          time.Duration
	ask               int
	node              string
	open              bool
}

// tick is a mark of the time axis.
type tick struct {
	X    float64
	Text string
}

// answer is what the client has got.
type answer struct {
	After   time.Duration
	Good    bool
	Text    string
	Values  []shownValue
	Clock   []tanodb.ClockEntry
	Replies []kv.Reply
}

func newStory(q watched) *story {
	s := &story{Op: q.op.Text, Key: q.key.String()}
	for _, name := range q.op.steps {
		s.Phases = append(s.Phases, phaseMark{Name: name})
	}
	return s
}

// drain takes what else has happened already, so that it is shown at once.
func (s *story) drain(events <-chan tanodb.TraceEvent) {
	for {
		select {
		case e := <-events:
			s.add(e)
		default:
			return
		}
	}
}

// add adds an event.
func (s *story) add(e tanodb.TraceEvent) {
	s.last = max(s.last, e.At)
	s.reach(e)
	switch e.Kind {
	case tanodb.TraceEnd:
		s.ended = true
		s.Over = s.Answer != nil
		return
	case tanodb.TraceAsk:
		b := bar{Who: whose(e.Replica), node: e.Replica.Node, Text: e.Text, Class: "open", from: e.At, to: e.At, ask: e.Ask, open: true}
		if e.Phase == "repairing" {
			b.Class, b.open, b.Result = "sent", false, "sent; nobody waits for the answer"
		}
		s.Bars = append(s.Bars, b)
	case tanodb.TraceReply, tanodb.TraceLost, tanodb.TraceNotSent:
		s.close(e)
	case tanodb.TraceDown:
		s.lose(e)
	case tanodb.TraceAnswer:
		s.answerAt = e.At
	}
	if len(s.Events) == maxEvents {
		s.Missing = true
		return
	}
	t := told{TraceEvent: e}
	if e.Replica.Node != "" {
		t.Who = whose(e.Replica)
	}
	if e.Tally != "" && (len(s.Events) == 0 || s.Events[len(s.Events)-1].Tally != e.Tally) {
		t.New = e.Tally
	}
	switch e.Kind {
	case tanodb.TraceBegin:
		t.Text = "the replicas are chosen, and how many must agree"
	case tanodb.TraceDown:
		t.Text = "the node is held to be down"
	case tanodb.TraceAnswer:
		t.Text = "the client is answered"
	}
	s.Events = append(s.Events, t)
}

// reach notes how far the request is.
func (s *story) reach(e tanodb.TraceEvent) {
	name := e.Phase
	if e.Kind == tanodb.TraceAnswer {
		name = "answer"
	}
	for i := range s.Phases {
		if s.Phases[i].Name != name {
			continue
		}
		for j := range s.Phases {
			s.Phases[j].Now = j == i
		}
		s.Phases[i].Reached = true
	}
}

// close ends the bar of a question. A write's first vnode answers twice: when it has made
// the version, and when that is durable.
func (s *story) close(e tanodb.TraceEvent) {
	for i := range s.Bars {
		b := &s.Bars[i]
		if b.ask != e.Ask {
			continue
		}
		b.to = e.At
		if b.Result != "" {
			b.Result += ", "
		}
		b.Result += e.Text
		b.Class, b.open = "ok", strings.HasPrefix(e.Text, "made")
		if !e.OK {
			b.Class, b.open = "bad", false
		}
	}
}

// lose ends the bars of a node that is down.
func (s *story) lose(e tanodb.TraceEvent) {
	for i := range s.Bars {
		if b := &s.Bars[i]; b.open && b.node == e.Replica.Node {
			b.to, b.open, b.Class, b.Result = e.At, false, "bad", "the node went down"
		}
	}
}

// answered notes what the client has got.
func (s *story) answered(o outcome, after time.Duration) {
	a := &answer{After: s.answerAt, Good: o.err == nil || errors.Is(o.err, kv.ErrNotFound)}
	if a.After == 0 {
		a.After = after // it was refused before it was begun
	}
	a.Replies, a.Text = o.replies, o.text
	for _, v := range o.values[:min(len(o.values), maxSiblings)] {
		a.Values = append(a.Values, showValue(v))
	}
	if o.err != nil {
		a.Text = o.err.Error()
	}
	s.Answer = a
	// A request that was refused before it was begun tells nothing.
	s.Over = s.ended || s.last == 0 && len(s.Events) == 0
}

// The picture of the questions, in units of its view: names to the left, and then time.
const (
	barsLeft, barsWidth = 210.0, 880.0
	barHeight           = 26
)

// draw places the bars along the time that has passed.
func (s *story) draw(now time.Duration) {
	end := s.last
	for _, b := range s.Bars {
		if b.open && !s.Over {
			end = max(end, now)
		}
	}
	end = max(end, 100*time.Microsecond)
	at := func(d time.Duration) float64 { return barsLeft + barsWidth*float64(d)/float64(end) }
	for i := range s.Bars {
		b := &s.Bars[i]
		to := b.to
		if b.open && b.Class == "open" {
			to = end
		}
		b.X, b.Y = at(b.from), float64(24+i*barHeight)
		b.Width = max(at(to)-b.X, 3)
	}
	s.Height = 32 + len(s.Bars)*barHeight
	s.Ticks = nil
	for i := range 5 {
		d := end * time.Duration(i) / 4
		s.Ticks = append(s.Ticks, tick{at(d), short(max(d, 1))})
	}
}

// AnswerX is where the answer is in the picture.
func (s *story) AnswerX() float64 {
	end := max(s.last, 100*time.Microsecond)
	return barsLeft + barsWidth*min(float64(s.answerAt)/float64(end), 1)
}

func whose(r tanodb.Replica) string {
	if r.Role == "" {
		return r.Node
	}
	return fmt.Sprintf("%s, partition %d, %s", r.Node, r.Partition, r.Role)
}
