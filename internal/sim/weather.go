package sim

import (
	"fmt"
	"reflect"
	"strings"
	"time"
)

// Weather is everything about a run that its seed decides before it begins: the
// cluster, the clients, and which faults there are and how strong. An interval
// of 0 means never, a share is a probability from 0 to 1.
type Weather struct {
	Seed uint64

	// The cluster.
	Nodes      int
	Partitions int
	Replicas   int // N
	HeadCache  int // bytes of object heads that each vnode keeps

	// The clients.
	Calm      bool    // no faults: reads must be fresh
	R, W      int     // of every request in calm weather, and when all is healed; R+W > N
	Plain     float64 // share of the operations that have them in other weather
	Clients   int
	Keys      int
	ValueSize int           // bytes at most
	Bare      bool          // values have no index entries
	Think     time.Duration // between two operations of a client, about
	Timeout   time.Duration // of an operation
	Blind     float64       // share of writes without a context
	Stale     float64       // share of writes with an older context than the latest
	Deletes   float64       // share of deletes among writes
	Writes    float64       // share of writes among operations
	Roam      float64       // share of operations for which a client goes to another node
	Odd       float64       // share of operations with unusual options
	Strangers bool          // clients know little of each other: see drawStrangers
	Safety    time.Duration // how long there are faults

	// The network.
	Delay      time.Duration // of a message, at least
	Jitter     time.Duration // added to it, at most
	Straggle   float64       // share of messages that take up to a second more
	Loss       float64
	Duplicate  float64
	CutEvery   time.Duration
	CutFor     time.Duration
	OneWay     float64       // share of cuts in one direction only
	BreakEvery time.Duration // a connection breaks, and what was sent on it may have arrived

	// The machines.
	CrashEvery  time.Duration
	DownFor     time.Duration
	Silent      float64       // share of crashes that refuse no connection: the host is gone, not the process
	CleanEvery  time.Duration // a restart in order
	PowerEvery  time.Duration // all crash at once
	WipeEvery   time.Duration // a node comes back without its disk
	RewindEvery time.Duration // a node comes back with an older disk
	FreezeEvery time.Duration
	FreezeFor   time.Duration
	Skew        time.Duration // how far the clocks are apart
	JumpEvery   time.Duration // a clock jumps by up to a minute
	Overload    float64       // share of commands that a vnode refuses at the door

	// The disks.
	Sync      time.Duration // an fsync takes about this long
	SlowEvery time.Duration // a disk becomes slow for a while
	SlowSync  time.Duration // an fsync of a slow disk
	FailEvery time.Duration // an fsync fails, and the node with it

	// What ends by itself.
	Expiring   float64       // share of puts whose value expires
	Lasting    time.Duration // after about this time
	SweepEvery time.Duration // a node looks for what has expired; 0: never
	Grace      time.Duration // the bytes of an expired value stay so long
	RotEvery   time.Duration // a bit of an object flips on some disk; 0: never
	FullEvery  time.Duration // a disk becomes full for a while

	// What comes and goes.
	Fallbacks     bool          // nodes stand in for others, and hand over what they took for them
	Strict        float64       // share of operations for which nobody may stand in
	ForgetEvery   time.Duration // a vnode loses its data, and is rebuilt
	MoveJobs      int           // of hand-off at once on each node
	PageBytes     int           // of objects that are moved at once
	Topology      bool          // there is a topology log, and operators who change it
	Spares        int           // nodes that may join
	Operators     int
	ChangeEvery   time.Duration // between two changes of an operator
	Limit         int           // transfers of a node at once; 0: the default
	SnapshotEvery int           // entries of the log
	Reaps         bool          // tombstones are reaped
	ReapItems     int           // at once
	Late          float64       // share of the messages with versions that come seconds late
	Pairs         bool          // cuts are between two nodes, and all others reach both

	// Buckets.
	Conditional float64 // share of puts that are made only if the key holds what their writer thinks
	Latest      bool    // in the second bucket the last write wins; then most clocks agree
	Data        bool    // there are data types

	// Anti-entropy.
	MendEvery time.Duration // replicas are compared so often; 0: never
	Settle    time.Duration // what differs must differ for so long
	MendBytes int           // in a message
	Unread    bool          // at the end nobody reads all keys: only this makes replicas equal
}

