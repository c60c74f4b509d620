package informer

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	logrustest "github.com/sirupsen/logrus/hooks/test"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"labelstream/config"
	"labelstream/record"
)

// newKind is a kind as discovery resolves it.
func newKind(group, version, plural, kind string, namespaced bool) *Kind {
	gr := schema.GroupResource{Group: group, Resource: plural}
	k := &Kind{
		Kind: naming(gr, &metav1.APIResource{Kind: kind, Namespaced: namespaced}),
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

// fakeSink notes the records it takes, as "<kind> <namespace>/<name>", and
// their series.
type fakeSink struct {
	// put is called before a record is taken; its error refuses the record.
	put func(ctx context.Context, key string) error

	mu            sync.Mutex
	taken, series []string
}

func (s *fakeSink) Put(ctx context.Context, r *record.Record) error {
	key := fmt.Sprintf("%s %s/%s", r.Kind.Type, r.Namespace, r.Name)
	if s.put != nil {
		if err := s.put(ctx, key); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken = append(s.taken, key)
	cursor := record.Cursor(r.Series)
	for range r.Count {
		s.series = append(s.series, seriesText(&cursor))
	}
	return nil
}

func seriesText(cursor *record.Cursor) string {
	labels := make([]string, cursor.Count())
	for i := range labels {
		name, value := cursor.Label()
		labels[i] = fmt.Sprintf("%s=%s", name, value)
	}
	return strings.Join(labels, " ")
}

func (s *fakeSink) records() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.taken)
}

// keys are the records of objects of one type.
func keys(kind string, objects []metav1.PartialObjectMetadata) []string {
	all := make([]string, 0, len(objects))
	for _, o := range objects {
		all = append(all, fmt.Sprintf("%s %s/%s", kind, o.Namespace, o.Name))
	}
	return all
}

// bench holds informers over a fake API server and a fake sink. It belongs in
// a synctest bubble.
type bench struct {
	api      *fakeAPI
	sink     *fakeSink
	cfg      *config.Config
	options  Options
	registry *prometheus.Registry
	logs     *logrustest.Hook
	log      *logrus.Logger
	*Informers
}

func newBench(t *testing.T) *bench {
	b := &bench{
		api: newFakeAPI(t), sink: &fakeSink{}, cfg: &config.Config{},
		options: Options{PageSize: 500}, registry: prometheus.NewRegistry(),
	}
	b.cfg.ValueMaxBytes = 2048
	b.log, b.logs = logrustest.NewNullLogger()
	return b
}

// build makes the informers of kinds.
func (b *bench) build(t *testing.T, kinds ...*Kind) {
	t.Helper()
	client, err := Client(&rest.Config{Host: "http://api.test", Transport: &pipeTransport{b.api}})
	if err != nil {
		t.Fatal(err)
	}
	b.Informers = New(client, kinds, b.cfg, b.sink, b.options, b.registry, b.log)
}

// start runs the informers; stop ends them and returns when Run has.
func (b *bench) start(t *testing.T, kinds ...*Kind) (stop func()) {
	t.Helper()
	b.build(t, kinds...)
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

func (b *bench) expectRequests(t *testing.T, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, b.api.asked(), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

func (b *bench) expectRecords(t *testing.T, want []string) {
	t.Helper()
	if diff := cmp.Diff(want, b.sink.records(), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("records (-want +got):\n%.3000s", diff)
	}
}

// expectLogs compares the lines at info and above: level, message and error.
func (b *bench) expectLogs(t *testing.T, want ...string) {
	t.Helper()
	got := make([]string, 0, len(want))
	for _, entry := range b.logs.AllEntries() {
		line := entry.Level.String() + ": " + entry.Message
		if err, ok := entry.Data[logrus.ErrorKey]; ok {
			line += ": " + err.(error).Error()
		}
		got = append(got, line)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
}
