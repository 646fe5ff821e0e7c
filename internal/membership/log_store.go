package membership

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/tanodb/tanodb/storage"
)

// The log is kept under keys of the kind 2:
//
//	2 | 'e' | index u64   an entry
//	2 | 'h'               term, vote and commit index
//	2 | 's'               a snapshot: the state at an index, who voted, who followed
//
// Each value is a record:
//
//	version u8 (1) | body | CRC-32C u32 of the key, the version and the body
//
// The bodies of 'e' and 's' are raft's protocol buffers Entry and Snapshot; that
// of 'h' is term u64 | vote u64 | commit u64. The snapshot's data is an encoded
// State. Numbers are big endian.
//
// There may be entries from before the snapshot: those that a node which is not
// far behind may still need. The snapshot of a node that joins has the
// index 0: it is a state, but no place in the log.
const (
	kindLog       = 2
	recordVersion = 1
)

var crcTable = crc32.MakeTable(crc32.Castagnoli)

func logKey(what byte) []byte { return []byte{kindLog, what} }

func entryKey(index uint64) []byte {
	return binary.BigEndian.AppendUint64(logKey('e'), index)
}

// seal makes a record.
func seal(key, body []byte) []byte {
	b := append([]byte{recordVersion}, body...)
	return binary.BigEndian.AppendUint32(b, crc32.Update(crc32.Checksum(key, crcTable), crcTable, b))
}

// unseal returns the body of a record.
func unseal(key, record []byte) ([]byte, error) {
	n := len(record) - 4
	if n < 1 {
		return nil, damaged("record %x has %d bytes", key, len(record))
	}
	if crc32.Update(crc32.Checksum(key, crcTable), crcTable, record[:n]) != binary.BigEndian.Uint32(record[n:]) {
		return nil, damaged("record %x fails its checksum", key)
	}
	if record[0] != recordVersion {
		return nil, fmt.Errorf("membership: topology log: record %x is of version %d, which this node does not know", key, record[0])
	}
	return record[1:n], nil
}

// damaged is the error for a log that cannot be as it is.
func damaged(format string, args ...any) error {
	return fmt.Errorf("membership: topology log: %s: %w", fmt.Sprintf(format, args...), storage.ErrCorrupt)
}

// marshal encodes a message that this package made or has read.
func marshal(m proto.Message) []byte {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		panic(err) // only for messages that lack a required field: raft's have none
	}
	return b
}

func newHardState(term, vote, commit uint64) *raftpb.HardState {
	return &raftpb.HardState{Term: &term, Vote: &vote, Commit: &commit}
}

func newSnapshot(index, term uint64, conf *raftpb.ConfState, data []byte) *raftpb.Snapshot {
	return &raftpb.Snapshot{
		Data:     data,
		Metadata: &raftpb.SnapshotMetadata{Index: &index, Term: &term, ConfState: conf},
	}
}

func putHard(b *storage.Batch, h *raftpb.HardState) {
	body := binary.BigEndian.AppendUint64(nil, h.GetTerm())
	body = binary.BigEndian.AppendUint64(body, h.GetVote())
	body = binary.BigEndian.AppendUint64(body, h.GetCommit())
	b.Set(logKey('h'), seal(logKey('h'), body))
}

func putSnapshot(b *storage.Batch, s *raftpb.Snapshot) {
	b.Set(logKey('s'), seal(logKey('s'), marshal(s)))
}

func putEntry(b *storage.Batch, e *raftpb.Entry) {
	key := entryKey(e.GetIndex())
	b.Set(key, seal(key, marshal(e)))
}

// keptLog is the log as it is on disk, in memory: raft's Storage. It changes
// when a write has become durable.
type keptLog struct {
	hard  *raftpb.HardState
	conf  *raftpb.ConfState // at index
	state *State            // at index; only to begin with

	index uint64 // of the snapshot on disk

	// entries[0] is the last entry that is cut off: of it only index and term
	// count. Invariant: entries[0].Index <= index, or both are the same.
	entries []*raftpb.Entry

	// The entries on disk are those from low to last. low > last: none.
	low uint64

	snapshot func() (*raftpb.Snapshot, error) // the newest one there can be
}

// cut is a shortening of the log that is being written.
type cut struct {
	index uint64 // of the snapshot
	first uint64 // of the last entry that is cut off
}

