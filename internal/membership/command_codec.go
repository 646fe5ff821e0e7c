package membership

import (
	"encoding/json"
	"fmt"

	"github.com/tanodb/tanodb/kv"
)

// commandForm is a Command as JSON: one field is set.
type commandForm struct {
	Version  int           `json:"v"`
	Announce *announceForm `json:"announce,omitempty"`
	Stage    *Change       `json:"stage,omitempty"`
	Clear    *Clear        `json:"clear,omitempty"`
	Commit   *Commit       `json:"commit,omitempty"`
	Down     *Down         `json:"down,omitempty"`
	Left     *Left         `json:"left,omitempty"`
	Filled   *Filled       `json:"filled,omitempty"`
	Settled  *Settled      `json:"settled,omitempty"`
	Set      *Set          `json:"set,omitempty"`
	SetType  *SetType      `json:"set_type,omitempty"`
	Bucket   *bucketForm   `json:"set_bucket,omitempty"`
	Security *SetSecurity  `json:"set_security,omitempty"`
	Mark     *Mark         `json:"mark,omitempty"`
	Reaped   *Reaped       `json:"reaped,omitempty"`
	Noop     *Noop         `json:"noop,omitempty"`
}

type announceForm struct {
	Name    string `json:"name"`
	ID      hexID  `json:"id"`
	Address string `json:"address,omitempty"`
	Void    uint64 `json:"void,omitempty"`
	Raft    uint64 `json:"raft,omitempty"`
}

// bucketForm is a bucket and its properties as JSON. Names of buckets are any bytes.
type bucketForm struct {
	Type  string        `json:"type,omitempty"`
	Name  []byte        `json:"name"`
	Reset bool          `json:"reset,omitempty"`
	Props kv.Properties `json:"props,omitempty"`
}

type changeForm struct {
	Kind    ChangeKind `json:"kind"`
	Node    string     `json:"node"`
	With    string     `json:"with,omitempty"`
	Address string     `json:"address,omitempty"`
	Zone    string     `json:"zone,omitempty"`
	Weight  int        `json:"weight,omitempty"`
	ID      hexID      `json:"id,omitzero"`
}

// MarshalJSON is the change with its id as text.
func (c Change) MarshalJSON() ([]byte, error) {
	return json.Marshal(changeForm{Kind: c.Kind, Node: c.Node, With: c.With, Address: c.Address, Zone: c.Zone, Weight: c.Weight, ID: c.ID})
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (c *Change) UnmarshalJSON(b []byte) error {
	var f changeForm
	if err := decode(b, &f); err != nil {
		return err
	}
	*c = Change{Kind: f.Kind, Node: f.Node, With: f.With, Address: f.Address, Zone: f.Zone, Weight: f.Weight, ID: f.ID}
	return nil
}

// EncodeCommand is the command in a form that DecodeCommand reads.
func EncodeCommand(c Command) []byte {
	f := commandForm{Version: codecVersion}
	switch c := c.(type) {
	case Announce:
		f.Announce = &announceForm{Name: c.Name, ID: c.ID, Address: c.Address, Void: c.Void, Raft: c.Raft}
	case Stage:
		f.Stage = &c.Change
	case Clear:
		f.Clear = &c
	case Commit:
		f.Commit = &c
	case Down:
		f.Down = &c
	case Left:
		f.Left = &c
	case Filled:
		f.Filled = &c
	case Settled:
		f.Settled = &c
	case Set:
		f.Set = &c
	case SetType:
		f.SetType = &c
	case SetBucket:
		f.Bucket = &bucketForm{Type: c.Bucket.Type, Name: []byte(c.Bucket.Name), Reset: c.Reset, Props: c.Props}
	case SetSecurity:
		f.Security = &c
	case Mark:
		f.Mark = &c
	case Reaped:
		f.Reaped = &c
	case Noop:
		f.Noop = &c
	}
	return encode(f)
}

// DecodeCommand reads what EncodeCommand wrote. All else is an error.
func DecodeCommand(b []byte) (Command, error) {
	var f commandForm
	if err := decode(b, &f); err != nil {
		return nil, fmt.Errorf("topology command is damaged, or of a newer version: %w", err)
	}
	list := f.commands()
	if f.Version != codecVersion || len(list) != 1 {
		return nil, fmt.Errorf("topology command of version %d has %d parts; this node knows version %d, with one", f.Version, len(list), codecVersion)
	}
	return list[0], nil
}

// commands are those that are set.
func (f *commandForm) commands() (list []Command) {
	if f.Announce != nil {
		a := f.Announce
		list = append(list, Announce{Name: a.Name, ID: a.ID, Address: a.Address, Void: a.Void, Raft: a.Raft})
	}
	if f.Stage != nil {
		list = append(list, Stage{Change: *f.Stage})
	}
	if f.Clear != nil {
		list = append(list, *f.Clear)
	}
	if f.Commit != nil {
		list = append(list, *f.Commit)
	}
	if f.Down != nil {
		list = append(list, *f.Down)
	}
	if f.Left != nil {
		list = append(list, *f.Left)
	}
	if f.Filled != nil {
		list = append(list, *f.Filled)
	}
	if f.Settled != nil {
		list = append(list, *f.Settled)
	}
	if f.Set != nil {
		list = append(list, *f.Set)
	}
	if f.SetType != nil {
		list = append(list, *f.SetType)
	}
	if b := f.Bucket; b != nil {
		list = append(list, SetBucket{Bucket: kv.Bucket{Type: b.Type, Name: string(b.Name)}, Reset: b.Reset, Props: b.Props})
	}
	if f.Security != nil {
		list = append(list, *f.Security)
	}
	if f.Mark != nil {
		list = append(list, *f.Mark)
	}
	if f.Reaped != nil {
		list = append(list, *f.Reaped)
	}
	if f.Noop != nil {
		list = append(list, *f.Noop)
	}
	return list
}
