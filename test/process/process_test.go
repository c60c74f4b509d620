package process

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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
		if err := syscall.Kill(p.Pid(), 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("after Stop: %v, want that there is no such process", err)
		}
	}
}

func TestAwaitSaysWhy(t *testing.T) {
	notYet := errors.New("not yet")
	check := func(context.Context) error { return notYet }
	ended, err := Start(filepath.Join(t.TempDir(), "log"), "sh", "-c", "echo a; echo b; echo no such flag; exit 3")
	if err != nil {
		t.Fatal(err)
	}
	want := "wait for sh to be ready: exit status 3; its log ends:\na\nb\nno such flag\n"
	if err := ended.Await(t.Context(), check); err == nil || err.Error() != want {
		t.Errorf("the error of a process that has ended is %v, want %q", err, want)
	}
	if got := string(Tail(ended.log, 2)); got != "b\nno such flag\n" {
		t.Errorf("the last two lines are %q", got)
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
}
