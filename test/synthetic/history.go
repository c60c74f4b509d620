package synthetic

import (
	"context"
	"sync"

	"k8s.io/apimachinery/pkg/watch"
)

// history is what has happened to the pods.
type history struct {
	mu         sync.Mutex
	generation uint64
	// version is that of the last thing that happened; a watch from before
	// oldest is one of which the server has forgotten what followed.
	version, oldest int64
	// watches are those of pods that are open.
	watches map[*subscription]struct{}
	// changed is closed when a watch is opened or closed.
	changed chan struct{}
}

func newHistory() history {
	return history{
		version: listVersion, oldest: listVersion,
		watches: make(map[*subscription]struct{}), changed: make(chan struct{}),
	}
}

// subscription is an open watch of pods.
type subscription struct {
	// events are told in order, a batch at a time.
	events chan events
	// ended is closed when nobody reads events any more.
	ended chan struct{}
}

// events are of the pods 0 to count of a generation, one of this type each, or
// of none, and then the watch ends because its version has expired.
type events struct {
	of    watch.EventType
	pods  pods
	count int
	// first is the version of the first of them.
	first   int64
	expired bool
}

// at is a collection as it is now, and its version.
func (h *history) at(c collection) (collection, int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p, ok := c.(pods); ok {
		p.generation = h.generation
		return p, h.version
	}
	return c, h.version
}

// forgot tells whether a version is too old to be known.
func (h *history) forgot(version int64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return version < h.oldest
}

// open is a watch from a version on, or nil where that is forgotten.
func (h *history) open(version int64) *subscription {
	h.mu.Lock()
	defer h.mu.Unlock()
	if version < h.oldest {
		return nil
	}
	s := &subscription{events: make(chan events), ended: make(chan struct{})}
	h.watches[s] = struct{}{}
	h.notify()
	return s
}

func (h *history) close(s *subscription) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.watches, s)
	close(s.ended)
	h.notify()
}

func (h *history) notify() {
	close(h.changed)
	h.changed = make(chan struct{})
}

// awaitWatch returns the watches of pods as soon as there is one. The error is
// the context's.
func (h *history) awaitWatch(ctx context.Context) ([]*subscription, error) {
	for {
		h.mu.Lock()
		var open []*subscription
		for s := range h.watches {
			open = append(open, s)
		}
		changed := h.changed
		h.mu.Unlock()
		if len(open) > 0 {
			return open, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// happen counts so many things that happen, and returns the version of the
// first.
func (h *history) happen(n int) int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	first := h.version + 1
	h.version += int64(n)
	return first
}

// forget makes the present version the oldest, perhaps that of another
// generation. The watches that are open have expired: they do not count any more.
func (h *history) forget(replace bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if replace {
		h.generation++
	}
	h.version++
	h.oldest = h.version
	clear(h.watches)
}
