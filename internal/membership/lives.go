package membership

import (
	"encoding/binary"
	"slices"

	"github.com/tanodb/tanodb/storage"
)

// Lives is what a node remembers of the epochs that another one has shown, in
// this life of that one and in those before. Each life of a node, that is each start
// of its process, has a number other than 0 that is higher than those before: see
// BeginLife.
//
// What a node shows is durable. So if it begins a life with an older epoch than
// it has shown in one before, its disk is older than it was: see VoidLog.
type Lives struct {
	Now    uint64    // the number of its latest life; 0: it was never heard
	Since  uint64    // the newest epoch that it has shown in that
	Before uint64    // the newest epoch that it has shown in earlier ones
	former [4]uint64 // the latest of those, for nodes whose numbers have no order
}

// Hear notes that the node shows an epoch in a life. What comes late may speak of an
// earlier life than the latest, even of one that was never heard of in its time. Ordered is
// false for a node of a version that draws its numbers by chance: there, only what
// speaks of the last few lives that were heard of is known to be late.
func (l *Lives) Hear(life, epoch uint64, ordered bool) {
	switch {
	case life == 0:
	case life == l.Now:
		l.Since = max(l.Since, epoch)
	case ordered && life < l.Now, slices.Contains(l.former[:], life):
		l.Before = max(l.Before, epoch)
	default:
		copy(l.former[1:], l.former[:])
		l.former[0] = l.Now
		l.Before = max(l.Before, l.Since)
		l.Now, l.Since = life, epoch
	}
}

// Shown is the newest epoch that the node has shown before a life of it, as far
// as is known.
func (l *Lives) Shown(life uint64) uint64 {
	if life == l.Now {
		return l.Before
	}
	return max(l.Before, l.Since)
}

// A node also keeps for itself which life it is in, and up to which epoch its data
// is known to be in order, and the latest life that others were found to know of it:
//
//	2 | 'l'               life u64 | epoch u64
//	2 | 'm'               life u64
//
// A crash may come between the moment when it has learned of a reaping that its data
// is older than, and the erasing of that data. Then the next life must not begin as
// if all were well.

// Life is how a life of a node begins.
type Life struct {
	Number uint64
	Began  uint64 // the epoch up to which its data is in order
}

// maxSkip bounds how far the number of a life is above that of the one before by chance.
const maxSkip = 1 << 32

// BeginLife begins a life of a node with state s. At is what its clock says, in
// nanoseconds since 1970: that is the life's number, unless the clock is behind what it
// was when another life began. Its number is a chance above that of the latest one then:
// a disk that is older than it was must not give out a number twice.
//
// The data is in order up to the epoch of s, unless the life before has ended out of
// date. The batch must be durable before the node has any connection.
func BeginLife(store storage.Reader, self string, at, random uint64, s *State) (l Life, b storage.Batch, err error) {
	body, err := readRecord(store, logKey('l'))
	if err != nil {
		return l, b, err
	}
	met, err := readRecord(store, logKey('m'))
	if err != nil {
		return l, b, err
	}
	l = Life{Number: max(1, at), Began: s.Epoch()}
	after := func(life uint64) {
		if l.Number <= life {
			l.Number = life + 1 + random%maxSkip
		}
	}
	switch {
	case body == nil:
	case len(body) != 16:
		return l, b, damaged("the record of the life before is %x", body)
	default:
		life, began := binary.BigEndian.Uint64(body), binary.BigEndian.Uint64(body[8:])
		if after(life); s.OutOfDate(self, life, began) {
			l.Began = began
		}
	}
	switch {
	case met == nil:
	case len(met) != 8:
		return l, b, damaged("the record of the life that others have met is %x", met)
	default:
		after(binary.BigEndian.Uint64(met))
	}
	KeepLife(&b, l)
	return l, b, nil
}

// KeepLife notes the life that a node is in, and up to which epoch its data is in order.
func KeepLife(b *storage.Batch, l Life) {
	body := binary.BigEndian.AppendUint64(nil, l.Number)
	b.Set(logKey('l'), seal(logKey('l'), binary.BigEndian.AppendUint64(body, l.Began)))
}

// KeepMet notes that another node has met this one in a life which is later than the
// one it is in: its disk is older than it was, and its clock behind. The next life is
// later than that one.
func KeepMet(b *storage.Batch, life uint64) {
	b.Set(logKey('m'), seal(logKey('m'), binary.BigEndian.AppendUint64(nil, life)))
}
