package e2e

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var scenarioSettings = settings{
	"LABELS_FILTERS":      "^environment$,^team$,^app$",
	"ANNOTATIONS_ENABLED": "true",
	"ANNOTATIONS_FILTERS": "^environment$,^team$,^app$",
	"NAMESPACES_EXCLUDE":  "default,kube-system,kube-public,kube-node-lease",
}

// scenarioNamespaces are those of the scenario, and those that are excluded, of
// which there must be nothing.
var scenarioNamespaces = []string{"production", "staging", "default", "kube-system", "kube-public", "kube-node-lease"}

var scenarioSeries = []string{
	`cloudzero_namespace_annotations{label_team="platform",namespace="production",resource_type="namespace"}`,
	`cloudzero_namespace_annotations{namespace="staging",resource_type="namespace"}`,
	`cloudzero_namespace_labels{label_environment="prod",label_team="platform",namespace="production",resource_type="namespace"}`,
	`cloudzero_namespace_labels{label_environment="staging",label_team="qa",namespace="staging",resource_type="namespace"}`,
	`cloudzero_pod_annotations{namespace="production",pod="web-1",resource_type="pod"}`,
	`cloudzero_pod_labels{label_app="web",label_team="platform",namespace="production",pod="web-1",resource_type="pod"}`,
}

// TestScenario sends, or prints, what a small cluster comes to.
func TestScenario(t *testing.T) {
	p, namespaces := shared.plane, shared.plane.client.CoreV1().Namespaces()
	for _, meta := range []metav1.ObjectMeta{
		{Name: "production", Labels: map[string]string{"environment": "prod", "team": "platform", "unmatched": "x"},
			Annotations: map[string]string{"team": "platform", "unmatched": "x"}},
		{Name: "staging", Labels: map[string]string{"environment": "staging", "team": "qa"}},
	} {
		created[*corev1.Namespace](t)(namespaces.Create(t.Context(), &corev1.Namespace{ObjectMeta: meta}, metav1.CreateOptions{}))
	}
	p.pods(t, 1, func(int) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: "production", Name: "web-1", Labels: map[string]string{"app": "web", "team": "platform"}}
	})
	inv := invocation{user: p.reader(t, "", "pods", "namespaces"), settings: scenarioSettings}

	t.Run("sent", func(t *testing.T) {
		j := newJournal(t)
		before := time.Now().Truncate(time.Millisecond)
		once(t, inv.with(settings{"DESTINATION": j.URL()})).mustSucceed(t)
		after := time.Now()
		compareSeries(t, j.ofNamespaces(scenarioNamespaces...), scenarioSeries)
		for _, s := range j.all() {
			if at := time.UnixMilli(s.At); at.Before(before) || at.After(after) {
				t.Errorf("the sample of %s is of %v, not of the run from %v to %v", s.Series, at, before, after)
			}
		}
	})
	for name, destination := range map[string]bool{"dry run": true, "dry run without a destination": false} {
		t.Run(name, func(t *testing.T) {
			j, own := newJournal(t), settings{}
			if destination {
				own["DESTINATION"] = j.URL()
			}
			dry := inv.with(own)
			dry.args = []string{"--dry-run"}
			r := once(t, dry)
			r.mustSucceed(t)
			compare(t, scenarioSeries, printed(t, r.stdout))
			if n := j.Requests(); n != 0 {
				t.Errorf("a dry run sent %d requests", n)
			}
		})
	}
}

var (
	namespaceOf = regexp.MustCompile(`[{,]namespace="([^"]*)"`)
	textLine    = regexp.MustCompile(`^(.+) 1 \d{13}$`)
)

// printed returns the scenario's series of a Prometheus text. Each line must have
// the value 1 and a time in milliseconds.
func printed(t *testing.T, text string) []string {
	t.Helper()
	var series []string
	for line := range strings.Lines(text) {
		match := textLine.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if match == nil {
			t.Fatalf("not a sample of 1 with a time: %q", line)
		}
		if namespace := namespaceOf.FindStringSubmatch(match[1]); namespace != nil && slices.Contains(scenarioNamespaces, namespace[1]) {
			series = append(series, match[1])
		}
	}
	return series
}

// TestManyPods is not parallel: it counts the API server's requests.
func TestManyPods(t *testing.T) {
	const (
		count = 5000
		// minPages is how many pages of the default PAGE_SIZE hold them all, and
		// one for the small first ones.
		minPages = 11
	)
	p := shared.plane
	p.namespace(t, "many")
	p.pods(t, count, func(i int) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: "many", Name: fmt.Sprintf("pod-%04d", i), Labels: map[string]string{"team": fmt.Sprintf("t%d", i%7)}}
	})
	var want []string
	for i := range count {
		want = append(want, fmt.Sprintf(
			`cloudzero_pod_labels{label_team="t%d",namespace="many",pod="pod-%04d",resource_type="pod"}`, i%7, i))
	}
	inv := invocation{user: p.reader(t, "", "pods")}
	j := newJournal(t)
	before := p.lists(t, "200")
	r := once(t, inv.with(settings{"DESTINATION": j.URL(), "LABELS_RESOURCES": "pods"}))
	r.mustSucceed(t)
	if pages := p.lists(t, "200") - before; pages < minPages {
		t.Errorf("%d pods came in %d pages, want at least %d", count, pages, minPages)
	}
	compareSeries(t, j.ofNamespaces("many"), want)
	r.mustHaveSent(t, "pods", len(j.Series()))
}

// stopLimit is how long a run may take to stop: 20 s for the last of what it
// holds, and some for a machine that is busy.
const stopLimit = 40 * time.Second

// TestStop sends signals to runs that hold records.
func TestStop(t *testing.T) {
	t.Parallel()
	const namespace = "stopped"
	p := shared.plane
	p.numbered(t, namespace, 500)
	inv := invocation{user: p.reader(t, namespace, "pods"), settings: settings{
		// Small batches: the run holds a few of them and cannot read on.
		"LABELS_RESOURCES": "pods", "NAMESPACES": namespace, "BATCH_SIZE": "10", "PAGE_SIZE": "10", "SEND_TIMEOUT": "5m",
	}}
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(fmt.Sprintf("%v, receiver hangs", signal), func(t *testing.T) {
			t.Parallel()
			j := newJournal(t)
			stalled := j.stall(t)
			run := launchOnce(t, inv.with(settings{"DESTINATION": j.URL()}))
			stalled.await(t)
			run.signal(t, signal)
			select {
			case <-run.ended:
			case <-time.After(stopLimit):
				t.Fatal("the run did not stop")
			}
			run.wait(t).mustBeStopped(t)
			j.mustHave(t, nil)
		})
	}
	t.Run("receiver takes what is held", func(t *testing.T) {
		t.Parallel()
		j := newJournal(t)
		stalled := j.stall(t)
		run := launchOnce(t, inv.with(settings{"DESTINATION": j.URL()}))
		stalled.await(t)
		run.signal(t, syscall.SIGTERM)
		run.awaitLog(t, "Stopping")
		stalled.release()
		r := run.wait(t)
		r.mustBeStopped(t)
		if len(j.Series()) == 0 {
			t.Error("nothing was received of what the run held")
		}
		r.mustHaveSent(t, "pods", len(j.Series()))
	})
}

func (r result) mustBeStopped(t *testing.T) {
	t.Helper()
	r.mustFail(t)
	if !slices.ContainsFunc(r.errors(t), func(message string) bool { return strings.Contains(message, "stopped by a signal") }) {
		t.Errorf("the log does not say that the run was stopped:\n%s", r.stderr)
	}
}
