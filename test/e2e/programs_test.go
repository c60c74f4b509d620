package e2e

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
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

// program is one of another project, as the package of a Go module.
type program struct{ name, module, version, pkg string }

var (
	kubeStateMetrics = program{"kube-state-metrics", "k8s.io/kube-state-metrics/v2", "v2.18.0", "."}
	// Later versions need a newer Go.
	victoriaMetrics = program{"victoria-metrics", "github.com/VictoriaMetrics/VictoriaMetrics", "v1.150.0", "./app/victoria-metrics"}
)

// path returns that of the binary, which is built first if no run before did.
func (p *program) path(ctx context.Context) (string, error) {
	dir, err := cache.Dir(ctx, cache.Entry{
		Key:   fmt.Sprintf("%s-%s-%s-%s-%s", p.name, p.version, runtime.Version(), runtime.GOOS, runtime.GOARCH),
		Holds: p.name + " " + p.version,
		Fill:  p.build,
	})
	return filepath.Join(dir, p.name), err
}

// build builds the program in the directory of its module, with the dependencies that
// its own go.sum has.
func (p *program) build(ctx context.Context, dir string) error {
	fmt.Fprintln(os.Stderr, "building", p.name, p.version, "from its Go module (once, some minutes)")
	download := exec.CommandContext(ctx, "go", "mod", "download", "-json", p.module+"@"+p.version)
	download.Dir = dir
	out, err := download.Output()
	var source struct{ Dir string }
	if err := errors.Join(err, json.Unmarshal(out, &source)); err != nil {
		return fmt.Errorf("download %s %s: %w\n%s", p.module, p.version, err, out)
	}
	build := exec.CommandContext(ctx, "go", "build", "-mod=readonly", "-ldflags=-s -w", "-o", filepath.Join(dir, p.name), p.pkg)
	build.Dir = source.Dir
	if said, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s %s: %w\n%s", p.name, p.version, err, said)
	}
	return nil
}

// start runs the program at a free port of 127.0.0.1, PORT in its flags, until the test
// ends, and returns its URL when it serves its metrics.
func (p *program) start(t *testing.T, flags ...string) (url string) {
	t.Helper()
	path, err := p.path(t.Context())
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
			t.Logf("the end of the log of %s:\n%s", p.name, process.Tail(log, 30))
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
