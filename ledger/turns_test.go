package ledger

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
)

func TestTurnsOfAKeyExcludeEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := newTable(t)
		mustAcquire(t, table, 1)
		mustAcquire(t, table, 2) // another key's is free

		var order []string
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				mustAcquire(t, table, 1)
				order = append(order, "taken")
				synctest.Wait() // nobody else gets in
				order = append(order, "released")
				table.Release(1)
			})
			synctest.Wait()
		}
		if len(order) > 0 {
			t.Fatalf("a turn was taken twice: %v", order)
		}
		table.Release(1)
		wg.Wait()
		want := []string{"taken", "released", "taken", "released", "taken", "released"}
		if !slices.Equal(order, want) {
			t.Errorf("turns went %v, want %v", order, want)
		}
		table.Release(2)
		if n := len(table.turns.held); n != 0 {
			t.Errorf("%d turns are left", n)
		}
	})
}

func TestAcquireEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := newTable(t)
		mustAcquire(t, table, 1)
		ctx, cancel := context.WithCancelCause(t.Context())
		cause := errors.New("the lease is lost")
		result := make(chan error, 1)
		go func() { result <- table.Acquire(ctx, 1) }()
		synctest.Wait()
		cancel(cause)
		if err := <-result; !errors.Is(err, cause) {
			t.Errorf("Acquire returned %v, want %v", err, cause)
		}
		// Who gave up does not hold, and does not hold up, the turn.
		table.Release(1)
		mustAcquire(t, table, 1)
		table.Release(1)
	})
}

func TestTryAcquire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := newTable(t)
		mustAcquire(t, table, 1)
		if table.TryAcquire(1) {
			t.Error("took a turn that is held")
		}
		if !table.TryAcquire(2) || table.TryAcquire(2) {
			t.Error("a free turn must be had once")
		}
		waited := false
		go func() {
			mustAcquire(t, table, 2)
			waited = true
		}()
		synctest.Wait()
		if waited {
			t.Error("a turn was taken twice")
		}
		table.Release(2)
		synctest.Wait()
		if !waited {
			t.Error("the release went unnoticed")
		}
		table.Release(1)
		table.Release(2)
		if n := len(table.turns.held); n != 0 {
			t.Errorf("%d turns are left", n)
		}
	})
}

func mustAcquire(t *testing.T, table *Table, key uint64) {
	t.Helper()
	if err := table.Acquire(t.Context(), key); err != nil {
		t.Errorf("acquire the turn of %d: %v", key, err)
	}
}