func (k *keptLog) first() uint64 { return k.entries[0].GetIndex() }
func (k *keptLog) last() uint64  { return k.entries[len(k.entries)-1].GetIndex() }

// InitialState implements raft.Storage.
func (k *keptLog) InitialState() (*raftpb.HardState, *raftpb.ConfState, error) {
	return k.hard, k.conf, nil
}

// Entries implements raft.Storage.
func (k *keptLog) Entries(lo, hi, maxSize uint64) ([]*raftpb.Entry, error) {
	if lo <= k.first() {
		return nil, raft.ErrCompacted
	}
	if hi > k.last()+1 || lo >= hi {
		return nil, raft.ErrUnavailable
	}
	all := k.entries[lo-k.first() : hi-k.first()]
	size := uint64(0)
	for i, e := range all {
		if size += uint64(proto.Size(e)); size > maxSize && i > 0 {
			all = all[:i]
			break
		}
	}
	return slices.Clip(all), nil
}

// Term implements raft.Storage.
func (k *keptLog) Term(i uint64) (uint64, error) {
	if i < k.first() {
		return 0, raft.ErrCompacted
	}
	if i > k.last() {
		return 0, raft.ErrUnavailable
	}
	return k.entries[i-k.first()].GetTerm(), nil
}

// LastIndex implements raft.Storage.
func (k *keptLog) LastIndex() (uint64, error) { return k.last(), nil }

// FirstIndex implements raft.Storage.
func (k *keptLog) FirstIndex() (uint64, error) { return k.first() + 1, nil }

// Snapshot implements raft.Storage.
func (k *keptLog) Snapshot() (*raftpb.Snapshot, error) { return k.snapshot() }

// restore makes a snapshot all there is.
func (k *keptLog) restore(s *raftpb.Snapshot, state *State) {
	m := s.GetMetadata()
	k.index, k.conf, k.state = m.GetIndex(), m.GetConfState(), state
	k.entries = []*raftpb.Entry{{Index: proto.Uint64(m.GetIndex()), Term: proto.Uint64(m.GetTerm())}}
	k.low = m.GetIndex() + 1
}

// persist is the batch that makes a piece of raft's work durable, with a cut of
// the log if it is due. Empty: there is nothing to write.
func (l *Log) persist(rd *raft.Ready) (storage.Batch, *cut) {
	var b storage.Batch
	k := l.kept
	if !raft.IsEmptySnap(rd.Snapshot) {
		putSnapshot(&b, rd.Snapshot)
		k.deleteEntries(&b, k.low, k.last())
	}
	if len(rd.Entries) > 0 {
		for _, e := range rd.Entries {
			putEntry(&b, e)
		}
		if raft.IsEmptySnap(rd.Snapshot) {
			k.deleteEntries(&b, rd.Entries[len(rd.Entries)-1].GetIndex()+1, k.last())
		}
	}
	if !raft.IsEmptyHardState(rd.HardState) {
		putHard(&b, rd.HardState)
	}
	if l.opening || !raft.IsEmptySnap(rd.Snapshot) || l.applied < k.index+uint64(l.o.SnapshotEvery) {
		return b, nil
	}
	s, err := l.snapshot()
	if err != nil {
		panic(err)
	}
	putSnapshot(&b, s)
	c := &cut{index: l.applied, first: max(k.first(), l.applied-uint64(l.o.SnapshotEvery/4))}
	if c.first > k.low {
		k.deleteEntries(&b, k.low, c.first-1)
	}
	return b, c
}

// deleteEntries deletes the entries from lo to hi, as far as they are on disk.
func (k *keptLog) deleteEntries(b *storage.Batch, lo, hi uint64) {
	for i := max(lo, k.low); i <= min(hi, k.last()); i++ {
		b.Delete(entryKey(i))
	}
}

// written follows what persist has put on disk.
func (k *keptLog) written(rd *raft.Ready, c *cut) {
	if !raft.IsEmptySnap(rd.Snapshot) {
		k.restore(rd.Snapshot, nil)
	}
	if len(rd.Entries) > 0 {
		at := rd.Entries[0].GetIndex()
		k.entries = append(slices.Clip(k.entries[:at-k.first()]), rd.Entries...)
	}
	if !raft.IsEmptyHardState(rd.HardState) {
		k.hard = rd.HardState
	}
	if c != nil {
		k.index = c.index
		k.low = max(k.low, c.first)
		k.entries = slices.Clone(k.entries[c.first-k.first():])
	}
}

