package tanodb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/tanodb/tanodb/internal/backup"
	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/transport"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
)

// A backup is taken home by home. For each, all nodes that are up keep two moments of their
// engines, the second only once all have kept the first. Whatever a vnode holds that should
// not hold the home, such as a hint, is read from the first, and what the home's
// own places hold from the second: so an object that is handed over meanwhile is in one of
// the two. Where the hash trees of all say the same, one vnode is read; elsewhere the
// versions of all are listed, and those that differ are merged.

const (
	backupPage  = 2 << 20          // bytes of objects, or of versions, that are asked for at once
	backupKeys  = 512              // keys that are asked for at once
	backupNamed = 20               // objects that cannot be read and are named
	backupAsk   = 30 * time.Second // for a node to answer one question
)

// BackupInfo is what a backup has of the cluster itself, apart from the objects.
func (n *Node) BackupInfo() BackupInfo {
	s := n.state()
	info := BackupInfo{
		Cluster: clusterID(s.Cluster()), Epoch: s.Epoch(), Partitions: s.Ring().Size(), Replicas: s.Replicas(),
		Members: []string{}, Props: backup.Props{Types: []backup.Type{}, Buckets: []backup.Bucket{}},
	}
	for _, m := range n.members() {
		info.Members = append(info.Members, m.Name)
	}
	for _, t := range s.Types() {
		info.Types = append(info.Types, backup.Type{Name: t.Name, Active: t.Active, Props: t.Props})
	}
	for _, b := range s.BucketsSet() {
		info.Buckets = append(info.Buckets, backup.Bucket{Type: b.Type, Name: []byte(b.Name), Props: s.OwnProps(b)})
	}
	return info
}

// Backup writes the objects of one home to w, as a stream that docs/formats.md draws, but for
// what the backup has already and has not changed. It reports whether it has written
// anything: then an error is in the stream as well.
func (n *Node) Backup(ctx context.Context, ask BackupAsk, w io.Writer) (begun bool, err error) {
	if err := ask.Check(n.state().Ring().Size()); err != nil {
		return false, err
	}
	h := &homeReader{
		node: n, ask: ask, out: backup.NewWriter(w),
		failed: make(map[string]string), lacking: make(map[string][]ring.Partition),
	}
	defer h.release(func(keptMoment) bool { return true })
	if err := h.open(ctx); err != nil {
		return false, err
	}
	defer h.renew()()
	head, err := h.head(ctx)
	if err != nil {
		return false, err
	}
	if err := h.out.Head(head); err != nil {
		return true, err
	}
	err = h.all(ctx, ask.Wanted(head.Same))
	if err != nil {
		h.end.Error = err.Error()
	}
	return true, errors.Join(err, h.out.End(h.end))
}

// BackupAsk says which home is wanted, and what an earlier backup has of it.
type BackupAsk = backup.Ask

// BackupInfo is what a backup has of the cluster itself.
type BackupInfo = backup.Info

// BackupProps are the bucket types and the properties of buckets in a backup.
type BackupProps = backup.Props

// homeReader reads one home for a backup.
type homeReader struct {
	node *Node
	ask  backup.Ask
	out  *backup.Writer
	end  backup.End

	mu      sync.Mutex
	kept    []keptMoment
	full    error                       // a node keeps too many moments now
	failed  map[string]string           // nodes that have not kept a moment, and why
	lacking map[string][]ring.Partition // vnodes that wait for data
	places  []ring.Place
	sources []source
	sums    [][]uint64 // of each source, by branch
}

type keptMoment struct {
	node   string
	number uint64
}

// source is a vnode at a moment.
type source struct {
	keptMoment
	partition ring.Partition
}

func (s source) String() string { return fmt.Sprintf("%s/%d", s.node, s.partition) }

// open has all nodes keep their moments.
func (h *homeReader) open(ctx context.Context) error {
	s := h.node.state()
	h.places = ring.Places(s.Ring(), s.Next(), ring.Partition(h.ask.Home), s.Replicas(), s.Replicas())
	for _, own := range []bool{false, true} {
		for k, held := range h.keepAll(ctx) {
			for _, p := range held.Vnodes {
				if h.isPlace(k.node, p) == own {
					h.sources = append(h.sources, source{k, p})
				}
			}
		}
	}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case h.full != nil:
		return h.full // it passes, and is no reason to do without the node
	}
	h.release(func(k keptMoment) bool {
		return !slices.ContainsFunc(h.sources, func(s source) bool { return s.keptMoment == k })
	})
	slices.SortFunc(h.sources, func(a, b source) int {
		// The places first, and this node before others: that is who is read where all are equal.
		if x, y := h.isPlace(a.node, a.partition), h.isPlace(b.node, b.partition); x != y {
			return before(x)
		}
		if x, y := a.node == h.node.self, b.node == h.node.self; x != y {
			return before(x)
		}
		return int(a.partition) - int(b.partition)
	})
	return nil
}

