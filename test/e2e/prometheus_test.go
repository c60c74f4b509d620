package e2e

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/common/model"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"labelstream/test/prometheus"
)

const (
	only1 = "--web.remote-write-receiver.accepted-protobuf-messages=prometheus.WriteRequest"
	only2 = "--web.remote-write-receiver.accepted-protobuf-messages=io.prometheus.write.v2.Request"
)

// newPrometheus is a server that is up until the test ends.
func newPrometheus(t *testing.T, opts prometheus.Options) *prometheus.Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s, err := prometheus.Start(ctx, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			s.WriteLog(t.Output(), 30)
		}
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func query(t *testing.T, s *prometheus.Server, promql string) model.Vector {
	t.Helper()
	vector, err := s.Query(t.Context(), promql)
	if err != nil {
		t.Fatal(err)
	}
	return vector
}

// mustHave demands the number of samples that the server has, and that it has
// refused none, for whatever reason.
func mustHave(t *testing.T, s *prometheus.Server, samples int) {
	t.Helper()
	families, err := s.Metrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := families.Sum("prometheus_tsdb_head_samples_appended_total", nil); got != float64(samples) {
		t.Errorf("the server has appended %v samples, want %d", got, samples)
	}
	for _, name := range slices.Sorted(maps.Keys(families)) {
		if !refusals.MatchString(name) {
			continue
		}
		if n := families.Sum(name, nil); n != 0 {
			t.Errorf("%s is %v", name, n)
		}
	}
}

// refusals are the metrics that count what a server does not take, or takes
// with reservations; most of them are only there once they are not zero.
var refusals = regexp.MustCompile(`^prometheus_.*(out_of_order|out_of_bound|too_old|duplicate|invalid_labels|wal_writes_failed).*_total$`)

// mustAnswer demands how many requests were answered with each code but 204.
func mustAnswer(t *testing.T, s *prometheus.Server, want map[string]int) {
	t.Helper()
	got, err := s.Answers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got["204"] == 0 {
		t.Error("no request was answered 204")
	}
	delete(got, "204")
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("other answers than 204 by code (-want +got):\n%s", diff)
	}
}

// mustComplain demands the lines of the server's log above info: as many as
// there are texts, each with its text.
func mustComplain(t *testing.T, s *prometheus.Server, want ...string) {
	t.Helper()
	got, err := s.Complaints()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.EqualFunc(got, want, strings.Contains) {
		t.Errorf("the server complains, want only of %q:\n%s", want, strings.Join(got, "\n"))
	}
}

const (
	asked     = "asked"
	askedPods = 600
)

func askedMeta(i int) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: asked, Name: fmt.Sprintf("pod-%03d", i), Labels: map[string]string{
		"team": fmt.Sprintf("team-%d", i%3), "app.kubernetes.io/name": fmt.Sprintf("app-%d", i%7),
	}}
}

// TestPrometheus backfills into real servers and asks them for every pod.
func TestPrometheus(t *testing.T) {
	t.Parallel()
	p := shared.plane
	p.namespace(t, asked)
	p.pods(t, askedPods, askedMeta)
	reader := p.reader(t, asked, "pods")
	refused := map[string]int{"415": 1}
	for _, test := range []struct {
		name            string
		protocol, names string
		server          prometheus.Options
		// answers are those that are not 204, complaints what the log has of them.
		answers    map[string]int
		complaints []string
	}{
		// What takes one version alone proves that it was used.
		{name: "1.0", protocol: "1.0", names: "raw", server: prometheus.Options{Flags: []string{only1}}},
		{name: "1.0, underscore", protocol: "1.0", names: "underscore", server: prometheus.Options{Flags: []string{only1}}},
		{name: "2.0", protocol: "2.0", names: "raw", server: prometheus.Options{Flags: []string{only2}}},
		{name: "2.0, underscore", protocol: "2.0", names: "underscore", server: prometheus.Options{Flags: []string{only2}}},
		{name: "auto", protocol: "auto", names: "raw"},
		{name: "auto, underscore", protocol: "auto", names: "underscore"},
		{name: "auto, server of 2.0 only", protocol: "auto", names: "raw", server: prometheus.Options{Flags: []string{only2}}},
		{name: "auto, server of 1.0 only", protocol: "auto", names: "raw", server: prometheus.Options{Flags: []string{only1}},
			answers: refused, complaints: []string{"io.prometheus.write.v2.Request"}},
		// It knows classic names alone. That it keeps nothing of a 2.0 request
		// shows nowhere: not in its answer, and not in its log.
		{name: "auto, Debian's", protocol: "auto", names: "underscore", server: prometheus.Options{Release: prometheus.Debian}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newPrometheus(t, test.server)
			r := once(t, invocation{user: reader, settings: settings{
				"DESTINATION": s.WriteURL(), "LABELS_RESOURCES": "pods", "NAMESPACES": asked,
				"PROTOCOL": test.protocol, "NAMES": test.names, "BATCH_SIZE": "50",
			}})
			r.mustSucceed(t)
			app := "label_app.kubernetes.io/name"
			if test.names == "underscore" {
				app = "label_app_kubernetes_io_name"
			}
			mustFindAsked(t, s, app)
			mustHave(t, s, askedPods)
			mustAnswer(t, s, test.answers)
			mustComplain(t, s, test.complaints...)
		})
	}
}

