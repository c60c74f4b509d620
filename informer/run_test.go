// SPDX-License-Identifier: Apache-2.0

package informer

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	logrustest "github.com/sirupsen/logrus/hooks/test"
	"go.uber.org/goleak"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"labelstream/config"
	"labelstream/record"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newKind is a kind as discovery resolves it.
func newKind(group, version, plural, kind string, namespaced bool) *Kind {
	gr := schema.GroupResource{Group: group, Resource: plural}
	k := &Kind{
		Kind: naming(gr, &metav1.APIResource{Kind: kind, Namespaced: namespaced}, config.FormCloudZero),
		GVR:  gr.WithVersion(version),
		GVK:  schema.GroupVersionKind{Group: group, Version: version, Kind: kind},
	}
	k.Labels = true
	return k
}

func podsKind() *Kind        { return newKind("", "v1", "pods", "Pod", true) }
func namespacesKind() *Kind  { return newKind("", "v1", "namespaces", "Namespace", false) }
func nodesKind() *Kind       { return newKind("", "v1", "nodes", "Node", false) }
func deploymentsKind() *Kind { return newKind("apps", "v1", "deployments", "Deployment", true) }
func widgetsKind() *Kind     { return newKind("example.com", "v1beta2", "widgets", "Widget", true) }

const (
	podsPath       = "/api/v1/pods"
	namespacesPath = "/api/v1/namespaces"
	widgetsPath    = "/apis/example.com/v1beta2/widgets"
)

// fakeSink is a sink and a queue that notes what it takes, as
// "<kind> <namespace>/<name> <label app>", with a "-" before the last record of
// an object.
type fakeSink struct {
	// room waits for room; its error is that there will be none.
	room func(ctx context.Context, name string) error
	// full says that a queue has no room.
	full bool

	mu            sync.Mutex
	taken, series []string
}

// Put implements Sink.
func (s *fakeSink) Put(ctx context.Context, r *record.Record, want func(*record.Record) bool) (bool, error) {
	if s.room != nil {
		if err := s.room(ctx, string(r.Name)); err != nil {
			return false, err
		}
	}
	return s.take(r, want), nil
}

// TryPut implements Queue.
func (s *fakeSink) TryPut(r *record.Record, want func(*record.Record) bool) (sent, room bool) {
	if s.full {
		return false, false
	}
	return s.take(r, want), true
}

func (s *fakeSink) take(r *record.Record, want func(*record.Record) bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if want != nil && !want(r) {
		return false
	}
	text := fmt.Sprintf("%s %s/%s", r.Kind.Type, r.Namespace, r.Name)
	if r.Deleted {
		text = "-" + text
	}
	cursor := record.Cursor(r.Series)
	for range r.Count {
		series := seriesText(&cursor)
		s.series = append(s.series, series)
		for label := range strings.SplitSeq(series, " ") {
			if app, ok := strings.CutPrefix(label, "label_app="); ok {
				text += " " + app
			}
		}
	}
	if r.EndedCount > 0 {
		ended := record.Cursor(r.Ended)
		text += " after " + seriesText(&ended)
	}
	s.taken = append(s.taken, text)
	return true
}

func seriesText(cursor *record.Cursor) string {
	labels := make([]string, cursor.Count())
	for i := range labels {
		name, value := cursor.Label()
		labels[i] = fmt.Sprintf("%s=%s", name, value)
	}
	return strings.Join(labels, " ")
}

// records takes what was sent since the last call.
func (s *fakeSink) records() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := s.taken
	s.taken = nil
	return taken
}

// records are those of objects of one type.
func records(kind string, objects []metav1.PartialObjectMetadata) []string {
	all := make([]string, 0, len(objects))
	for _, o := range objects {
		all = append(all, fmt.Sprintf("%s %s/%s %s", kind, o.Namespace, o.Name, o.Labels["app"]))
	}
	return all
}

// bench holds informers over a fake API server and a fake sink.
type bench struct {
	api       *fakeAPI
	transport *http.Transport
	sink      *fakeSink
	cfg       *config.Config
	options   Options
	registry  *prometheus.Registry
	logs      *logrustest.Hook
	log       *logrus.Logger
	*Informers
}

// once is for a one-shot run, which nothing tells of changes.
const once config.Changes = ""

