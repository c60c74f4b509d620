// SPDX-License-Identifier: Apache-2.0

package status

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestServeMetrics(t *testing.T) {
	server, err := Listen("127.0.0.1:0", Options{Gatherer: NewRegistry(Build{Version: "1.2.3", Commit: "abc", Date: "2026-01-02"})})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- server.Run(ctx) }()

	code, body := get(t, "http://"+server.Address()+"/metrics")
	if code != http.StatusOK {
		t.Errorf("GET /metrics answers %d", code)
	}
	for _, want := range []string{
		`labelstream_build_info{commit="abc",date="2026-01-02",version="1.2.3"} 1`,
		"process_resident_memory_bytes ",
		"go_goroutines ",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("the metrics lack %q", want)
		}
	}
	for _, path := range []string{"/other", "/healthz", "/readyz", "/debug/pprof/"} {
		if code, _ := get(t, "http://"+server.Address()+path); code != http.StatusNotFound {
			t.Errorf("GET %s answers %d, want %d where it was not asked for", path, code, http.StatusNotFound)
		}
	}

	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run returns %v", err)
	}
}

// TestHealth asks while all is well, and while it is not.
func TestHealth(t *testing.T) {
	stuck, stopping := errors.New("the watch of pods is stuck"), errors.New("stopping")
	report := func(w io.Writer) { _, _ = io.WriteString(w, "pods: synced\n") }
	for _, tt := range []struct {
		path         string
		alive, ready error
		code         int
		body         string
	}{
		{"/healthz", nil, stopping, 200, "ok\n"},
		{"/healthz", stuck, nil, 503, "the watch of pods is stuck\n"},
		{"/readyz", stuck, nil, 200, "ok\n"},
		{"/readyz", nil, stopping, 503, "stopping\n"},
		{"/readyz?verbose", nil, nil, 200, "pods: synced\nok\n"},
		{"/readyz?verbose", nil, stopping, 503, "pods: synced\nstopping\n"},
	} {
		mux := newMux(&Options{
			Gatherer: prometheus.NewRegistry(), Report: report,
			Alive: func() error { return tt.alive }, Ready: func() error { return tt.ready },
		})
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, tt.path, nil))
		if w.Code != tt.code || w.Body.String() != tt.body {
			t.Errorf("GET %s where %v and %v: %d %q, want %d %q", tt.path, tt.alive, tt.ready, w.Code, w.Body, tt.code, tt.body)
		}
	}
}

func TestProfiles(t *testing.T) {
	mux := newMux(&Options{Gatherer: prometheus.NewRegistry(), Profiles: true})
	for path, want := range map[string]string{
		"/debug/pprof/": "goroutine", "/debug/pprof/cmdline": "status.test", "/debug/pprof/goroutine?debug=1": "goroutine profile",
	} {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), want) {
			t.Errorf("GET %s: %d, without %q", path, w.Code, want)
		}
	}
}

func TestListenSaysWhichAddress(t *testing.T) {
	taken, err := Listen("127.0.0.1:0", Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer taken.listener.Close()
	_, err = Listen(taken.Address(), Options{})
	if err == nil || !strings.Contains(err.Error(), `listen on STATUS_ADDRESS "`+taken.Address()+`"`) {
		t.Errorf("Listen on a taken address returns %v", err)
	}
}
