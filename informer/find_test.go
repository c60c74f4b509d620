package informer

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	logrustest "github.com/sirupsen/logrus/hooks/test"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"labelstream/config"
	"labelstream/status/outage"
)

// findStep is what the server answers from then on, and what comes of it.
type findStep struct {
	when  string
	err   error
	lists []*metav1.APIResourceList
	// again is how often the finder is told to discover again.
	again int
	// after is how long the step takes, a minute where it is 0.
	after time.Duration
	// found are the kinds that are handed out, missing the errors, notFound the
	// names that the metric tells.
	found, missing, notFound []string
	// least and most are how often the server is asked.
	least, most int
}

// runFinder has a finder look for resources, and returns what the log says.
func runFinder(t *testing.T, resources string, steps ...findStep) (logs []string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		log, hook := logrustest.NewNullLogger()
		registry, cfg := prometheus.NewPedanticRegistry(), chosen(resources, "")
		cfg.Changes = config.ChangesWatch
		var mu sync.Mutex // held where the bubble is not at rest
		var step findStep
		var asked int
		var kinds []string
		f := NewFinder(func(context.Context) (*Catalog, error) {
			mu.Lock()
			defer mu.Unlock()
			asked++
			return NewCatalog(step.lists, step.err)
		}, cfg, registry, log)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		for i, next := range steps {
			mu.Lock()
			step, asked, kinds = next, 0, nil
			mu.Unlock()
			if i == 0 {
				running.Go(func() {
					f.Run(ctx, func(found []*Kind) {
						mu.Lock()
						defer mu.Unlock()
						for _, kind := range found {
							kinds = append(kinds, resolved(kind))
						}
					})
				})
			}
			for range step.again {
				f.Rediscover()
				time.Sleep(rediscoverDelay / 20)
			}
			time.Sleep(cmp.Or(step.after, time.Minute))
			synctest.Wait()
			var missing, notFound []string
			for _, err := range f.Missing() {
				missing = append(missing, strings.TrimPrefix(err.Error(), "LABELSTREAM_LABELS_RESOURCES: "))
			}
			for _, line := range gathered(t, registry) {
				if name, ok := strings.CutSuffix(line, " 1"); ok {
					notFound = append(notFound, strings.TrimPrefix(name, "labelstream_resource_missing resource="))
				}
			}
			expect(t, step.when+": found", step.found, kinds)
			expect(t, step.when+": missing", step.missing, missing)
			expect(t, step.when+": metric", step.notFound, notFound)
			if asked < step.least || asked > step.most {
				t.Errorf("%s: asked %d times, want %d to %d", step.when, asked, step.least, step.most)
			}
		}
		cancel()
		running.Wait()
		for _, entry := range hook.AllEntries() {
			logs = append(logs, entry.Message)
		}
	})
	return logs
}

const (
	foundPods    = "pods v1 pod/pod pod ns L"
	foundWidgets = "widgets.example.com v1 widget.example.com/widget_example.com workload ns L"
	foundGears   = "gears.example.com v1 gear.example.com/gear_example.com workload ns L"
	noWidgets    = `"widgets.example.com": the server has no such resource`
	noGroup      = `"*.example.com": the server has no such group with resources to list and watch`
)

var (
	corePods   = serves("v1", "pods Pod pod ns lw")
	widgets    = serves("example.com/v1", "widgets Widget widget ns lw")
	errRefused = errors.New("connection refused")
)

func served(lists ...*metav1.APIResourceList) []*metav1.APIResourceList { return lists }

// TestFindLater has a custom resource installed long after the start: it is
// found within a minute, once, and then nothing is asked any more.
func TestFindLater(t *testing.T) {
	name, missing := []string{"widgets.example.com"}, []string{noWidgets}
	logs := runFinder(t, "pods,widgets.example.com",
		findStep{when: "at first", lists: served(corePods), found: []string{foundPods}, missing: missing, notFound: name, least: 2, most: 3},
		findStep{when: "without it", after: time.Hour, lists: served(corePods), missing: missing, notFound: name, least: 60, most: 120},
		findStep{when: "with it", lists: served(corePods, widgets), found: []string{foundWidgets}, least: 1, most: 1},
		findStep{when: "with all", after: time.Hour, lists: served(corePods, widgets)},
	)
	expect(t, "log", []string{"Cannot read a resource", "Found a kind to read", "Found a kind to read"}, logs)
}

