package membership

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tanodb/tanodb/internal/ring"
)

// Apply is the state after a command, one epoch further. It never fails: a
// command that cannot be carried out changes nothing, and its error is kept as
// its Result. A command that was applied already changes nothing either.
func (s *State) Apply(id CommandID, c Command) *State {
	if _, known := s.Result(id); known {
		return s.Jump(1)
	}
	d := s.draft()
	err := d.do(c)
	if err != nil {
		d = s.draft()
	} else {
		d.finish(s)
	}
	if id != (CommandID{}) {
		first := max(0, len(d.results)+1-maxResults)
		d.results = append(slices.Clone(d.results[first:]), result{id: id, err: err})
	}
	return &d.State
}

// forgets reports whether the state may have forgotten the result of a command: it
// remembers so many, and after a recovery the epoch is higher than that says.
func (s *State) forgets() bool { return len(s.results) == maxResults }

// draft is a state that is being made of another one. It shares with it only
// what is never changed in place.
type draft struct {
	State
	before *properties // of the state that it is made of
}

func (s *State) draft() *draft {
	d := &draft{State: *s, before: &s.properties}
	d.epoch++
	d.members = slices.Clone(s.members)
	d.gone = slices.Clone(s.gone)
	d.transfers = slices.Clone(s.transfers)
	d.staged = slices.Clone(s.staged)
	d.settings = slices.Clone(s.settings)
	return d
}

// do carries the command out. After an error the draft is of no use.
func (d *draft) do(c Command) *ChangeError {
	switch c := c.(type) {
	case Announce:
		return d.announce(c)
	case Stage:
		return d.stage(c.Change)
	case Clear:
		d.clear()
	case Commit:
		return d.commit(c.Plan)
	case Down:
		return d.down(c.Name)
	case Left:
		return d.leave(c.Name)
	case Filled:
		return d.filled(c)
	case Settled:
		return d.settled(c.Transfer)
	case Set:
		return d.set(c)
	case SetType:
		return d.setType(c)
	case SetBucket:
		return d.setBucket(c)
	case SetSecurity:
		return d.setSecurity(c)
	case Mark:
		d.mark(c)
	case Reaped:
		return d.reaped(c)
	}
	return nil
}

// finish draws the conclusions: what may begin now, who has nothing left, and
// for which homes the replicas are others than in the state before.
func (d *draft) finish(before *State) {
	d.activate()
	d.next = before.next
	for _, list := range [][]Transfer{before.transfers, d.transfers} {
		for i := range list {
			if p := list[i].Partition; list[i].active() {
				d.next = d.next.With(p, d.nextOwner(p))
			}
		}
	}
	if !slices.ContainsFunc(d.transfers, func(t Transfer) bool { return t.active() }) {
		d.next = d.ring
	}
	d.release()
	d.setSince(before)
}

// nextOwner is the partition's owner in Next.
func (d *draft) nextOwner(p ring.Partition) string {
	if i := d.transferOf(p); i < len(d.transfers) && d.transfers[i].Partition == p && d.transfers[i].active() {
		return d.transfers[i].other()
	}
	return d.ring.Owner(p)
}

// transferOf is the index of the partition's first transfer, or where it would
// be.
func (d *draft) transferOf(p ring.Partition) int {
	i, _ := slices.BinarySearchFunc(d.transfers, p, func(t Transfer, p ring.Partition) int { return int(t.Partition) - int(p) })
	return i
}

// release lets the leaving members that own nothing exit.
func (d *draft) release() {
	for i := range d.members {
		m := &d.members[i]
		if m.standing() == StatusLeaving && !d.owns(m.Name) {
			m.stand(StatusExiting)
		}
	}
}

// stand changes what the member is; that it is down stays so.
func (m *member) stand(s Status) {
	if m.Status == StatusDown {
		m.before = s
		return
	}
	m.Status = s
}

// owns reports whether the node owns a partition, or is about to, or has a part
// in a transfer.
func (s *State) owns(node string) bool {
	return s.ring.Owned(node) > 0 || s.next.Owned(node) > 0 ||
		slices.ContainsFunc(s.transfers, func(t Transfer) bool { return t.From == node || t.To == node })
}