func before(first bool) int {
	if first {
		return -1
	}
	return 1
}

// keepAll has each node that is up keep a moment, and says what it holds.
func (h *homeReader) keepAll(ctx context.Context) map[keptMoment]momentHeld {
	all := make(map[keptMoment]momentHeld)
	var wg sync.WaitGroup
	for _, m := range h.node.members() {
		k := keptMoment{m.Name, h.node.random()}
		wg.Go(func() {
			held, err := h.node.keepMoment(ctx, k, ring.Partition(h.ask.Home))
			h.mu.Lock()
			defer h.mu.Unlock()
			h.kept = append(h.kept, k) // also after an error: it may be kept all the same
			if errors.Is(err, kv.ErrOverload) {
				h.full = fmt.Errorf("%s: %w", k.node, err)
			}
			if err != nil {
				h.failed[k.node] = err.Error()
				return
			}
			all[k] = held
			h.lacking[k.node] = held.Lacking
		})
	}
	wg.Wait()
	return all
}

// keepMoment has a node keep a moment.
func (n *Node) keepMoment(ctx context.Context, k keptMoment, home ring.Partition) (held momentHeld, err error) {
	body, err := json.Marshal(momentOrder{Number: k.number, Home: home})
	if err != nil {
		return held, err
	}
	err = n.orderWith(ctx, k.node, &transport.Order{Do: orderMoment, Body: body}, &held)
	return held, err
}

// renew keeps the moments alive until what it returns is called: a source that is not read for
// long, since another is, or since the client takes its time, is wanted all the same.
func (h *homeReader) renew() (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(momentRenew)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				h.touch()
			}
		}
	})
	return func() {
		close(done)
		wg.Wait()
	}
}

// touch reads a little of each moment. What has ended all the same tells of it when it is read.
func (h *homeReader) touch() {
	for _, k := range h.kept {
		m := &transport.Moment{Number: k.number, Msg: &vnode.Sums{Home: ring.Partition(h.ask.Home)}}
		if k.node == h.node.self {
			h.node.moments.read(ring.Partition(h.ask.Home), m)
			continue
		}
		if h.node.network == nil || !h.node.live.up(k.node) {
			continue
		}
		f := transport.Frame{To: ring.Partition(h.ask.Home), Epoch: h.node.state().Epoch(), Timeout: momentRenew, Msg: m}
		h.node.network.Ask(k.node, transport.Bulk, f, time.Now().Add(momentRenew), func(vnode.Message, error) {})
	}
}

// release lets go of some moments. Those of nodes that do not hear of it end by themselves.
func (h *homeReader) release(which func(keptMoment) bool) {
	h.kept = slices.DeleteFunc(h.kept, func(k keptMoment) bool {
		if !which(k) {
			return false
		}
		h.node.releaseMoment(k)
		return true
	})
}

func (n *Node) releaseMoment(k keptMoment) {
	if k.node == n.self {
		n.moments.release(k.number)
		return
	}
	body, err := json.Marshal(momentOrder{Number: k.number})
	if err != nil || n.network == nil || !n.live.up(k.node) {
		return
	}
	f := transport.Frame{Msg: &transport.Order{Do: orderRelease, Body: body}}
	n.network.Ask(k.node, transport.Requests, f, time.Now().Add(stateTimeout), func(vnode.Message, error) {})
}

// head asks all sources for the sums of their branches, and says what there is to read.
func (h *homeReader) head(ctx context.Context) (backup.Head, error) {
	out := backup.Head{Home: h.ask.Home, Replicas: []string{}}
	for i, src := range h.sources {
		m, err := h.read(ctx, i, &vnode.Sums{Home: ring.Partition(h.ask.Home), Branch: vnode.Root})
		if err != nil {
			return out, err
		}
		summed, ok := m.(*vnode.Summed)
		if !ok || summed.Sums != nil && len(summed.Sums) != vnode.Branches {
			return out, fmt.Errorf("the sums of %s: %s", src, refusalText(m))
		}
		if summed.Sums == nil {
			summed.Sums = make([]uint64, vnode.Branches)
		}
		h.sums = append(h.sums, summed.Sums)
		out.Replicas = append(out.Replicas, src.String())
	}
	primaries := 0
	for _, p := range h.places {
		if p.Now {
			primaries++
		}
	}
	out.Missing = h.missing()
	out.Whole = backup.Enough(primaries, len(out.Missing))
	out.Same = h.ask.Unchanged(h.placeSums())
	return out, nil
}