// inBubble tests informers in a synctest bubble: those of a one-shot run, or of a
// daemon that something tells of changes.
func inBubble(t *testing.T, changes config.Changes, test func(*testing.T, *bench)) {
	synctest.Test(t, func(t *testing.T) {
		b := &bench{
			api: newFakeAPI(t), sink: &fakeSink{}, cfg: &config.Config{},
			options:  Options{PageSize: 500, Once: changes == once, Changes: changes},
			registry: prometheus.NewRegistry(),
		}
		b.transport = connect(t, b.api)
		b.cfg.ValueMaxBytes = 2048
		b.cfg.Labels.Filters = config.Patterns{{Regexp: regexp.MustCompile("")}}
		b.log, b.logs = logrustest.NewNullLogger()
		test(t, b)
	})
}

// subtest is inBubble in a subtest.
func subtest(t *testing.T, name string, changes config.Changes, test func(*testing.T, *bench)) {
	t.Run(name, func(t *testing.T) { inBubble(t, changes, test) })
}

// start runs the informers of kinds; stop ends them and returns when Run has.
func (b *bench) start(t *testing.T, kinds ...*Kind) (stop func()) {
	t.Helper()
	b.make(t, kinds...)
	return b.run(t)
}

// make makes informers that do not read yet.
func (b *bench) make(t *testing.T, kinds ...*Kind) {
	t.Helper()
	client, err := Client(&rest.Config{Host: "http://api.test", Transport: b.transport})
	if err != nil {
		t.Fatal(err)
	}
	b.Informers = New(client, b.cfg, b.sink, b.options, b.registry, b.log)
	b.Add(kinds)
}

// run begins to read.
func (b *bench) run(t *testing.T) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { b.Run(ctx) })
	return func() {
		cancel()
		running.Wait()
	}
}

// backfill runs the informers until each has synced or failed for good.
func (b *bench) backfill(t *testing.T, kinds ...*Kind) {
	t.Helper()
	stop := b.start(t, kinds...)
	defer stop()
	if err := b.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// expect compares lines.
func expect(t *testing.T, what string, want, got []string) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%s (-want +got):\n%.3000s", what, diff)
	}
}

func (b *bench) expectRequests(t *testing.T, want ...string) {
	t.Helper()
	expect(t, "requests", want, b.api.asked())
}

func (b *bench) expectWatches(t *testing.T, want ...string) {
	t.Helper()
	expect(t, "watches", want, b.api.askedToWatch())
}

// expectRecords compares what was sent since the last time.
func (b *bench) expectRecords(t *testing.T, want []string) {
	t.Helper()
	expect(t, "records", want, b.sink.records())
}

// expectSorted is expectRecords, whatever the order.
func (b *bench) expectSorted(t *testing.T, want ...string) {
	t.Helper()
	got := b.sink.records()
	slices.Sort(got)
	slices.Sort(want)
	expect(t, "records", want, got)
}

// expectSent lets everything come to rest and compares what was sent of pods in
// the namespace shop since the last time, as "name app".
func (b *bench) expectSent(t *testing.T, when string, want ...string) {
	t.Helper()
	synctest.Wait()
	got := b.sink.records()
	for i := range got {
		got[i] = strings.Replace(got[i], "pod shop/", "", 1)
	}
	expect(t, when+": sent", want, got)
}

// expectStatus compares the statuses without their times.
func (b *bench) expectStatus(t *testing.T, want ...Status) {
	t.Helper()
	if diff := cmp.Diff(want, b.Status(), cmpopts.IgnoreFields(Status{}, "Took", "Current", "Listed", "Progress", "LedgerBytes", "Seen", "Watches"),
		cmpopts.EquateErrors()); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
}

// expectLogs compares the lines at info and above: level, message, error and hint.
func (b *bench) expectLogs(t *testing.T, want ...string) {
	t.Helper()
	expect(t, "log", want, logged(b.logs))
}

func logged(hook *logrustest.Hook) (lines []string) {
	for _, entry := range hook.AllEntries() {
		line := entry.Level.String() + ": " + entry.Message
		for _, field := range []string{logrus.ErrorKey, "hint"} {
			if value, ok := entry.Data[field]; ok {
				line += fmt.Sprintf(": %v", value)
			}
		}
		lines = append(lines, line)
	}
	return lines
}