// setSince notes the epoch for the homes whose replicas have changed.
func (d *draft) setSince(before *State) {
	moves := append(before.ring.Moves(d.ring), before.next.Moves(d.next)...)
	if len(moves) == 0 {
		return
	}
	d.since = slices.Clone(d.since)
	for _, m := range moves {
		for _, home := range d.window(m.Partition) {
			if d.since[home] < d.epoch && (moved(before.ring, d.ring, home, d.replicas) || moved(before.next, d.next, home, d.replicas)) {
				d.since[home] = d.epoch
			}
		}
	}
}

// moved reports whether the home has other primaries in the second ring.
func moved(a, b *ring.Ring, home ring.Partition, n int) bool {
	return a != b && !slices.Equal(a.Primaries(home, n), b.Primaries(home, n))
}

func refused(code, format string, args ...any) *ChangeError {
	return &ChangeError{Code: code, Text: fmt.Sprintf(format, args...)}
}

// The codes of a ChangeError. Those that riak_core has, too, have its names.
const (
	codeInvalid            = "invalid"
	codeNotMember          = "not_member"
	codeAlreadyMember      = "already_member"
	codeOnlyMember         = "only_member"
	codeAlreadyLeaving     = "already_leaving"
	codeAlreadyReplacement = "already_replacement"
	codeInvalidReplacement = "invalid_replacement"
	codeNothingPlanned     = "nothing_planned"
	codePlanChanged        = "plan_changed"
	codeStillJoining       = "still_joining"
	codeNameTaken          = "name_taken"
	codeIDTaken            = "id_taken"
	codeLeft               = "left"
	codeRingNotReady       = "ring_not_ready"
	codeAlreadyDown        = "already_down"
	codeNotExiting         = "not_exiting"
	codeNoTransfer         = "no_transfer"
	codeNotReceiver        = "not_receiver"
	codeTooMany            = "too_many"
	codeDifferentRingSizes = "different_ring_sizes"
	codeDifferentReplicas  = "different_replicas"
	codeNotSingleNode      = "not_single_node"
	codeSelfJoin           = "self_join"
	codeNoMark             = "no_mark"
	codeAlreadyActive      = "already_active"
	codeUndefinedType      = "undefined_type"
	codeUnknownRole        = "unknown_role"
)

func (d *draft) announce(c Announce) *ChangeError {
	m := d.member(c.Name)
	switch {
	case m == nil:
		return d.notMember(c.Name)
	case m.Status == StatusLeft || d.isGone(c.ID):
		return refused(codeLeft, "node %s has left the cluster for ever; to use it again, give it an empty directory, so that it gets a new id, and let it join", c.Name)
	case c.ID == [16]byte{}:
		return refused(codeInvalid, "node %s has no id", c.Name)
	case m.ID != [16]byte{} && m.ID != c.ID:
		return refused(codeNameTaken, "the name %s belongs to another node, of the id %x; give this one another name, or let it join and replace %s", c.Name, m.ID, c.Name)
	case c.Address != "" && addressProblem(c.Address) != "":
		return refused(codeInvalid, "node %s has the address %s, %s", c.Name, quote(c.Address), addressProblem(c.Address))
	}
	if c.Void != 0 && slices.ContainsFunc(d.members, func(x member) bool { return c.Raft == 0 || x.Raft == c.Raft && x.Name != c.Name }) {
		return refused(codeInvalid, "node %s cannot have the number %x in the topology log", c.Name, c.Raft)
	}
	if other := d.withID(c.ID); other != nil && other.Name != c.Name {
		return refused(codeIDTaken, "this node is the member %s already; start it under that name", other.Name)
	}
	m.ID = c.ID
	if c.Address != "" {
		m.Address = c.Address
	}
	if m.Status == StatusDown {
		m.Status, m.before = m.before, ""
	}
	if c.Void != 0 && c.Void == m.Raft {
		m.Raft = c.Raft
	}
	return nil
}

func (s *State) notMember(name string) *ChangeError {
	if problem := nameProblem(name); problem != "" {
		return refused(codeNotMember, "%s is not the name of a member", quote(name))
	}
	return refused(codeNotMember, "%s is not a member of the cluster", name)
}

