package informer

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	logrustest "github.com/sirupsen/logrus/hooks/test"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"

	"labelstream/config"
	"labelstream/status/outage"
)

// findBench runs a finder over what a server says it serves.
type findBench struct {
	*Finder
	logs     *logrustest.Hook
	registry *prometheus.Registry

	mu    sync.Mutex
	lists []*metav1.APIResourceList
	err   error
	asked int
	found [][]string
}

func (b *findBench) serve(err error, lists ...*metav1.APIResourceList) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lists, b.err = lists, err
}

func (b *findBench) catalog(context.Context) (*Catalog, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked++
	return NewCatalog(b.lists, b.err)
}

// take returns what was found since the last call, and how often was asked.
func (b *findBench) taken() (found [][]string, asked int) {
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	found, asked = b.found, b.asked
	b.found, b.asked = nil, 0
	return found, asked
}

func startFinder(t *testing.T, resources ...string) (b *findBench, stop func()) {
	log, hook := logrustest.NewNullLogger()
	b = &findBench{logs: hook}
	cfg := &config.Config{Changes: config.ChangesWatch, Labels: config.LabelSource{Enabled: true, Resources: resources}}
	b.registry = prometheus.NewPedanticRegistry()
	b.Finder = NewFinder(b.catalog, cfg, b.registry, log)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		b.Run(ctx, func(kinds []*Kind) {
			var names []string
			for _, kind := range kinds {
				names = append(names, kind.Resource+map[bool]string{false: " of the cluster"}[kind.Namespaced])
			}
			b.mu.Lock()
			defer b.mu.Unlock()
			b.found = append(b.found, names)
		})
	})
	return b, func() {
		cancel()
		running.Wait()
	}
}

func expectFound(t *testing.T, when string, b *findBench, want ...[]string) (asked int) {
	t.Helper()
	got, asked := b.taken()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%s: found (-want +got):\n%s", when, diff)
	}
	return asked
}

// expectMissing compares the errors of what is missing, and the resources of
// which the metric says that they are, and are not.
func expectMissing(t *testing.T, when string, b *findBench, errs []string, missing map[string]float64) {
	t.Helper()
	var got []string
	for _, err := range b.Missing() {
		got = append(got, err.Error())
	}
	if diff := cmp.Diff(errs, got); diff != "" {
		t.Errorf("%s: missing (-want +got):\n%s", when, diff)
	}
	families, err := b.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	told := make(map[string]float64)
	for _, family := range families {
		for _, metric := range family.Metric {
			told[family.GetName()+" "+metric.Label[0].GetValue()] = metric.Gauge.GetValue()
		}
	}
	want := make(map[string]float64)
	for name, value := range missing {
		want["labelstream_resource_missing "+name] = value
	}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("%s: metrics (-want +got):\n%s", when, diff)
	}
}

var corePods = serves("v1", "pods Pod pod ns lw")

// TestFindLater has a custom resource installed long after the start: it is
// found within a minute, once, and then nothing is asked any more.
func TestFindLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, stop := startFinder(t, "pods", "widgets.example.com")
		defer stop()
		b.serve(nil, corePods)
		time.Sleep(time.Minute)
		expectFound(t, "at first", b, []string{"pods"})
		want := []string{`LABELSTREAM_LABELS_RESOURCES: "widgets.example.com": the server has no such resource`}
		expectMissing(t, "at first", b, want, map[string]float64{"pods": 0, "widgets.example.com": 1})
		time.Sleep(time.Hour)
		if asked := expectFound(t, "without it", b); asked < 60 || asked > 120 {
			t.Errorf("asked %d times in an hour, want each 30 to 60 s", asked)
		}
		b.serve(nil, corePods, serves("example.com/v1", "widgets Widget widget ns lw"))
		time.Sleep(time.Minute)
		expectFound(t, "a minute after it came", b, []string{"widgets.example.com"})
		time.Sleep(time.Hour)
		if asked := expectFound(t, "with all", b); asked != 0 {
			t.Errorf("asked %d times when all was found", asked)
		}
		expectMissing(t, "with all", b, nil, map[string]float64{"pods": 0, "widgets.example.com": 0})
		var warnings []string
		for _, entry := range b.logs.AllEntries() {
			if entry.Level == logrus.WarnLevel {
				warnings = append(warnings, entry.Message)
			}
		}
		if diff := cmp.Diff([]string{"Cannot read a resource"}, warnings); diff != "" {
			t.Errorf("warnings (-want +got):\n%s", diff)
		}
	})
}

// TestFindWholeGroup has a group grow, shrink and grow.
func TestFindWholeGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, stop := startFinder(t, "*.example.com")
		defer stop()
		widgets := serves("example.com/v1", "widgets Widget widget ns lw")
		both := serves("example.com/v1", "widgets Widget widget ns lw", "gears Gear gear ns lw")
		for _, step := range []struct {
			served *metav1.APIResourceList
			found  [][]string
		}{
			{corePods, nil}, {widgets, [][]string{{"widgets.example.com"}}}, {both, [][]string{{"gears.example.com"}}}, {widgets, nil}, {both, nil},
		} {
			b.serve(nil, step.served)
			time.Sleep(time.Minute)
			expectFound(t, "a minute later", b, step.found...)
		}
	})
}