// busyFrom is the first seed whose weather may be busy. The seeds below keep the weather that
// they had when they were kept, and those from the clock and from commits are above.
const busyFrom = 1 << 41

// DrawWeather draws the weather of a seed. Each kind of fault is off in many
// runs, so that no fault hides what another would show.
func DrawWeather(seed uint64) Weather {
	w := drawWeather(seed)
	if seed >= busyFrom {
		w.drawBusy(newChance(seed, "busy"))
	}
	return w
}

// drawBusy draws how many operations come between two faults: as many as ever, or several times
// that, from clients that think less. There are not many more of them, since each may hold a context of
// its own, and that makes siblings; and few keys become more, for the same reason. Half
// of all runs have no index entries, which otherwise are half of what a put writes.
func (w *Weather) drawBusy(c chance) {
	times := pick(c, 1, 3, 6, 10)
	w.Clients *= min(times, 2)
	w.Think /= time.Duration(times)
	w.Keys = max(w.Keys, times)
	w.Bare = c.hit(0.5)
}

func drawWeather(seed uint64) Weather {
	c := newChance(seed, "weather")
	w := Weather{
		Seed:       seed,
		Nodes:      c.between(3, 7),
		Partitions: pick(c, 8, 16, 32, 64),
		Replicas:   pick(c, 1, 2, 3, 3, 3, 3, 3, 3, 4, 5),
		HeadCache:  pick(c, 0, 2<<10, 1<<20),
		Clients:    c.between(2, 10),
		Keys:       pick(c, 1, 3, 10, 30, 100),
		ValueSize:  pick(c, 16, 100, 1000),
		Timeout:    pick[time.Duration](c, 300, 1000, 2000) * time.Millisecond,
		Blind:      pick(c, 0, 0.05, 0.2),
		Stale:      pick(c, 0, 0.1, 0.3),
		Deletes:    pick(c, 0, 0.1, 0.4),
		Writes:     pick(c, 0.3, 0.5, 0.8),
		Roam:       pick(c, 0.02, 0.3, 1),
		Safety:     time.Duration(c.between(6, 14)) * time.Second,
		Delay:      pick[time.Duration](c, 100, 500, 2000) * time.Microsecond,
		Jitter:     pick[time.Duration](c, 0, 500, 5000, 20000) * time.Microsecond,
		Sync:       pick[time.Duration](c, 200, 2000, 10000) * time.Microsecond,
		Skew:       pick(c, 0, time.Second, time.Minute),
	}
	w.Think = time.Duration(w.Clients) * pick[time.Duration](c, 3, 5, 10) * time.Millisecond
	w.drawQuorums(c)
	w.Duplicate = pick(c, 0, 0, 0.02, 0.2)
	if w.Calm = c.hit(0.12); !w.Calm {
		w.drawNetwork(c)
		w.drawMachines(c)
	}
	w.drawChanges(newChance(seed, "changes"))
	w.drawImages(newChance(seed, "images"))
	w.drawDecay(newChance(seed, "decay"))
	w.drawMending(newChance(seed, "mending"))
	w.drawReaping(newChance(seed, "reaping"))
	w.drawBuckets(newChance(seed, "buckets"))
	w.Data = newChance(seed, "data").hit(0.4)
	w.drawStrangers(newChance(seed, "strangers"))
	w.drawSeldom(newChance(seed, "seldom"))
	return w
}

// drawSeldom draws, for some of the runs in which nobody reads in the end, that replicas
// are compared only where something has happened. Nothing happens when a node's clock lets
// a value expire, nor when a client asks for fewer replicas.
func (w *Weather) drawSeldom(c chance) {
	if w.Unread && !w.Reaps && w.Expiring == 0 && c.hit(0.6) {
		w.MendEvery, w.Odd = time.Hour, 0
	}
}

