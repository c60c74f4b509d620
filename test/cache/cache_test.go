package cache

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// entry is one whose Fill writes a file, and counts how often it was called.
func entry(calls *atomic.Int32) Entry {
	return Entry{Key: "tool-1.2.3", Holds: "a tool", Fill: func(_ context.Context, dir string) error {
		calls.Add(1)
		return os.WriteFile(filepath.Join(dir, "tool"), []byte("made"), 0o600)
	}}
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestFilledOnce(t *testing.T) {
	root := filepath.Join(t.TempDir(), "labelstream")
	var calls atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			dir, err := entry(&calls).in(t.Context(), root)
			if err != nil {
				t.Error(err)
				return
			}
			if made, err := os.ReadFile(filepath.Join(dir, "tool")); err != nil || string(made) != "made" {
				t.Errorf("the entry holds %q, %v", made, err)
			}
		})
	}
	wg.Wait()
	if n := calls.Load(); n != 1 {
		t.Errorf("the entry was filled %d times, want once", n)
	}
	if diff := cmp.Diff([]string{"tool-1.2.3", "tool-1.2.3.lock"}, names(t, root)); diff != "" {
		t.Errorf("the cache (-want +got):\n%s", diff)
	}
}

func TestFailureLeavesNothing(t *testing.T) {
	root := t.TempDir()
	failure := errors.New("no network")
	var calls atomic.Int32
	good := entry(&calls)
	bad := good
	bad.Fill = func(ctx context.Context, dir string) error {
		return errors.Join(good.Fill(ctx, dir), failure)
	}
	if _, err := bad.in(t.Context(), root); !errors.Is(err, failure) {
		t.Errorf("the error is %v, want %v", err, failure)
	}
	if diff := cmp.Diff([]string{"tool-1.2.3.lock"}, names(t, root)); diff != "" {
		t.Errorf("the cache after a failure (-want +got):\n%s", diff)
	}
	if _, err := good.in(t.Context(), root); err != nil {
		t.Errorf("after a failure: %v", err)
	}
}
