package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
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
	p.pods(t, 23, limitedMeta)
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
		url := victoriaMetrics.start(t, func(port string) []string {
			return []string{"-httpListenAddr=127.0.0.1:" + port, "-storageDataPath=" + t.TempDir(), "-memory.allowedBytes=64MB"}
		})
		ignored := func() map[string]float64 {
			// It answers with what it has counted up to a second before.
			elapse(t, 1100*time.Millisecond)
			all := make(map[string]float64)
			for _, metric := range metricsOf(t, url)["vm_rows_ignored_total"].GetMetric() {
				value := metric.GetUntyped().GetValue() + metric.GetGauge().GetValue() + metric.GetCounter().GetValue()
				if value > 0 {
					all[metric.GetLabel()[0].GetValue()] = value
				}
			}
			return all
		}
		once(t, of("prometheus", url+"/api/v1/write")).mustSucceed(t)
		silent := map[string]float64{"too_many_labels": 1, "too_long_label_name": 1, "too_long_label_value": 1}
		if diff := gocmp.Diff(silent, ignored()); diff != "" {
			t.Fatalf("ignored without the preset (-want +got):\n%s", diff)
		}
		l := limits{40, 256, 4096}
		once(t, of("victoriametrics", url+"/api/v1/write")).mustSayLimits(t, l)
		if diff := gocmp.Diff(silent, ignored()); diff != "" {
			t.Errorf("ignored (-before +after the preset):\n%s", diff)
		}
		compare(t, p.limitedSeries(t, l), kept(t, url))
	})
	// The receiver refuses as Mimir does: with 400, and nothing of the batch.
	t.Run("Mimir", func(t *testing.T) {
		t.Parallel()
		l := limits{30, 1024, 2048}
		j := newJournal(t)
		j.Always(receiver.RefuseIf(l.exceeded, 400))
		once(t, of("prometheus", j.URL())).mustFail(t)
		before := j.Requests() - j.Accepted()
		once(t, of("mimir", j.URL())).mustSayLimits(t, l)
		if refused := j.Requests() - j.Accepted() - before; before == 0 || refused != 0 {
			t.Errorf("%d requests were refused with the preset, %d without", refused, before)
		}
		compare(t, p.limitedSeries(t, l), textsOf(j.All()))
	})
}

// limitedMeta is that of a pod with many labels, of one with a long key, of one with a
// value that is nearly as long as API servers allow, and of their neighbours.
func limitedMeta(i int) metav1.ObjectMeta {
	meta := metav1.ObjectMeta{Namespace: limited, Name: numberedPod(i), Labels: map[string]string{"team": "a"}}
	switch i {
	case 0:
		for n := range 20 {
			meta.Labels[fmt.Sprintf("keep-%03d", n)] = "k"
		}
		for n := range 103 {
			meta.Labels[fmt.Sprintf("a%03d%s", n, strings.Repeat("x", 4+n%53))] = "v"
		}
	case 1:
		meta.Labels[strings.Repeat("a.", 126)+"a/"+strings.Repeat("n", 63)] = "long"
	case 2:
		meta.Annotations = map[string]string{"large": strings.Repeat("v", 255<<10), "small": "v"}
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

// limitedSeries are those of the pods, within the limits. Labels that match the first
// of the filters stay first, then those whose names come first.
func (p *plane) limitedSeries(t *testing.T, l limits) (all []string) {
	t.Helper()
	pods, err := p.client.CoreV1().Pods(limited).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	rank := func(key string) string {
		switch {
		case key == "team":
			return "0"
		case strings.HasPrefix(key, "keep-"):
			return "1"
		}
		return "2"
	}
	for i := range pods.Items {
		pod := &pods.Items[i]
		series := func(metric, prefix string, values map[string]string) {
			labels := map[string]string{"__name__": metric, "namespace": pod.Namespace, "pod": pod.Name, "uid": string(pod.UID)}
			for _, key := range slices.SortedFunc(maps.Keys(values), func(a, b string) int { return strings.Compare(rank(a)+a, rank(b)+b) }) {
				name := prefix + notClassic.ReplaceAllString(key, "_")
				if len(labels) < l.labels && len(name) <= l.name {
					labels[name] = values[key][:min(len(values[key]), l.value)]
				}
			}
			all = append(all, seriesOf(labels))
		}
		series("kube_pod_labels", "label_", pod.Labels)
		series("kube_pod_annotations", "annotation_", pod.Annotations)
	}
	return all
}

// mustSayLimits demands that the run succeeded and that the log names the first pod
// beyond each limit, and counts in the summary what was left out.
func (r result) mustSayLimits(t *testing.T, l limits) {
	t.Helper()
	r.mustSucceed(t)
	tooMany, long := 124-(l.labels-4), 0
	want := []string{
		fmt.Sprintf("LABELSTREAM_MAX_LABELS_PER_SERIES %s: %d", numberedPod(0), tooMany),
		fmt.Sprintf("LABELSTREAM_VALUE_MAX_BYTES %s: 1", numberedPod(2)),
	}
	if l.name < len("label_")+317 {
		want, long = append(want, fmt.Sprintf("LABELSTREAM_LABEL_NAME_MAX_BYTES %s: 1", numberedPod(1))), 1
	}
	want = append(want, fmt.Sprintf("read 23, sent 23, too many %d, long names %d, truncated 1", tooMany, long))
	var got []string
	for line := range strings.Lines(r.stderr) {
		var e struct {
			Msg, Level, Setting, Object string
			Labels, Read, Sent          int
			TooMany                     int `json:"labels_too_many"`
			LongName                    int `json:"labels_long_name"`
			Truncated                   int `json:"values_truncated"`
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		switch {
		case e.Level == "warning":
			got = append(got, fmt.Sprintf("%s %s: %d", e.Setting, e.Object, e.Labels))
		case e.Msg == "Backfilled":
			got = append(got, fmt.Sprintf("read %d, sent %d, too many %d, long names %d, truncated %d", e.Read, e.Sent, e.TooMany, e.LongName, e.Truncated))
		}
	}
	compare(t, want, got)
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
