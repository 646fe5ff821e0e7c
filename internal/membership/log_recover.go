package membership

import (
	"bytes"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/tanodb/tanodb/storage"
)

// recoverJump is how far term, index and epoch move in a recovery: further than
// the members that are lost can have come in the meantime.
const recoverJump = 1 << 20

// Recover makes a cluster out of the survivors of one that has lost the
// majority of its voters for ever, and so can agree on nothing. The batch, made
// from what the node self keeps of the log, replaces it; when it is durable
// the log can be opened, and the survivors elect a leader. They need no recovery of
// their own: they get the log from self.
//
// THIS CAN LOSE THE LAST CHANGES OF THE TOPOLOGY, and carry out some that were
// only proposed. What the lost members agreed on and self has not heard of did not
// happen. Therefore:
//
//   - Run it on one node only, the survivor with the highest epoch. Two
//     recoveries make two clusters that both believe to be the only one.
//   - Make sure that the lost members stay away. A majority of the old voters
//     that comes back can go on by itself until it meets the survivors; what it
//     agrees on until then is thrown away.
//
// The lost members are members as before: remove or replace them by force.
func Recover(store storage.Reader, self string, survivors []string) (storage.Batch, *State, error) {
	kept, err := loadLog(store)
	if err != nil {
		return storage.Batch{}, nil, err
	}
	if kept.state == nil || kept.last() == 0 {
		return storage.Batch{}, nil, fmt.Errorf("membership: %s has no topology log to recover from; choose another survivor", self)
	}
	given, err := readGiven(store)
	if err != nil {
		return storage.Batch{}, nil, err
	}
	if given != nil && given.Cluster() != kept.state.Cluster() {
		given = nil
	}
	state, err := kept.replay(given)
	if err != nil {
		return storage.Batch{}, nil, err
	}
	conf, err := survivorConf(state, self, survivors)
	if err != nil {
		return storage.Batch{}, nil, err
	}
	state = state.Jump(recoverJump)
	index, term := kept.last()+recoverJump, kept.hard.GetTerm()+recoverJump
	var b storage.Batch
	kept.deleteEntries(&b, kept.low, kept.last())
	putSnapshot(&b, newSnapshot(index, term, conf, state.Encode()))
	putHard(&b, newHardState(term, 0, index))
	return b, state, nil
}

// replay is the state after all entries that are kept, and no older one than the
// state that was given to the node. That one is committed: where the entries come
// to another state at its epoch, they are those of a leader that could not carry them
// out, and nothing of them has happened.
func (k *keptLog) replay(given *State) (*State, error) {
	state := k.state
	for _, e := range k.entries[1:] {
		if e.GetIndex() <= k.index || e.GetType() != raftpb.EntryNormal || len(e.GetData()) == 0 {
			continue
		}
		w, err := decodeWish(e.GetData())
		if err != nil {
			return nil, fmt.Errorf("membership: topology log: entry %d: %w", e.GetIndex(), err)
		}
		state = w.applyTo(state)
		if given != nil && state.Epoch() == given.Epoch() && !bytes.Equal(state.Encode(), given.Encode()) {
			return given, nil
		}
	}
	if given != nil && given.Epoch() > state.Epoch() {
		return given, nil
	}
	return state, nil
}

// survivorConf has the survivors as voters, and the other members following.
func survivorConf(s *State, self string, survivors []string) (*raftpb.ConfState, error) {
	if !slices.Contains(survivors, self) {
		return nil, fmt.Errorf("membership: %s must be among the survivors, since they are to get the log from it", self)
	}
	for _, name := range survivors {
		m, ok := s.Member(name)
		if !ok || m.Status == StatusLeft || m.Status == StatusJoining {
			return nil, fmt.Errorf("membership: %s cannot be a survivor: it is no member of this cluster, or only joining it", quote(name))
		}
	}
	conf := &raftpb.ConfState{}
	for _, m := range s.Members() {
		switch {
		case m.Status == StatusLeft:
		case slices.Contains(survivors, m.Name):
			conf.Voters = append(conf.Voters, m.Raft)
		default:
			conf.Learners = append(conf.Learners, m.Raft)
		}
	}
	slices.Sort(conf.Voters)
	slices.Sort(conf.Learners)
	return conf, nil
}

// Discard deletes what a store keeps of the log: a node that was alone can
// then open that of the cluster it joins.
func Discard(store storage.Reader) (storage.Batch, error) {
	var b storage.Batch
	err := store.Scan([]byte{kindLog}, []byte{kindLog + 1}, func(key, _ []byte) bool {
		b.Delete(slices.Clone(key))
		return true
	})
	if err != nil {
		return storage.Batch{}, fmt.Errorf("membership: reading the topology log: %w", err)
	}
	return b, nil
}
