package coordinator

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the transcripts in testdata")

// TestTranscripts plays the conversations in testdata: a line that begins with
// "> " is a command, what follows is what it prints, and the rest is for the
// reader. The language is described in testdata/README.md.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no transcripts", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := play(string(want))
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o666); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("the conversation is another one (-golden +now); -rewrite accepts it:\n%s", diff)
			}
		})
	}
}

// play gives the text with the output of each command as it is now.
func play(text string) string {
	var b strings.Builder
	s := newStage()
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "    ") {
			continue // output of before
		}
		b.WriteString(line + "\n")
		command, ok := strings.CutPrefix(line, "> ")
		if !ok {
			continue
		}
		s.out.Reset()
		if err := s.run(strings.Fields(command)); err != nil {
			s.print("error: %v", err)
		}
		b.WriteString(s.out.String())
	}
	return b.String()
}

// stage is the world of one transcript.
type stage struct {
	ring     *ring.Ring
	next     *ring.Ring
	epoch    uint64
	sloppy   kv.Toggle
	self     string
	down     []string
	replicas int
	now      time.Duration
	machine  Machine
	asks     map[int]Ask
	objects  map[string][]byte
	names    []string // of objects, in the order of their making
	counters map[object.Actor]uint64
	out      strings.Builder
}

func newStage() *stage {
	return &stage{replicas: 3, objects: make(map[string][]byte), counters: make(map[object.Actor]uint64)}
}

func (s *stage) print(format string, args ...any) { fmt.Fprintf(&s.out, "    "+format+"\n", args...) }

// run carries out one command.
func (s *stage) run(w []string) error {
	switch w[0] {
	case "ring":
		return s.newRing(w[1:])
	case "self":
		s.self = w[1]
	case "replicas":
		s.replicas, _ = strconv.Atoi(w[1])
	case "down":
		s.down = w[1:]
	case "sloppy":
		s.sloppy = toggles[w[1]]
	case "transfer":
		p, err := strconv.ParseUint(w[1], 10, 16)
		if err != nil {
			return err
		}
		s.next, s.epoch = s.ring.With(ring.Partition(p), w[2]), s.epoch+1
	case "filled":
		s.ring, s.next, s.epoch = s.next, s.ring, s.epoch+1
	case "settled":
		s.next, s.epoch = nil, s.epoch+1
	case "refreshed":
		s.after(time.Millisecond, Refreshed{View: s.view()})
	case "version":
		return s.version(w[1], w[2], w[3], w[4:])
	case "merge":
		return s.merge(w[1], w[2:])
	case "put", "delete", "get", "keys", "census", "ping":
		m, err := s.begin(w[0], w[1:])
		if err != nil {
			return err
		}
		s.machine, s.asks, s.now = m, make(map[int]Ask), 0
		s.step(Start{})
	case "reply", "notsent", "lost":
		return s.outcome(w[0], w[1], w[2:])
	case "nodedown":
		s.after(time.Millisecond, NodeDown{Node: w[1]})
	case "tick":
		at, err := time.ParseDuration(w[1])
		if err != nil {
			return err
		}
		s.after(at-s.now, Tick{})
	default:
		return fmt.Errorf("no command %q", w[0])
	}
	return nil
}

// newRing makes a ring of so many partitions whose owners take turns.
func (s *stage) newRing(w []string) (err error) {
	n, err := strconv.Atoi(w[0])
	if err != nil {
		return err
	}
	owners := make([]string, n)
	for i := range owners {
		owners[i] = w[1:][i%(len(w)-1)]
	}
	s.self, s.down, s.next, s.epoch = w[1], nil, nil, 1
	s.ring, err = ring.New(owners)
	return err
}

