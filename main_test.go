package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
	"go.uber.org/goleak"

	"labelstream/config"
	"labelstream/emitter"
	"labelstream/informer"
	"labelstream/record"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRunFlags(t *testing.T) {
	t.Setenv("LABELSTREAM_DESTINATION", "http://127.0.0.1:1/api/v1/write")
	tests := []struct {
		name           string
		args           []string
		code           int
		stdout, stderr string
	}{
		{"version", []string{"--version"}, 0, "labelstream dev (commit unknown, unknown)\n", ""},
		{"unknown flag", []string{"--twice"}, 2, "", "flag provided but not defined: -twice; --help lists the flags, commands and settings\n"},
		{"argument of a command", []string{"rbac", "now"}, 2, "", `"now" is no flag and no command; --help lists the flags, commands and settings` + "\n"},
		{"command twice", []string{"rbac", "rbac"}, 2, "", `"rbac" is no flag and no command; --help lists the flags, commands and settings` + "\n"},
		{"argument", []string{"--once", "now"}, 2, "", `"now" is no flag and no command; --help lists the flags, commands and settings` + "\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			if code := run(t.Context(), tt.args, &stdout, &stderr); code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			if diff := cmp.Diff([]string{tt.stdout, tt.stderr}, []string{stdout.String(), stderr.String()}); diff != "" {
				t.Errorf("output (-want +got):\n%s", diff)
			}
		})
	}
}

// TestFlagsAreDocumented wants docs/configuration.md to say of each flag what
// the help does.
func TestFlagsAreDocumented(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"--help"}, &stdout, &stderr); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	document, err := os.ReadFile("docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	help := regexp.MustCompile(`(?m)^  -(.+)\n    \t(.+)$`).FindAllStringSubmatch(stdout.String(), -1)
	if len(help) == 0 {
		t.Fatal("the help has no flags")
	}
	for _, flag := range help {
		if row := fmt.Sprintf("| `--%s` | %s |", flag[1], flag[2]); !strings.Contains(string(document), row) {
			t.Errorf("docs/configuration.md lacks the line\n%s", row)
		}
	}
}

func TestRunHelpNamesFlagsAndSettings(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"--help"}, &stdout, &stderr); code != 0 {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{"-once", "-dry-run", "-kubeconfig", "-version", "rbac", "LABELSTREAM_DESTINATION"} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("the help lacks %s", want)
		}
	}
	if stderr.Len() > 0 {
		t.Errorf("stderr: %s", &stderr)
	}
}

func TestRunReportsAllMistakes(t *testing.T) {
	t.Setenv("LABELSTREAM_PAGE_SIZE", "many")
	t.Setenv("LABELSTREAM_DESTINATIONS", "http://collector/")
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"--once"}, &stdout, &stderr); code != exitUsage {
		t.Errorf("exit code %d, want %d", code, exitUsage)
	}
	for _, want := range []string{"LABELSTREAM_PAGE_SIZE", "LABELSTREAM_DESTINATION:", "LABELSTREAM_DESTINATIONS is no setting"} {
		if !strings.Contains(stderr.String(), want) {
			t.Errorf("stderr lacks %q:\n%s", want, &stderr)
		}
	}
}

// Whatever is set, no secret is on any output: of the help, of wrong settings,
// or of a run that fails.
func TestRunTellsNoSecret(t *testing.T) {
	const canary = "canary"
	file := filepath.Join(t.TempDir(), "client.yaml")
	if err := os.WriteFile(file, []byte("bearer_token: *"+canary+"\nproxy_url: http://u:"+canary+"@host:port/"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "none"))
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	right := map[string]string{"DESTINATION": "http://u:" + canary + "@host/?token=" + canary, "HEADERS": "X-Key=" + canary}
	for _, tt := range []struct {
		name     string
		args     []string
		settings map[string]string
		code     int
	}{
		{"help", []string{"--help"}, right, 0},
		{"no cluster", []string{"--once"}, right, exitFailed},
		{"wrong URL", []string{"--once"}, map[string]string{"DESTINATION": "u:" + canary + "@host"}, exitUsage},
		{"wrong headers", []string{"--once"}, map[string]string{"HEADERS": canary + ",Host=" + canary}, exitUsage},
		{"wrong file", []string{"--once"}, map[string]string{"HTTP_CLIENT_CONFIG_FILE": file}, exitUsage},
		{"no setting", []string{"--once"}, map[string]string{"BEARER_TOKEN": canary}, exitUsage},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for name, value := range tt.settings {
				t.Setenv("LABELSTREAM_"+name, value)
			}
			var stdout, stderr bytes.Buffer
			if code := run(t.Context(), tt.args, &stdout, &stderr); code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			if told := stdout.String() + stderr.String(); strings.Contains(told, canary) || told == "" {
				t.Errorf("the output tells a secret, or nothing:\n%s", told)
			}
		})
	}
}

