package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tanodb/tanodb/internal/vnode"
)

// KnockConfig says who knocks.
type KnockConfig struct {
	Self    string      // the name of the node, or of whoever it is, 1 to 255 bytes
	ID      [16]byte    // of the node; zero: it has none
	Cluster [16]byte    // whose members are sought; zero: any
	TLS     *tls.Config // as in Config
	Most    int         // as in Config
}

// KnockAt asks the node at an address one question over a connection of its own:
// a Knock, a Propose or a StateAsk, which may come from one who is not a member.
// The answer may also be a vnode.Refusal or a vnode.Failure. Errors wrap
// ErrNotSent, ErrLost or ErrExpired, as those of Ask do. It takes as long as f's
// Timeout, if that is set, and 10 s at most.
func KnockAt(ctx context.Context, address string, c KnockConfig, f Frame) (vnode.Message, error) {
	creds, _, err := secure(c.TLS)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	return knock(ctx, &grpcWires{creds: creds}, address, c, f)
}

// KnockAt is the function KnockAt within the network.
func (n *Network) KnockAt(ctx context.Context, address string, c KnockConfig, f Frame) (vnode.Message, error) {
	c.Most = or(c.Most, n.mostOf(c.Self))
	return knock(ctx, &memoryWires{net: n, self: c.Self}, address, c, f)
}

func knock(ctx context.Context, wires wires, address string, c KnockConfig, f Frame) (vnode.Message, error) {
	ctx, cancel := context.WithTimeout(ctx, min(or(f.Timeout, doorTime), doorTime))
	defer cancel()
	f.ID, f.Response = 1, false
	b, err := encodeKnock(ctx, c, &f)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	w, err := wires.dial(ctx, address, address)
	if err == nil {
		defer w.release()
		mine := hello{low: lowProtocol, high: uint16(or(c.Most, highProtocol)), cluster: c.Cluster, class: Door, from: c.Self, id: c.ID, epoch: f.Epoch}
		_, err = greet(ctx, w, &mine, [16]byte{})
	}
	if err != nil {
		buffers.Put(b)
		return nil, fmt.Errorf("%w: node at %s: %w", ErrNotSent, address, err)
	}
	stop := context.AfterFunc(ctx, w.close)
	defer stop()
	seal(*b, head{epoch: f.Epoch})
	m, err := inquire(w, b, f.ID)
	switch {
	case err == nil:
		return m, nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("%w: node at %s: %w", ErrExpired, address, context.Cause(ctx))
	}
	return nil, fmt.Errorf("%w: node at %s: %w", ErrLost, address, err)
}

// encodeKnock makes the batch of a question.
func encodeKnock(ctx context.Context, c KnockConfig, f *Frame) (*[]byte, error) {
	if err := nameable(c.Self); err != nil {
		return nil, fmt.Errorf("the name of who knocks: %w", err)
	}
	if !knocks(f.Msg) {
		return nil, fmt.Errorf("a %T does not go through the door", f.Msg)
	}
	deadline, _ := ctx.Deadline()
	f.Timeout = time.Until(deadline)
	if f.Timeout <= 0 || ctx.Err() != nil {
		return nil, errors.New("the deadline has passed")
	}
	return encodeBatch(f)
}

// inquire sends a batch of one question and receives its answer.
func inquire(w wire, b *[]byte, id uint64) (vnode.Message, error) {
	if err := w.send(b); err != nil {
		return nil, err
	}
	for {
		b, err := w.recv()
		if err != nil {
			return nil, err
		}
		f, err := only(b)
		switch {
		case err != nil:
			return nil, err
		case f.Msg == nil:
			continue // a heartbeat
		case !f.Response || f.ID != id:
			return nil, fmt.Errorf("%w: no answer to the question", ErrFrame)
		}
		return f.Msg, nil
	}
}

// only is the frame of a batch that has no other; none in a heartbeat.
func only(b []byte) (Frame, error) {
	h, b, err := headOf(b)
	if err != nil || len(b) == 0 {
		return Frame{}, err
	}
	f, rest, err := DecodeFrame(b)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%w: %d bytes after the only frame", ErrFrame, len(rest))
	}
	f.Timeout -= h.waited
	return f, err
}

// attend serves a caller at the door: one question and its answer. One who
// brings anything else, is too slow, or leaves is not waited for.
func (m *Mesh) attend(w wire) {
	defer m.callers.Add(-1)
	ctx, cancel := context.WithTimeout(m.ctx, m.cfg.Timing.Door)
	defer cancel()
	stop := context.AfterFunc(ctx, w.close)
	defer stop()
	b, err := w.recv()
	if err != nil {
		return
	}
	f, err := question(b)
	if err != nil {
		m.reject(fmt.Errorf("a caller at the door: %w", err))
		return
	}
	var reader sync.WaitGroup
	reader.Go(func() {
		w.recv() // nothing more comes from one who waits
		cancel()
	})
	defer reader.Wait()
	defer w.close()
	if msg := m.carryOut(ctx, f); msg != nil {
		respond(w, Frame{ID: f.ID, Response: true, Epoch: m.cfg.Epoch(), Msg: msg})
	}
}

// question is the frame that a caller brings. It has no message if that is of an
// unknown kind.
func question(b []byte) (Frame, error) {
	f, err := only(b)
	var unknown *UnknownKindError
	if errors.As(err, &unknown) {
		err = nil
	}
	if err == nil && f.Response {
		err = fmt.Errorf("%w: an answer where a question should come", ErrFrame)
	}
	return f, err
}

// carryOut lets the handler answer a question from the door. Nil: the caller has
// gone, or the time is over.
func (m *Mesh) carryOut(ctx context.Context, f Frame) vnode.Message {
	deadline, _ := ctx.Deadline()
	f.Timeout = min(f.Timeout, time.Until(deadline))
	switch {
	case !knocks(f.Msg):
		return &vnode.Refusal{Code: vnode.CodeUnsupported, Text: "only Knock, Propose and StateAsk go through the door"}
	case f.Timeout <= 0:
		return &vnode.Refusal{Code: vnode.CodeExpired, Text: "the deadline had passed on arrival"}
	}
	answers := make(chan vnode.Message, 1)
	m.cfg.Handler.Knocked(f, func(msg vnode.Message) {
		select {
		case answers <- msg:
		default: // it was answered
		}
	})
	select {
	case msg := <-answers:
		return msg
	case <-ctx.Done():
		return nil
	}
}

// respond sends the only answer of a connection.
func respond(w wire, f Frame) {
	b, err := encodeBatch(&f)
	if err != nil {
		f.Msg = &vnode.Failure{Code: vnode.CodeInternal, Text: err.Error()}
		if b, err = encodeBatch(&f); err != nil {
			return
		}
	}
	seal(*b, head{epoch: f.Epoch})
	w.send(b) // if the caller has gone, nobody needs to know
}
