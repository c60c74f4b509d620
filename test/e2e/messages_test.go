package e2e

import (
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/tools/clientcmd"

	"labelstream/test/controlplane"
)

// nowhere is a destination that nothing is sent to.
const nowhere = "http://127.0.0.1:1/api/v1/write"

// TestWrongSettings wants a line for each mistake, all at once, and nothing else.
func TestWrongSettings(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		args     []string
		settings settings
		// each line has to contain all of its words.
		want [][]string
	}{
		{"no destination", nil, settings{}, [][]string{{"LABELSTREAM_DESTINATION", "required"}}},
		{"several", []string{"--once"}, settings{
			"DESTINATION": "collector", "PAGE_SIZE": "many", "LABELS_FILTERS": "^ok$,^(broken$", "LABEL_FILTERS": "x",
		}, [][]string{
			{"LABELSTREAM_DESTINATION", `"collector"`, "http"},
			{"LABELSTREAM_LABELS_FILTERS", "^(broken$"},
			{"LABELSTREAM_LABEL_FILTERS", "LABELSTREAM_LABELS_FILTERS"},
			{"LABELSTREAM_PAGE_SIZE", `"many"`, "whole number"},
		}},
		{"names of before", nil, settings{"DESTINATION": nowhere, "WATCH_ENABLED": "false", "WEBHOOK_ENABLED": "true"}, [][]string{
			{"LABELSTREAM_WATCH_ENABLED", "CHANGES=none"},
			{"LABELSTREAM_WEBHOOK_ENABLED", "CHANGES=webhook"},
		}},
		{"webhook and election", nil, settings{"DESTINATION": nowhere, "CHANGES": "webhook", "LEADER_ELECTION": "true"}, [][]string{
			{"LABELSTREAM_LEADER_ELECTION", "LABELSTREAM_CHANGES"},
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := launch(t, invocation{kubeconfig: "/nonexistent", args: test.args, settings: test.settings}).wait(t)
			r.mustEndWith(t, 2)
			lines := slices.Collect(strings.Lines(r.stderr))
			if len(lines) != len(test.want) {
				t.Fatalf("%d lines, want %d:\n%s", len(lines), len(test.want), r.stderr)
			}
			for _, words := range test.want {
				if !slices.ContainsFunc(lines, func(line string) bool { return containsAll(line, words) }) {
					t.Errorf("no line contains all of %q:\n%s", words, r.stderr)
				}
			}
		})
	}
}

// serviceLinks are variables that Kubernetes gives to a pod beside a Service that is
// called labelstream.
var serviceLinks = settings{
	"PORT": "tcp://10.96.0.9:8443", "SERVICE_HOST": "10.96.0.9", "SERVICE_PORT": "8443", "SERVICE_PORT_HTTPS": "8443",
	"PORT_8443_TCP": "tcp://10.96.0.9:8443", "PORT_8443_TCP_ADDR": "10.96.0.9",
	"PORT_8443_TCP_PORT": "8443", "PORT_8443_TCP_PROTO": "tcp",
}

// TestNothingToSend wants success, and a summary that says how much there was.
func TestNothingToSend(t *testing.T) {
	t.Parallel()
	const namespace = "empty"
	shared.plane.namespace(t, namespace)
	reader := shared.plane.reader(t, namespace, "pods", "deployments.apps")
	j := newJournal(t)
	r := once(t, invocation{user: reader, settings: serviceLinks.and(settings{
		"DESTINATION": j.URL(), "LABELS_RESOURCES": "pods,deployments", "NAMESPACES": namespace,
	})})
	r.mustSucceed(t)
	want := []entry{
		{Level: "info", Message: "Backfilled", Kind: "pods"},
		{Level: "info", Message: "Backfilled", Kind: "deployments.apps"},
	}
	got := []entry{r.summary(t, "pods"), r.summary(t, "deployments.apps")}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("summary (-want +got):\n%s", diff)
	}
	if n := j.Requests(); n != 0 {
		t.Errorf("%d requests were sent for nothing", n)
	}
}