// missing are the primaries that are not read, and the other nodes that are not: such a one may
// have taken what a place was not there to take, and its word was counted as a replica's.
func (h *homeReader) missing() (all []string) {
	named := make(map[string]bool)
	for _, p := range h.places {
		if why := h.absent(p); why != "" && p.Now {
			all = append(all, fmt.Sprintf("%s/%d: %s", p.Node, p.Partition, why))
			named[p.Node] = true
		}
	}
	for _, m := range h.node.members() {
		if why := h.failed[m.Name]; why != "" && !named[m.Name] {
			all = append(all, fmt.Sprintf("%s, for what it took in the stead of others: %s", m.Name, why))
		}
	}
	return all
}

// absent is why what a place should hold is not all read; empty: it is.
func (h *homeReader) absent(p ring.Place) string {
	switch {
	case h.failed[p.Node] != "":
		return h.failed[p.Node]
	case slices.Contains(h.lacking[p.Node], p.Partition):
		return "it waits for data that it should hold"
	}
	return ""
}

// placeSums are the sums that tell whether a range has changed: of the places that are read,
// also of those that hold nothing, and of the other sources.
func (h *homeReader) placeSums() (places, others [][]uint64) {
	for _, p := range h.places {
		held := func(s source) bool { return s.node == p.Node && s.partition == p.Partition }
		if !slices.ContainsFunc(h.sources, held) && h.absent(p) == "" {
			places = append(places, make([]uint64, vnode.Branches))
		}
	}
	for i, s := range h.sources {
		if h.isPlace(s.node, s.partition) {
			places = append(places, h.sums[i])
		} else {
			others = append(others, h.sums[i])
		}
	}
	return places, others
}

func (h *homeReader) isPlace(node string, p ring.Partition) bool {
	return slices.ContainsFunc(h.places, func(x ring.Place) bool { return x.Node == node && x.Partition == p })
}

// all writes what is in the ranges.
func (h *homeReader) all(ctx context.Context, wanted []backup.Range) error {
	for _, r := range wanted {
		for branch := r.From; branch < r.To; branch++ {
			if err := h.branch(ctx, branch); err != nil {
				return err
			}
		}
	}
	return nil
}

// branch writes what is in a branch.
func (h *homeReader) branch(ctx context.Context, branch int) error {
	from := h.holders(branch)
	if len(from) == 0 {
		return nil
	}
	wants, err := h.wants(ctx, branch, from)
	if err != nil {
		return err
	}
	for len(wants) > 0 {
		n, err := h.objects(ctx, wants)
		if err != nil {
			return err
		}
		wants = wants[n:]
	}
	return nil
}

// wants lists the objects of a branch. Where all that have any are equal, one of them is
// asked. But a tree can list less than its sums say: the entries of a damaged block are erased,
// and regrown later. So each list is held against its sum.
func (h *homeReader) wants(ctx context.Context, branch int, from []int) ([]backup.Want, error) {
	sums := make([]uint64, len(h.sources))
	for i := range sums {
		sums[i] = h.sums[i][branch]
	}
	lists := make([][]vnode.Item, len(h.sources))
	list := func(i int) (err error) {
		lists[i], err = h.versions(ctx, i, branch)
		return err
	}
	lead := from[0]
	if !slices.ContainsFunc(from, func(i int) bool { return sums[i] != sums[lead] }) {
		if err := list(lead); err != nil {
			return nil, err
		}
		if backup.SumOf(lists[lead]) == sums[lead] {
			wants := backup.Wants(lists)
			for i := range wants {
				wants[i].Versions[0].At = from // any of them can stand in for the one that was asked
			}
			return wants, nil
		}
	}
	for _, i := range from {
		if lists[i] == nil {
			if err := list(i); err != nil {
				return nil, err
			}
		}
	}
	wants := backup.Wants(lists)
	for _, i := range backup.Unlisted(sums, lists, wants) {
		h.bad(fmt.Sprintf("an object that %s has in branch %d and does not list", h.sources[i], branch))
	}
	return wants, nil
}

// holders are the sources that have anything in a branch.
func (h *homeReader) holders(branch int) (all []int) {
	for i := range h.sources {
		if h.sums[i][branch] != 0 {
			all = append(all, i)
		}
	}
	return all
}