// drawStrangers draws, for some runs, clients that know little of each other: most
// write to the same few keys without having read them, through any node, and none
// minds who takes it. Cuts keep the nodes apart too. Where tombstones are reaped, which waits
// for all, it is for last writes alone.
func (w *Weather) drawStrangers(c chance) {
	if w.Calm || w.Pairs || w.Reaps && !w.Latest || !c.hit(0.25) {
		return
	}
	w.Strangers = true
	w.Blind, w.Stale, w.Roam, w.Strict = 0.5, 0.3, 1, 0
	w.Keys, w.Writes, w.Deletes = min(w.Keys, 10), 0.8, max(w.Deletes, 0.4)
	if w.Latest { // both sides of long cuts write, and what is last is often a delete
		w.Nodes, w.Replicas = 5, 3
		w.R, w.W = 2, 2
		w.CutEvery, w.CutFor, w.OneWay = c.about(time.Second), 3*time.Second, 0.3
		w.Keys = 30
		return
	}
	// One stands in for the same other again and again.
	w.Replicas = pick(c, 1, 2, 3)
	w.Nodes = w.Replicas + c.between(1, 2)
	w.drawQuorums(c)
	w.CutEvery, w.CutFor = c.about(time.Second), c.about(time.Second)
	w.CrashEvery, w.DownFor = c.about(time.Second), 500*time.Millisecond
}

// drawBuckets draws what the buckets are like. Whose clock is off from those of most
// is certain only where the members stay.
func (w *Weather) drawBuckets(c chance) {
	if w.Latest = c.hit(0.4); w.Latest && w.Topology {
		w.Skew, w.JumpEvery = 0, 0
	}
	w.Conditional = pick(c, 0, 0, 0.2, 0.6)
}

// drawDecay draws what ends or spoils by itself.
func (w *Weather) drawDecay(c chance) {
	if w.Expiring = pick(c, 0, 0.1, 0.5); w.Expiring > 0 {
		w.Lasting = pick(c, 200*time.Millisecond, time.Second, 4*time.Second)
		w.SweepEvery = pick(c, 100*time.Millisecond, time.Second)
		w.Grace = pick(c, 300*time.Millisecond, 2300*time.Millisecond)
	}
	if w.Fallbacks && w.PageBytes > 1 && c.hit(0.4) {
		w.RotEvery = c.about(100 * time.Millisecond)
		if !w.Calm && c.hit(0.6) { // few keys, and many writes that do not come to all replicas
			w.Keys, w.Loss, w.Writes = 3, max(w.Loss, 0.1), 0.8
		}
	}
	if !w.Calm {
		w.FullEvery = every(c, 4)
	}
}

// drawQuorums draws quorums that overlap.
func (w *Weather) drawQuorums(c chance) {
	w.R = c.between(1, w.Replicas)
	w.W = c.between(w.Replicas-w.R+1, w.Replicas)
}

// drawChanges draws what is not fixed: for some runs who answers for whom, and for
// half of them who belongs to the cluster.
func (w *Weather) drawChanges(c chance) {
	if !w.Calm {
		w.Plain = pick(c, 0, 0.3, 0.8)
	}
	if w.Fallbacks = c.hit(0.7); !w.Fallbacks {
		return
	}
	w.Strict = pick(c, 0, 0.3, 0.7, 1)
	w.MoveJobs = pick(c, 1, 4)
	w.PageBytes = pick(c, 1, 300, 4<<10, 256<<10)
	if w.Topology = c.hit(0.7); w.Topology {
		w.drawTopology(c)
	} else {
		w.drawLosses(c)
	}
	if slow := c.hit(0.5); slow && !w.Calm && w.Timeout >= 2*time.Second {
		w.Jitter = 60 * time.Millisecond // so that others stand in for slow ones
	}
	if w.Calm {
		w.Strict = max(w.Strict, 0.7)
		w.ForgetEvery = 0
	}
}

