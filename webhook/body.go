package webhook

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"
)

const (
	// maxBodyBytes is what a review may take. The API server accepts no
	// request of more than 3 MiB, an update's review has the object twice, and
	// 1 MiB is for the rest of the review: 2 × 3 + 1.
	maxBodyBytes = 7 << 20
	// maxHeldBytes is what all reviews that are being read may take at a time,
	// beside their first 8 KiB: two of the largest, or 1,000 of usual size.
	maxHeldBytes = 16 << 20
)

// bufferSizes are those of the buffers that a body is read into, one after the
// other: who sends slowly holds little. The first is for the beginning of a
// review, which names the uid and the kind, and is had whatever the budget; it
// takes the whole of most.
var bufferSizes = [...]int{8 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, maxBodyBytes + 1}

// buffers lends the buffers, within a budget.
type buffers struct {
	limit int64
	held  atomic.Int64
	pools [len(bufferSizes)]sync.Pool
}

// take returns a buffer of that size, or nil where the budget has no room.
func (b *buffers) take(size int) *[]byte {
	if size > 0 && b.held.Add(int64(bufferSizes[size])) > b.limit {
		b.held.Add(-int64(bufferSizes[size]))
		return nil
	}
	if buffer, ok := b.pools[size].Get().(*[]byte); ok {
		return buffer
	}
	buffer := make([]byte, bufferSizes[size])
	return &buffer
}

func (b *buffers) give(size int, buffer *[]byte) {
	if size > 0 {
		b.held.Add(-int64(bufferSizes[size]))
	}
	b.pools[size].Put(buffer)
}

// body is what has been read of a request.
type body struct {
	buffers *buffers
	size    int
	buffer  *[]byte
	length  int
}

func (b *buffers) open() body { return body{buffers: b, buffer: b.take(0)} }

func (b *body) bytes() []byte { return (*b.buffer)[:b.length] }

// read reads all. Where it cannot, it returns why, and has the beginning; what
// follows has then been read past, as far as a body may go, so that the
// connection can be used again.
func (b *body) read(from io.Reader) (problem Outcome) {
	for {
		n, err := from.Read((*b.buffer)[b.length:])
		b.length += n
		switch {
		case errors.Is(err, io.EOF):
			if b.length > maxBodyBytes {
				return tooLarge
			}
			return ""
		case err != nil:
			return cutOff
		case b.length < len(*b.buffer):
		case b.size == len(bufferSizes)-1:
			return pass(from, tooLarge)
		case !b.grow():
			return pass(from, overBudget)
		}
	}
}

// grow gets the next larger buffer, unless the budget has no room for it.
func (b *body) grow() bool {
	larger := b.buffers.take(b.size + 1)
	if larger == nil {
		return false
	}
	copy(*larger, b.bytes())
	b.buffers.give(b.size, b.buffer)
	b.size, b.buffer = b.size+1, larger
	return true
}

func (b *body) release() { b.buffers.give(b.size, b.buffer) }

// pass reads past the rest of a body.
func pass(from io.Reader, problem Outcome) Outcome {
	if _, err := io.CopyN(io.Discard, from, maxBodyBytes); err != nil && !errors.Is(err, io.EOF) {
		return cutOff
	}
	return problem
}
