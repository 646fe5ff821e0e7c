package membership

// CommandID tells commands apart: the one who proposes a command draws it by
// chance. A command that comes twice is carried out once. The zero id means
// that this does not matter, and that nobody will ask for the result.
type CommandID [16]byte

// Command is an entry of the topology log.
type Command interface{ command() }

// Announce says where a member is reached. The first one binds the node's id to
// its name; from then on no other node can have that name. It also ends being
// down. A member whose part in the log is void gets another number there.
type Announce struct {
	Name    string
	ID      [16]byte
	Address string // empty: as it is
	Void    uint64 // its number in the log, which is void; 0: it is not
	Raft    uint64 // the one that it is to have instead
}

// Stage adds a change to the plan. It replaces the one that is staged for the
// same node.
type Stage struct{ Change }

// Clear takes back all staged changes.
type Clear struct{}

// Commit carries out the staged changes, if their plan is still the one with
// this id.
type Commit struct {
	Plan string `json:"plan"`
}

// Down says that nothing is to wait for a member until it is back.
type Down struct {
	Name string `json:"name"`
}

// Left says that an exiting member holds nothing any more, and is gone.
type Left struct {
	Name string `json:"name"`
}

// Filled says that a node has copied all it needs for a transfer.
type Filled struct {
	Transfer uint64 `json:"transfer"`
	Node     string `json:"node"`
}

// Settled says that all who matter know of a transfer's new owner.
type Settled struct {
	Transfer uint64 `json:"transfer"`
}

// Set sets something for the whole cluster; an empty value takes it back.
type Set struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// Mark raises the mark of the reaping to its own epoch, unless it is above After
// already.
type Mark struct {
	After uint64 `json:"after"`
}

// Reaped says that every member has shown, in the life named, an epoch that is not
// below that of the mark.
type Reaped struct {
	Mark  uint64     `json:"mark"`
	Lives []NodeLife `json:"lives"` // of all members that have not left, sorted by name
}

// Noop changes nothing. Who has its result has read all entries before it.
type Noop struct{}

func (Announce) command() {}
func (Stage) command()    {}
func (Clear) command()    {}
func (Commit) command()   {}
func (Down) command()     {}
func (Left) command()     {}
func (Filled) command()   {}
func (Settled) command()  {}
func (Set) command()      {}
func (Mark) command()     {}
func (Reaped) command()   {}
func (Noop) command()     {}
