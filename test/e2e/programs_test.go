// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"cmp"
	"context"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"labelstream/test/cache"
	"labelstream/test/loopback"
	"labelstream/test/metrics"
	"labelstream/test/process"
	"labelstream/test/receiver"
)

// program is one that serves.
type program struct{ cache.Program }

var (
	kubeStateMetrics = program{cache.Program{
		Name: "kube-state-metrics", Module: "k8s.io/kube-state-metrics/v2", Version: "v2.18.0", Package: ".",
	}}
	// Later versions need a newer Go.
	victoriaMetrics = program{cache.Program{
		Name: "victoria-metrics", Module: "github.com/VictoriaMetrics/VictoriaMetrics", Version: "v1.150.0", Package: "./app/victoria-metrics",
	}}
)

// start runs the program at a free port of 127.0.0.1, PORT in its flags, until the test
// ends, and returns its URL when it serves its metrics.
func (p *program) start(t *testing.T, flags ...string) (url string) {
	t.Helper()
	path, err := p.Path(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ports, err := loopback.FreePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	port := strconv.Itoa(ports[0])
	for i := range flags {
		flags[i] = strings.ReplaceAll(flags[i], "PORT", port)
	}
	url = "http://127.0.0.1:" + port
	log := filepath.Join(t.TempDir(), "log")
	running, err := process.Start(log, path, flags...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		running.Kill()
		if t.Failed() {
			t.Logf("the end of the log of %s:\n%s", p.Name, process.Tail(log, 30))
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err = running.Await(ctx, func(ctx context.Context) error {
		_, err := metrics.Get(ctx, unkept, url+"/metrics")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return url
}

// unkept leaves no connection behind.
var unkept = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// fetch returns the body of an answer of 200.
func fetch(t *testing.T, url string) string {
	t.Helper()
	body, err := loopback.Ask(t.Context(), unkept, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// seriesOf is a series as the receivers of tests write it. An empty value is no label.
func seriesOf(labels map[string]string) string {
	var s receiver.Series
	for name, value := range labels {
		if value != "" {
			s.Labels = append(s.Labels, receiver.Label{Name: name, Value: value})
		}
	}
	slices.SortFunc(s.Labels, func(a, b receiver.Label) int { return cmp.Compare(a.Name, b.Name) })
	return s.String()
}

// textsOf are the series as text.
func textsOf(all []receiver.Series) (texts []string) {
	for _, series := range all {
		texts = append(texts, series.String())
	}
	return texts
}
