package pb

import (
	"encoding/binary"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tanodb/tanodb/internal/server/riakpb"
)

// Who is not let in gets no memory on the word of a length: the connection ends with what he
// would have been told anyway. Who is let in may send as much as before.
func TestStrangersTakeNoMemory(t *testing.T) {
	_, o, conf := guarded(t)
	o.MaxFrames = 4 * firstRead
	s, addr := serveOn(t, &fake{}, o)
	plain, unknown := connect(t, addr), connect(t, addr).over(conf)
	for want, c := range map[string]*client{string(errPlain): plain, string(errUnknown): unknown} {
		c.fails(riakpb.GetReq, getOf(strings.Repeat("k", strangerFrame/2)), want) // a small one is not the end
		c.send(binary.BigEndian.AppendUint32(nil, maxFrame))
		c.awaitError(want)
		c.ended()
	}
	if n := s.frames.Load(); n != 0 {
		t.Errorf("strangers have %d bytes", n)
	}
	known := connect(t, addr).over(conf)
	known.ask(riakpb.AuthReq, authOf("shop", theirPassword), riakpb.AuthResp, nil)
	known.ask(riakpb.PutReq, putOf("k", strings.Repeat("x", 2*firstRead)), riakpb.PutResp, &riakpb.RpbPutResp{})
}

// Who is not let in is not waited for as a client is that may be idle.
func TestStrangersMayNotStay(t *testing.T) {
	o, _ := secured(t)
	synctest.Test(t, func(t *testing.T) {
		c, stop := inBubble(t, &fake{}, o)
		begun := time.Now()
		c.ended()
		if took := time.Since(begun); took > defaultReadGrace {
			t.Errorf("who says nothing is waited for %v", took)
		}
		stop()
	})
	synctest.Test(t, func(t *testing.T) {
		c, stop := inBubble(t, &fake{}, o)
		ping := frameOf(t, riakpb.PingReq, nil)
		drained := make(chan struct{})
		go func() {
			defer close(drained)
			_, _ = io.Copy(io.Discard, c)
		}()
		// Each comes with the beginning of the next, so that the connection is never idle.
		begun, next := time.Now(), ping
		for {
			if _, err := c.Write(append(next[:len(next):len(next)], ping[0])); err != nil {
				break
			}
			next = ping[1:]
			time.Sleep(defaultReadGrace / 2)
			if time.Since(begun) > 2*strangerParts*defaultReadGrace {
				t.Error("who asks again and again may stay")
				break
			}
		}
		stop()
		<-drained
	})
}

// switched is a gate that is open until security is enabled.
type switched struct {
	refusing
	on atomic.Bool
}

func (s *switched) Secured() bool { return s.on.Load() }

// Who was a client, and is none any more, does not stay as long as one.
func TestWhoBecomesAStrangerMayNotStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := &switched{}
		c, stop := inBubble(t, &fake{}, Options{Gate: gate})
		c.alive()
		time.Sleep(2 * strangerParts * defaultReadGrace)
		c.alive()
		gate.on.Store(true)
		c.fails(riakpb.PingReq, nil, string(errPlain))
		begun := time.Now()
		c.ended()
		if took := time.Since(begun); took > defaultReadGrace {
			t.Errorf("he stays %v", took)
		}
		stop()
	})
}
