package tanodb

import (
	"errors"
	"fmt"
	"time"

	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/internal/transport"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/storage"
)

// refresher waits for a State of an epoch.
type refresher struct {
	epoch uint64
	done  func()
}

// heard notes the epoch of another node, and asks it if it knows more.
func (t *topology) heard(node string, epoch uint64) {
	t.mu.Lock()
	news := t.epochs[node] < epoch
	if news {
		t.epochs[node] = epoch
	}
	t.mu.Unlock()
	if news {
		select {
		case t.news <- struct{}{}:
		default:
		}
	}
	if epoch > t.current.Load().Epoch() {
		t.catchUp(node, epoch, nil)
	}
}

func (t *topology) epochOf(node string) uint64 {
	if node == t.node.self {
		return t.current.Load().Epoch()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.epochs[node]
}

// catchUp fetches the topology of a node, which has this epoch. It calls done
// when this node has it, from wherever, or when nothing came of the question.
func (t *topology) catchUp(node string, epoch uint64, done func()) {
	t.mu.Lock()
	if done != nil {
		t.refresh[node] = append(t.refresh[node], refresher{epoch, done})
	}
	asked := t.asking[node]
	t.asking[node] = true
	t.mu.Unlock()
	if asked {
		t.refreshed(t.current.Load().Epoch()) // it may have come since the caller looked
		return
	}
	f := transport.Frame{Msg: &transport.StateAsk{Have: t.current.Load().Epoch()}}
	t.node.network.Ask(node, transport.Requests, f, time.Now().Add(stateTimeout), func(m vnode.Message, err error) {
		if give, ok := m.(*transport.StateGive); err == nil && ok && len(give.State) > 0 {
			go func() {
				t.given(node, give.State)
				t.asked(node)
			}()
			return
		}
		t.asked(node)
	})
}

// given adopts a State that another node has sent, once it is on the disk. On a full
// disk it is adopted all the same, since a node that goes by an old topology serves
// nobody; but it is not shown to others until it could be kept.
func (t *topology) given(from string, b []byte) {
	s, err := membership.DecodeState(b)
	if err == nil && s.Cluster() != t.current.Load().Cluster() {
		err = errors.New("it is that of another cluster")
	}
	if err != nil {
		t.node.log.Error("a node has sent a topology that is not one", "node", t.node.self, "from", from, "error", err)
		return
	}
	t.keep.Lock()
	defer t.keep.Unlock()
	if s.Epoch() <= t.current.Load().Epoch() || t.isDoubted() || t.outOfDate(s, from) {
		return // it is not kept before the data is in order: nobody could tell any more
	}
	batch := storage.Batch{}
	membership.KeepGiven(&batch, s)
	switch err := t.keepNow(&batch); {
	case err == nil:
		t.adoptKept(s)
	case errors.Is(err, storage.ErrFull):
		t.adopt(s)
	default:
		t.node.fail(fmt.Errorf("tanodb: keeping the topology: %w", err))
	}
}

// keepNow makes a batch of the topology durable.
func (t *topology) keepNow(b *storage.Batch) error {
	b.Urgent = true
	commit, err := t.node.engine.Apply(b, true)
	if err != nil {
		return err
	}
	return commit.Wait()
}

// keepLate keeps the State that the full disk has refused.
func (t *topology) keepLate() {
	t.keep.Lock()
	defer t.keep.Unlock()
	s := t.current.Load()
	if t.kept.Load() >= s.Epoch() {
		return
	}
	var batch storage.Batch
	membership.KeepGiven(&batch, s)
	if t.keepNow(&batch) == nil {
		t.adoptKept(s)
	}
}

// asked ends a question for the topology: those who have waited for it go on.
func (t *topology) asked(node string) {
	t.mu.Lock()
	delete(t.asking, node)
	waiting := t.refresh[node]
	delete(t.refresh, node)
	t.mu.Unlock()
	for _, w := range waiting {
		w.done()
	}
}

// refreshed lets those go on who have waited for no newer epoch than this.
func (t *topology) refreshed(epoch uint64) {
	var served []refresher
	t.mu.Lock()
	for node, waiting := range t.refresh {
		var rest []refresher
		for _, w := range waiting {
			if w.epoch <= epoch {
				served = append(served, w)
			} else {
				rest = append(rest, w)
			}
		}
		t.refresh[node] = rest
	}
	t.mu.Unlock()
	for _, w := range served {
		go w.done()
	}
}

// give answers a StateAsk.
func (t *topology) give(m *transport.StateAsk) *transport.StateGive {
	s := t.current.Load()
	if s.Epoch() <= m.Have {
		return &transport.StateGive{}
	}
	return &transport.StateGive{State: s.Encode()}
}
