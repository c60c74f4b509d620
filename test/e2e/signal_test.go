package e2e

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// stopLimit is how long a run may take to stop, 20 s for the last of what it
// holds, and some for a machine that is busy.
const stopLimit = 40 * time.Second

func TestStop(t *testing.T) {
	t.Parallel()
	p := shared.plane
	p.namespace(t, metav1.ObjectMeta{Name: "stopped"})
	p.pods(t, 500, func(i int) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: "stopped", Name: fmt.Sprintf("pod-%03d", i)}
	})
	reader := p.grant(t, "stopped", "pods")
	// Small batches: the run holds a few of them and cannot read on.
	base := settings{"LABELS_RESOURCES": "pods", "NAMESPACES": "stopped", "BATCH_SIZE": "10", "PAGE_SIZE": "10", "SEND_TIMEOUT": "5m"}
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(fmt.Sprintf("%v, receiver hangs", signal), func(t *testing.T) {
			t.Parallel()
			s := newReceiver(t)
			stall(t, s)
			run := launch(t, invocation{user: reader, args: []string{"--once"}, settings: base.and(settings{"DESTINATION": s.URL()})})
			awaitRequests(t, s, 1)
			r := stop(t, run, signal)
			mustBeStopped(t, r)
			compareSeries(t, s.All(), nil)
		})
	}
	t.Run("receiver takes what is held", func(t *testing.T) {
		t.Parallel()
		s := newReceiver(t)
		release := stall(t, s)
		run := launch(t, invocation{user: reader, args: []string{"--once"}, settings: base.and(settings{"DESTINATION": s.URL()})})
		awaitRequests(t, s, 1)
		if err := run.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		run.awaitLog(t, "Stopping")
		release()
		r := run.wait(t)
		mustBeStopped(t, r)
		summary := r.summary(t, "pods")
		received := len(s.Series())
		if received == 0 || summary.Sent != received {
			t.Errorf("the summary says that %d pods were sent, %d were received, want the same and some:\n%s", summary.Sent, received, r.stderr)
		}
	})
}

// stop sends a signal and returns how the run ended; one that does not end
// fails the test.
func stop(t *testing.T, run *process, signal syscall.Signal) result {
	t.Helper()
	if err := run.cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	select {
	case <-run.ended:
	case <-time.After(stopLimit):
		t.Fatalf("the run did not stop:\n%s", run.stderr.String())
	}
	return run.wait(t)
}

func mustBeStopped(t *testing.T, r result) {
	t.Helper()
	r.mustFail(t)
	stopped := slices.ContainsFunc(r.errors(t), func(message string) bool {
		return strings.Contains(message, "stopped by a signal")
	})
	if !stopped {
		t.Errorf("the log does not say that the run was stopped:\n%s", r.stderr)
	}
}