// TestFindWithoutServer has no API server for long.
func TestFindWithoutServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, stop := startFinder(t, "pods")
		defer stop()
		b.serve(errors.New("connection refused"))
		for range 60 {
			time.Sleep(time.Minute)
			expectFound(t, "without a server", b)
		}
		expectMissing(t, "without a server", b, []string{"connection refused"}, map[string]float64{"pods": 1})
		b.serve(nil, corePods)
		time.Sleep(time.Minute)
		expectFound(t, "with one", b, []string{"pods"})
		expectMissing(t, "with one", b, nil, map[string]float64{"pods": 0})
		if n := len(b.logs.AllEntries()); n != 3 {
			t.Errorf("%d lines in the log, want two for the outage and one for the kind", n)
		}
	})
}

// TestFindAgainWithoutServer has the server go away when one of two resources was
// found: only the other one counts as missing.
func TestFindAgainWithoutServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, stop := startFinder(t, "pods", "*.example.com")
		defer stop()
		b.serve(nil, corePods)
		time.Sleep(time.Minute)
		expectFound(t, "at first", b, []string{"pods"})
		b.serve(errors.New("connection refused"))
		time.Sleep(time.Minute)
		group := `LABELSTREAM_LABELS_RESOURCES: "*.example.com": the server has no such group with resources to list and watch`
		expectMissing(t, "without a server", b, []string{"connection refused", group}, map[string]float64{"pods": 0, "*.example.com": 1})
	})
}

// TestFindStops ends while the server is asked, and while it is waited.
func TestFindStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, stop := startFinder(t, "widgets.example.com")
		synctest.Wait()
		stop()
		expectFound(t, "after the end", b)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() {
			NewFinder(func(ctx context.Context) (*Catalog, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}, &config.Config{}, nil, b.log).Run(ctx, func([]*Kind) { t.Error("found something") })
		})
		synctest.Wait()
		cancel()
		running.Wait()
	})
}

// TestFindUnwatchable has a kind that can only be listed: it is reported, and not
// looked for again, since no server changes that.
func TestFindUnwatchable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, stop := startFinder(t, "pods", "reports.example.com")
		defer stop()
		b.serve(nil, corePods, serves("example.com/v1", "reports Report report ns l"))
		time.Sleep(time.Minute)
		expectFound(t, "at first", b, []string{"pods"})
		want := []string{`LABELSTREAM_LABELS_RESOURCES: "reports.example.com": the server does not let this resource be watched`}
		expectMissing(t, "at first", b, want, map[string]float64{"pods": 0, "reports.example.com": 1})
		if hint := outage.Hint(b.Missing()[0]); !strings.HasPrefix(hint, "LABELSTREAM_CHANGES=none ") {
			t.Errorf("hint %q, want one with LABELSTREAM_CHANGES=none", hint)
		}
		time.Sleep(time.Hour)
		if asked := expectFound(t, "an hour later", b); asked != 0 {
			t.Errorf("asked %d times more, want none", asked)
		}
		b.cfg.Changes = config.ChangesNone
		b.Rediscover()
		time.Sleep(time.Minute)
		expectFound(t, "without watches", b, []string{"reports.example.com"})
	})
}

// TestRediscover has a definition go, come back as it was, and come back in another
// scope and version.
func TestRediscover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, stop := startFinder(t, "pods", "widgets.example.com")
		defer stop()
		widgets := serves("example.com/v1", "widgets Widget widget ns lw")
		partly := &discovery.ErrGroupDiscoveryFailed{Groups: map[schema.GroupVersion]error{{Group: "example.com", Version: "v1"}: errors.New("stale")}}
		for _, step := range []struct {
			when   string
			err    error
			served *metav1.APIResourceList
			found  [][]string
		}{
			{"at first", nil, widgets, [][]string{{"pods", "widgets.example.com"}}},
			{"as it was", nil, widgets, nil},
			{"gone", nil, serves("example.com/v1"), nil},
			{"again", nil, widgets, nil},
			{"in another scope", nil, serves("example.com/v1", "widgets Widget widget cluster lw"), [][]string{{"widgets.example.com of the cluster"}}},
			{"in another version", nil, serves("example.com/v2", "widgets Widget widget ns lw"), [][]string{{"widgets.example.com"}}},
			{"in a version that stands in", partly, serves("example.com/v1beta1", "widgets Widget widget ns lw"), nil},
		} {
			b.serve(step.err, corePods, step.served)
			b.Rediscover()
			time.Sleep(time.Minute)
			expectFound(t, step.when, b, step.found...)
		}
	})
}

// TestRediscoverSoon asks once for all that ask at a time, also where nothing is
// awaited.
func TestRediscoverSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, stop := startFinder(t, "pods")
		defer stop()
		b.serve(nil, corePods)
		time.Sleep(time.Minute)
		expectFound(t, "at first", b, []string{"pods"})
		for range 10 {
			b.Rediscover()
			time.Sleep(rediscoverDelay / 20)
		}
		time.Sleep(rediscoverDelay)
		if asked := expectFound(t, "soon", b); asked != 1 {
			t.Errorf("asked %d times, want once", asked)
		}
		b.serve(errors.New("connection refused"))
		b.Rediscover()
		time.Sleep(2 * time.Minute)
		if asked := expectFound(t, "without a server", b); asked < 5 {
			t.Errorf("asked %d times without a server, want again and again", asked)
		}
	})
}