// version makes an object: one write by an actor, which has seen others.
func (s *stage) version(name, dot, value string, seen []string) error {
	actor, counter, _ := strings.Cut(dot, ":")
	n, err := strconv.ParseUint(counter, 10, 64)
	if err != nil {
		return err
	}
	var clock object.Vector
	for _, other := range seen {
		o, err := object.Decode(s.objects[other])
		if err != nil {
			return fmt.Errorf("%s: %w", other, err)
		}
		clock = clock.Join(o.Clock)
	}
	sib := object.Sibling{Dot: object.Dot{Actor: object.Actor{actor[0]}, Counter: n}, Stamp: object.Stamp(n), Deleted: value == "tombstone"}
	if !sib.Deleted {
		sib.Body = object.AppendBody(nil, &kv.Value{Data: []byte(value)})
	}
	s.name(name, object.Write(object.Object{}, clock, sib).Encode())
	return nil
}

// merge makes an object of others.
func (s *stage) merge(name string, of []string) error {
	var all object.Object
	for _, other := range of {
		o, err := object.Decode(s.objects[other])
		if err != nil {
			return fmt.Errorf("%s: %w", other, err)
		}
		all = object.Merge(all, o)
	}
	s.name(name, all.Encode())
	return nil
}

func (s *stage) name(name string, enc []byte) {
	if s.objects[name] == nil {
		s.names = append(s.names, name)
	}
	s.objects[name] = enc
	s.print("%s = %s", name, show(enc))
}

// view is what a machine is told of the cluster.
func (s *stage) view() View {
	return View{
		Ring: s.ring, Next: s.next, Epoch: s.epoch, Self: s.self, Replicas: s.replicas, Wall: time.Unix(1, 0).UTC(),
		Up: func(node string) bool { return !slices.Contains(s.down, node) },
	}
}

// begin makes the machine of a request.
func (s *stage) begin(op string, w []string) (Machine, error) {
	v := s.view()
	at := 1
	switch op {
	case "ping":
		at = 0
	case "put":
		at = 2
	}
	r, wr, l, forwarded, err := s.options(w[at:])
	if err != nil {
		return nil, err
	}
	switch op {
	case "put":
		return NewPut(v, PutRequest{Key: keyOf(w[0]), Value: kv.Value{Data: []byte(w[1])}, Options: wr, Forwarded: forwarded}), nil
	case "delete":
		return NewDelete(v, PutRequest{Key: keyOf(w[0]), Options: wr}), nil
	case "get":
		return NewGet(v, GetRequest{Key: keyOf(w[0]), Options: r}), nil
	case "keys":
		return NewKeys(v, KeysRequest{Bucket: kv.Bucket{Name: w[0]}, Options: l}), nil
	case "census":
		return NewCensus(v, KeysRequest{Bucket: kv.Bucket{Name: w[0]}, Options: l}), nil
	}
	return NewPing(v, r.Timeout), nil
}

func keyOf(name string) kv.Key { return kv.Key{Bucket: "mybucket", Name: name} }

var toggles = map[string]kv.Toggle{"on": kv.On, "off": kv.Off}

// options reads name=value into whatever options have that name.
func (s *stage) options(words []string) (r kv.ReadOptions, w kv.WriteOptions, l kv.ListOptions, forwarded bool, err error) {
	r.SloppyQuorum, w.SloppyQuorum = s.sloppy, s.sloppy
	for _, word := range words {
		name, value, _ := strings.Cut(word, "=")
		switch name {
		case "w", "dw", "pw", "r", "pr":
			q, err := kv.ParseQuorum(value)
			if err != nil {
				return r, w, l, false, err
			}
			switch name {
			case "w":
				w.W = q
			case "dw":
				w.DW = q
			case "pw":
				w.PW = q
			case "r":
				r.R, w.R = q, q
			case "pr":
				r.PR, w.PR = q, q
			}
		case "n":
			r.N, _ = strconv.Atoi(value)
			w.N = r.N
		case "node_confirms":
			r.NodeConfirms, _ = strconv.Atoi(value)
			w.NodeConfirms = r.NodeConfirms
		case "timeout":
			r.Timeout, err = time.ParseDuration(value)
			w.Timeout, l.Timeout = r.Timeout, r.Timeout
		case "linger":
			r.Linger, err = time.ParseDuration(value)
			w.Linger = r.Linger
		case "context":
			o, err := object.Decode(s.objects[value])
			if err != nil {
				return r, w, l, false, err
			}
			w.Context = object.EncodeContext(keyOf("k1"), o.Clock)
		case "limit":
			l.Limit, err = strconv.Atoi(value)
		case "token":
			l.Token = value
		case "notfound_ok":
			r.NotFoundOK = toggles[value]
		case "basic_quorum":
			r.BasicQuorum = toggles[value]
		case "sloppy_quorum":
			r.SloppyQuorum = toggles[value]
			w.SloppyQuorum = r.SloppyQuorum
		case "return_body":
			w.ReturnBody = true
		case "tombstones":
			r.Tombstones = true
		case "forwarded":
			forwarded = true
		default:
			err = fmt.Errorf("no option %q", name)
		}
		if err != nil {
			return r, w, l, false, err
		}
	}
	return r, w, l, forwarded, nil
}

