// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"labelstream/test/receiver"
)

// limited is the namespace of TestLimits.
const limited = "limited"

// limits are a receiver's: labels of a series, and bytes of a name and of a value.
type limits struct{ labels, name, value int }

// TestLimits has pods that are beyond the limits of receivers: of one that ignores
// their series in silence, and of one that refuses their batch. With the receiver's
// preset all pods arrive, and what is left out is said.
func TestLimits(t *testing.T) {
	t.Parallel()
	p := shared.plane
	p.namespace(t, limited)
	p.pods(t, 23, func(i int) metav1.ObjectMeta { return limitedMeta(i, limits{128, 1024, 255 << 10}) })
	inv := invocation{user: p.reader(t, limited, "pods"), settings: settings{
		"NAMESPACES": limited, "LABELS_RESOURCES": "pods", "LABELS_FILTERS": "^team$,^keep-,.",
		"ANNOTATIONS_ENABLED": "true", "ANNOTATIONS_RESOURCES": "pods",
	}}
	// of returns the settings of a preset, without which the limits are not known.
	of := func(preset, destination string) invocation {
		inv := inv.with(settings{"PRESET": preset, "DESTINATION": destination})
		if preset == "prometheus" {
			inv = inv.with(settings{"VALUE_MAX_BYTES": "262144"})
		}
		return inv
	}

	t.Run("VictoriaMetrics", func(t *testing.T) {
		t.Parallel()
		url := victoriaMetrics.start(t, "-httpListenAddr=127.0.0.1:PORT", "-storageDataPath="+t.TempDir(), "-memory.allowedBytes=64MB")
		ignored := func() []string {
			// It answers with what it has counted up to a second before.
			elapse(t, 1100*time.Millisecond)
			return countedIgnored.FindAllString(fetch(t, url+"/metrics"), -1)
		}
		once(t, of("prometheus", url+"/api/v1/write")).mustSucceed(t)
		silent := []string{
			`vm_rows_ignored_total{reason="too_long_label_name"} 1`, `vm_rows_ignored_total{reason="too_long_label_value"} 1`,
			`vm_rows_ignored_total{reason="too_many_labels"} 1`,
		}
		compare(t, silent, ignored())
		l := limits{40, 256, 4096}
		once(t, of("victoriametrics", url+"/api/v1/write")).mustSayLimits(t,
			`"setting":"LABELSTREAM_MAX_LABELS_PER_SERIES" "object":"pod-000" "labels":88`,
			`"setting":"LABELSTREAM_LABEL_NAME_MAX_BYTES" "object":"pod-001" "labels":1,`,
			`"setting":"LABELSTREAM_VALUE_MAX_BYTES" "object":"pod-002" "labels":1,`,
			`"sent":23 "labels_too_many":88 "labels_long_name":1, "values_truncated":1}`)
		compare(t, silent, ignored())
		compare(t, p.limitedSeries(t, l), kept(t, url))
	})
	// A stand-in: it answers 400, as Mimir does, and keeps nothing of the batch.
	t.Run("Mimir", func(t *testing.T) {
		t.Parallel()
		l := limits{30, 1024, 2048}
		j := newJournal(t)
		j.Always(receiver.RefuseIf(l.exceeded, 400))
		once(t, of("prometheus", j.URL())).mustFail(t)
		before := j.Requests() - j.Accepted()
		once(t, of("mimir", j.URL())).mustSayLimits(t,
			`"setting":"LABELSTREAM_MAX_LABELS_PER_SERIES" "object":"pod-000" "labels":98`,
			`"setting":"LABELSTREAM_VALUE_MAX_BYTES" "object":"pod-002" "labels":1,`,
			`"sent":23 "labels_too_many":98 "values_truncated":1}`)
		if refused := j.Requests() - j.Accepted() - before; before == 0 || refused != 0 {
			t.Errorf("%d requests were refused with the preset, %d without", refused, before)
		}
		compare(t, p.limitedSeries(t, l), textsOf(j.All()))
	})
}

