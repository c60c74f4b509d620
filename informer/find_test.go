// SPDX-License-Identifier: Apache-2.0

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

// runFinder has a finder look for resources.
func runFinder(t *testing.T, resources string, steps []findStep, logs []string) {
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
	found := func(all []*Kind) {
		mu.Lock()
		defer mu.Unlock()
		for _, kind := range all {
			kinds = append(kinds, resolved(kind))
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for i, next := range steps {
		mu.Lock()
		step, asked, kinds = next, 0, nil
		mu.Unlock()
		if i == 0 {
			running.Go(func() { f.Run(ctx, found) })
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
	var got []string
	for _, entry := range hook.AllEntries() {
		got = append(got, entry.Message)
	}
	expect(t, "log", logs, got)
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

// TestFinder has what is named come, go, and be served otherwise. A custom resource
// that is installed long after the start is found within a minute, once, and then
// nothing is asked any more; what a whole group may hold is never complete.
func TestFinder(t *testing.T) {
	both := serves("example.com/v1", "widgets Widget widget ns lw", "gears Gear gear ns lw")
	inCluster := serves("example.com/v1", "widgets Widget widget cluster lw")
	version2 := serves("example.com/v2", "widgets Widget widget ns lw")
	reports := serves("example.com/v1", "reports Report report ns l")
	widgetsName, groupName, reportsName := []string{"widgets.example.com"}, []string{"*.example.com"}, []string{"reports.example.com"}
	noReports := []string{`"reports.example.com": the server does not let this resource be watched`}
	for _, test := range []struct {
		name, resources string
		steps           []findStep
		logs            []string
	}{
		{"a resource", "pods,widgets.example.com", []findStep{
			{when: "at first", lists: served(corePods), found: []string{foundPods}, missing: []string{noWidgets}, notFound: widgetsName, least: 2, most: 3},
			{when: "without it", after: time.Hour, lists: served(corePods), missing: []string{noWidgets}, notFound: widgetsName, least: 60, most: 120},
			{when: "with it", lists: served(corePods, widgets), found: []string{foundWidgets}, least: 1, most: 1},
			{when: "with all", after: time.Hour, lists: served(corePods, widgets)},
		}, []string{"Cannot read a resource", "Found a kind to read", "Found a kind to read"}},
		{"a whole group", "*.example.com", []findStep{
			{when: "empty", lists: served(corePods), missing: []string{noGroup}, notFound: groupName, least: 2, most: 3},
			{when: "one", lists: served(widgets), found: []string{foundWidgets}, least: 1, most: 2},
			{when: "two", lists: served(both), found: []string{foundGears}, least: 1, most: 2},
			{when: "one again", lists: served(widgets), least: 1, most: 2},
			{when: "two again", lists: served(both), least: 1, most: 2},
		}, []string{"Cannot read a resource", "Found a kind to read", "Found a kind to read"}},
		{"a server", "pods,*.example.com", []findStep{
			{when: "without one", after: time.Hour, err: errRefused, missing: []string{"connection refused"}, notFound: []string{"*.example.com", "pods"}, least: 60, most: 200},
			{when: "with one", lists: served(corePods), found: []string{foundPods}, missing: []string{noGroup}, notFound: groupName, least: 1, most: 3},
			{when: "gone", err: errRefused, missing: []string{"connection refused", noGroup}, notFound: groupName, least: 1, most: 20},
		}, []string{
			"Cannot discover what the API server serves", "Discovering again", "Cannot read a resource", "Found a kind to read",
			"Cannot discover what the API server serves",
		}},
		{"what can only be listed", "pods,reports.example.com", []findStep{
			{when: "at first", lists: served(corePods, reports), found: []string{foundPods}, missing: noReports, notFound: reportsName, least: 1, most: 1},
			{when: "an hour later", after: time.Hour, lists: served(corePods, reports), missing: noReports, notFound: reportsName},
		}, []string{"Cannot read a resource", "Found a kind to read"}},
		{"a definition", "pods,widgets.example.com", []findStep{
			{when: "at first", lists: served(corePods, widgets), found: []string{foundPods, foundWidgets}, least: 1, most: 1},
			{when: "as it was", again: 1, lists: served(corePods, widgets), least: 1, most: 1},
			{when: "without a server", again: 1, err: errRefused, missing: []string{"connection refused"}, least: 2, most: 20},
			{when: "gone", lists: served(corePods), missing: []string{noWidgets}, notFound: widgetsName, least: 1, most: 3},
			{when: "as before", lists: served(corePods, widgets), least: 1, most: 1},
			{when: "in another scope", again: 1, lists: served(corePods, inCluster), found: []string{strings.Replace(foundWidgets, " ns ", " cluster ", 1)}, least: 1, most: 1},
			{when: "in another version", again: 1, lists: served(corePods, version2), found: []string{strings.Replace(foundWidgets, "v1", "v2", 1)}, least: 1, most: 1},
			{when: "in a version that stands in", again: 1, err: groupsFailed("example.com"), lists: served(corePods, widgets), least: 1, most: 1},
		}, []string{
			"Found a kind to read", "Found a kind to read", "Cannot discover what the API server serves", "Discovering again", "Cannot read a resource",
			"Found a kind to read", "Found a kind to read",
		}},
		{"many who ask at a time", "pods", []findStep{
			{when: "at first", lists: served(corePods), found: []string{foundPods}, least: 1, most: 1},
			{when: "before the delay is over", again: 10, after: rediscoverDelay/2 - 1, lists: served(corePods)},
			{when: "when it is", after: 1, lists: served(corePods), least: 1, most: 1},
			{when: "afterwards", after: time.Hour, lists: served(corePods)},
		}, []string{"Found a kind to read"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { runFinder(t, test.resources, test.steps, test.logs) })
		})
	}
	if hint := outage.Hint(errNotWatchable); !strings.Contains(hint, "LABELSTREAM_CHANGES=none") {
		t.Errorf("hint %q, want one with LABELSTREAM_CHANGES=none", hint)
	}
}