// drawLosses draws the weather of a cluster whose members stay, and at times lose
// data or do not answer.
func (w *Weather) drawLosses(c chance) {
	w.ForgetEvery = c.about(3 * time.Second)
	w.Replicas = pick(c, 1, 2, w.Replicas, w.Replicas)
	w.drawQuorums(c)
	if w.Calm {
		return
	}
	if c.hit(0.6) { // many reads of one replica, which may have lost what it had, or only stand in
		w.Replicas, w.R, w.W = 3, 1, 3
		w.Plain, w.Strict, w.Writes, w.Deletes = 0.8, 0.5, 0.3, 0
		w.PageBytes, w.Keys = 1, 100
	}
}

// drawMending draws for some runs how replicas are compared.
func (w *Weather) drawMending(c chance) {
	if !c.hit(0.4) {
		return
	}
	w.MendEvery = pick(c, time.Second, 3*time.Second)
	w.Settle = pick(c, time.Millisecond, 50*time.Millisecond, 500*time.Millisecond)
	w.MendBytes = pick(c, 1, 300, 64<<10)
	if w.Unread = c.hit(0.7); !w.Unread || w.Calm || !c.hit(0.5) {
		return
	}
	// Many keys that are seldom written and read, so that reads do not repair them all.
	w.Keys, w.Think = 300, 8*w.Think
	w.Loss = max(w.Loss, 0.05)
	if !w.Topology {
		w.WipeEvery = c.about(4 * time.Second)
	}
}

// drawTopology draws who may come, and who lets nodes come and go.
func (w *Weather) drawTopology(c chance) {
	w.Spares = c.between(1, 3)
	w.Operators = pick(c, 1, 1, 2)
	w.ChangeEvery = pick(c, 500*time.Millisecond, 1500*time.Millisecond, 4*time.Second)
	w.Limit = pick(c, 0, 0, 1)
	w.SnapshotEvery = pick(c, 8, 64, 256)
	w.Safety += 2 * time.Second
	w.ForgetEvery = every(c, 4)
	switch {
	case c.hit(0.2):
		w.clear()
	case w.Calm:
	case c.hit(0.4):
		w.WipeEvery = c.about(3 * time.Second)
	case c.hit(0.4): // many writes that come late, and that all replicas must have
		w.Replicas = pick(c, 1, 1, w.Replicas)
		w.R, w.W = c.between(1, w.Replicas), w.Replicas
		w.Straggle, w.Plain, w.Strict, w.Writes = 0.2, 0.8, 1, 0.8
		w.PageBytes, w.MoveJobs, w.Keys, w.ChangeEvery = 1, 1, 100, 500*time.Millisecond
	}
}

// drawImages draws whether older disks come back. Where somebody must be able to
// tell, few others die at that time.
func (w *Weather) drawImages(c chance) {
	if w.Calm || !c.hit(0.4) {
		return
	}
	w.RewindEvery = c.about(2 * time.Second)
	if w.Topology && c.hit(0.7) {
		w.CrashEvery, w.PowerEvery, w.FreezeEvery, w.CutEvery, w.WipeEvery = 0, 0, 0, 0, 0
		w.Replicas = max(w.Replicas, 2)
		w.R, w.W = min(w.R, w.Replicas), max(w.W, w.Replicas-w.R+1)
	}
}

