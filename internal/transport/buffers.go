package transport

import "sync"

// The sizes of pooled buffers, in bytes.
const (
	leastBuffer = 1 << 10 // a smaller one is left to the collector; gRPC pools none
	smallBuffer = 4 << 10 // of a new one
	largeBuffer = 1 << 20 // and so is a larger one
)

// pool keeps the buffers in which frames are encoded. It is what gRPC calls a
// buffer pool, so that gRPC puts back what it has written.
type pool struct{ p sync.Pool }

var buffers = &pool{p: sync.Pool{New: func() any {
	b := make([]byte, 0, smallBuffer)
	return &b
}}}

// get returns an empty buffer.
func (p *pool) get() *[]byte {
	b := p.p.Get().(*[]byte)
	*b = (*b)[:0]
	return b
}

// Get returns a buffer of a length.
func (p *pool) Get(length int) *[]byte {
	b := p.get()
	if cap(*b) < length {
		*b = make([]byte, 0, length)
	}
	*b = (*b)[:length]
	return b
}

// Put takes a buffer back.
func (p *pool) Put(b *[]byte) {
	if leastBuffer <= cap(*b) && cap(*b) <= largeBuffer {
		p.p.Put(b)
	}
}
