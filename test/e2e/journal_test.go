// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"labelstream/test/receiver"
)

// sample is one that a receiver has accepted.
type sample struct {
	// Series is the whole of it as text, Namespace and Object are what it is about,
	// Step is the value of the label that the tests change.
	Series, Namespace, Object, Step string
	// At is its timestamp in milliseconds, From the last part of the path to
	// which it was sent.
	At   int64
	From string
}

// journal is a receiver that remembers all samples in the order in which they
// came, each as often as it came.
type journal struct {
	*receiver.Server

	mu      sync.Mutex
	changed chan struct{}
	samples []sample
	fault   receiver.Fault
	// cut says that senders are killed or lose their lease, and requests may end
	// before their bodies do.
	cut bool
}

// newJournal is a receiver that is up, and whose senders must not break the
// protocol.
func newJournal(t *testing.T) *journal {
	t.Helper()
	server, err := receiver.Start(receiver.New(receiver.Options{}))
	if err != nil {
		t.Fatal(err)
	}
	j := &journal{Server: server, changed: make(chan struct{})}
	j.Server.Always(j.take)
	t.Cleanup(func() {
		j.Down()
		for _, err := range j.Violations() {
			if !j.cut || !strings.Contains(err.Error(), "read the body") {
				t.Errorf("remote_write: %v", err)
			}
		}
		if t.Failed() {
			all := j.all()
			t.Logf("%d samples were received, the last of them:\n%s", len(all), strings.Join(steps(all[max(0, len(all)-40):]), "\n"))
		}
	})
	return j
}

// Always makes a fault play for each request until it is called again. What the
// fault lets pass is in the journal.
func (j *journal) Always(fault receiver.Fault) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.fault = fault
}

// take is the fault of the receiver: the journal's own, and none where that
// passes.
func (j *journal) take(w http.ResponseWriter, hr *http.Request, req *receiver.Request) bool {
	j.mu.Lock()
	fault := j.fault
	j.mu.Unlock()
	if fault != nil && fault(w, hr, req) {
		return true
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, series := range req.Series {
		for _, s := range series.Samples {
			j.samples = append(j.samples, sample{
				Series: series.String(), Namespace: series.Get("namespace"), Object: objectOf(series),
				Step: series.Get("label_step"), At: s.Timestamp, From: path.Base(hr.URL.Path),
			})
		}
	}
	close(j.changed)
	j.changed = make(chan struct{})
	return false
}

// objectOf is the name of what a series is about.
func objectOf(s receiver.Series) string {
	return cmp.Or(s.Get("pod"), s.Get("node"), s.Get("workload"), s.Get("namespace"))
}

// all are the samples so far.
func (j *journal) all() []sample {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.samples)
}

// await waits until the samples are as they should be.
func (j *journal) await(t *testing.T, what string, enough func([]sample) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		j.mu.Lock()
		samples, changed := j.samples[:len(j.samples):len(j.samples)], j.changed
		j.mu.Unlock()
		if enough(samples) {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("wait for %s: %v", what, context.Cause(ctx))
		}
	}
}

// awaitCount waits until so many samples have come.
func (j *journal) awaitCount(t *testing.T, n int) {
	t.Helper()
	j.await(t, fmt.Sprintf("%d samples", n), func(samples []sample) bool { return len(samples) >= n })
}

// awaitState waits until the last sample of each object of the cluster says what
// the cluster does. Those of others are of no account: they are gone.
func (j *journal) awaitState(t *testing.T, state map[string]string) {
	t.Helper()
	j.await(t, "the cluster's state", func(samples []sample) bool {
		last := latest(samples)
		for object, step := range state {
			if got, ok := last[object]; !ok || got != step {
				return false
			}
		}
		return true
	})
}

// awaitStep waits until the last sample of an object has a certain step.
func (j *journal) awaitStep(t *testing.T, object, step string) {
	t.Helper()
	j.awaitState(t, map[string]string{object: step})
}

// latest is the step of the last sample of each object that has one.
func latest(samples []sample) map[string]string {
	last := make(map[string]string)
	for _, s := range samples {
		if !strings.Contains(s.Series, "_annotations{") {
			last[s.Object] = s.Step
		}
	}
	return last
}

// mustBeInOrder demands that no object's samples go back in time, whatever labels
// they have. The receiver looks at each series by itself, and a changed label is
// another series.
func (j *journal) mustBeInOrder(t *testing.T) {
	t.Helper()
	last := make(map[string]sample)
	for i, s := range j.all() {
		if before, ok := last[s.Object]; ok && s.At < before.At {
			t.Errorf("sample %d, %+v, is older than one that came before, %+v", i, s, before)
		}
		last[s.Object] = s
	}
}

// countOf is how many of the samples are of a series.
func countOf(samples []sample, series string) int {
	n := 0
	for _, s := range samples {
		if s.Series == series {
			n++
		}
	}
	return n
}

// steps are samples as "object step".
func steps(samples []sample) []string {
	texts := make([]string, len(samples))
	for i, s := range samples {
		texts[i] = s.Object + " " + s.Step
	}
	return texts
}

// mustBe demands exactly these samples, written as "object step", in this order.
func (j *journal) mustBe(t *testing.T, want []string) {
	t.Helper()
	if diff := gocmp.Diff(want, steps(j.all()), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("samples (-want +got):\n%s", diff)
	}
	j.mustBeInOrder(t)
}

// stalled is a receiver that keeps every request open.
type stalled struct {
	hangs chan struct{}
	// release makes it accept what it kept, and all that comes.
	release func()
}

// stall makes the receiver keep every request open until it is released.
func (j *journal) stall(t *testing.T) *stalled {
	t.Helper()
	gate := make(chan struct{})
	s := &stalled{hangs: make(chan struct{})}
	hang, first := receiver.Hang(gate), sync.OnceFunc(func() { close(s.hangs) })
	j.Always(func(w http.ResponseWriter, hr *http.Request, req *receiver.Request) bool {
		first()
		return hang(w, hr, req)
	})
	s.release = sync.OnceFunc(func() {
		j.Always(nil)
		close(gate)
	})
	t.Cleanup(s.release)
	return s
}

// await waits until a request is kept open.
func (s *stalled) await(t *testing.T) {
	t.Helper()
	select {
	case <-s.hangs:
	case <-time.After(patience):
		t.Fatalf("no request hangs within %s", patience)
	}
}

// mustHave demands exactly these series, each with a single sample, of value 1.
func (j *journal) mustHave(t *testing.T, want []string) {
	t.Helper()
	compareSeries(t, j.All(), want)
}

// compareSeries compares what was received with what should have been. Every
// series must have exactly one sample, of value 1.
func compareSeries(t *testing.T, got []receiver.Series, want []string) {
	t.Helper()
	texts := make([]string, 0, len(got))
	for _, series := range got {
		texts = append(texts, series.String())
		if len(series.Samples) != 1 || series.Samples[0].Value != 1 {
			t.Errorf("series %s has the samples %v, want a single 1", series, series.Samples)
		}
	}
	compare(t, want, texts)
}

// compare compares texts, in any order.
func compare(t *testing.T, want, got []string) {
	t.Helper()
	if diff := gocmp.Diff(slices.Sorted(slices.Values(want)), slices.Sorted(slices.Values(got)), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
