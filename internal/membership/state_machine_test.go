package membership_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/kv"
)

// Whatever operators and nodes do, in any order, the topology keeps its
// promises; and when they have done, all transfers come to their ends.
func TestTopologyKeepsItsPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		t.Repeat(map[string]func(*rapid.T){
			"announce":     w.announce,
			"commit":       w.commit,
			"copy":         w.copy,
			"copy more":    w.copy,
			"down":         w.down,
			"exit":         w.exit,
			"mark":         w.mark,
			"reap":         w.reap,
			"limit":        w.limit,
			"properties":   w.properties,
			"security":     w.security,
			"more of it":   w.security,
			"settle":       w.settle,
			"settle more":  w.settle,
			"stage":        w.stage,
			"stage a join": w.join,
			"stage more":   w.stage,
			"":             w.check,
		})
		w.end(t)
	})
}

// place is where a key's replica is.
type place struct {
	partition ring.Partition
	node      string
}

// world is a cluster that is made of nothing but its topology, and of the
// knowledge which places hold all the data of a home.
type world struct {
	s      *membership.State
	before *membership.State // before the last command
	last   membership.Command
	ids    map[string][16]byte // the id of the newest node of that name
	drawn  uint64              // ids of nodes and commands so far
	aim    []string            // by partition, the owner that the last plan wants
	full   []map[place]bool    // by home
	rules  *rules              // who may do what
}

func newWorld(t *rapid.T) *world {
	var members []membership.Member
	for i := range rapid.IntRange(1, 5).Draw(t, "first members") {
		members = append(members, membership.Member{Name: fmt.Sprintf("n%d", i+1), Address: fmt.Sprintf("h%d:1", i+1)})
	}
	size := 8 << rapid.IntRange(0, 3).Draw(t, "size")
	s, err := membership.Bootstrap(members, size, rapid.IntRange(1, 4).Draw(t, "target"), rapid.IntRange(1, 3).Draw(t, "replicas"))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{s: s, ids: map[string][16]byte{}, aim: owners(s.Ring()), rules: newRules()}
	for home := range size {
		full := map[place]bool{}
		for _, x := range s.Ring().Primaries(ring.Partition(home), s.Replicas()) {
			full[place{x.Partition, x.Node}] = true
		}
		w.full = append(w.full, full)
	}
	for _, m := range s.Members() {
		w.ids[m.Name] = w.newID()
		w.do(t, membership.Announce{Name: m.Name, ID: w.ids[m.Name]})
	}
	return w
}

func owners(r *ring.Ring) []string {
	list := make([]string, r.Size())
	for p := range list {
		list[p] = r.Owner(ring.Partition(p))
	}
	return list
}

func (w *world) newID() (id [16]byte) {
	w.drawn++
	binary.BigEndian.PutUint64(id[:], w.drawn)
	return id
}

// do applies a command, and returns its result.
func (w *world) do(t *rapid.T, c membership.Command) error {
	t.Helper()
	id := membership.CommandID(w.newID())
	w.before, w.last = w.s, c
	w.s = w.before.Apply(id, c)
	err, known := w.s.Result(id)
	if !known {
		t.Fatalf("%T has no result", c)
	}
	w.checkCopy(t, id, c)
	w.checkStep(t, err)
	return err
}

// checkCopy does the same with a copy of the state and of the command.
func (w *world) checkCopy(t *rapid.T, id membership.CommandID, c membership.Command) {
	t.Helper()
	copied, err := membership.DecodeState(w.before.Encode())
	if err != nil {
		t.Fatalf("%v\n%v", err, w.before)
	}
	command, err := membership.DecodeCommand(membership.EncodeCommand(c))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := copied.Apply(id, command).Encode(), w.s.Encode(); !bytes.Equal(got, want) {
		t.Fatalf("%T on a copy leads to another state:\n%s\n%s", c, got, want)
	}
	again := w.s.Apply(id, c)
	if diff := cmp.Diff(view(w.s), view(again)); diff != "" || again.Epoch() != w.s.Epoch()+1 {
		t.Fatalf("the same command again, at epoch %d, has changed: %s", again.Epoch(), diff)
	}
}