// drawReaping draws whether tombstones are reaped, and helps it to happen: it waits
// for everybody.
func (w *Weather) drawReaping(c chance) {
	if !w.Topology || !c.hit(0.6) {
		return
	}
	w.Reaps = true
	w.ReapItems = pick(c, 1, 10, 1000)
	w.Deletes = max(w.Deletes, pick(c, 0.2, 0.5))
	if w.ChangeEvery < 2*time.Second {
		w.ChangeEvery *= pick[time.Duration](c, 1, 2)
	}
	if w.Calm {
		return
	}
	w.Late = pick(c, 0, 0.01, 0.05)
	if c.hit(0.4) { // who stands in for another one does not reach it, and all others do
		quiet := *w
		quiet.clear()
		quiet.Calm, quiet.Plain, quiet.Late, quiet.Strict = false, w.Plain, w.Late, 0
		quiet.Pairs, quiet.CutEvery, quiet.CutFor = true, c.about(time.Second), 3*time.Second+c.upTo(3*time.Second)
		quiet.Nodes = max(w.Nodes, w.Replicas+2)
		quiet.Keys, quiet.ChangeEvery = min(w.Keys, 10), 10*time.Second
		quiet.Safety += 6 * time.Second
		*w = quiet
		return
	}
	if c.hit(0.6) {
		w.CrashEvery, w.FreezeEvery, w.CutEvery, w.PowerEvery, w.FailEvery = 2*w.CrashEvery, 2*w.FreezeEvery, 2*w.CutEvery, 2*w.PowerEvery, 2*w.FailEvery
		w.DownFor, w.CutFor, w.FreezeFor = w.DownFor/3, w.CutFor/3, w.FreezeFor/3
	}
}

// clear takes all faults away, so that nothing hides what changes alone do.
func (w *Weather) clear() {
	quiet := *w
	quiet.Calm, quiet.Plain, quiet.Odd = true, 0, 0
	quiet.Straggle, quiet.Loss, quiet.Overload = 0, 0, 0
	for _, every := range []*time.Duration{
		&quiet.CutEvery, &quiet.BreakEvery, &quiet.CrashEvery, &quiet.CleanEvery, &quiet.PowerEvery,
		&quiet.WipeEvery, &quiet.FreezeEvery, &quiet.JumpEvery, &quiet.SlowEvery, &quiet.FailEvery,
	} {
		*every = 0
	}
	*w = quiet
}

func (w *Weather) drawNetwork(c chance) {
	w.Odd = pick(c, 0, 0.1, 0.4)
	w.Straggle = pick(c, 0, 0, 0.005, 0.03)
	w.Loss = pick(c, 0, 0, 0.01, 0.05, 0.15)
	w.Overload = pick(c, 0, 0, 0, 0.02)
	w.CutEvery, w.CutFor, w.OneWay = every(c, 4), seconds(c, 4), pick(c, 0.0, 0.3, 0.7)
	w.BreakEvery = every(c, 1)
}

func (w *Weather) drawMachines(c chance) {
	w.CrashEvery, w.DownFor, w.Silent = every(c, 3), seconds(c, 3), pick(c, 0.0, 0.3, 1)
	w.CleanEvery = every(c, 6)
	w.PowerEvery = every(c, 6)
	w.WipeEvery = every(c, 5)
	w.FreezeEvery, w.FreezeFor = every(c, 5), seconds(c, 4)
	w.JumpEvery = every(c, 4)
	w.SlowEvery, w.SlowSync = every(c, 5), pick[time.Duration](c, 50, 300)*time.Millisecond
	w.FailEvery = every(c, 8)
}

// every is an interval around so many seconds for one run in two, 0 for the others.
func every(c chance, s int) time.Duration {
	if c.hit(0.5) {
		return 0
	}
	return c.about(time.Duration(s) * time.Second)
}

// seconds is a duration of up to s seconds, but not near zero.
func seconds(c chance, s int) time.Duration {
	return 100*time.Millisecond + c.upTo(time.Duration(s)*time.Second)
}

// String shows what is not zero.
func (w Weather) String() string {
	var b strings.Builder
	v := reflect.ValueOf(w)
	for i := range v.NumField() {
		if f := v.Field(i); !f.IsZero() {
			fmt.Fprintf(&b, " %s=%v", v.Type().Field(i).Name, f.Interface())
		}
	}
	return strings.TrimPrefix(b.String(), " ")
}
