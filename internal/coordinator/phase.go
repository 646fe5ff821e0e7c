package coordinator

// Phase names what a request is at, as the machines' drawings do.
type Phase string

// The phases.
const (
	Preparing Phase = "prepare"   // options are resolved, replicas chosen
	Executing Phase = "execute"   // replicas are asked; of a put: one of them makes the version
	Waiting   Phase = "waiting"   // answers are counted
	Renewing  Phase = "renewing"  // the topology has changed: a newer view is fetched, and some are asked again
	Repairing Phase = "repairing" // a get is answered; late replicas are heard, stale ones are sent the merged object
	Done      Phase = "done"
)

// Phased is a machine that says how it stands: Put and Get do.
type Phased interface {
	Phase() Phase

	// Count is the tally so far; empty: nothing is counted yet.
	Count() string
}

// Phase is what the write is at.
func (p *Put) Phase() Phase {
	switch {
	case p.answered:
		return Done
	case p.refreshing:
		return Renewing
	case p.minted != nil:
		return Waiting
	case p.tally == nil:
		return Preparing
	}
	return Executing
}

// Phase is what the read is at. It executes until the first answer is there.
func (g *Get) Phase() Phase {
	switch {
	case g.done:
		return Done
	case g.answered:
		return Repairing
	case g.refreshing:
		return Renewing
	case g.tally == nil:
		return Preparing
	}
	for i := range g.asked {
		if g.asked[i].sent && !g.asked[i].waits {
			return Waiting
		}
	}
	return Executing
}

// Count is the tally so far.
func (p *plan) Count() string {
	if p.tally == nil {
		return ""
	}
	return p.tally.String()
}