// outcome brings what became of an ask.
func (s *stage) outcome(what, number string, w []string) error {
	i, err := strconv.Atoi(number)
	if err != nil {
		return err
	}
	switch what {
	case "notsent":
		s.after(time.Millisecond, NotSent{I: i, Why: strings.Join(w, " ")})
		return nil
	case "lost":
		s.after(time.Millisecond, Lost{I: i, Why: strings.Join(w, " ")})
		return nil
	}
	msg, err := s.message(s.asks[i], w)
	if err != nil {
		return err
	}
	s.after(time.Millisecond, Replied{I: i, Msg: msg})
	return nil
}

// message is what a vnode or node answers.
func (s *stage) message(to Ask, w []string) (vnode.Message, error) {
	switch w[0] {
	case "minted":
		return s.mint(to, w[1:])
	case "stored":
		return &vnode.Stored{Live: slices.Contains(w, "live")}, nil
	case "nothing":
		return &vnode.Fetched{}, nil
	case "garbage":
		return &vnode.Fetched{Object: []byte{1, 2, 3}}, nil
	case "has":
		if s.objects[w[1]] == nil {
			return nil, fmt.Errorf("no object %q", w[1])
		}
		return &vnode.Fetched{Object: s.objects[w[1]]}, nil
	case "refused":
		return &vnode.Refusal{Code: codes[w[1]], Text: strings.Join(w[2:], " ")}, nil
	case "stale":
		epoch, err := strconv.ParseUint(w[1], 10, 64)
		return &vnode.Refusal{Code: vnode.CodeStale, Epoch: epoch, Text: "epoch " + w[1] + " has changed the places"}, err
	case "failed":
		return &vnode.Failure{Code: codes[w[1]], Text: strings.Join(w[2:], " ")}, nil
	case "listed":
		return listed(w[1:]), nil
	case "pong":
		return &vnode.Pong{}, nil
	case "forwarded":
		return s.forwarded(to, w[1])
	}
	return nil, fmt.Errorf("no answer %q", w[0])
}

var codes = map[string]vnode.Code{
	"overload": vnode.CodeOverload, "closing": vnode.CodeClosing, "storage": vnode.CodeStorage, "corrupt": vnode.CodeCorrupt,
	"full": vnode.CodeFull, "context": vnode.CodeContext, "siblings": vnode.CodeSiblings, "not-mine": vnode.CodeNotMine,
	"too-large": vnode.CodeTooLarge, "invalid": vnode.CodeInvalid, "expired": vnode.CodeExpired,
	"lacking": vnode.CodeLacking,
}

// mint does what a vnode does with a Coordinate: beside what it has.
func (s *stage) mint(to Ask, beside []string) (vnode.Message, error) {
	m, ok := to.Msg.(*vnode.Coordinate)
	if !ok {
		return nil, fmt.Errorf("ask %d is no Coordinate", to.I)
	}
	var local object.Object
	for _, name := range beside {
		o, err := object.Decode(s.objects[name])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		local = object.Merge(local, o)
	}
	actor := object.Actor{to.To.Node[1] - '1' + 'a'} // n1 is actor a, n2 is b
	s.counters[actor] = max(s.counters[actor], local.Clock.Counter(actor)) + 1
	sib := object.Sibling{
		Dot: object.Dot{Actor: actor, Counter: s.counters[actor]}, Stamp: object.Stamp(s.counters[actor]),
		Deleted: m.Write.Deleted, Body: m.Write.Body,
	}
	return &vnode.Minted{Object: object.Write(local, m.Seen, sib).Encode()}, nil
}

