package membership

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/tanodb/tanodb/internal/planted"
	"github.com/tanodb/tanodb/internal/ring"
)

// Phase is how far a transfer is:
//
//	waiting ──▶ copying ──filled──▶ settling ──settled──▶ over
//
// It waits while another one is active nearby, or its nodes have enough to do.
type Phase string

// The phases. A transfer that is copying or settling is active: writes go to
// the owners of both sides.
const (
	Waiting  Phase = "waiting"  // nothing happens yet
	Copying  Phase = "copying"  // From owns the partition, To is being filled
	Settling Phase = "settling" // To owns it, but not all know that yet
)

// Transfer is a change of a partition's owner.
type Transfer struct {
	ID        uint64         `json:"id"`
	Partition ring.Partition `json:"partition"`
	From      string         `json:"from"`
	To        string         `json:"to"`
	Phase     Phase          `json:"phase"`
	Forced    bool           `json:"forced,omitempty"` // From is dead: To is filled from the other replicas
	Filled    []string       `json:"filled,omitempty"` // the receivers that have all they need, sorted
	Epoch     uint64         `json:"epoch"`            // of the last change of Phase
}

// active reports whether both owners matter.
func (t *Transfer) active() bool { return t.Phase != Waiting }

// other is the owner in Next.
func (t *Transfer) other() string {
	if t.Phase == Settling {
		return t.From
	}
	return t.To
}

// String shows the transfer: "partition 7 from n1 to n2, copying".
func (t Transfer) String() string {
	forced := ""
	if t.Forced {
		forced = ", forced"
	}
	return fmt.Sprintf("partition %d from %s to %s, %s%s", t.Partition, t.From, t.To, t.Phase, forced)
}

// The setting of how many active transfers a node may take part in at once.
const (
	TransferLimit        = "transfer_limit"
	defaultTransferLimit = "4"
	maxTransferLimit     = 1024
)

// Receivers are the nodes that the transfer gives places they did not have,
// sorted. Each must report that it is filled, but those that have left. There
// may be others than To: where the ring does not have distinct nodes in a row, a
// key's replicas shift.
func (s *State) Receivers(t Transfer) []string {
	if int(t.Partition) >= s.ring.Size() {
		return nil
	}
	var nodes []string
	for _, f := range s.fills(&t) {
		nodes = append(nodes, f.To.Node)
	}
	slices.Sort(nodes)
	return slices.Compact(nodes)
}

// Settleable are the ids of the transfers for which the log may be told
// Settled, when the nodes have these epochs: each member that is up has the
// transfer's, and so has a majority of each list of replicas that the transfer
// replaces. Nodes that have left count as if they had it, since nobody listens
// to them any more.
func (s *State) Settleable(epochs map[string]uint64, up func(node string) bool) []uint64 {
	var ids []uint64
	for i := range s.transfers {
		t := &s.transfers[i]
		known := planted.Is(planted.SettleEarly) || s.allKnow(t.Epoch, epochs, up) && s.majoritiesKnow(t, epochs)
		if t.Phase == Settling && known {
			ids = append(ids, t.ID)
		}
	}
	return ids
}

// allKnow reports whether all members that are up have the epoch.
func (s *State) allKnow(epoch uint64, epochs map[string]uint64, up func(node string) bool) bool {
	for _, m := range s.members {
		if m.Status != StatusDown && m.Status != StatusLeft && epochs[m.Name] < epoch && up(m.Name) {
			return false
		}
	}
	return true
}

// majoritiesKnow reports whether, of each list that the transfer replaces, the
// majority has the transfer's epoch.
func (s *State) majoritiesKnow(t *Transfer, epochs map[string]uint64) bool {
	for _, home := range s.window(t.Partition) {
		if !moved(s.next, s.ring, home, s.replicas) {
			continue
		}
		know, list := 0, s.next.Primaries(home, s.replicas)
		for _, x := range list {
			if epochs[x.Node] >= t.Epoch || s.left(x.Node) {
				know++
			}
		}
		if know <= len(list)/2 {
			return false
		}
	}
	return true
}

// window are the homes whose replicas may depend on who owns p.
func (s *State) window(p ring.Partition) []ring.Partition {
	homes := make([]ring.Partition, min(2*s.replicas, s.ring.Size()))
	for i := range homes {
		homes[i] = s.ring.Next(p, -i)
	}
	return homes
}

// transferID finds a transfer by its id.
func (d *draft) transferID(id uint64) (*Transfer, *ChangeError) {
	i := slices.IndexFunc(d.transfers, func(t Transfer) bool { return t.ID == id })
	if i < 0 {
		return nil, refused(codeNoTransfer, "transfer %d is over, or never was", id)
	}
	return &d.transfers[i], nil
}

