package transport

import (
	"github.com/tanodb/tanodb/internal/coordinator"
	"github.com/tanodb/tanodb/internal/vnode"
)

// kind names the type of a message in a frame. The numbers are fixed; zero is
// no kind. The highest bit is set in answers, so that a receiver can tell also
// of a kind that it does not know.
type kind uint8

const answerBit kind = 0x80

const (
	kindStore   kind = 1
	kindFetch   kind = 2
	kindList    kind = 3
	kindCensus  kind = 4
	kindPing    kind = 5
	kindForward kind = 6
	kindPull    kind = 7
	kindDeliver kind = 8
	kindMend    kind = 9 // a Deliver that is Placed

	kindSums     kind = 0x0a
	kindVersions kind = 0x0b
	kindPick     kind = 0x0c

	kindAttest kind = 0x20
	kindReap   kind = 0x21
	kindStrays kind = 0x22

	kindQuery   kind = 0x30
	kindBuckets kind = 0x31

	kindLog      kind = 0x10
	kindStateAsk kind = 0x11
	kindPropose  kind = 0x12
	kindKnock    kind = 0x13
	kindJobsAsk  kind = 0x14
	kindOrder    kind = 0x15
	kindMoment   kind = 0x16

	kindStored    = answerBit | 1
	kindFetched   = answerBit | 2
	kindListed    = answerBit | 3
	kindPong      = answerBit | 5
	kindForwarded = answerBit | 6
	kindPulled    = answerBit | 7
	kindDelivered = answerBit | 8
	kindSummed    = answerBit | 0x0a
	kindVersioned = answerBit | 0x0b
	kindPicked    = answerBit | 0x0c
	kindLogged    = answerBit | 0x10
	kindStateGive = answerBit | 0x11
	kindProposed  = answerBit | 0x12
	kindWelcome   = answerBit | 0x13
	kindJobsGive  = answerBit | 0x14
	kindOrdered   = answerBit | 0x15
	kindDropped   = answerBit | 0x21
	kindStanding  = answerBit | 0x22
	kindMatched   = answerBit | 0x30
	kindFound     = answerBit | 0x31
	kindRefusal   = answerBit | 0x40
	kindFailure   = answerBit | 0x41
)

func (k kind) answer() bool { return k&answerBit != 0 }

func (k kind) known() bool {
	switch k {
	case kindStore, kindFetch, kindList, kindCensus, kindPing, kindForward, kindPull, kindDeliver, kindMend,
		kindSums, kindVersions, kindPick,
		kindLog, kindStateAsk, kindPropose, kindKnock, kindJobsAsk, kindOrder, kindMoment,
		kindAttest, kindReap, kindStrays, kindDropped, kindStanding,
		kindStored, kindFetched, kindListed, kindPong, kindForwarded, kindPulled, kindDelivered,
		kindSummed, kindVersioned, kindPicked,
		kindQuery, kindBuckets, kindMatched, kindFound,
		kindLogged, kindStateGive, kindProposed, kindWelcome, kindJobsGive, kindOrdered, kindRefusal, kindFailure:
		return true
	}
	return false
}

// kindOf is the kind of a message that travels, 0 of any other.
func kindOf(m vnode.Message) kind {
	switch m := m.(type) {
	case *vnode.Store:
		return kindStore
	case *vnode.Fetch:
		return kindFetch
	case *vnode.List:
		return kindList
	case *vnode.Census:
		return kindCensus
	case *vnode.Ping:
		return kindPing
	case *coordinator.Forward:
		return kindForward
	case *vnode.Pull:
		return kindPull
	case *vnode.Deliver:
		if m.Placed {
			return kindMend
		}
		return kindDeliver
	case *vnode.Sums:
		return kindSums
	case *vnode.Versions:
		return kindVersions
	case *vnode.Pick:
		return kindPick
	case *vnode.Attest:
		return kindAttest
	case *vnode.Reap:
		return kindReap
	case *vnode.Strays:
		return kindStrays
	case *vnode.Query:
		return kindQuery
	case *vnode.Buckets:
		return kindBuckets
	case *Log:
		return kindLog
	case *StateAsk:
		return kindStateAsk
	case *Propose:
		return kindPropose
	case *Knock:
		return kindKnock
	case *JobsAsk:
		return kindJobsAsk
	case *Order:
		return kindOrder
	case *Moment:
		return kindMoment
	}
	return answerKindOf(m)
}

// answerKindOf is kindOf for answers.
func answerKindOf(m vnode.Message) kind {
	switch m.(type) {
	case *vnode.Stored:
		return kindStored
	case *vnode.Fetched:
		return kindFetched
	case *vnode.Listed:
		return kindListed
	case *vnode.Pong:
		return kindPong
	case *coordinator.Forwarded:
		return kindForwarded
	case *vnode.Pulled:
		return kindPulled
	case *vnode.Delivered:
		return kindDelivered
	case *vnode.Summed:
		return kindSummed
	case *vnode.Versioned:
		return kindVersioned
	case *vnode.Picked:
		return kindPicked
	case *vnode.Dropped:
		return kindDropped
	case *vnode.StraysFound:
		return kindStanding
	case *vnode.Matched:
		return kindMatched
	case *vnode.BucketsFound:
		return kindFound
	case *Logged:
		return kindLogged
	case *StateGive:
		return kindStateGive
	case *Proposed:
		return kindProposed
	case *Welcome:
		return kindWelcome
	case *JobsGive:
		return kindJobsGive
	case *Ordered:
		return kindOrdered
	case *vnode.Refusal:
		return kindRefusal
	case *vnode.Failure:
		return kindFailure
	}
	return 0
}
