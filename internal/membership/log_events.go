package membership

import (
	"github.com/tanodb/tanodb/storage"
)

// LogEvent is something that a Log is told: one of the types below.
type LogEvent interface{ logEvent() }

// The events of a Log.
type (
	// LogTick says that LogOptions.Tick has passed.
	LogTick struct{}

	// LogReceived is a message of the log of another node, which the network
	// knows to be From.
	LogReceived struct {
		From string
		Data []byte
	}

	// LogDurable says that the batch of the LogWrite of that number is durable.
	LogDurable struct{ Write uint64 }

	// LogPropose asks for a command to be carried out. It is answered by one
	// LogOutcome, however long that takes, unless LogGiveUp comes before it.
	LogPropose struct {
		ID      CommandID
		Command Command
	}

	// LogGiveUp says that nobody waits for the command any more. It may still
	// be carried out.
	LogGiveUp struct{ ID CommandID }

	// LogUnreachable says that messages to the node are lost.
	LogUnreachable struct{ Node string }
)

func (LogTick) logEvent()        {}
func (LogReceived) logEvent()    {}
func (LogDurable) logEvent()     {}
func (LogPropose) logEvent()     {}
func (LogGiveUp) logEvent()      {}
func (LogUnreachable) logEvent() {}

// LogEffect is something that a Log wants done: one of the types below.
type LogEffect interface{ logEffect() }

// The effects of a Log.
type (
	// LogWrite is a batch to make durable, answered by LogDurable. There is one
	// at a time.
	LogWrite struct {
		Write uint64
		Batch storage.Batch
	}

	// LogSend is a message to the log of another node. It may be lost. Bulk: it
	// is long, and belongs behind messages that somebody waits for.
	LogSend struct {
		To   string
		Data []byte
		Bulk bool
	}

	// LogAdopt is a newer state that the cluster has agreed on, and that this
	// node does not forget in a crash.
	LogAdopt struct{ State *State }

	// LogOutcome ends a LogPropose. Err is nil if the command was carried out,
	// and otherwise says why not, or is ErrCommandInDoubt.
	LogOutcome struct {
		ID  CommandID
		Err error
	}

	// LogBroken says that the log cannot go on, for a reason that must not
	// occur. The Log does nothing from now on; the last state stays.
	LogBroken struct{ Err error }
)

func (LogWrite) logEffect()   {}
func (LogSend) logEffect()    {}
func (LogAdopt) logEffect()   {}
func (LogOutcome) logEffect() {}
func (LogBroken) logEffect()  {}
