package sim

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tanodb/tanodb/storage"
)

// refuses reports whether the disk is full, and does not take the batch.
func (d *disk) refuses(b *storage.Batch) bool {
	adds := slices.ContainsFunc(b.Ops, func(op storage.Op) bool { return !op.Delete })
	return d.n.s.now < d.full && adds && !b.Urgent
}

// errFull is what a full disk says.
var errFull = fmt.Errorf("%w: 0 bytes are free", storage.ErrFull)

// errDisk is what an fsync that fails says.
var errDisk = errors.New("input/output error")

// disk is a node's engine, and the fsyncs that make its batches durable, one
// after the other, each for all batches applied before it began.
type disk struct {
	n       *node
	mem     *storage.Memory
	waiting []waiter // by seq
	syncing bool
	failing bool          // the next fsync fails
	slow    time.Duration // until then it is slow
	stalled time.Duration // until then a slow fsync is going on
	full    time.Duration // until then it takes no writes
}

// waiter is released when batch seq is durable, or, with an error, never will be.
type waiter struct {
	seq     uint64
	release func(error)
}

// apply makes a batch visible and returns its number.
func (d *disk) apply(b *storage.Batch) (uint64, error) {
	if _, err := d.mem.Apply(b, true); err != nil {
		return 0, err
	}
	d.sync()
	return d.mem.Applied(), nil
}

// whenDurable calls release once batch seq, and so all before it, is durable.
func (d *disk) whenDurable(seq uint64, release func(error)) {
	if seq <= d.mem.Durable() {
		release(nil)
		return
	}
	d.waiting = append(d.waiting, waiter{seq, release})
}

// sync begins an fsync, if none is going on and there is something to do.
func (d *disk) sync() {
	s := d.n.s
	if d.syncing || d.mem.Durable() == d.mem.Applied() {
		return
	}
	d.syncing = true
	took := d.n.rnd.about(s.weather.Sync)
	if s.now < d.slow {
		took += d.n.rnd.about(s.weather.SlowSync)
		d.stalled = s.now + took
	}
	covers, boot := d.mem.Applied(), d.n.boot
	s.after(took, func() {
		d.n.whenAwake(boot, func() { d.synced(covers) })
	})
}

// synced ends an fsync.
func (d *disk) synced(covers uint64) {
	s := d.n.s
	d.syncing = false
	if d.failing {
		d.failing = false
		s.count("fsync failed")
		d.fail()
		return
	}
	s.number(covers)
	d.mem.MakeDurable(covers)
	for len(d.waiting) > 0 && d.waiting[0].seq <= covers {
		w := d.waiting[0]
		d.waiting = d.waiting[1:]
		w.release(nil)
	}
	d.sync()
}

// fail breaks the engine. Who waits is told, and the node stops: after a failed fsync
// nobody knows what the disk holds.
func (d *disk) fail() {
	d.mem.Fail(errDisk)
	waiting := d.waiting
	d.waiting = nil
	for _, w := range waiting {
		w.release(errDisk)
	}
	d.n.crash("disk failure", d.n.s.weather.DownFor)
}

// crash is the loss of power: of the batches that are not durable, the first few survive.
func (d *disk) crash() {
	volatile := int(d.mem.Applied() - d.mem.Durable())
	keep := d.n.rnd.IntN(volatile + 1)
	if volatile > keep {
		d.n.s.count("batches lost")
	}
	d.n.s.number(uint64(keep))
	d.mem = d.mem.Crash(keep)
	d.n.s.inv.forget(d.n)
	d.waiting, d.syncing, d.failing, d.slow = nil, false, false, 0
}

// wipe replaces the disk by an empty one.
func (d *disk) wipe() {
	d.mem.Crash(0)
	d.mem = storage.NewMemory()
	d.n.s.inv.forget(d.n)
	d.waiting, d.syncing, d.failing, d.slow = nil, false, false, 0
}