const kubeconfigTemplate = `apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "http://SERVER"}}]
contexts: [{name: c, context: {cluster: c, user: u}}]
users: [{name: u, user: {}}]
current-context: c
`

func writeKubeconfig(t *testing.T, file, server string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(kubeconfigTemplate, "SERVER", server, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestRestConfigOrder(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	flag := writeKubeconfig(t, filepath.Join(dir, "flag"), "flag:1")
	variable := writeKubeconfig(t, filepath.Join(dir, "variable"), "variable:1")
	for _, tt := range []struct{ name, file, variable, host string }{
		{"flag first", flag, variable, "http://flag:1"},
		{"then KUBECONFIG", "", variable, "http://variable:1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("KUBECONFIG", tt.variable)
			cfg, err := restConfig(tt.file)
			if err != nil {
				t.Fatal(err)
			}
			if cfg.Host != tt.host || cfg.UserAgent != "labelstream/dev" {
				t.Errorf("host %q, user agent %q", cfg.Host, cfg.UserAgent)
			}
		})
	}
	t.Run("a KUBECONFIG that is missing is said", func(t *testing.T) {
		missing := filepath.Join(dir, "none")
		t.Setenv("KUBECONFIG", missing)
		if _, err := restConfig(""); err == nil || !strings.Contains(err.Error(), `KUBECONFIG="`+missing+`"`) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a file that is missing is said", func(t *testing.T) {
		_, err := restConfig(filepath.Join(dir, "none"))
		if !errors.Is(err, os.ErrNotExist) {
			t.Errorf("got %v", err)
		}
	})
}

func buildRecord(t *testing.T, kind *record.Kind, o *record.Object) *record.Record {
	t.Helper()
	cfg, err := config.Load(true)
	if err != nil {
		t.Fatal(err)
	}
	cfg.UnsafeValues = config.UnsafeValuesKeep
	r, ok := record.NewBuilder(kind, cfg).Build(o)
	if !ok {
		t.Fatal("the object gives no record")
	}
	return r
}

func TestPrinterPrintsPrometheusText(t *testing.T) {
	kind := &record.Kind{Resource: "pods", Type: "pod", Metric: "pod", NameLabel: "pod", Namespaced: true, Labels: true, Annotations: true}
	r := buildRecord(t, kind, &record.Object{
		Namespace: []byte("default"), Name: []byte("web"),
		Labels:      []record.Tag{{Key: []byte("app"), Value: []byte("web")}, {Key: []byte("app.kubernetes.io/name"), Value: []byte("x")}},
		Annotations: []record.Tag{{Key: []byte("note"), Value: []byte("a \"b\"\nc\\d")}},
	})
	var out bytes.Buffer
	tally := newTally()
	p := newPrinter(&out, tally.observe)
	before := time.Now().UnixMilli()
	if err := p.Put(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	after := time.Now().UnixMilli()
	p.Close()
	if err := p.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := []string{
		`cloudzero_pod_labels{label_app="web","label_app.kubernetes.io/name"="x",namespace="default",pod="web",resource_type="pod"} 1`,
		`cloudzero_pod_annotations{label_note="a \"b\"\nc\\d",namespace="default",pod="web",resource_type="pod"} 1`,
	}
	var got []string
	for line := range strings.Lines(out.String()) {
		line = strings.TrimSuffix(line, "\n")
		cut := strings.LastIndex(line, " ")
		got = append(got, line[:cut])
		if at, err := time.ParseDuration(line[cut+1:] + "ms"); err != nil || at.Milliseconds() < before || at.Milliseconds() > after {
			t.Errorf("timestamp %q is not between %d and %d", line[cut+1:], before, after)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
	if got := tally.counts("pods"); got != (outcomes{1, 0, 0}) {
		t.Errorf("tally %v", got)
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestPrinterReportsWriteError(t *testing.T) {
	kind := &record.Kind{Resource: "nodes", Type: "node", Metric: "node", NameLabel: "node", Labels: true}
	r := buildRecord(t, kind, &record.Object{Name: []byte("a")})
	p := newPrinter(brokenWriter{}, newTally().observe)
	if err := p.Put(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	p.Close()
	if err := p.Run(t.Context()); err == nil || err.Error() != "print the series: disk full" {
		t.Errorf("Run returns %v", err)
	}
}

func TestTallyAndMissing(t *testing.T) {
	pods, nodes := &record.Kind{Resource: "pods"}, &record.Kind{Resource: "nodes"}
	tally := newTally()
	tally.observe(emitter.Accepted, []emitter.Item{{Kind: pods}, {Kind: nodes}, {Kind: pods}})
	tally.observe(emitter.Refused, []emitter.Item{{Kind: pods}})
	tally.observe(emitter.Lost, []emitter.Item{{Kind: nodes}, {Kind: nodes}})
	if n := tally.accepted(); n != 3 {
		t.Errorf("%d accepted, want 3", n)
	}
	statuses := []informer.Status{
		{Resource: "pods", Namespace: "a", Read: 2, Synced: true, Took: time.Second},
		{Resource: "pods", Namespace: "b", Read: 1, Err: errors.New("list pods in namespace b: forbidden")},
		{Resource: "nodes", Read: 3},
	}
	for _, tt := range []struct {
		name  string
		ended bool
		want  []string
	}{
		{"by itself", false, []string{
			"list pods in namespace b: forbidden",
			"list nodes: not finished",
			"send pods: records that the destination refused: 1",
			"send nodes: records that could not be delivered: 2",
		}},
		{"by a stop that is said elsewhere", true, []string{
			"list pods in namespace b: forbidden",
			"send pods: records that the destination refused: 1",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, err := range missing(statuses, tally, tt.ended) {
				got = append(got, err.Error())
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("missing (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSummarize(t *testing.T) {
	log, hook := logtest.NewNullLogger()
	b := &backfill{log: log}
	tally := newTally()
	tally.observe(emitter.Accepted, []emitter.Item{{Kind: &record.Kind{Resource: "pods"}}, {Kind: &record.Kind{Resource: "pods"}}})
	b.summarize([]informer.Status{
		{Resource: "pods", Namespace: "a", Read: 2, Excluded: 1, Synced: true, Took: 2 * time.Second},
		{Resource: "pods", Namespace: "b", Read: 1, Drops: record.Drops{Cut: 4}, Synced: true, Took: time.Second},
		{Resource: "nodes", Read: 0, Err: errors.New("forbidden")},
		{Resource: "jobs.batch", Read: 1, Synced: true},
	}, tally)
	var got []logrus.Fields
	for _, entry := range hook.AllEntries() {
		entry.Data["msg"], entry.Data["level"] = entry.Message, entry.Level.String()
		got = append(got, entry.Data)
	}
	want := []logrus.Fields{
		{"msg": "Backfilled", "level": "info", "kind": "pods", "read": int64(3), "sent": int64(2), "seconds": 2.0,
			"objects_per_second": int64(1), "excluded": int64(1), "tags_cut": int64(4)},
		{"msg": "Not backfilled", "level": "error", "kind": "nodes", "read": int64(0), "sent": int64(0), "seconds": 0.0},
		{"msg": "Not backfilled", "level": "error", "kind": "jobs.batch", "read": int64(1), "sent": int64(0), "seconds": 0.0},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
}

func TestMeasure(t *testing.T) {
	known := []informer.Status{{Read: 1, Total: 10}, {Read: 2, Total: 5}}
	if p := measure(known, newTally(), time.Now()); p.read != 3 || p.total != 15 {
		t.Errorf("read %d of %d, want 3 of 15", p.read, p.total)
	}
	unknown := []informer.Status{{Read: 1, Total: 10}, {Read: 2, Total: -1}, {Total: 5}}
	if p := measure(unknown, newTally(), time.Now()); p.read != 3 || p.total != -1 {
		t.Errorf("read %d of %d, want 3 of -1", p.read, p.total)
	}
}

func TestRate(t *testing.T) {
	for _, tt := range []struct {
		p    progress
		want int64
	}{{progress{read: 100, elapsed: 2 * time.Second}, 50}, {progress{read: 5}, 5000}} {
		if got := tt.p.rate(); got != tt.want {
			t.Errorf("%+v: %d a second, want %d", tt.p, got, tt.want)
		}
	}
}

func TestStopCause(t *testing.T) {
	tooLong := errors.New("too long")
	late, cancel := context.WithTimeoutCause(t.Context(), 0, tooLong)
	defer cancel()
	<-late.Done()
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tt := range []struct {
		name string
		ctx  context.Context
		want error
	}{{"running", t.Context(), nil}, {"timeout", late, tooLong}, {"signal", stopped, errStopped}} {
		if got := stopCause(tt.ctx); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestLogErrorsWritesOneLineEach(t *testing.T) {
	log, hook := logtest.NewNullLogger()
	logErrors(log, errors.Join(errors.New("a"), errors.Join(errors.New("b"), errors.New("c"))))
	var got []string
	for _, entry := range hook.AllEntries() {
		got = append(got, entry.Message)
	}
	if diff := cmp.Diff([]string{"a", "b", "c"}, got); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
}