// loadLog reads and checks the log of a store. The state is nil if there is
// none.
func loadLog(store storage.Reader) (*keptLog, error) {
	k := &keptLog{}
	hard, err := readRecord(store, logKey('h'))
	if err != nil {
		return nil, err
	}
	snapshot, err := readRecord(store, logKey('s'))
	if err != nil {
		return nil, err
	}
	entries, err := readEntries(store)
	if err != nil {
		return nil, err
	}
	if hard == nil && snapshot == nil && len(entries) == 0 {
		return k, nil
	}
	if hard == nil || snapshot == nil {
		return nil, damaged("%d entries, but not what belongs to them", len(entries))
	}
	if len(hard) != 24 {
		return nil, damaged("the record of the term has %d bytes", len(hard))
	}
	u64 := binary.BigEndian.Uint64
	k.hard = newHardState(u64(hard), u64(hard[8:]), u64(hard[16:]))
	s := &raftpb.Snapshot{}
	if err := proto.Unmarshal(snapshot, s); err != nil {
		return nil, damaged("the snapshot: %v", err)
	}
	if s.GetMetadata().GetConfState() == nil {
		return nil, damaged("the snapshot does not say who votes")
	}
	state, err := DecodeState(s.GetData())
	if err != nil {
		return nil, fmt.Errorf("membership: topology log: the snapshot: %w", err)
	}
	k.restore(s, state)
	return k, k.takeEntries(entries)
}

// takeEntries adds the entries that were read to the snapshot, if they fit.
func (k *keptLog) takeEntries(entries []*raftpb.Entry) error {
	for i := range len(entries) - 1 {
		before, e := entries[i], entries[i+1]
		if e.GetIndex() != before.GetIndex()+1 || e.GetTerm() < before.GetTerm() {
			return damaged("entry %d of term %d follows entry %d of term %d", e.GetIndex(), e.GetTerm(), before.GetIndex(), before.GetTerm())
		}
	}
	if len(entries) > 0 {
		first, term := entries[0].GetIndex(), k.entries[0].GetTerm()
		k.low = first
		switch {
		case first > k.index+1:
			return damaged("the first entry is %d, the snapshot is of %d", first, k.index)
		case first == k.index+1:
			if entries[0].GetTerm() < term {
				return damaged("entry %d of term %d follows a snapshot of term %d", first, entries[0].GetTerm(), term)
			}
			k.entries = append(k.entries, entries...)
		default:
			k.entries = entries
			if t, err := k.Term(k.index); err != nil || t != term {
				return damaged("the snapshot of entry %d is of term %d, the entry is not", k.index, term)
			}
		}
	}
	last := k.entries[len(k.entries)-1]
	if c := k.hard.GetCommit(); c < k.index || c > k.last() {
		return damaged("entry %d is agreed on, the log reaches from %d to %d", c, k.index, k.last())
	}
	if k.hard.GetTerm() < last.GetTerm() {
		return damaged("the term is %d, that of the last entry %d", k.hard.GetTerm(), last.GetTerm())
	}
	return nil
}

// readRecord is the body of a record, nil if there is none.
func readRecord(store storage.Reader, key []byte) ([]byte, error) {
	record, err := store.Get(key)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("membership: reading the topology log: %w", err)
	}
	return unseal(key, record)
}

func readEntries(store storage.Reader) ([]*raftpb.Entry, error) {
	var entries []*raftpb.Entry
	var bad error
	err := store.Scan(logKey('e'), logKey('e'+1), func(key, record []byte) bool {
		var body []byte
		if body, bad = unseal(key, record); bad != nil {
			return false
		}
		e := &raftpb.Entry{}
		if err := proto.Unmarshal(body, e); err != nil {
			bad = damaged("entry %x: %v", key, err)
			return false
		}
		if !slices.Equal(entryKey(e.GetIndex()), key) {
			bad = damaged("entry %d is kept under %x", e.GetIndex(), key)
			return false
		}
		if bad = checkEntry(e); bad != nil {
			return false
		}
		entries = append(entries, e)
		return true
	})
	if err != nil {
		return nil, fmt.Errorf("membership: reading the topology log: %w", err)
	}
	return entries, bad
}
