// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
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
	for name := range families {
		if n := families.Sum(name, nil); n != 0 && refusals.MatchString(name) {
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
		{name: "2.0", protocol: "2.0", names: "underscore", server: prometheus.Options{Flags: []string{only2}}},
		{name: "auto", protocol: "auto", names: "raw"},
		{name: "auto, server of 2.0 only", protocol: "auto", names: "raw", server: prometheus.Options{Flags: []string{only2}}},
		{name: "auto, server of 1.0 only", protocol: "auto", names: "underscore", server: prometheus.Options{Flags: []string{only1}},
			answers: map[string]int{"415": 1}, complaints: []string{"io.prometheus.write.v2.Request"}},
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

// mustFindAsked asks for each of the pods.
func mustFindAsked(t *testing.T, s *prometheus.Server, app string) {
	t.Helper()
	var want []string
	for i := range askedPods {
		meta := askedMeta(i)
		want = append(want, model.Metric{
			"__name__": "cloudzero_pod_labels", "resource_type": "pod", "namespace": asked, "pod": model.LabelValue(meta.Name),
			"label_team":         model.LabelValue(meta.Labels["team"]),
			model.LabelName(app): model.LabelValue(meta.Labels["app.kubernetes.io/name"]),
		}.String())
	}
	got := make([]string, 0, askedPods)
	for _, sample := range query(t, s, "cloudzero_pod_labels") {
		got = append(got, sample.Metric.String())
		if sample.Value != 1 {
			t.Errorf("%s is %v, want 1", sample.Metric, sample.Value)
		}
	}
	compare(t, want, got)
}
