// SPDX-License-Identifier: Apache-2.0

package process

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
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

// TestAwaitSaysWhy has a process that has ended, and one that goes on when the
// context ends.
func TestAwaitSaysWhy(t *testing.T) {
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, test := range []struct {
		ctx          context.Context
		script, want string
	}{
		{t.Context(), "seq 21; exit 3", "wait for sh to be ready: exit status 3; its log ends:\n2\n3\n"},
		{canceled, "exec sleep 600", "wait for sh to be ready: context canceled (last: not yet); its log ends:\n"},
	} {
		p, err := Start(filepath.Join(t.TempDir(), "log"), "sh", "-c", test.script)
		if err != nil {
			t.Fatal(err)
		}
		err = p.Await(test.ctx, func(context.Context) error { return errors.New("not yet") })
		if err == nil || !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("the error is %v, want %q", err, test.want)
		}
		p.Kill()
	}
}
