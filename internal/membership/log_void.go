package membership

import (
	"encoding/binary"
	"fmt"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/tanodb/tanodb/storage"
)

// What a node has shown to others is durable, so who once had an epoch has it
// for ever: unless its disk is an older one, that of a backup, or has lost what
// it said it had (see Lives). The votes that such a node has given, and the entries
// that it has confirmed, are forgotten with that. Were it to vote again, a
// majority could agree on what contradicts what was agreed on before. So its
// number in the log is void, for ever, whichever it had last, and it takes part
// again under a new one that it draws by chance, with an empty log, as one that joins:
//
//	another node has seen a newer epoch of this one
//	    │
//	    ▼             Announce{Void, Raft} by           the log comes
//	 VoidLog ─▶ void ─────────────────────▶ numbered ─▶ from the leader
//	                     another node
//
// While it is void the store keeps no log, but two records:
//
//	2 | 'n'               the newest State, see KeepGiven
//	2 | 'v'               the number that the node is to have, u64

// VoidLog makes the log of the store void, until self has the number, which
// nobody has had before. S is the newest state that self knows of. When the batch
// is durable, OpenLog opens a log that takes no part.
func VoidLog(store storage.Reader, self string, s *State, number uint64) (storage.Batch, error) {
	if _, ok := s.Member(self); !ok {
		return storage.Batch{}, fmt.Errorf("membership: %s is not a member", quote(self))
	}
	b, err := Discard(store)
	if err != nil {
		return b, err
	}
	KeepGiven(&b, s)
	b.Set(logKey('v'), seal(logKey('v'), binary.BigEndian.AppendUint64(nil, number)))
	return b, nil
}

// readWanted is the number that the node is to have; 0: its log is not void.
func readWanted(store storage.Reader) (uint64, error) {
	body, err := readRecord(store, logKey('v'))
	if err != nil || body == nil {
		return 0, err
	}
	if len(body) != 8 || binary.BigEndian.Uint64(body) == 0 {
		return 0, damaged("the record of a void log is %x", body)
	}
	return binary.BigEndian.Uint64(body), nil
}

// resume begins anew after the log was void, if the node has its new number by
// the state that it was given. Otherwise its log stays void.
func (l *Log) resume(number uint64, given *State) error {
	if given == nil {
		return damaged("it is void, and there is no state to go on with")
	}
	if m, ok := given.Member(l.o.Self); ok && m.Raft == number {
		l.init.Delete(logKey('v'))
		return l.begin(given)
	}
	l.wanted, l.id = number, number
	l.shown, l.conf = given, &raftpb.ConfState{}
	l.broken = fmt.Errorf("membership: the topology log of %s is void, since its disk is older than what it has shown to others; "+
		"it takes part again when a majority of the voters, without it, has given it another number", l.o.Self)
	l.rename()
	return nil
}

// Wanted is the number that this node is to have, since its log is void; 0: it
// is not.
func (l *Log) Wanted() uint64 { return l.wanted }
