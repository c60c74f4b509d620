package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"labelstream/test/receiver"
)

const (
	faulty     = "faulty"
	faultyPods = 300
)

// TestReceiverFaults sends a few batches to receivers that fail in one way
// each, and come to terms in the end or do not.
func TestReceiverFaults(t *testing.T) {
	t.Parallel()
	p := shared.plane
	p.namespace(t, metav1.ObjectMeta{Name: faulty})
	p.pods(t, faultyPods, func(i int) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: faulty, Name: fmt.Sprintf("pod-%03d", i), Labels: map[string]string{"team": "qa"}}
	})
	reader := p.grant(t, faulty, "pods")
	base := settings{"LABELS_RESOURCES": "pods", "NAMESPACES": faulty, "BATCH_SIZE": "20"}
	t.Run("that end", func(t *testing.T) { testFaultsThatEnd(t, reader, base) })
	t.Run("down at the start", func(t *testing.T) { testDownAtStart(t, reader, base) })
	t.Run("401", func(t *testing.T) { testUnauthorized(t, reader, base) })
	t.Run("one record refused", func(t *testing.T) { testOneRefused(t, reader, base) })
}

func faultySeries() []string {
	var series []string
	for i := range faultyPods {
		series = append(series, fmt.Sprintf(
			`cloudzero_pod_labels{label_team="qa",namespace="faulty",pod="pod-%03d",resource_type="pod"}`, i))
	}
	return series
}

func testFaultsThatEnd(t *testing.T, reader string, base settings) {
	inOneSecond := receiver.Status(503, http.Header{"Retry-After": {"1"}})
	never := make(chan struct{})
	for _, test := range []struct {
		name     string
		faults   []receiver.Fault
		always   receiver.Fault
		settings settings
	}{
		{name: "503 for 20 requests",
			// The last ones with a Retry-After, without which the backoff of
			// 20 failures in a row would take minutes.
			faults: append(slices.Repeat([]receiver.Fault{receiver.Status(503, nil)}, 5),
				slices.Repeat([]receiver.Fault{inOneSecond}, 15)...)},
		{name: "429 with seconds", faults: []receiver.Fault{nil, receiver.Status(429, http.Header{"Retry-After": {"2"}})}},
		{name: "429 with a date", faults: []receiver.Fault{receiver.Status(429,
			http.Header{"Retry-After": {time.Now().Add(3 * time.Second).UTC().Format(http.TimeFormat)}})}},
		{name: "500 and 408", faults: []receiver.Fault{receiver.Status(500, nil), receiver.Status(408, nil)}},
		{name: "hang", faults: []receiver.Fault{nil, receiver.Hang(never), receiver.Hang(never)}, settings: settings{"SEND_TIMEOUT": "1s"}},
		{name: "reset", faults: []receiver.Fault{receiver.Reset(), nil, receiver.Reset(), receiver.Reset()}},
		{name: "slow", always: receiver.Delay(200 * time.Millisecond)},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newReceiver(t)
			s.Next(test.faults...)
			s.Always(test.always)
			r := once(t, invocation{user: reader, settings: base.and(test.settings).and(settings{"DESTINATION": s.URL()})})
			r.mustSucceed(t)
			compareSeries(t, s.All(), faultySeries())
			failures := 0
			for _, fault := range test.faults {
				if fault != nil {
					failures++
				}
			}
			if failed := s.Requests() - s.Accepted(); failed != failures {
				t.Errorf("%d requests failed, want %d", failed, failures)
			}
			if sent := r.summary(t, "pods").Sent; sent != faultyPods {
				t.Errorf("the summary says that %d pods were sent, want %d", sent, faultyPods)
			}
		})
	}
}

func testDownAtStart(t *testing.T, reader string, base settings) {
	t.Parallel()
	s := newReceiver(t)
	s.Down()
	run := launch(t, invocation{user: reader, args: []string{"--once"}, settings: base.and(settings{"DESTINATION": s.URL()})})
	run.awaitLog(t, "connection refused")
	if err := s.Up(); err != nil {
		t.Fatal(err)
	}
	run.wait(t).mustSucceed(t)
	compareSeries(t, s.All(), faultySeries())
}

func testUnauthorized(t *testing.T, reader string, base settings) {
	t.Parallel()
	s := newReceiver(t)
	s.Always(receiver.Status(401, nil))
	r := once(t, invocation{user: reader, settings: base.and(settings{"DESTINATION": s.URL()})})
	r.mustFail(t)
	compareSeries(t, s.All(), nil)
	var about []string
	for _, message := range r.errors(t) {
		if strings.Contains(message, "gave up after 30s") {
			about = append(about, message)
		}
	}
	if len(about) != 1 {
		t.Fatalf("%d errors say that the run gave up, want 1:\n%s", len(about), r.stderr)
	}
	for _, want := range []string{s.URL(), "401", "check the credentials"} {
		if !strings.Contains(about[0], want) {
			t.Errorf("the error does not say %q: %s", want, about[0])
		}
	}
}

// testOneRefused sends each record alone, so that the others do not depend on
// what is refused with them.
func testOneRefused(t *testing.T, reader string, base settings) {
	t.Parallel()
	s := newReceiver(t)
	s.Always(receiver.RefuseIf(func(req *receiver.Request) bool {
		return req.Series[0].Get("pod") == "pod-123"
	}, 400))
	r := once(t, invocation{user: reader, settings: base.and(settings{"DESTINATION": s.URL(), "BATCH_SIZE": "1"})})
	r.mustFail(t)
	want := slices.DeleteFunc(faultySeries(), func(series string) bool { return strings.Contains(series, "pod-123") })
	compareSeries(t, s.All(), want)
	if message := "send pods: records that the destination refused: 1"; !strings.Contains(r.stderr, message) {
		t.Errorf("the log does not say %q:\n%s", message, r.stderr)
	}
	if sent := r.summary(t, "pods").Sent; sent != faultyPods-1 {
		t.Errorf("the summary says that %d pods were sent, want %d", sent, faultyPods-1)
	}
}
