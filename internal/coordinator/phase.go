package coordinator

// Phase names what a request is at, as the machines' drawings do.
type Phase string

// The phases.
const (
	Preparing Phase = "prepare"   // options are resolved, replicas chosen
	Executing Phase = "execute"   // replicas are asked; of a put: one of them makes the version
	Waiting   Phase = "waiting"   // answers are counted
	Reading   Phase = "reading"   // of a delete: what there is to delete is learnt
	Writing   Phase = "writing"   // of a delete: the tombstone is put
	Renewing  Phase = "renewing"  // the topology has changed: a newer view is fetched, and some are asked again
	Repairing Phase = "repairing" // a get is answered; late replicas are heard, stale ones are sent the merged object
	Done      Phase = "done"
)

// Phased is a machine that says how it stands: those that are about one key do.
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

// Phase is what the delete is at. It has a step for each of the two machines in it.
func (d *Delete) Phase() Phase {
	if d.done {
		return Done
	}
	var inner, step Phase
	if d.put != nil {
		inner, step = d.put.Phase(), Writing
	} else {
		inner, step = d.get.Phase(), Reading
	}
	if inner == Renewing || inner == Preparing && (d.put == nil || d.get == nil) {
		return inner
	}
	return step
}

// Count is the tally so far: of the read, and then of the write.
func (d *Delete) Count() string {
	if d.put != nil {
		return d.put.Count()
	}
	return d.get.Count()
}

// Phase is what the read is at.
func (f *Fetch) Phase() Phase { return f.get.Phase() }

// Count is the tally so far.
func (f *Fetch) Count() string { return f.get.Count() }

// Phase is what the write is at.
func (u *Update) Phase() Phase { return u.put.Phase() }

// Count is the tally so far.
func (u *Update) Count() string { return u.put.Count() }

// Count is the tally so far.
func (p *plan) Count() string {
	if p.tally == nil {
		return ""
	}
	return p.tally.String()
}
