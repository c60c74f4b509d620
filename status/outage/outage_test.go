// SPDX-License-Identifier: Apache-2.0

package outage

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, hook := test.NewNullLogger()
		o := New(log, "cannot list", "listing again")
		step := func(d time.Duration, act func()) {
			time.Sleep(d)
			act()
		}
		refused, timeout := errors.New("connection refused"), errors.New("timeout")
		fail := func(err error) func() { return func() { o.Fail(Cause(err), fmt.Errorf("attempt: %w", err)) } }

		step(0, o.End)
		step(time.Second, fail(refused))
		step(time.Second, fail(refused))
		step(time.Second, fail(timeout))
		step(time.Second, fail(refused))
		step(4*time.Second, o.End)
		// Comes and goes: it is not said again within a minute.
		step(time.Second, fail(refused))
		step(time.Second, o.End)
		step(2*time.Minute, fail(WithHint(refused, "start it")))
		if since, err := o.Err(); time.Since(since) != 0 || !errors.Is(err, refused) {
			t.Errorf("the outage is %v since %v", err, since)
		}
		step(1234*time.Millisecond, o.End)

		var got []string
		for _, e := range hook.AllEntries() {
			got = append(got, fmt.Sprint(e.Level, " ", e.Message, " ", e.Data))
		}
		want := []string{
			"warning cannot list map[error:attempt: connection refused]",
			"warning cannot list map[error:attempt: timeout]",
			"info listing again map[after:7s]",
			"warning cannot list map[error:attempt: connection refused hint:start it]",
			"info listing again map[after:1.2s]",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("the log (-want +got):\n%s", diff)
		}
		if _, err := o.Err(); err != nil {
			t.Errorf("after its end the outage is %v", err)
		}
	})
}

func TestFieldsAtDebug(t *testing.T) {
	log, hook := test.NewNullLogger()
	log.SetLevel(logrus.DebugLevel)
	o := New(log, "cannot list", "listing again")
	o.Fail("x", errors.New("x"))
	o.Fail("x", errors.New("x"))
	if n := len(hook.AllEntries()); n != 2 {
		t.Errorf("%d lines at level debug, want 2", n)
	}
}
