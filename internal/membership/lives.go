package membership

import "slices"

// Lives is what a node remembers of the epochs that another one has shown, in
// this life of that one and in those before. A node draws a new number other
// than 0 for each of its lives, that is with each start of its process.
//
// What a node shows is durable. So if it begins a life with an older epoch than
// it has shown in one before, its disk is older than it was: see VoidLog.
type Lives struct {
	Now    uint64    // the number of its latest life; 0: it was never heard
	Since  uint64    // the newest epoch that it has shown in that
	Before uint64    // the newest epoch that it has shown in earlier ones
	former [4]uint64 // the latest of those; what is late may still speak of them
}

// Hear notes that the node shows an epoch in a life.
func (l *Lives) Hear(life, epoch uint64) {
	switch {
	case life == 0:
	case life == l.Now:
		l.Since = max(l.Since, epoch)
	case slices.Contains(l.former[:], life):
		l.Before = max(l.Before, epoch)
	default:
		copy(l.former[1:], l.former[:])
		l.former[0] = l.Now
		l.Before = max(l.Before, l.Since)
		l.Now, l.Since = life, epoch
	}
}

// Shown is the newest epoch that the node has shown before a life of it, as far
// as is known.
func (l *Lives) Shown(life uint64) uint64 {
	if life == l.Now {
		return l.Before
	}
	return max(l.Before, l.Since)
}