func listed(w []string) *vnode.Listed {
	l := &vnode.Listed{}
	for _, key := range w {
		switch last, dead := strings.CutPrefix(key, "last="); {
		case key == "more":
			l.More = true
		case dead:
			l.Last = last
		default:
			l.Keys, l.Last = append(l.Keys, key), key
		}
	}
	return l
}

// forwarded is how the whole request ended at another node.
func (s *stage) forwarded(to Ask, how string) (vnode.Message, error) {
	receipt := kv.Receipt{Replies: []kv.Reply{{Partition: s.ring.Partition(to.To.Partition), Node: to.To.Node, Role: kv.Primary, Result: kv.OK, Elapsed: time.Millisecond}}}
	switch how {
	case "ok":
		return &Forwarded{Receipt: receipt}, nil
	case "overload":
		return &Forwarded{Err: kv.ErrOverload}, nil
	case "full":
		return &Forwarded{Err: &kv.QuorumError{Op: "put", Need: "W", Want: 2, Failures: []kv.Failure{{Node: to.To.Node, Why: "disk full"}}}}, nil
	case "doubt":
		return &Forwarded{Err: &kv.QuorumError{Op: "put", Need: "W", Want: 2, Got: 1, InDoubt: true}}, nil
	case "siblings":
		return &Forwarded{Err: kv.ErrTooManySiblings}, nil
	}
	return nil, fmt.Errorf("no outcome %q", how)
}

// after lets time pass, and then an event come.
func (s *stage) after(d time.Duration, ev Event) {
	s.now += d
	s.step(ev)
}

// step gives the machine an event and prints what comes of it.
func (s *stage) step(ev Event) {
	for _, e := range s.machine.Step(s.now, ev, nil) {
		switch e := e.(type) {
		case Ask:
			s.asks[e.I] = e
			s.print("ask %d %s: %s", e.I, s.place(e.To.Node, e.To.Partition), s.describe(e.Msg))
		case Wake:
			s.print("wake at %v", e.At)
		case Refresh:
			s.print("refresh epoch %d from %s", e.Epoch, e.Node)
		case Note:
			s.print("%s", strings.TrimSpace(fmt.Sprintf("note %s %s %s", e.Kind, s.place(e.Replica.Node, e.Replica.Partition), e.Text)))
		case Answer:
			s.result()
		}
	}
	if tally := s.tally(); tally != "" && !s.machine.Done() {
		s.print("%s", tally)
	}
	if s.machine.Done() {
		s.print("done")
	}
}

// tally is how far a request is that counts answers.
func (s *stage) tally() string {
	m := s.machine
	if d, ok := m.(*Delete); ok {
		m = d.get
		if d.put != nil {
			m = d.put
		}
	}
	switch m := m.(type) {
	case *Put:
		if m.tally != nil {
			return m.tally.String()
		}
	case *Get:
		if m.tally != nil {
			return m.tally.String()
		}
	}
	return ""
}

func (s *stage) place(node string, p ring.Partition) string { return fmt.Sprintf("%s/%d", node, p) }

// describe shows a message.
func (s *stage) describe(m vnode.Message) string {
	switch m := m.(type) {
	case *vnode.Coordinate:
		return fmt.Sprintf("coordinate %s%s", write(m.Write.Deleted, m.Write.Body), seen(m.Seen))
	case *vnode.Store:
		return "store " + s.named(m.Object)
	case *vnode.Fetch:
		return "fetch"
	case *vnode.List:
		after := ""
		if m.After != "" {
			after = fmt.Sprintf(" after %s", m.After)
		}
		return fmt.Sprintf("list home %d%s, at most %d", m.Home, after, m.Limit)
	case *vnode.Census:
		return fmt.Sprintf("census, at most %d", m.Limit)
	case *vnode.Ping:
		return "ping"
	case *Forward:
		v, _ := object.DecodeContext(m.Key, m.Options.Context)
		return fmt.Sprintf("forward %s%s, %v left", write(m.Deleted, object.AppendBody(nil, &m.Value)), seen(v), m.Options.Timeout)
	}
	return fmt.Sprintf("%T", m)
}