// content is what commands can change.
type content struct {
	Members   []membership.Member
	Transfers []membership.Transfer
	Staged    []membership.Change
	Settings  []membership.Setting
	Types     []membership.BucketType
	Buckets   map[kv.Bucket]kv.Properties
	Security  string
	Ring      []string
	Next      []string
}

func view(s *membership.State) content {
	buckets := make(map[kv.Bucket]kv.Properties)
	for _, b := range s.BucketsSet() {
		p, err := s.Props(b)
		if err != nil {
			panic(err) // a bucket has properties of its own, and no type
		}
		buckets[b] = p.List()
	}
	return content{s.Members(), s.Transfers(), s.Staged(), s.Settings(), s.Types(), buckets, fmt.Sprintf("%+v", *s.Security()), owners(s.Ring()), owners(s.Next())}
}

// checkStep checks what must hold between two states.
func (w *world) checkStep(t *rapid.T, err error) {
	t.Helper()
	if w.s.Epoch() != w.before.Epoch()+1 {
		t.Fatalf("epoch %d follows %d", w.s.Epoch(), w.before.Epoch())
	}
	if err != nil {
		if diff := cmp.Diff(view(w.before), view(w.s)); diff != "" {
			t.Fatalf("%#v was refused, %q, and has changed: %s", w.last, err, diff)
		}
	}
	w.checkFlips(t)
	w.checkSince(t)
	w.checkLimit(t)
	w.checkData(t)
}

// checkFlips checks that no partition changes its owner but by a transfer that
// was filled, or back to one that still has everything.
func (w *world) checkFlips(t *rapid.T) {
	t.Helper()
	for _, m := range w.before.Ring().Moves(w.s.Ring()) {
		was, is := active(w.before, m.Partition), active(w.s, m.Partition)
		if was == nil || is == nil || is.Phase != membership.Settling {
			t.Fatalf("partition %d moves from %s to %s with %v, then %v", m.Partition, m.From, m.To, was, is)
		}
		if was.Phase == membership.Settling {
			if !left(w.s, was.To) || left(w.s, was.From) || is.From != was.To || is.To != was.From {
				t.Fatalf("%v turns into %v", was, is)
			}
			continue
		}
		for _, node := range w.before.Receivers(*was) {
			if !slices.Contains(is.Filled, node) && !left(w.s, node) {
				t.Fatalf("%v though %s lacks data", is, node)
			}
		}
	}
}

func active(s *membership.State, p ring.Partition) *membership.Transfer {
	for _, t := range s.Transfers() {
		if t.Partition == p && t.Phase != membership.Waiting {
			return &t
		}
	}
	return nil
}

func left(s *membership.State, node string) bool {
	m, ok := s.Member(node)
	return !ok || m.Status == membership.StatusLeft
}

// checkSince compares with a look at all homes.
func (w *world) checkSince(t *rapid.T) {
	t.Helper()
	differ := func(a, b *ring.Ring, home ring.Partition) bool {
		return !slices.Equal(a.Primaries(home, w.s.Replicas()), b.Primaries(home, w.s.Replicas()))
	}
	for p := range w.s.Ring().Size() {
		home, want := ring.Partition(p), w.before.Since(ring.Partition(p))
		if differ(w.before.Ring(), w.s.Ring(), home) || differ(w.before.Next(), w.s.Next(), home) {
			want = w.s.Epoch()
		}
		if got := w.s.Since(home); got != want {
			t.Fatalf("home %d is of epoch %d, want %d", home, got, want)
		}
	}
}

// checkLimit checks that no transfer has begun that is one too many.
func (w *world) checkLimit(t *rapid.T) {
	t.Helper()
	load := map[string]int{}
	began := map[string]bool{}
	for _, x := range w.s.Transfers() {
		if x.Phase == membership.Waiting {
			continue
		}
		load[x.From]++
		load[x.To]++
		if active(w.before, x.Partition) == nil {
			began[x.From], began[x.To] = true, true
		}
	}
	for node := range began {
		if limit := w.s.Setting(membership.TransferLimit); !left(w.s, node) && fmt.Sprint(load[node]) > limit {
			t.Fatalf("%s takes part in %d transfers; the limit is %s", node, load[node], limit)
		}
	}
}

