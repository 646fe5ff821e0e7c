package membership

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/kv"
)

// codecVersion is the version of the encodings of states and commands.
const codecVersion = 1

// stateForm is a State as JSON.
type stateForm struct {
	Version   int           `json:"v"`
	Epoch     uint64        `json:"epoch"`
	Cluster   hexID         `json:"cluster"`
	TargetN   int           `json:"target_n"`
	Replicas  int           `json:"replicas"`
	Members   []memberForm  `json:"members"`
	Gone      []goneForm    `json:"gone,omitempty"`
	Owners    []byte        `json:"owners"` // by partition, the index of the owner among the members: uvarint
	Since     []byte        `json:"since"`  // runs of homes with the same epoch: their number uvarint, the epoch uvarint
	Transfers []Transfer    `json:"transfers,omitempty"`
	LastID    uint64        `json:"last_id,omitempty"`
	Staged    []Change      `json:"staged,omitempty"`
	Settings  []Setting     `json:"settings,omitempty"`
	Types     []BucketType  `json:"types,omitempty"`
	Buckets   []bucketForm  `json:"buckets,omitempty"`
	Security  *Security     `json:"security,omitempty"`
	Results   []resultForm  `json:"results,omitempty"`
	Warnings  []warningForm `json:"warnings,omitempty"`
	Mark      uint64        `json:"mark,omitempty"`
	Reaped    uint64        `json:"reaped,omitempty"`
	ReapedAt  uint64        `json:"reaped_at,omitempty"`
	Lives     []NodeLife    `json:"lives,omitempty"`
}

type memberForm struct {
	Name    string `json:"name"`
	Address string `json:"address,omitempty"`
	Zone    string `json:"zone,omitempty"`
	ID      hexID  `json:"id,omitzero"`
	Weight  int    `json:"weight,omitempty"`
	Raft    uint64 `json:"raft"`
	Status  Status `json:"status"`
	Before  Status `json:"before,omitempty"`
}

type goneForm struct {
	Name string `json:"name"`
	ID   hexID  `json:"id"`
}

type resultForm struct {
	ID   hexID  `json:"id"`
	Code string `json:"code,omitempty"` // empty: it went well
	Text string `json:"text,omitempty"`
}

// warningForm has one field set.
type warningForm struct {
	FewNodes    *ring.FewNodes    `json:"few_nodes,omitempty"`
	FewZones    *ring.FewZones    `json:"few_zones,omitempty"`
	SharedNode  *ring.SharedNode  `json:"shared_node,omitempty"`
	SharedZone  *ring.SharedZone  `json:"shared_zone,omitempty"`
	UnfairShare *ring.UnfairShare `json:"unfair_share,omitempty"`
}

// hexID is an id of 16 bytes, in JSON as text.
type hexID [16]byte

func (id hexID) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, id[:]), nil }

func (id *hexID) UnmarshalText(b []byte) error {
	if len(b) != hex.EncodedLen(len(id)) {
		return fmt.Errorf("id of %d characters", len(b))
	}
	_, err := hex.Decode(id[:], b)
	return err
}

// Encode is the state in a form that DecodeState reads: JSON, the same bytes
// for the same state.
func (s *State) Encode() []byte {
	f := stateForm{
		Version: codecVersion, Epoch: s.epoch, Cluster: s.cluster, TargetN: s.targetN, Replicas: s.replicas,
		Transfers: s.transfers, LastID: s.lastID, Staged: s.staged, Settings: s.settings, Types: s.properties.types, Security: s.security,
		Mark: s.reaping.mark, Reaped: s.reaping.reaped, ReapedAt: s.reaping.at, Lives: s.reaping.lives,
	}
	index := make(map[string]uint64, len(s.members))
	for i, m := range s.members {
		index[m.Name] = uint64(i)
		f.Members = append(f.Members, memberForm{
			Name: m.Name, Address: m.Address, Zone: m.Zone, ID: m.ID, Weight: m.Weight, Raft: m.Raft, Status: m.Status, Before: m.before,
		})
	}
	for p := range s.ring.Size() {
		f.Owners = binary.AppendUvarint(f.Owners, index[s.ring.Owner(ring.Partition(p))])
	}
	f.Since = appendRuns(nil, s.since)
	for _, g := range s.gone {
		f.Gone = append(f.Gone, goneForm{Name: g.Name, ID: g.ID})
	}
	for _, r := range s.results {
		form := resultForm{ID: hexID(r.id)}
		if r.err != nil {
			form.Code, form.Text = r.err.Code, r.err.Text
		}
		f.Results = append(f.Results, form)
	}
	for _, b := range s.properties.buckets {
		f.Buckets = append(f.Buckets, bucketForm{Type: b.Type, Name: []byte(b.Name), Props: b.props})
	}
	for _, w := range s.warnings {
		if form := formOf(w); form != (warningForm{}) {
			f.Warnings = append(f.Warnings, form)
		}
	}
	return encode(f)
}