func write(deleted bool, body []byte) string {
	if deleted {
		return "tombstone"
	}
	v, err := object.DecodeBody(body)
	if err != nil {
		return err.Error()
	}
	return strconv.Quote(string(v.Data))
}

func seen(v object.Vector) string {
	if len(v) == 0 {
		return ""
	}
	return " having seen " + clock(v)
}

// named is an object's name, or the object itself.
func (s *stage) named(enc []byte) string {
	for _, name := range s.names {
		if string(s.objects[name]) == string(enc) {
			return name
		}
	}
	return show(enc)
}

// show is an object with actors of one letter: {a:1 "x"} (a:1).
func show(enc []byte) string {
	o, err := object.Decode(enc)
	if err != nil {
		return err.Error()
	}
	var all []string
	for _, sib := range o.Siblings {
		all = append(all, dot(sib.Dot)+" "+write(sib.Deleted, sib.Body))
	}
	return "{" + strings.Join(all, ", ") + "} " + clock(o.Clock)
}

func dot(d object.Dot) string { return fmt.Sprintf("%c:%d", d.Actor[0], d.Counter) }

func clock(v object.Vector) string {
	var all []string
	for _, d := range v {
		all = append(all, dot(d))
	}
	return "(" + strings.Join(all, " ") + ")"
}

// result prints what the request came to.
func (s *stage) result() {
	switch m := s.machine.(type) {
	case *Put:
		s.receipt(m.Result())
	case *Delete:
		s.receipt(m.Result())
	case *Get:
		obj, err := m.Result()
		s.verdict(err)
		s.values(obj.Values, obj.Context)
		s.replies(obj.Replies)
	case *Keys:
		page, err := m.Result()
		s.verdict(err)
		s.print("  keys %v", page.Keys)
		if page.Next != "" {
			s.print("  next %s", page.Next)
		}
	case *Census:
		all, err := m.Result()
		s.verdict(err)
		for _, k := range all {
			more := ""
			if k.More {
				more = " and more"
			}
			s.print("  %s/%d %v%s %s", k.Node, k.Partition.Index, k.Keys, more, k.Error)
		}
	case *Ping:
		r, err := m.Result()
		s.verdict(err)
		if err == nil {
			s.replies([]kv.Reply{r})
		}
	}
}

func (s *stage) receipt(r kv.Receipt, err error) {
	s.verdict(err)
	s.values(r.Values, r.Context)
	s.replies(r.Replies)
}

func (s *stage) verdict(err error) {
	if err == nil {
		s.print("answer: success")
		return
	}
	var kinds []string
	for name, target := range map[string]error{"in doubt": kv.ErrInDoubt, "timeout": kv.ErrTimeout} {
		if errors.Is(err, target) {
			kinds = append(kinds, name)
		}
	}
	slices.Sort(kinds)
	s.print("answer: error [%s] %v", strings.Join(kinds, ", "), err)
}

func (s *stage) values(values []kv.Value, c kv.Context) {
	for _, v := range values {
		if v.Deleted {
			s.print("  value: tombstone")
			continue
		}
		s.print("  value: %q", v.Data)
	}
	if len(c) > 0 {
		v, err := object.DecodeContext(keyOf("k1"), c)
		if err != nil {
			s.print("  context: %v", err)
			return
		}
		s.print("  context: %s", clock(v))
	}
}

func (s *stage) replies(replies []kv.Reply) {
	for _, r := range replies {
		more := ""
		if r.Error != "" {
			more += ": " + r.Error
		}
		if r.Repaired {
			more += ", repaired"
		}
		s.print("  %s/%d %s %s after %v%s", r.Node, r.Partition.Index, r.Role, r.Result, r.Elapsed, more)
	}
}
