package membership

import (
	"fmt"

	"github.com/tanodb/tanodb/storage"
)

// Beside the log there may be one more record of the same form:
//
//	2 | 'n'               an encoded State that another node has given to this one
//
// A node goes by the newest state that it has seen, whether its own log has come
// to it or not, and others count on the epoch it has shown them: they
// end transfers since it will refuse what goes by an older one. So what it was given
// must be durable before it goes by it.

// KeepGiven puts a state that another node has given into the batch. Once that
// is durable, the node may go by the state: OpenLog shows none that is older.
func KeepGiven(b *storage.Batch, s *State) {
	key := logKey('n')
	b.Set(key, seal(key, s.Encode()))
}

// readGiven is the state that was given last, nil if there is none.
func readGiven(store storage.Reader) (*State, error) {
	record, err := readRecord(store, logKey('n'))
	if err != nil || record == nil {
		return nil, err
	}
	s, err := DecodeState(record)
	if err != nil {
		return nil, fmt.Errorf("membership: topology log: the state that was given: %w", err)
	}
	return s, nil
}

// recall goes on with the state that was given last, if it is newer than what the
// log has come to.
func (l *Log) recall(given *State) {
	if given != nil && given.Cluster() == l.shown.Cluster() && given.Epoch() > l.shown.Epoch() {
		l.shown = given
		l.rename()
	}
}
