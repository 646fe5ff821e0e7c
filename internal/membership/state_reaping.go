package membership

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/tanodb/tanodb/internal/planted"
)

// Tombstones are reaped by agreement, and what the State has to do with that is
// one number after the other:
//
//	surveyed ──Mark──▶ mark ──all have shown it──Reaped──▶ reaped ──▶ surveyed again, and removed
//
// Versions that were read or made under an epoch before the fence are refused
// wherever they arrive (see Fence). Reaped is agreed on only when every member has
// durably shown an epoch that is not below the mark; so a member that begins a
// life with an older one has an older disk, whether anybody remembers or not (see
// OutOfDate).
type reaping struct {
	mark   uint64 // the epoch of the last Mark; 0: none yet
	reaped uint64 // the last mark that all have shown. Invariant: reaped <= mark
	at     uint64 // the epoch at which that was agreed on

	// In which life each member has shown it. Sorted by name.
	lives []NodeLife
}

// NodeLife names a life of a node.
type NodeLife struct {
	Node string `json:"node"`
	Life uint64 `json:"life"`
}

// The settings of deletes.
const (
	DeleteMode  = "delete_mode"  // DeleteReap or DeleteKeep
	DeleteGrace = "delete_grace" // a duration, how old a tombstone is at least when it is reaped
)

// The values of DeleteMode.
const (
	DeleteReap = "reap" // tombstones go when it is certain that nothing older is left anywhere
	DeleteKeep = "keep" // tombstones stay
)

// The default and the limits of DeleteGrace.
const (
	defaultDeleteGrace = 10 * time.Minute
	MinDeleteGrace     = time.Second
	MaxDeleteGrace     = 365 * 24 * time.Hour
)

// deleteSettingError says what is wrong with a setting of deletes.
func deleteSettingError(key, value string) *ChangeError {
	switch key {
	case DeleteMode:
		if value != DeleteReap && value != DeleteKeep {
			return refused(codeInvalid, "%s is %s; it must be %s or %s", key, quote(value), DeleteReap, DeleteKeep)
		}
	case DeleteGrace:
		if d, err := time.ParseDuration(value); err != nil || d < MinDeleteGrace || d > MaxDeleteGrace {
			return refused(codeInvalid, "%s is %s; it must be a duration such as 10m, from %v to %v", key, quote(value), MinDeleteGrace, MaxDeleteGrace)
		}
	}
	return nil
}

// Reaps reports whether tombstones are to be reaped, and how old they are to be.
func (s *State) Reaps() (grace time.Duration, on bool) {
	grace, err := time.ParseDuration(s.Setting(DeleteGrace))
	if err != nil {
		grace = defaultDeleteGrace
	}
	return grace, s.Setting(DeleteMode) == DeleteReap
}

// Mark is the epoch of the last Mark; 0: there was none.
func (s *State) Mark() uint64 { return s.reaping.mark }

// Reaped is the last mark that every member has shown; 0: none.
func (s *State) Reaped() uint64 { return s.reaping.reaped }

// Fence is the epoch that versions must have been read or made under, at least,
// to be taken by anybody who knows this State.
func (s *State) Fence() uint64 { return max(s.reaping.mark, s.reaping.at) }

// OutOfDate reports whether the data of a node is older than a reaping that it does
// not know of: it began its present life with an epoch before Reaped, and was not
// in that life when Reaped was agreed on. Values whose tombstones are gone may be
// on its disk.
func (s *State) OutOfDate(node string, life, began uint64) bool {
	return began < s.reaping.reaped && !slices.Contains(s.reaping.lives, NodeLife{node, life})
}

// LastReaping is Reaped, and the life in which the node has shown it; 0: it was no
// member.
func (s *State) LastReaping(node string) (reaped, life uint64) {
	i, found := slices.BinarySearchFunc(s.reaping.lives, node, func(l NodeLife, name string) int { return strings.Compare(l.Node, name) })
	if found {
		life = s.reaping.lives[i].Life
	}
	return s.reaping.reaped, life
}

// Reapable is the command by which the log may be told that every member has shown
// the mark, when that is so: by the lives that are known of the nodes, this one's
// among them.
func (s *State) Reapable(lives map[string]Lives, up func(node string) bool) (c Reaped, ok bool) {
	if s.reaping.mark == s.reaping.reaped {
		return c, false
	}
	c.Mark = s.reaping.mark
	for i := range s.members {
		m := &s.members[i]
		if m.Status == StatusLeft {
			continue
		}
		known := lives[m.Name]
		if down := m.Status == StatusDown || !up(m.Name); down && planted.Is(planted.ReapWithoutDown) {
			continue
		} else if down || known.Since < s.reaping.mark {
			return c, false
		}
		c.Lives = append(c.Lives, NodeLife{m.Name, known.Now})
	}
	return c, true
}

func (d *draft) mark(c Mark) {
	if d.reaping.mark <= c.After {
		d.reaping.mark = d.epoch
	}
}

func (d *draft) reaped(c Reaped) *ChangeError {
	var names []string
	for i := range d.members {
		if m := &d.members[i]; m.Status != StatusLeft {
			names = append(names, m.Name)
		}
	}
	same := slices.EqualFunc(names, c.Lives, func(name string, l NodeLife) bool { return name == l.Node })
	switch {
	case c.Mark <= d.reaping.reaped || c.Mark > d.reaping.mark:
		return refused(codeNoMark, "the mark is %d, of which %d was shown by all; %d is none to be shown", d.reaping.mark, d.reaping.reaped, c.Mark)
	case !same && !planted.Is(planted.ReapWithoutDown):
		return refused(codeNoMark, "there are other members by now than those who have shown the mark %d", c.Mark)
	}
	d.reaping.reaped, d.reaping.at, d.reaping.lives = c.Mark, d.epoch, c.Lives
	return nil
}

// checkReaping looks for what no state can be.
func (s *State) checkReaping() error {
	r := &s.reaping
	sorted := slices.IsSortedFunc(r.lives, func(a, b NodeLife) int { return strings.Compare(a.Node, b.Node) })
	if r.reaped > r.mark || r.mark > s.epoch || r.at > s.epoch || r.at < r.reaped || !sorted {
		return errors.New("a reaping that cannot be")
	}
	return nil
}
