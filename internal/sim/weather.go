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
	Calm      bool // no faults: reads must be fresh
	R, W      int  // of every request in calm weather, and when all is healed; R+W > N
	Clients   int
	Keys      int
	ValueSize int           // bytes at most
	Think     time.Duration // between two operations of a client, about
	Timeout   time.Duration // of an operation
	Blind     float64       // share of writes without a context
	Stale     float64       // share of writes with an older context than the latest
	Deletes   float64       // share of deletes among writes
	Writes    float64       // share of writes among operations
	Roam      float64       // share of operations for which a client goes to another node
	Odd       float64       // share of operations with unusual options
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
}

// DrawWeather draws the weather of a seed. Each kind of fault is off in many
// runs, so that no fault hides what another would show.
func DrawWeather(seed uint64) Weather {
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
	w.R = c.between(1, w.Replicas)
	w.W = c.between(w.Replicas-w.R+1, w.Replicas)
	w.Duplicate = pick(c, 0, 0, 0.02, 0.2)
	if w.Calm = c.hit(0.12); w.Calm {
		return w
	}
	w.drawNetwork(c)
	w.drawMachines(c)
	return w
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
