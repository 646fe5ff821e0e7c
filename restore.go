package tanodb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/tanodb/tanodb/internal/backup"
	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/transport"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
)

// A restore brings objects as a backup has them to all places of their keys, where they are
// merged with what is there, as anti-entropy does. So nothing that is there is lost, and what
// is restored twice is there once. An object counts as restored when a majority of the
// places by the owners now, and of those by the next, has it durably.

const (
	restoreBytes   = 4 << 20 // of objects in hand
	restoreObjects = 1000    // the same
	restoreAsk     = 20 * time.Second
	restoreTries   = 6 // of a batch, with a longer pause after each
	restorePause   = 50 * time.Millisecond
)

// Restored is what Restore has done.
type Restored struct {
	Objects int   `json:"objects"`
	Bytes   int64 `json:"bytes"`
	Behind  int   `json:"behind"` // objects that some of their places do not have yet; anti-entropy brings them
}

// Restore merges the objects of a stream, which docs/formats.md draws, into the cluster. After
// an error some of them may be there; to restore them again does no harm.
func (n *Node) Restore(ctx context.Context, r io.Reader) (Restored, error) {
	var done Restored
	in := backup.NewReader(r)
	batch := &restoreBatch{node: n, done: &done}
	for {
		part, err := in.Next()
		if err != nil {
			return done, fmt.Errorf("the objects sent here: %w", errors.Join(err, kv.ErrInvalid))
		}
		switch part := part.(type) {
		case backup.Record:
			if err := batch.add(ctx, part); err != nil {
				return done, err
			}
		case backup.End:
			return done, batch.flush(ctx)
		}
	}
}

// restoreBatch is the objects in hand, by home.
type restoreBatch struct {
	node  *Node
	done  *Restored
	homes map[ring.Partition][]vnode.Item
	count int
	size  int
}

func (b *restoreBatch) add(ctx context.Context, r backup.Record) error {
	s := b.node.state()
	if _, err := s.Props(kv.Bucket{Type: r.Key.Type, Name: r.Key.Bucket}); err != nil {
		return fmt.Errorf("%s: %w", r.Key, err)
	}
	if b.homes == nil {
		b.homes = make(map[ring.Partition][]vnode.Item)
	}
	home := s.Ring().Home(r.Key)
	b.homes[home] = append(b.homes[home], vnode.Item{Key: r.Key, Hash: vnode.HashOf(r.Object), Object: r.Object})
	b.count++
	b.size += len(r.Object)
	if b.count >= restoreObjects || b.size >= restoreBytes {
		return b.flush(ctx)
	}
	return nil
}

