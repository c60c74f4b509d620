// SPDX-License-Identifier: Apache-2.0

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

// TestDir fills an entry once for all who ask at a time, after an attempt that left
// nothing.
func TestDir(t *testing.T) {
	root := filepath.Join(t.TempDir(), "labelstream")
	failure := errors.New("no network")
	var calls atomic.Int32
	e := Entry{Key: "tool-1.2.3", Holds: "a tool", Fill: func(_ context.Context, dir string) error {
		err := os.WriteFile(filepath.Join(dir, "tool"), []byte("made"), 0o600)
		if calls.Add(1) == 1 {
			return errors.Join(failure, err)
		}
		return err
	}}
	if _, err := e.in(t.Context(), root); !errors.Is(err, failure) {
		t.Errorf("the error is %v, want %v", err, failure)
	}
	mustHold(t, root, "tool-1.2.3.lock")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			dir, err := e.in(t.Context(), root)
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
	if n := calls.Load(); n != 2 {
		t.Errorf("the entry was filled %d times, want twice", n)
	}
	mustHold(t, root, "tool-1.2.3", "tool-1.2.3.lock")
}

func mustHold(t *testing.T, dir string, want ...string) {
	t.Helper()
	got, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range got {
		got[i] = filepath.Base(got[i])
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the cache (-want +got):\n%s", diff)
	}
}