// TestCannotRun wants exit code 1 and a clear line for each reason.
func TestCannotRun(t *testing.T) {
	t.Parallel()
	const namespace = "cannot-run"
	p := shared.plane
	p.numbered(t, namespace, 1)
	reader := p.reader(t, namespace, "pods")
	closed := closedPort(t)
	dir := t.TempDir()
	garbage := file(t, "{")
	base := settings{"DESTINATION": nowhere, "LABELS_RESOURCES": "pods", "NAMESPACES": namespace, "ONCE_TIMEOUT": "3s"}
	for name, test := range map[string]struct {
		kubeconfig string
		settings   settings
		want       []string
	}{
		"kubeconfig missing":      {filepath.Join(dir, "missing"), nil, []string{"API server", `KUBECONFIG="` + filepath.Join(dir, "missing") + `"`}},
		"kubeconfig unreadable":   {garbage, nil, []string{"API server", garbage}},
		"API server unreachable":  {kubeconfigFor(t, dir, "https://"+closed), nil, []string{closed, "connection refused"}},
		"destination unreachable": {"", settings{"DESTINATION": "http://user:secret@" + closed + "/write?key=secret"}, []string{"records unsent", "not done within LABELSTREAM_ONCE_TIMEOUT", "send to http://" + closed + "/write", "connection refused"}},
		"resource unknown":        {"", settings{"LABELS_RESOURCES": "nothings"}, []string{"LABELSTREAM_LABELS_RESOURCES", `"nothings"`, "no such resource"}},
		"group unknown":           {"", settings{"LABELS_RESOURCES": "*.example.com"}, []string{"LABELSTREAM_LABELS_RESOURCES", `"*.example.com"`, "no such group"}},
		"out of time":             {"", nil, []string{"not done within LABELSTREAM_ONCE_TIMEOUT (3s)"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := once(t, invocation{user: reader, kubeconfig: test.kubeconfig, settings: base.and(test.settings)})
			r.mustFail(t)
			found := slices.ContainsFunc(r.log(t), func(e entry) bool { return containsAll(e.text(), test.want) })
			if !found {
				t.Errorf("no line contains all of %q:\n%s", test.want, r.stderr)
			}
			if strings.Contains(r.stderr, "secret") {
				t.Errorf("the log holds a secret:\n%s", r.stderr)
			}
		})
	}
}

// TestSomeUnknown sends what it can, and names the resource that it cannot.
func TestSomeUnknown(t *testing.T) {
	t.Parallel()
	const namespace = "some-unknown"
	p := shared.plane
	p.numbered(t, namespace, 1)
	reader := p.reader(t, namespace, "pods")
	j := newJournal(t)
	r := once(t, invocation{user: reader, settings: settings{
		"DESTINATION": j.URL(), "LABELS_RESOURCES": "widgets.example.com,pods", "NAMESPACES": namespace,
	}})
	r.mustFail(t)
	j.mustHave(t, podSeries(namespace, 1))
	r.mustSayOnce(t, "LABELSTREAM_LABELS_RESOURCES", `"widgets.example.com"`)
	if n := len(r.errors(t)); n != 1 {
		t.Errorf("%d errors, want that about the unknown resource alone:\n%s", n, r.stderr)
	}
}

// closedPort is an address that nobody listens on.
func closedPort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// kubeconfigFor is the administrator's, but for another server.
func kubeconfigFor(t *testing.T, dir, server string) string {
	t.Helper()
	path := filepath.Join(dir, "elsewhere")
	if err := shared.plane.WriteKubeconfig(path, controlplane.Admin); err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.LoadFromFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cluster := range maps.Values(config.Clusters) {
		cluster.Server = server
	}
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		t.Fatal(err)
	}
	return path
}