// flush restores what is in hand.
func (b *restoreBatch) flush(ctx context.Context) error {
	outcomes := make(chan homeRestored, len(b.homes))
	for home, items := range b.homes {
		go func() { outcomes <- b.node.restoreHome(ctx, home, items) }()
	}
	var errs []error
	for range b.homes {
		o := <-outcomes
		b.done.Objects += o.objects
		b.done.Behind += o.behind
		errs = append(errs, o.err)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	b.done.Bytes += int64(b.size)
	b.homes, b.count, b.size = nil, 0, 0
	return nil
}

type homeRestored struct {
	objects, behind int
	err             error
}

// restoreHome brings objects of one home to its places, again and again until a majority has
// them.
func (n *Node) restoreHome(ctx context.Context, home ring.Partition, items []vnode.Item) homeRestored {
	var err error
	for try := range restoreTries {
		if try > 0 {
			if pauseErr := pauseFor(ctx, restorePause<<try); pauseErr != nil {
				return homeRestored{err: fmt.Errorf("%w: %w", kv.ErrTimeout, errors.Join(pauseErr, err))}
			}
		}
		var behind bool
		if behind, err = n.deliverHome(ctx, home, items); err == nil {
			out := homeRestored{objects: len(items)}
			if behind {
				out.behind = len(items)
				n.suspect(home)
			}
			return out
		}
	}
	n.suspect(home)
	return homeRestored{err: err}
}

// suspect has the nodes that hold a home compare its replicas soon: this one may be none of
// them. It does not wait. A node that does not hear of it compares in its turn.
func (n *Node) suspect(home ring.Partition) {
	s := n.state()
	body, err := json.Marshal(home)
	told := make(map[string]bool)
	for _, p := range ring.Places(s.Ring(), s.Next(), home, s.Replicas(), s.Replicas()) {
		if told[p.Node] || err != nil {
			continue
		}
		told[p.Node] = true
		if p.Node == n.self {
			n.menders.unconfirmed(home)
			continue
		}
		if n.network == nil || !n.live.up(p.Node) {
			continue
		}
		f := transport.Frame{Msg: &transport.Order{Do: orderSuspect, Body: body}}
		n.network.Ask(p.Node, transport.Requests, f, time.Now().Add(stateTimeout), func(vnode.Message, error) {})
	}
}

// deliverHome brings objects to all places of their home at once. Behind says that not all
// of these have all of them.
func (n *Node) deliverHome(ctx context.Context, home ring.Partition, items []vnode.Item) (behind bool, err error) {
	s := n.state()
	places := ring.Places(s.Ring(), s.Next(), home, s.Replicas(), s.Replicas())
	type outcome struct {
		place int
		m     vnode.Message
		err   error
	}
	outcomes := make(chan outcome, len(places))
	for i, p := range places {
		go func() {
			m, err := n.deliverTo(ctx, s, p.Replica, &vnode.Deliver{Home: home, Items: items, Placed: true})
			outcomes <- outcome{i, m, err}
		}()
	}
	tally := backup.NewTally(places)
	for range places {
		o := <-outcomes
		why := ""
		d, ok := o.m.(*vnode.Delivered)
		switch {
		case o.err != nil:
			why = o.err.Error()
		case !ok:
			why = refusalText(o.m)
		default:
			why = backup.Undelivered(d.Results, items)
		}
		tally.Add(o.place, why)
	}
	return tally.Behind(), tally.Err()
}

// deliverTo brings objects to one vnode.
func (n *Node) deliverTo(ctx context.Context, s *membership.State, to ring.Replica, m *vnode.Deliver) (vnode.Message, error) {
	if to.Node != n.self {
		if !n.live.up(to.Node) {
			return nil, errors.New("the node is down")
		}
		return n.askBulk(ctx, to.Node, transport.Frame{To: to.Partition, Timeout: restoreAsk, Msg: m})
	}
	answered := make(chan vnode.Message, 1)
	n.vnodes.submit(command{to: to.Partition, msg: m, epoch: s.Epoch(), reply: func(m vnode.Message) { answered <- m }})
	select {
	case m := <-answered:
		return m, nil
	case <-n.gone:
		return nil, kv.ErrClosed
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// RestoreProps makes the bucket types and properties of buckets in a backup that this cluster
// has not, and says what it has done. What the cluster has already stays as it is; if data of
// the one cannot be data of the other, the error says so, and nothing was changed.
func (n *Node) RestoreProps(ctx context.Context, p BackupProps) ([]string, error) {
	have := n.BackupInfo().Props
	plan, err := p.Missing(have, n.state().Replicas())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", kv.ErrInvalid, err)
	}
	done := append([]string{}, plan.Kept...)
	for _, t := range plan.Types {
		if err := n.restoreType(ctx, t, plan.Active(t.Name)); err != nil {
			return done, fmt.Errorf("bucket type %s: %w", t.Name, err)
		}
		done = append(done, "bucket type "+t.Name+" is made")
	}
	for _, b := range plan.Buckets {
		bucket := kv.Bucket{Type: b.Type, Name: string(b.Name)}
		if err := n.SetBucketProps(ctx, bucket, b.Props); err != nil {
			return done, fmt.Errorf("bucket %q: %w", b.Name, err)
		}
		done = append(done, fmt.Sprintf("bucket %q has its properties", b.Name))
	}
	return done, nil
}

// restoreType makes a type, or sets what the default one has.
func (n *Node) restoreType(ctx context.Context, t backup.Type, active bool) error {
	if kv.PlainType(t.Name) == "" {
		return n.UpdateBucketType(ctx, kv.DefaultType, t.Props)
	}
	if err := n.CreateBucketType(ctx, t.Name, t.Props); err != nil {
		return err
	}
	if !active {
		return nil
	}
	return n.ActivateBucketType(ctx, t.Name)
}
