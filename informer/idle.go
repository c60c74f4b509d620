package informer

import (
	"fmt"
	"io"
	"time"
)

// idleReader ends a body whose server has gone silent: cancel is called with
// an error when a single read takes longer than limit. The time between reads,
// in which the destination is waited for, does not count.
type idleReader struct {
	io.Reader
	limit time.Duration
	timer *time.Timer
}

func newIdleReader(limit time.Duration, cancel func(error)) *idleReader {
	return &idleReader{
		limit: limit,
		timer: time.AfterFunc(limit, func() {
			cancel(fmt.Errorf("the API server sent nothing for %s", limit))
		}),
	}
}

// Read reads with the time limit running.
func (r *idleReader) Read(p []byte) (int, error) {
	r.timer.Reset(r.limit)
	defer r.timer.Stop()
	return r.Reader.Read(p)
}

// Stop ends the time limit that runs from newIdleReader to the first read.
func (r *idleReader) Stop() { r.timer.Stop() }