// checkData forgets what was at places that are not written to any more, and
// checks that all others that are read from have what they should.
func (w *world) checkData(t *rapid.T) {
	t.Helper()
	for p, full := range w.full {
		home, written := ring.Partition(p), map[place]bool{}
		for _, r := range []*ring.Ring{w.s.Ring(), w.s.Next()} {
			for _, x := range r.Primaries(home, w.s.Replicas()) {
				written[place{x.Partition, x.Node}] = true
			}
		}
		for x := range full {
			if !written[x] {
				delete(full, x)
			}
		}
		for _, x := range w.s.Ring().Primaries(home, w.s.Replicas()) {
			if !left(w.s, x.Node) && !full[place{x.Partition, x.Node}] {
				t.Fatalf("partition %d on %s is read from for home %d, and lacks data", x.Partition, x.Node, home)
			}
		}
	}
}

// check checks what must hold in each state.
func (w *world) check(t *rapid.T) {
	w.checkSecurity(t)
	r, transfers := w.s.Ring(), w.s.Transfers()
	for i, x := range transfers {
		for _, y := range transfers[:i] {
			if x.Phase != membership.Waiting && y.Phase != membership.Waiting && !r.Apart(x.Partition, y.Partition, w.s.Replicas()) {
				t.Fatalf("%v, and %v", x, y)
			}
		}
	}
	for p := range r.Size() {
		owner, next := r.Owner(ring.Partition(p)), r.Owner(ring.Partition(p))
		forced := func(x membership.Transfer) bool {
			return x.Partition == ring.Partition(p) && x.From == owner && x.Forced
		}
		if left(w.s, owner) && !slices.ContainsFunc(transfers, forced) {
			t.Fatalf("partition %d is owned by %s, which has left: %v", p, owner, w.s)
		}
		if x := active(w.s, ring.Partition(p)); x != nil {
			next = map[membership.Phase]string{membership.Copying: x.To, membership.Settling: x.From}[x.Phase]
			if from := map[membership.Phase]string{membership.Copying: x.From, membership.Settling: x.To}[x.Phase]; from != owner {
				t.Fatalf("partition %d is owned by %s: %v", p, owner, x)
			}
		}
		if got := w.s.Next().Owner(ring.Partition(p)); got != next {
			t.Fatalf("partition %d is owned by %s in Next, want %s: %v", p, got, next, w.s)
		}
	}
	if same := w.s.Next() == r; same != !slices.ContainsFunc(transfers, func(x membership.Transfer) bool { return x.Phase != membership.Waiting }) {
		t.Fatalf("Next is Ring: %v, %v", same, w.s)
	}
}

func (w *world) name(t *rapid.T) string {
	return fmt.Sprintf("n%d", rapid.IntRange(1, 8).Draw(t, "node"))
}

func (w *world) join(t *rapid.T) {
	name := w.name(t)
	if m, ok := w.s.Member(name); !ok || m.Status == membership.StatusLeft {
		w.ids[name] = w.newID()
	}
	w.do(t, membership.Stage{Change: membership.Change{Kind: membership.ChangeJoin, Node: name, ID: w.ids[name], Address: name + ":1"}})
}

func (w *world) stage(t *rapid.T) {
	c := membership.Change{Node: w.name(t)}
	c.Kind = rapid.SampledFrom([]membership.ChangeKind{
		membership.ChangeLeave, membership.ChangeReplace, membership.ChangeForceReplace, membership.ChangeForceRemove, membership.ChangeSet,
	}).Draw(t, "kind")
	switch c.Kind {
	case membership.ChangeReplace, membership.ChangeForceReplace:
		c.With = w.name(t)
	case membership.ChangeSet:
		c.Weight = rapid.SampledFrom([]int{50, 100, 200}).Draw(t, "weight")
	}
	w.do(t, membership.Stage{Change: c})
}