// encode is what cannot fail: all our forms are plain data.
func encode(form any) []byte {
	b, err := json.Marshal(form)
	if err != nil {
		panic(err)
	}
	return b
}

// decode reads one form, and refuses what it does not know: a node that left
// out a part of an entry would have another state than the others.
func decode(b []byte, form any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(form); err != nil {
		return err
	}
	if len(bytes.TrimSpace(b[d.InputOffset():])) > 0 {
		return errors.New("more than one value")
	}
	return nil
}

func formOf(w ring.Warning) (f warningForm) {
	switch w := w.(type) {
	case ring.FewNodes:
		f.FewNodes = &w
	case ring.FewZones:
		f.FewZones = &w
	case ring.SharedNode:
		f.SharedNode = &w
	case ring.SharedZone:
		f.SharedZone = &w
	case ring.UnfairShare:
		f.UnfairShare = &w
	}
	return f
}

func (f warningForm) warning() ring.Warning {
	switch {
	case f.FewNodes != nil:
		return *f.FewNodes
	case f.FewZones != nil:
		return *f.FewZones
	case f.SharedNode != nil:
		return *f.SharedNode
	case f.SharedZone != nil:
		return *f.SharedZone
	case f.UnfairShare != nil:
		return *f.UnfairShare
	}
	return nil
}

// appendRuns appends the numbers as runs of equal ones.
func appendRuns(b []byte, list []uint64) []byte {
	for i := 0; i < len(list); {
		n := 1
		for i+n < len(list) && list[i+n] == list[i] {
			n++
		}
		b = binary.AppendUvarint(b, uint64(n))
		b = binary.AppendUvarint(b, list[i])
		i += n
	}
	return b
}

// readRuns reads n numbers that appendRuns wrote.
func readRuns(b []byte, n int) ([]uint64, error) {
	list := make([]uint64, 0, n)
	for len(b) > 0 {
		run, k := binary.Uvarint(b)
		if k <= 0 || run == 0 || run > uint64(n-len(list)) {
			return nil, errors.New("bad length of a run")
		}
		value, l := binary.Uvarint(b[k:])
		if l <= 0 {
			return nil, errors.New("bad number in a run")
		}
		b = b[k+l:]
		for range run {
			list = append(list, value)
		}
	}
	if len(list) != n {
		return nil, fmt.Errorf("%d numbers, not %d", len(list), n)
	}
	return list, nil
}

// DecodeState reads what Encode wrote. All else is an error, as is a state that
// cannot be.
func DecodeState(b []byte) (*State, error) {
	s, err := decodeState(b)
	if err == nil {
		err = s.check()
	}
	if err != nil {
		return nil, fmt.Errorf("topology state is damaged, or of a newer version: %w", err)
	}
	return s, nil
}

func decodeState(b []byte) (*State, error) {
	var f stateForm
	if err := decode(b, &f); err != nil {
		return nil, err
	}
	if f.Version != codecVersion {
		return nil, fmt.Errorf("version %d", f.Version)
	}
	s := &State{
		epoch: f.Epoch, cluster: f.Cluster, targetN: f.TargetN, replicas: f.Replicas,
		transfers: f.Transfers, lastID: f.LastID, staged: f.Staged, settings: f.Settings,
		reaping: reaping{mark: f.Mark, reaped: f.Reaped, at: f.ReapedAt, lives: f.Lives},
	}
	for _, m := range f.Members {
		s.members = append(s.members, member{before: m.Before, Member: Member{
			Name: m.Name, Address: m.Address, Zone: m.Zone, ID: m.ID, Weight: m.Weight, Raft: m.Raft, Status: m.Status,
		}})
	}
	for _, g := range f.Gone {
		s.gone = append(s.gone, gone{Name: g.Name, ID: g.ID})
	}
	for _, r := range f.Results {
		x := result{id: CommandID(r.ID)}
		if r.Code != "" {
			x.err = &ChangeError{Code: r.Code, Text: r.Text}
		}
		s.results = append(s.results, x)
	}
	s.properties.types, s.security = f.Types, f.Security
	for _, b := range f.Buckets {
		s.properties.buckets = append(s.properties.buckets, bucketProps{kv.Bucket{Type: b.Type, Name: string(b.Name)}, b.Props})
	}
	for _, w := range f.Warnings {
		if w.warning() == nil {
			return nil, errors.New("unknown warning")
		}
		s.warnings = append(s.warnings, w.warning())
	}
	return s, s.decodeRings(f.Owners, f.Since)
}

