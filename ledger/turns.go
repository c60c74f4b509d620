package ledger

import (
	"context"
	"sync"
)

// Acquire waits until nobody else has the key's turn, and takes it; or until
// ctx ends, whose cause it returns. Who has it may wait for the emitter's
// queue, so no other method needs it: outcomes can be reported meanwhile.
func (t *Table) Acquire(ctx context.Context, key uint64) error { return t.turns.acquire(ctx, key) }

// TryAcquire takes the key's turn unless somebody else has it.
func (t *Table) TryAcquire(key uint64) bool { return t.turns.tryAcquire(key) }

// Release ends the turn that Acquire or TryAcquire took.
func (t *Table) Release(key uint64) { t.turns.release(key) }

// turns lets one goroutine at a time act for a key.
type turns struct {
	mu sync.Mutex
	// held has the keys that are taken, and what is closed on release where
	// somebody waits for it, else nil.
	held map[uint64]chan struct{}
}

func (t *turns) acquire(ctx context.Context, key uint64) error {
	for {
		released := t.take(key)
		if released == nil {
			return nil
		}
		select {
		case <-released:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (t *turns) tryAcquire(key uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, held := t.held[key]
	if !held {
		t.held[key] = nil
	}
	return !held
}

// take takes the turn and returns nil, or returns what to wait for.
func (t *turns) take(key uint64) <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	released, held := t.held[key]
	if !held {
		t.held[key] = nil
		return nil
	}
	if released == nil {
		released = make(chan struct{})
		t.held[key] = released
	}
	return released
}

func (t *turns) release(key uint64) {
	t.mu.Lock()
	released := t.held[key]
	delete(t.held, key)
	t.mu.Unlock()
	if released != nil {
		close(released)
	}
}