func (w *world) commit(t *rapid.T) {
	if rapid.IntRange(0, 9).Draw(t, "instead") == 0 {
		w.do(t, membership.Clear{})
		return
	}
	plan, err := w.s.Plan()
	if err != nil {
		if got := w.do(t, membership.Commit{Plan: "0123456789abcdef"}); got == nil || got.Error() != err.Error() {
			t.Fatalf("there is no plan: %v; but commit says %v", err, got)
		}
		return
	}
	if err := w.do(t, membership.Commit{Plan: plan.ID}); err != nil {
		t.Fatal(err)
	}
	w.aim = owners(w.s.Ring())
	for _, x := range w.s.Transfers() {
		w.aim[x.Partition] = x.To
	}
	for _, share := range plan.Shares {
		n := 0
		for _, owner := range w.aim {
			if owner == share.Name {
				n++
			}
		}
		if n != share.After {
			t.Fatalf("%s will own %d partitions, and the plan says %d", share.Name, n, share.After)
		}
	}
}

// copy lets one receiver of a transfer fetch what it needs.
func (w *world) copy(t *rapid.T) {
	var copying []membership.Transfer
	for _, x := range w.s.Transfers() {
		if x.Phase == membership.Copying {
			copying = append(copying, x)
		}
	}
	if len(copying) == 0 {
		w.do(t, membership.Noop{})
		return
	}
	x := rapid.SampledFrom(copying).Draw(t, "transfer")
	w.fill(t, x, rapid.SampledFrom(w.s.Receivers(x)).Draw(t, "receiver"))
}

func (w *world) fill(t *rapid.T, x membership.Transfer, node string) {
	t.Helper()
	if left(w.s, node) {
		return
	}
	n := w.s.Replicas()
	for _, f := range ring.Fills(w.s.Ring(), w.s.Ring().With(x.Partition, x.To), n) {
		if f.To.Node != node {
			continue
		}
		sources := w.s.Ring().Primaries(f.Home, n)
		if !x.Forced {
			sources = []ring.Replica{f.From}
		}
		alone := !slices.ContainsFunc(w.s.Ring().Primaries(f.Home, n), func(y ring.Replica) bool { return !left(w.s, y.Node) })
		found := slices.ContainsFunc(sources, func(y ring.Replica) bool {
			return !left(w.s, y.Node) && w.full[f.Home][place{y.Partition, y.Node}]
		})
		if !found && !alone {
			t.Fatalf("%v: nobody has what %s needs for home %d", x, node, f.Home)
		}
		w.full[f.Home][place{f.To.Partition, node}] = true
	}
	if err := w.do(t, membership.Filled{Transfer: x.ID, Node: node}); err != nil {
		t.Fatal(err)
	}
}

// up is what a node says that has no better knowledge than the topology.
func (w *world) up(node string) bool {
	m, ok := w.s.Member(node)
	return ok && m.Status != membership.StatusDown && m.Status != membership.StatusLeft
}

func (w *world) settleable() []uint64 {
	epochs := map[string]uint64{}
	for _, m := range w.s.Members() {
		if w.up(m.Name) {
			epochs[m.Name] = w.s.Epoch()
		}
	}
	return w.s.Settleable(epochs, w.up)
}

func (w *world) mark(t *rapid.T) {
	after := rapid.Uint64Range(0, w.s.Epoch()).Draw(t, "after")
	was := w.s.Mark()
	w.do(t, membership.Mark{After: after})
	if raised := w.s.Mark() == w.s.Epoch(); raised != (was <= after) || !raised && w.s.Mark() != was {
		t.Fatalf("a mark after %d makes of %d %d", after, was, w.s.Mark())
	}
}

// reap lets all members that are up show the mark. No reaping is agreed on before all that have not left
// have.
func (w *world) reap(t *rapid.T) {
	lives := map[string]membership.Lives{}
	all := true
	for _, m := range w.s.Members() {
		if m.Status == membership.StatusLeft {
			continue
		}
		if all = all && w.up(m.Name); w.up(m.Name) {
			lives[m.Name] = membership.Lives{Now: 1 + rapid.Uint64Range(0, 3).Draw(t, "life"), Since: w.s.Epoch()}
		}
	}
	c, ok := w.s.Reapable(lives, w.up)
	if ok != (all && w.s.Mark() > w.s.Reaped()) {
		t.Fatalf("it can be reaped: %t; all are up: %t, mark %d, reaped %d", ok, all, w.s.Mark(), w.s.Reaped())
	}
	if !ok {
		return
	}
	if err := w.do(t, c); err != nil || w.s.Reaped() != c.Mark || w.s.Fence() != w.s.Epoch() {
		t.Fatalf("%v, reaped %d of %d, fence %d at %d", err, w.s.Reaped(), c.Mark, w.s.Fence(), w.s.Epoch())
	}
	for name, l := range lives {
		if w.s.OutOfDate(name, l.Now, 0) || !w.s.OutOfDate(name, l.Now+100, c.Mark-1) {
			t.Fatalf("%s in life %d, and in another one", name, l.Now)
		}
	}
}