// decodeRings reads the owners and the epochs by home.
func (s *State) decodeRings(owners, since []byte) error {
	var names []string
	for len(owners) > 0 {
		i, n := binary.Uvarint(owners)
		if n <= 0 || i >= uint64(len(s.members)) || len(names) == ring.MaxPartitions {
			return errors.New("bad owners")
		}
		names = append(names, s.members[i].Name)
		owners = owners[n:]
	}
	var err error
	if s.ring, err = ring.New(names); err != nil {
		return err
	}
	s.next = s.ring
	for i := range s.transfers {
		t := &s.transfers[i]
		if int(t.Partition) >= s.ring.Size() || s.member(t.To) == nil || s.member(t.From) == nil {
			return fmt.Errorf("transfer %d is of no partition or of no member", t.ID)
		}
		if t.active() {
			s.next = s.next.With(t.Partition, t.other())
		}
	}
	s.since, err = readRuns(since, s.ring.Size())
	return err
}

// check looks for what no state can be.
func (s *State) check() error {
	switch {
	case s.epoch == 0:
		return errors.New("epoch 0")
	case s.replicas < 1 || s.replicas > MaxReplicas:
		return fmt.Errorf("%d replicas", s.replicas)
	case s.targetN < 1 || s.targetN > ring.MaxTargetN:
		return fmt.Errorf("target_n %d", s.targetN)
	case len(s.gone) > maxGone || len(s.results) > maxResults || len(s.settings) > maxSettings:
		return errors.New("too long a list")
	}
	if err := s.checkMembers(); err != nil {
		return err
	}
	if err := s.checkTransfers(); err != nil {
		return err
	}
	if err := s.checkReaping(); err != nil {
		return err
	}
	if err := s.checkProps(); err != nil {
		return err
	}
	if err := s.checkSecurity(); err != nil {
		return err
	}
	for i, c := range s.staged {
		if s.member(c.Node) == nil || slices.ContainsFunc(s.staged[:i], func(x Change) bool { return x.Node == c.Node }) {
			return fmt.Errorf("staged change of %s", quote(c.Node))
		}
	}
	for i, x := range s.settings {
		if settingError(x.Key, x.Value) != nil || x.Value == "" || i > 0 && s.settings[i-1].Key >= x.Key {
			return fmt.Errorf("setting %s", quote(x.Key))
		}
	}
	if home := slices.IndexFunc(s.since, func(e uint64) bool { return e == 0 || e > s.epoch }); home >= 0 {
		return fmt.Errorf("home %d of epoch %d", home, s.since[home])
	}
	return nil
}

func (s *State) checkMembers() error {
	valid := []Status{StatusJoining, StatusValid, StatusLeaving, StatusExiting, StatusLeft}
	rafts := make(map[uint64]bool, len(s.members))
	for i := range s.members {
		m := &s.members[i]
		bad := nameProblem(m.Name) != "" || i > 0 && s.members[i-1].Name >= m.Name ||
			m.Address != "" && addressProblem(m.Address) != "" || settingProblem(m.Zone, m.Weight) != ""
		bad = bad || m.Raft == 0 || rafts[m.Raft]
		bad = bad || (m.Status == StatusDown) != (m.before != "") || !slices.Contains(valid, m.standing())
		if bad {
			return fmt.Errorf("member %s", quote(m.Name))
		}
		rafts[m.Raft] = true
	}
	return nil
}

func (s *State) checkTransfers() error {
	ids := make(map[uint64]bool, len(s.transfers))
	for i := range s.transfers {
		t := &s.transfers[i]
		owner := map[Phase]string{Waiting: s.ring.Owner(t.Partition), Copying: t.From, Settling: t.To}[t.Phase]
		bad := ids[t.ID] || t.ID == 0 || t.ID > s.lastID || t.Epoch == 0 || t.Epoch > s.epoch || t.From == t.To || !slices.IsSorted(t.Filled)
		bad = bad || owner != s.ring.Owner(t.Partition)
		if i > 0 {
			before := &s.transfers[i-1]
			follows := before.Partition == t.Partition && before.active() && !t.active() && before.To == t.From
			bad = bad || before.Partition > t.Partition || before.Partition == t.Partition && !follows
		}
		if bad {
			return fmt.Errorf("transfer %d", t.ID)
		}
		ids[t.ID] = true
	}
	return s.checkOwners()
}

// checkOwners looks for active transfers that are too near to each other, and
// for owners that should not be.
func (s *State) checkOwners() error {
	var active []*Transfer
	leads := make(map[ring.Partition]bool) // to another owner
	for i := range s.transfers {
		t := &s.transfers[i]
		leads[t.Partition] = s.left(t.From) && t.Forced || leads[t.Partition]
		if t.active() {
			active = append(active, t)
		}
	}
	for i, t := range active {
		if u := active[(i+1)%len(active)]; len(active) > 1 && !s.ring.Apart(t.Partition, u.Partition, s.replicas) {
			return fmt.Errorf("transfers %d and %d are too near to each other", t.ID, u.ID)
		}
	}
	for p := range s.ring.Size() {
		m := s.member(s.ring.Owner(ring.Partition(p)))
		if m.Status == StatusJoining || m.standing() == StatusExiting || m.Status == StatusLeft && !leads[ring.Partition(p)] {
			return fmt.Errorf("partition %d is owned by %s, which is %s", p, m.Name, m.Status)
		}
	}
	return nil
}