// mustFindAsked asks for the pods as users do, and for each of them.
func mustFindAsked(t *testing.T, s *prometheus.Server, app string) {
	t.Helper()
	if diff := cmp.Diff(map[string]float64{"{}": askedPods}, values(query(t, s, "count(cloudzero_pod_labels)"))); diff != "" {
		t.Errorf("count of pods (-want +got):\n%s", diff)
	}
	teams := map[string]float64{}
	var want []string
	for i := range askedPods {
		meta := askedMeta(i)
		teams[fmt.Sprintf(`{label_team="%s"}`, meta.Labels["team"])]++
		want = append(want, model.Metric{
			"__name__": "cloudzero_pod_labels", "resource_type": "pod", "namespace": asked, "pod": model.LabelValue(meta.Name),
			"label_team":         model.LabelValue(meta.Labels["team"]),
			model.LabelName(app): model.LabelValue(meta.Labels["app.kubernetes.io/name"]),
		}.String())
	}
	if diff := cmp.Diff(teams, values(query(t, s, "sum by (label_team) (cloudzero_pod_labels)"))); diff != "" {
		t.Errorf("sum of pods by team (-want +got):\n%s", diff)
	}
	all := values(query(t, s, "cloudzero_pod_labels"))
	compare(t, want, slices.Sorted(maps.Keys(all)))
	for series, value := range all {
		if value != 1 {
			t.Errorf("%s is %v, want 1", series, value)
		}
	}
}

// values are those of a vector by series.
func values(vector model.Vector) map[string]float64 {
	all := make(map[string]float64, len(vector))
	for _, sample := range vector {
		all[sample.Metric.String()] = float64(sample.Value)
	}
	return all
}

// TestPrometheusSoak backfills again and again while the same objects change, and
// demands that the server never sees a series go back in time.
func TestPrometheusSoak(t *testing.T) {
	t.Parallel()
	const (
		rounds = 24
		pods   = 200
	)
	p := shared.plane
	for _, protocol := range []string{"1.0", "2.0"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			namespace := "soak-" + strings.ReplaceAll(protocol, ".", "-")
			p.numbered(t, namespace, pods)
			s := newPrometheus(t, prometheus.Options{})
			inv := invocation{user: p.reader(t, namespace, "pods"), settings: settings{
				"DESTINATION": s.WriteURL(), "LABELS_RESOURCES": "pods", "NAMESPACES": namespace, "PROTOCOL": protocol,
				"BATCH_SIZE": "5", "PAGE_SIZE": "50", "SENDERS": "8",
			}}
			sent := 0
			for round := range rounds {
				run := launchOnce(t, inv)
				// While the run reads: most pods keep their series, some get a new
				// one, some go back to one of before.
				for i := round % 3; i < pods; i += 3 {
					p.setStep(t, namespace, numberedPod(i), fmt.Sprint(round%5))
				}
				r := run.wait(t)
				r.mustSucceed(t)
				sent += r.summary(t, "pods").Sent
			}
			r := once(t, inv)
			r.mustSucceed(t)
			sent += r.summary(t, "pods").Sent

			if want := (rounds + 1) * pods; sent != want {
				t.Errorf("the summaries say that %d records were sent, want %d", sent, want)
			}
			mustBeNewest(t, s, namespace, p.state(t, namespace))
			mustHave(t, s, sent)
			mustAnswer(t, s, nil)
			mustComplain(t, s)
		})
	}
}

// mustBeNewest demands of each pod that the series with the newest sample is
// that of its present label.
func mustBeNewest(t *testing.T, s *prometheus.Server, namespace string, state map[string]string) {
	t.Helper()
	newest := query(t, s, fmt.Sprintf(`topk by (pod) (1, timestamp(cloudzero_pod_labels{namespace=%q}))`, namespace))
	got := make(map[string]string, len(newest))
	for _, sample := range newest {
		got[string(sample.Metric["pod"])] = string(sample.Metric["label_step"])
	}
	if diff := cmp.Diff(state, got); diff != "" {
		t.Errorf("steps by pod (-want +got):\n%s", diff)
	}
}