func (d *draft) filled(c Filled) *ChangeError {
	t, err := d.transferID(c.Transfer)
	if err != nil || t.Phase == Settling {
		return err
	}
	receivers := d.Receivers(*t)
	switch {
	case t.Phase == Waiting:
		return refused(codeNoTransfer, "transfer %d has not begun", c.Transfer)
	case !slices.Contains(receivers, c.Node):
		return refused(codeNotReceiver, "node %s receives nothing in transfer %d", c.Node, c.Transfer)
	}
	if i, found := slices.BinarySearch(t.Filled, c.Node); !found {
		t.Filled = slices.Insert(slices.Clone(t.Filled), i, c.Node)
	}
	d.flip(t, receivers)
	return nil
}

// flip makes To the owner, once all receivers have what they need. One that has
// left will never have it, and is about to be replaced itself.
func (d *draft) flip(t *Transfer, receivers []string) {
	for _, node := range receivers {
		if _, found := slices.BinarySearch(t.Filled, node); !found && !d.left(node) {
			return
		}
	}
	t.Phase, t.Epoch = Settling, d.epoch
	d.ring = d.ring.With(t.Partition, t.To)
}

func (d *draft) settled(id uint64) *ChangeError {
	t, err := d.transferID(id)
	if err != nil {
		return err
	}
	if t.Phase != Settling {
		return refused(codeNoTransfer, "transfer %d is %s; it cannot be settled", id, t.Phase)
	}
	d.transfers = slices.DeleteFunc(d.transfers, func(t Transfer) bool { return t.ID == id })
	return nil
}

// activate lets transfers that wait begin, the forced ones first, and otherwise
// in the order of their partitions: as many as are far enough from each other,
// and as their nodes may take part in.
func (d *draft) activate() {
	a := newActivation(&d.State)
	for _, forced := range []bool{true, false} {
		for i := range d.transfers {
			t := &d.transfers[i]
			if t.Phase == Waiting && t.Forced == forced && a.permits(t) {
				t.Phase, t.Epoch = Copying, d.epoch
				a.add(t)
			}
		}
	}
}

// activation is the room that there is for transfers to begin.
type activation struct {
	state *State
	limit int
	load  map[string]int // by node, its active transfers
	near  []bool         // by partition, whether an active transfer is too near
}

func newActivation(s *State) *activation {
	limit, _ := strconv.Atoi(s.Setting(TransferLimit))
	a := &activation{state: s, limit: limit, load: make(map[string]int), near: make([]bool, s.ring.Size())}
	for i := range s.transfers {
		if s.transfers[i].active() {
			a.add(&s.transfers[i])
		}
	}
	return a
}

// add counts an active transfer.
func (a *activation) add(t *Transfer) {
	a.load[t.From]++
	a.load[t.To]++
	r := a.state.ring
	for i := range min(r.Size(), 4*a.state.replicas) {
		if p := r.Next(t.Partition, i-2*a.state.replicas); !r.Apart(t.Partition, p, a.state.replicas) {
			a.near[p] = true
		}
	}
	a.near[t.Partition] = true
}

// permits reports whether the transfer may begin. One in which a node that has
// left would have a part waits until that node's partitions are with others,
// unless it is one by which they get there.
func (a *activation) permits(t *Transfer) bool {
	if a.near[t.Partition] || a.full(t.From) || a.full(t.To) {
		return false
	}
	return t.Forced || !a.state.meetsLeft(t)
}

// full reports whether the node is not to have another active transfer. A node
// that has left has nothing to do in any; one that is down cannot do it now.
func (a *activation) full(node string) bool {
	m := a.state.member(node)
	return m.Status == StatusDown || m.Status != StatusLeft && a.load[node] >= a.limit
}

// meetsLeft reports whether a node that has left would have a part in the
// transfer: as a receiver, or as the one that another receiver copies from.
func (s *State) meetsLeft(t *Transfer) bool {
	if !slices.ContainsFunc(s.members, func(m member) bool { return m.Status == StatusLeft && s.ring.Owned(m.Name) > 0 }) {
		return false
	}
	return slices.ContainsFunc(s.fills(t), func(f ring.Fill) bool { return s.left(f.To.Node) || s.left(f.From.Node) })
}

// fills are the places that the transfer gives to nodes, all other partitions
// left where they are.
func (s *State) fills(t *Transfer) []ring.Fill {
	old, next := s.ring.With(t.Partition, t.From), s.ring.With(t.Partition, t.To)
	return append(ring.Fills(old, next, s.replicas), ring.Shifts(old, next, s.replicas)...)
}