func (w *world) settle(t *rapid.T) {
	ids := w.settleable()
	if len(ids) == 0 {
		w.do(t, membership.Settled{Transfer: rapid.Uint64Range(0, 9).Draw(t, "any")})
		return
	}
	if err := w.do(t, membership.Settled{Transfer: rapid.SampledFrom(ids).Draw(t, "transfer")}); err != nil {
		t.Fatal(err)
	}
}

func (w *world) down(t *rapid.T) { w.do(t, membership.Down{Name: w.name(t)}) }

func (w *world) announce(t *rapid.T) {
	name := w.name(t)
	w.do(t, membership.Announce{Name: name, ID: w.ids[name], Address: name + ":2"})
}

func (w *world) exit(t *rapid.T) { w.do(t, membership.Left{Name: w.name(t)}) }

func (w *world) limit(t *rapid.T) {
	w.do(t, membership.Set{Key: membership.TransferLimit, Value: fmt.Sprint(rapid.IntRange(1, 5).Draw(t, "limit"))})
}

func (w *world) properties(t *rapid.T) {
	props := rapid.SampledFrom([]kv.Properties{
		nil, {{Name: "n_val", Value: "1"}}, {{Name: "n_val", Value: "3"}}, {{Name: "w", Value: "2"}}, {{Name: "w"}}, {{Name: "allow_mult", Value: "true"}},
		{{Name: "last_write_wins", Value: "true"}}, {{Name: "last_write_wins"}}, {{Name: "ttl", Value: "60"}}, {{Name: "write_once", Value: "true"}}, {{Name: "nonsense", Value: "1"}},
	}).Draw(t, "properties")
	typ := rapid.SampledFrom([]string{"default", "a", "b"}).Draw(t, "type")
	if rapid.Bool().Draw(t, "of a bucket") {
		b := kv.Bucket{Type: typ, Name: rapid.SampledFrom([]string{"x", "y"}).Draw(t, "bucket")}
		w.do(t, membership.SetBucket{Bucket: b, Reset: rapid.Bool().Draw(t, "reset"), Props: props})
		return
	}
	do := rapid.SampledFrom([]membership.TypeChange{membership.TypeCreate, membership.TypeActivate, membership.TypeUpdate, membership.TypeReset}).Draw(t, "do")
	w.do(t, membership.SetType{Name: typ, Do: do, Props: props})
}

// end lets everything be done that is left to do.
func (w *world) end(t *rapid.T) {
	w.do(t, membership.Clear{})
	for _, m := range w.s.Members() {
		if m.Status == membership.StatusDown {
			w.do(t, membership.Announce{Name: m.Name, ID: m.ID})
		}
	}
	for rounds := 0; len(w.s.Transfers()) > 0; rounds++ {
		if rounds > 4*w.s.Ring().Size() {
			t.Fatalf("it does not end: %v", w.s)
		}
		for _, x := range w.s.Transfers() {
			if x.Phase != membership.Copying {
				continue
			}
			for _, node := range w.s.Receivers(x) {
				if !slices.Contains(x.Filled, node) {
					w.fill(t, x, node)
				}
			}
		}
		for _, id := range w.settleable() {
			w.do(t, membership.Settled{Transfer: id})
		}
	}
	w.check(t)
	if diff := cmp.Diff(w.aim, owners(w.s.Ring())); diff != "" {
		t.Fatalf("the ring is not what was planned: %s", diff)
	}
	for _, m := range w.s.Members() {
		if m.Status == membership.StatusLeaving {
			t.Fatalf("%s is still leaving: %v", m.Name, w.s)
		}
		if m.Status == membership.StatusExiting {
			if err := w.do(t, membership.Left{Name: m.Name}); err != nil {
				t.Fatal(err)
			}
		}
	}
}
