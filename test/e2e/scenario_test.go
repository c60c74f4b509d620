package e2e

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var scenarioSettings = settings{
	"LABELS_FILTERS":      "^environment$,^team$,^app$",
	"ANNOTATIONS_ENABLED": "true",
	"ANNOTATIONS_FILTERS": "^environment$,^team$,^app$",
	"NAMESPACES_EXCLUDE":  "default,kube-system,kube-public,kube-node-lease",
}

// scenarioNamespaces are those of the scenario, and those that are excluded,
// of which there must be nothing.
var scenarioNamespaces = []string{"production", "staging", "default", "kube-system", "kube-public", "kube-node-lease"}

var scenarioSeries = []string{
	`cloudzero_namespace_annotations{label_team="platform",namespace="production",resource_type="namespace"}`,
	`cloudzero_namespace_annotations{namespace="staging",resource_type="namespace"}`,
	`cloudzero_namespace_labels{label_environment="prod",label_team="platform",namespace="production",resource_type="namespace"}`,
	`cloudzero_namespace_labels{label_environment="staging",label_team="qa",namespace="staging",resource_type="namespace"}`,
	`cloudzero_pod_annotations{namespace="production",pod="web-1",resource_type="pod"}`,
	`cloudzero_pod_labels{label_app="web",label_team="platform",namespace="production",pod="web-1",resource_type="pod"}`,
}

func TestScenario(t *testing.T) {
	p := shared.plane
	p.namespace(t, metav1.ObjectMeta{
		Name:        "production",
		Labels:      map[string]string{"environment": "prod", "team": "platform", "unmatched": "x"},
		Annotations: map[string]string{"team": "platform", "unmatched": "x"},
	})
	p.namespace(t, metav1.ObjectMeta{Name: "staging", Labels: map[string]string{"environment": "staging", "team": "qa"}})
	p.pods(t, 1, func(int) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: "production", Name: "web-1", Labels: map[string]string{"app": "web", "team": "platform"}}
	})
	reader := p.grant(t, "", "pods", "namespaces")

	t.Run("sent", func(t *testing.T) {
		s := newReceiver(t)
		before := time.Now().Truncate(time.Millisecond)
		once(t, invocation{user: reader, settings: scenarioSettings.and(settings{"DESTINATION": s.URL()})}).mustSucceed(t)
		after := time.Now()
		compareSeries(t, ofNamespaces(s, scenarioNamespaces...), scenarioSeries)
		for _, series := range s.All() {
			if at := time.UnixMilli(series.Samples[0].Timestamp); at.Before(before) || at.After(after) {
				t.Errorf("series %s is of %v, not of the run from %v to %v", series, at, before, after)
			}
		}
	})

	t.Run("dry run", func(t *testing.T) {
		s := newReceiver(t)
		r := once(t, invocation{user: reader, args: []string{"--dry-run"}, settings: scenarioSettings.and(settings{"DESTINATION": s.URL()})})
		r.mustSucceed(t)
		compare(t, scenarioSeries, printed(t, r.stdout))
		if n := s.Requests(); n != 0 {
			t.Errorf("a dry run sent %d requests", n)
		}
	})

	t.Run("dry run without a destination", func(t *testing.T) {
		r := once(t, invocation{user: reader, args: []string{"--dry-run"}, settings: scenarioSettings})
		r.mustSucceed(t)
		compare(t, scenarioSeries, printed(t, r.stdout))
	})

	t.Run("setting instead of flag", func(t *testing.T) {
		s := newReceiver(t)
		once := scenarioSettings.and(settings{"DESTINATION": s.URL(), "ONCE": "true"})
		launch(t, invocation{user: reader, settings: once}).wait(t).mustSucceed(t)
		compareSeries(t, ofNamespaces(s, scenarioNamespaces...), scenarioSeries)
	})
}

var namespaceOf = regexp.MustCompile(`[{,]namespace="([^"]*)"`)

var textLine = regexp.MustCompile(`^(.+) 1 \d{13}$`)

// printed returns the scenario's series of a Prometheus text, sorted. Each line
// must have the value 1 and a time in milliseconds.
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
	slices.Sort(series)
	return series
}
