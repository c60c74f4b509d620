package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestKill(t *testing.T) {
	p, err := Start(filepath.Join(t.TempDir(), "log"), "sleep", "600")
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(p.Pid(), 0); err != nil {
		t.Errorf("after Start: %v", err)
	}
	p.Kill()
	if err := syscall.Kill(p.Pid(), 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("after Kill: %v, want that there is no such process", err)
	}
}

// TestStop gives a process an environment, and a signal to end in order.
func TestStop(t *testing.T) {
	for status, want := range map[string]string{"0": "", "3": "stop sh: exit status 3; its log ends:\nready\n"} {
		log := filepath.Join(t.TempDir(), "log")
		p, err := StartWith([]string{"STATUS=" + status}, log, "/bin/sh", "-c", `trap "exit $STATUS" TERM; echo ready; while :; do sleep 0.01; done`)
		if err != nil {
			t.Fatal(err)
		}
		err = p.Await(t.Context(), func(context.Context) error {
			if string(Tail(log, 1)) != "ready\n" {
				return errors.New("not ready")
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Stop(); fmt.Sprint(err) != want && (err != nil || want != "") {
			t.Errorf("Stop: %v, want %q", err, want)
		}
	}
}

func TestAwaitSaysWhy(t *testing.T) {
	notYet := errors.New("not yet")
	check := func(context.Context) error { return notYet }
	ended, err := Start(filepath.Join(t.TempDir(), "log"), "sh", "-c", "echo no such flag; exit 3")
	if err != nil {
		t.Fatal(err)
	}
	want := "wait for sh to be ready: exit status 3; its log ends:\nno such flag\n"
	if err := ended.Await(t.Context(), check); err == nil || err.Error() != want {
		t.Errorf("the error of a process that has ended is %v, want %q", err, want)
	}

	running, err := Start(filepath.Join(t.TempDir(), "log"), "sleep", "600")
	if err != nil {
		t.Fatal(err)
	}
	defer running.Kill()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := running.Await(ctx, check); !errors.Is(err, context.Canceled) || !errors.Is(err, notYet) {
		t.Errorf("the error at the context's end is %v, want both %v and %v", err, context.Canceled, notYet)
	}
	if err := running.Await(t.Context(), func(context.Context) error { return nil }); err != nil {
		t.Errorf("the error of a process that is ready is %v", err)
	}
}

func TestStartSaysWhatIsMissing(t *testing.T) {
	program := filepath.Join(t.TempDir(), "missing")
	_, err := Start(filepath.Join(t.TempDir(), "log"), program)
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), program) {
		t.Errorf("the error is %v, want that %s does not exist", err, program)
	}
}

func TestTail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte("a\nb\nc\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for lines, want := range map[int]string{1: "c\n", 2: "b\nc\n", 3: "a\nb\nc\n", 9: "a\nb\nc\n"} {
		if diff := cmp.Diff(want, string(Tail(path, lines))); diff != "" {
			t.Errorf("the last %d lines (-want +got):\n%s", lines, diff)
		}
	}
}
