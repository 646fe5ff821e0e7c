package membership

import (
	"encoding/binary"
	"slices"

	"github.com/tanodb/tanodb/storage"
)

// Lives is what a node remembers of the epochs that another one has shown, in
// this life of that one and in those before. A node draws a new number other
// than 0 for each of its lives, that is with each start of its process.
//
// What a node shows is durable. So if it begins a life with an older epoch than
// it has shown in one before, its disk is older than it was: see VoidLog.
type Lives struct {
	Now    uint64    // the number of its latest life; 0: it was never heard
	Since  uint64    // the newest epoch that it has shown in that
	Before uint64    // the newest epoch that it has shown in earlier ones
	former [4]uint64 // the latest of those; what is late may still speak of them
}

// Hear notes that the node shows an epoch in a life.
func (l *Lives) Hear(life, epoch uint64) {
	switch {
	case life == 0:
	case life == l.Now:
		l.Since = max(l.Since, epoch)
	case slices.Contains(l.former[:], life):
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
// is known to be in order:
//
//	2 | 'l'               life u64 | epoch u64
//
// A crash may come between the moment when it has learned of a reaping that its data
// is older than, and the erasing of that data. Then the next life must not begin as
// if all were well.

// BeginLife is the epoch up to which the data of a node is in order that begins a life
// with state s: that of s, unless the life before has ended out of date. The batch
// must be durable before the node has any connection.
func BeginLife(store storage.Reader, self string, life uint64, s *State) (began uint64, b storage.Batch, err error) {
	body, err := readRecord(store, logKey('l'))
	if err != nil {
		return 0, b, err
	}
	began = s.Epoch()
	switch {
	case body == nil:
	case len(body) != 16:
		return 0, b, damaged("the record of the life before is %x", body)
	default:
		if before := binary.BigEndian.Uint64(body[8:]); s.OutOfDate(self, binary.BigEndian.Uint64(body), before) {
			began = before
		}
	}
	KeepLife(&b, life, began)
	return began, b, nil
}

// KeepLife notes the life that a node is in, and up to which epoch its data is in order.
func KeepLife(b *storage.Batch, life, began uint64) {
	body := binary.BigEndian.AppendUint64(nil, life)
	b.Set(logKey('l'), seal(logKey('l'), binary.BigEndian.AppendUint64(body, began)))
}
