package object

import (
	"math"
	"strconv"
	"time"
)

// Stamp is a hybrid logical clock: Unix milliseconds in the upper 48 bits, and
// in the lower 16 a number that orders stamps of one millisecond. Stamps that
// one clock makes always rise, also when the wall clock is set back. They order
// siblings for display; they do not decide what replaces what.
type Stamp uint64

const (
	logicalBits = 16
	maxWallMs   = 1<<(64-logicalBits) - 1 // in the year 10889
)

// Next is the stamp after s at this wall clock, in Unix milliseconds: the wall
// clock if that is later than s, else the least stamp above s. More than 65,536
// stamps in one millisecond borrow from the next. The last stamp of all is
// followed by itself.
func (s Stamp) Next(wallMs int64) Stamp {
	wall := Stamp(min(max(wallMs, 0), maxWallMs)) << logicalBits
	if wall > s {
		return wall
	}
	if s == math.MaxUint64 {
		return s
	}
	return s + 1
}

// Wall is the stamp's wall clock, in UTC.
func (s Stamp) Wall() time.Time { return time.UnixMilli(int64(s >> logicalBits)).UTC() }

// String is the milliseconds and the logical part: 1700000000000.0.
func (s Stamp) String() string {
	return strconv.FormatUint(uint64(s>>logicalBits), 10) + "." + strconv.FormatUint(uint64(s&(1<<logicalBits-1)), 10)
}