// countedIgnored are the counts, above zero, of what VictoriaMetrics has ignored.
var countedIgnored = regexp.MustCompile(`(?m)^vm_rows_ignored_total\{reason="[a-z_]+"\} [1-9][0-9]*$`)

// limitedMeta is what limits leave of a pod with many labels, of one with a long key, of
// one with a value that is nearly as long as API servers allow, and of neighbours.
func limitedMeta(i int, l limits) metav1.ObjectMeta {
	meta := metav1.ObjectMeta{Namespace: limited, Name: numberedPod(i), Labels: map[string]string{"team": "a"}}
	switch {
	case i == 0:
		for n := range 20 {
			meta.Labels[fmt.Sprintf("keep-%03d", n)] = "k"
		}
		// There are four labels beside the pod's.
		for n := range l.labels - 4 - len(meta.Labels) {
			meta.Labels[fmt.Sprintf("a%03d%s", n, strings.Repeat("x", 4+n%53))] = "v"
		}
	case i == 1 && l.name >= len("label_")+317:
		meta.Labels[strings.Repeat("a.", 126)+"a/"+strings.Repeat("n", 63)] = "long"
	case i == 2:
		meta.Annotations = map[string]string{"large": strings.Repeat("v", l.value), "small": "v"}
	}
	return meta
}

func (l limits) exceeded(req *receiver.Request) bool {
	return slices.ContainsFunc(req.Series, func(s receiver.Series) bool {
		return len(s.Labels) > l.labels || slices.ContainsFunc(s.Labels, func(label receiver.Label) bool {
			return len(label.Name) > l.name || len(label.Value) > l.value
		})
	})
}

var notClassic = regexp.MustCompile(`[^a-zA-Z0-9_]`)

// limitedSeries are those of the pods, within the limits.
func (p *plane) limitedSeries(t *testing.T, l limits) (all []string) {
	t.Helper()
	pods, err := p.client.CoreV1().Pods(limited).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range pods.Items {
		pod, meta := &pods.Items[i], limitedMeta(i, l)
		series := func(metric, prefix string, values map[string]string) {
			labels := map[string]string{"__name__": metric, "namespace": limited, "pod": pod.Name, "uid": string(pod.UID)}
			for key, value := range values {
				labels[prefix+notClassic.ReplaceAllString(key, "_")] = value
			}
			all = append(all, seriesOf(labels))
		}
		series("kube_pod_labels", "label_", meta.Labels)
		series("kube_pod_annotations", "annotation_", meta.Annotations)
	}
	return all
}

// mustSayLimits demands that the run succeeded, and that its log names the first pod
// beyond each limit and counts what was left out.
func (r result) mustSayLimits(t *testing.T, lines ...string) {
	t.Helper()
	r.mustSucceed(t)
	log := slices.Collect(strings.Lines(r.stderr))
	for _, words := range append(lines, `"level":"warning"`) {
		found, want := 0, 1
		if words == `"level":"warning"` {
			want = len(lines) - 1
		}
		for _, line := range log {
			if containsAll(line, strings.Fields(words)) {
				found++
			}
		}
		if found != want {
			t.Errorf("%d lines have %s, want %d:\n%s", found, words, want, r.stderr)
		}
	}
}

// kept are the series that VictoriaMetrics has.
func kept(t *testing.T, url string) (all []string) {
	t.Helper()
	// What was sent can be asked for after that.
	fetch(t, url+"/internal/force_flush")
	body := fetch(t, url+"/api/v1/export?match[]=%7B__name__=~%22kube_.*%22%7D")
	for line := range strings.Lines(body) {
		var series struct{ Metric map[string]string }
		if err := json.Unmarshal([]byte(line), &series); err != nil {
			t.Fatal(err)
		}
		all = append(all, seriesOf(series.Metric))
	}
	return all
}