// withID is the member of that node id, or nil.
func (s *State) withID(id [16]byte) *member {
	i := slices.IndexFunc(s.members, func(m member) bool { return m.ID == id && m.Status != StatusLeft })
	if i < 0 || id == [16]byte{} {
		return nil
	}
	return &s.members[i]
}

// isGone reports whether the node of that id has left.
func (s *State) isGone(id [16]byte) bool {
	return id != [16]byte{} && slices.ContainsFunc(s.gone, func(g gone) bool { return g.ID == id })
}

func (d *draft) down(name string) *ChangeError {
	m := d.member(name)
	switch {
	case m == nil || m.Status == StatusLeft:
		return d.notMember(name)
	case m.Status == StatusJoining:
		return refused(codeStillJoining, "node %s has not joined yet, so nothing waits for it; clear the staged changes if it is not to join", name)
	case m.Status == StatusDown:
		return refused(codeAlreadyDown, "node %s is marked as down already", name)
	}
	m.before, m.Status = m.Status, StatusDown
	if !slices.ContainsFunc(d.members, func(m member) bool { return m.Status == StatusValid }) {
		return refused(codeOnlyMember, "node %s is the only member that is not down", name)
	}
	return nil
}

func (d *draft) leave(name string) *ChangeError {
	m := d.member(name)
	switch {
	case m == nil || m.Status == StatusLeft:
		return d.notMember(name)
	case m.standing() != StatusExiting:
		return refused(codeNotExiting, "node %s is %s; only a member that is exiting can be gone", name, m.Status)
	}
	d.depart(m)
	return nil
}

// depart lets a member be gone, and forgets the one that has been so longest if
// there are too many.
func (d *draft) depart(m *member) {
	m.Status, m.before = StatusLeft, ""
	d.gone = append(d.gone, gone{Name: m.Name, ID: m.ID})
	if len(d.gone) <= maxGone {
		return
	}
	oldest := d.gone[0]
	d.gone = d.gone[1:]
	i, ok := d.search(oldest.Name)
	if ok && d.members[i].Status == StatusLeft && d.members[i].ID == oldest.ID && !d.owns(oldest.Name) {
		d.members = slices.Delete(d.members, i, i+1)
	}
}

// The limits of the settings.
const (
	maxSettings     = 256
	maxSettingKey   = 64    // bytes
	maxSettingValue = 65536 // bytes
)

func (d *draft) set(c Set) *ChangeError {
	if err := settingError(c.Key, c.Value); err != nil {
		return err
	}
	i, found := slices.BinarySearchFunc(d.settings, c.Key, func(x Setting, key string) int { return strings.Compare(x.Key, key) })
	switch {
	case found && c.Value == "":
		d.settings = slices.Delete(d.settings, i, i+1)
	case found:
		d.settings[i].Value = c.Value
	case c.Value == "":
	case len(d.settings) == maxSettings:
		return refused(codeTooMany, "there are %d settings already; take one back first", maxSettings)
	default:
		d.settings = slices.Insert(d.settings, i, Setting(c))
	}
	return nil
}

// settingError says what is wrong with a setting.
func settingError(key, value string) *ChangeError {
	switch {
	case key == "" || len(key) > maxSettingKey || !plain(key):
		return refused(codeInvalid, "%s is no name of a setting: it must be 1 to %d of the characters A-Z a-z 0-9 . _ -", quote(key), maxSettingKey)
	case len(value) > maxSettingValue || !utf8.ValidString(value):
		return refused(codeInvalid, "the setting %s must be text of at most %d bytes", key, maxSettingValue)
	}
	if n, err := strconv.Atoi(value); key == TransferLimit && value != "" && (err != nil || n < 1 || n > maxTransferLimit) {
		return refused(codeInvalid, "the limit of transfers of a node (%s) is %s; it must be a number from 1 to %d", key, quote(value), maxTransferLimit)
	}
	if value == "" {
		return nil
	}
	return deleteSettingError(key, value)
}

// settingDefaults are what settings are that have not been set.
var settingDefaults = map[string]string{
	TransferLimit: defaultTransferLimit,
	DeleteMode:    DeleteReap,
	DeleteGrace:   defaultDeleteGrace.String(),
}