// TestFindWholeGroup has a group grow, shrink and grow: what it may hold is never
// complete.
func TestFindWholeGroup(t *testing.T) {
	both := serves("example.com/v1", "widgets Widget widget ns lw", "gears Gear gear ns lw")
	runFinder(t, "*.example.com",
		findStep{when: "empty", lists: served(corePods), missing: []string{noGroup}, notFound: []string{"*.example.com"}, least: 2, most: 3},
		findStep{when: "one", lists: served(widgets), found: []string{foundWidgets}, least: 1, most: 2},
		findStep{when: "two", lists: served(both), found: []string{foundGears}, least: 1, most: 2},
		findStep{when: "one again", lists: served(widgets), least: 1, most: 2},
		findStep{when: "two again", lists: served(both), least: 1, most: 2},
	)
}

// TestFindWithoutServer has no API server at first, and none later on: what was
// found by then is not missing.
func TestFindWithoutServer(t *testing.T) {
	group := []string{"*.example.com"}
	logs := runFinder(t, "pods,*.example.com",
		findStep{when: "without a server", after: time.Hour, err: errRefused, missing: []string{"connection refused"}, notFound: []string{"*.example.com", "pods"}, least: 60, most: 200},
		findStep{when: "with one", lists: served(corePods), found: []string{foundPods}, missing: []string{noGroup}, notFound: group, least: 1, most: 3},
		findStep{when: "gone", err: errRefused, missing: []string{"connection refused", noGroup}, notFound: group, least: 1, most: 20},
	)
	expect(t, "log", []string{
		"Cannot discover what the API server serves", "Discovering again", "Cannot read a resource", "Found a kind to read",
		"Cannot discover what the API server serves",
	}, logs)
}

// TestFindUnwatchable has a kind that can only be listed: it is reported, and not
// looked for again, since no server changes that.
func TestFindUnwatchable(t *testing.T) {
	reports := serves("example.com/v1", "reports Report report ns l")
	const missing = `"reports.example.com": the server does not let this resource be watched`
	runFinder(t, "pods,reports.example.com",
		findStep{when: "at first", lists: served(corePods, reports), found: []string{foundPods}, missing: []string{missing}, notFound: []string{"reports.example.com"}, least: 1, most: 1},
		findStep{when: "an hour later", after: time.Hour, lists: served(corePods, reports), missing: []string{missing}, notFound: []string{"reports.example.com"}},
	)
	if hint := outage.Hint(errNotWatchable); !strings.Contains(hint, "LABELSTREAM_CHANGES=none") {
		t.Errorf("hint %q, want one with LABELSTREAM_CHANGES=none", hint)
	}
}

// TestRediscover has a definition go, come back as it was, and come back in another
// scope and version.
func TestRediscover(t *testing.T) {
	inCluster := strings.Replace(foundWidgets, " ns ", " cluster ", 1)
	runFinder(t, "pods,widgets.example.com",
		findStep{when: "at first", lists: served(corePods, widgets), found: []string{foundPods, foundWidgets}, least: 1, most: 1},
		findStep{when: "as it was", again: 1, lists: served(corePods, widgets), least: 1, most: 1},
		findStep{when: "without a server", again: 1, err: errRefused, missing: []string{"connection refused"}, least: 2, most: 20},
		findStep{when: "gone", lists: served(corePods), missing: []string{noWidgets}, notFound: []string{"widgets.example.com"}, least: 1, most: 3},
		findStep{when: "as before", lists: served(corePods, widgets), least: 1, most: 1},
		findStep{when: "in another scope", again: 1, lists: served(corePods, serves("example.com/v1", "widgets Widget widget cluster lw")),
			found: []string{inCluster}, least: 1, most: 1},
		findStep{when: "in another version", again: 1, lists: served(corePods, serves("example.com/v2", "widgets Widget widget ns lw")),
			found: []string{strings.Replace(foundWidgets, "v1", "v2", 1)}, least: 1, most: 1},
		findStep{when: "in a version that stands in", again: 1, err: groupsFailed("example.com"), lists: served(corePods, widgets), least: 1, most: 1},
	)
}

// TestRediscoverOnce asks once for all that ask at a time.
func TestRediscoverOnce(t *testing.T) {
	runFinder(t, "pods",
		findStep{when: "at first", lists: served(corePods), found: []string{foundPods}, least: 1, most: 1},
		findStep{when: "before the delay is over", again: 10, after: rediscoverDelay/2 - 1, lists: served(corePods)},
		findStep{when: "when it is", after: 1, lists: served(corePods), least: 1, most: 1},
		findStep{when: "afterwards", after: time.Hour, lists: served(corePods)},
	)
}