// versions lists what a source has in a branch.
func (h *homeReader) versions(ctx context.Context, i, branch int) ([]vnode.Item, error) {
	var all []vnode.Item
	q := &vnode.Versions{Home: ring.Partition(h.ask.Home), Segments: vnode.SegmentsIn(branch, branch+1), Limit: backupPage}
	for {
		m, err := h.read(ctx, i, q)
		if err != nil {
			return nil, err
		}
		page, ok := m.(*vnode.Versioned)
		if !ok {
			return nil, fmt.Errorf("the versions of %s: %s", h.sources[i], refusalText(m))
		}
		all = append(all, page.Items...)
		if !page.More {
			return all, nil
		}
		next := *q
		next.After = page.Last
		q = &next
	}
}

// objects writes the first of the objects, and says how many.
func (h *homeReader) objects(ctx context.Context, wants []backup.Want) (int, error) {
	lead := wants[0].Versions[0].At[0]
	keys := make([]kv.Key, 0, min(len(wants), backupKeys))
	for _, w := range wants[:min(len(wants), backupKeys)] {
		if w.Versions[0].At[0] != lead {
			break
		}
		keys = append(keys, w.Key)
	}
	items, err := h.pick(ctx, lead, keys)
	if err != nil {
		return 0, err
	}
	for n := range items {
		if err := h.object(ctx, wants[n], items[n]); err != nil {
			return 0, err
		}
	}
	return len(items), nil
}

// pick reads the first of some objects of a source.
func (h *homeReader) pick(ctx context.Context, i int, keys []kv.Key) ([]vnode.Item, error) {
	m, err := h.read(ctx, i, &vnode.Pick{Home: ring.Partition(h.ask.Home), Keys: keys, Limit: backupPage})
	if err != nil {
		return nil, err
	}
	p, ok := m.(*vnode.Picked)
	if !ok || len(p.Items) == 0 || len(p.Items) > len(keys) {
		return nil, fmt.Errorf("objects of %s: %s", h.sources[i], refusalText(m))
	}
	return p.Items, nil
}

// object writes one object: all its versions, merged. First is what the first replica that has
// the first version has given.
func (h *homeReader) object(ctx context.Context, w backup.Want, first vnode.Item) error {
	var merged object.Object
	var enc []byte
	for n, v := range w.Versions {
		it := first
		if n > 0 {
			it = vnode.Item{}
		}
		for _, i := range v.At {
			if it.Hash != 0 {
				break
			}
			items, err := h.pick(ctx, i, []kv.Key{w.Key})
			if err != nil {
				return err
			}
			it = items[0]
		}
		o, err := object.Decode(it.Object)
		if it.Hash == 0 || err != nil {
			h.bad(w.Key.String())
			continue
		}
		if enc == nil {
			merged, enc = o, it.Object
			continue
		}
		merged = object.Merge(merged, o)
		enc = merged.Encode()
	}
	if len(w.Versions) > 1 {
		h.end.Merged++
	}
	switch {
	case enc == nil:
		return nil
	case len(enc) > kv.MaxObject:
		h.bad(w.Key.String()) // copies within the limit that are past it together
		return nil
	}
	h.end.Objects++
	h.end.Bytes += int64(len(enc))
	return h.out.Record(backup.Record{Key: w.Key, Object: enc})
}

// bad notes an object, or a version of one, that no replica can read.
func (h *homeReader) bad(what string) {
	h.end.Bad++
	if len(h.end.Unreadable) < backupNamed {
		h.end.Unreadable = append(h.end.Unreadable, what)
	}
}

// read asks a source for something.
func (h *homeReader) read(ctx context.Context, i int, q vnode.Message) (vnode.Message, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	src := h.sources[i]
	m := &transport.Moment{Number: src.number, Msg: q}
	if src.node == h.node.self {
		return h.node.moments.read(src.partition, m), nil
	}
	answer, err := h.node.askBulk(ctx, src.node, transport.Frame{To: src.partition, Timeout: backupAsk, Msg: m})
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", src, err)
	}
	return answer, nil
}

// askBulk asks a vnode of another node, where hand-off does. It asks again if the connection
// was only begun.
func (n *Node) askBulk(ctx context.Context, node string, f transport.Frame) (vnode.Message, error) {
	type outcome struct {
		m   vnode.Message
		err error
	}
	if n.network == nil {
		return nil, errors.New("this node has no network")
	}
	f.Epoch = n.state().Epoch()
	for round := 0; ; round++ {
		answered := make(chan outcome, 1)
		n.network.Ask(node, transport.Bulk, f, time.Now().Add(f.Timeout), func(m vnode.Message, err error) {
			answered <- outcome{m, err}
		})
		a := <-answered // at the deadline at the latest
		if !errors.Is(a.err, transport.ErrNotSent) || round == bulkTries {
			return a.m, a.err
		}
		if err := pauseFor(ctx, bulkPause); err != nil {
			return nil, err
		}
	}
}

// bulkTries is how often a question is asked again whose connection is not there.
const bulkTries = 10
