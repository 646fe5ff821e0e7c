package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tanodb/tanodb/internal/server/riakpb"
	"github.com/tanodb/tanodb/kv"
)

// grace is how much longer than the node the client waits, so that the answer to
// a request that timed out still tells how far it came.
const grace = 500 * time.Millisecond

// request is one call, which may ask several nodes.
type request struct {
	op      string
	key     *kv.Key // nil: any node is as good
	timeout time.Duration
	linger  time.Duration
	write   bool
	code    riakpb.Code
	message func(left time.Duration) message
	want    riakpb.Code
	answer  message // which the answer is read into
}

// do asks one node after the other until one has answered. Of an error it
// returns the story, if there is one.
func (c *Client) do(ctx context.Context, q *request) (*riakpb.TanoTold, error) {
	if err := ctx.Err(); err != nil {
		return nil, c.over(ctx, q, false)
	}
	timeout := q.timeout
	if timeout == 0 {
		timeout = kv.DefaultTimeout
	}
	q.timeout = timeout
	ctx, cancel := context.WithTimeout(ctx, timeout+q.linger+grace)
	defer cancel()
	stop := context.AfterFunc(c.life, cancel)
	defer stop()

	began := time.Now()
	var told *riakpb.TanoTold
	var err error
	list := c.order(q.key)
	for i, n := range list {
		var again bool
		told, again, err = c.try(ctx, n, q, began, i == len(list)-1)
		if err == nil || !again {
			return told, err
		}
		if ctx.Err() != nil {
			return told, fmt.Errorf("%w; %w", c.over(ctx, q, false), err)
		}
	}
	if isLost(err) {
		err = fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	return told, err
}

// try asks one node. Again: another one may be asked, since this one has not
// answered a read, or certainly written nothing.
func (c *Client) try(ctx context.Context, n *node, q *request, began time.Time, last bool) (told *riakpb.TanoTold, again bool, err error) {
	share, cancel := ctx, context.CancelFunc(func() {})
	if !last {
		share, cancel = half(ctx)
	}
	defer cancel()
	k, err := n.take(share)
	if err != nil {
		return nil, true, err
	}
	defer n.give(k)
	if q.write {
		share = ctx // it cannot be taken back to be given to another
	}
	f, err := k.ask(share, q.code, q.message(q.left(share, began)))
	var l *lost
	switch {
	case errors.As(err, &l) && ctx.Err() != nil:
		return nil, false, c.over(ctx, q, l.sent)
	case errors.As(err, &l):
		again, err = q.lost(n, l)
		return nil, again, err
	case err != nil:
		return nil, false, err
	case f.code == riakpb.Error:
		told, err = q.refused(f.body)
		return told, q.harmless(err), err
	}
	proto.Reset(q.answer)
	if err := proto.Unmarshal(f.body, q.answer); f.code != q.want || err != nil {
		k.ended.Store(true) // what comes next on it means nothing either
		again, err = q.lost(n, &lost{true, fmt.Errorf("the answer has code %d and cannot be read: %w", f.code, errors.Join(err, kv.ErrInternal))})
		return nil, again, err
	}
	return nil, false, nil
}

// half is a context with half the time that is left, so that a node that does not
// answer leaves some for the next.
func half(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, _ := ctx.Deadline() // do has set one
	return context.WithTimeout(ctx, time.Until(deadline)/2)
}

// left is how long the node may take: what is left of the timeout, and a little
// less than the context has, so that the answer comes in time.
func (q *request) left(ctx context.Context, began time.Time) time.Duration {
	deadline, _ := ctx.Deadline()
	left := time.Until(deadline)
	left -= min(left/20, 20*time.Millisecond)
	return max(min(left, q.timeout-time.Since(began)), time.Millisecond)
}

// lost judges a request that went to a node and has no answer.
func (q *request) lost(n *node, l *lost) (again bool, err error) {
	if q.write && l.sent {
		return false, fmt.Errorf("%w: %s was sent to %s, and there is no answer: %w", kv.ErrInDoubt, q.op, n.address, l.err)
	}
	return true, &lost{l.sent, fmt.Errorf("%s: %w", n.address, l.err)}
}

// over is the error of a request whose context has ended.
func (c *Client) over(ctx context.Context, q *request, sent bool) error {
	err := context.Cause(ctx)
	switch {
	case c.life.Err() != nil:
		err = kv.ErrClosed
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		err = fmt.Errorf("%w: %w", kv.ErrTimeout, err)
	}
	if q.write && sent {
		return fmt.Errorf("%w: %w", kv.ErrInDoubt, err)
	}
	return err
}

// harmless reports whether another node may be asked after this answer.
func (q *request) harmless(err error) bool {
	if q.write {
		return !errors.Is(err, kv.ErrInDoubt) && matches(err, kv.ErrOverload, kv.ErrClosed, kv.ErrQuorum, kv.ErrClock)
	}
	return matches(err, kv.ErrOverload, kv.ErrClosed, kv.ErrQuorum, kv.ErrTimeout, kv.ErrInternal)
}

func matches(err error, targets ...error) bool {
	for _, t := range targets {
		if errors.Is(err, t) {
			return true
		}
	}
	return false
}
