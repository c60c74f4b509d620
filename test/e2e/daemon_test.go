package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// daemonLimit is after how long a daemon that nothing has ended is killed.
const daemonLimit = time.Hour

// soaking tells whether the tests are to take their time, hours of them if it
// must be, instead of the few seconds that each has otherwise.
func soaking() bool { return os.Getenv("LABELSTREAM_SOAK") != "" }

// inSoak returns the one or the other.
func inSoak[T any](soak, quick T) T {
	if soaking() {
		return soak
	}
	return quick
}

// following are the settings of daemons: one sender, so that all samples come in
// the order in which their causes did, and soon.
var following = settings{
	"LABELS_RESOURCES": "pods",
	"LABELS_FILTERS":   "^step$",
	"SENDERS":          "1",
	"SEND_INTERVAL":    "50ms",
}

// daemon is a run that stays.
type daemon struct {
	*process
	// status is the URL of what an operator looks at.
	status string
}

// startDaemon starts one, and returns when it serves its status.
func startDaemon(t *testing.T, inv invocation) *daemon {
	t.Helper()
	return spawn(t, inv).serving(t)
}

// serving returns when the process serves its status.
func (p *process) serving(t *testing.T) *daemon {
	t.Helper()
	p.awaitLog(t, `"Serving the status"`)
	address := servedAt.FindStringSubmatch(p.stderr.String())
	if address == nil {
		t.Fatalf("the log does not say where the status is served:\n%s", p.stderr.String())
	}
	return &daemon{process: p, status: "http://" + address[1]}
}

var servedAt = regexp.MustCompile(`"address":"([^"]+)"[^\n]*"Serving the status"`)

// spawn starts the binary as launch does, and has it end with the tests even
// where these are killed: unlike a backfill, a daemon would not by itself.
func spawn(t *testing.T, inv invocation) *process {
	t.Helper()
	// Most tests are of the watch; the webhook would need a certificate.
	inv.settings = settings{"WEBHOOK_ENABLED": "false"}.and(inv.settings)
	return spawnProgram(t, inv, shared.binary, inv.args...)
}

// spawnProgram does so with another program that ends as a daemon would.
func spawnProgram(t *testing.T, inv invocation, program string, args ...string) *process {
	t.Helper()
	if inv.limit == 0 {
		inv.limit = daemonLimit
	}
	ctx, cancel := context.WithTimeout(t.Context(), inv.limit)
	p := &process{ctx: ctx, ended: make(chan struct{})}
	p.stderr.changed = make(chan struct{})
	p.cmd = exec.CommandContext(ctx, program, args...)
	p.cmd.Env = environment(t, inv)
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	p.cmd.SysProcAttr = endWithParent()
	started := make(chan error)
	go func() {
		defer close(p.ended)
		// The kernel takes the end of the thread that started a child for the
		// end of its parent, so this thread has to stay.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.err = p.cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		cancel()
		t.Fatalf("start %s: %v", program, err)
	}
	t.Cleanup(func() {
		cancel()
		<-p.ended
		if t.Failed() {
			t.Logf("the log of %s:\n%s", strings.Join(p.cmd.Args, " "), lastLines(p.stderr.String(), 60))
		}
	})
	return p
}

// lastLines are so many at most.
func lastLines(text string, n int) string {
	lines := strings.SplitAfter(text, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "")
}

// signal sends one to the process.
func (p *process) signal(t *testing.T, signal syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(signal); err != nil {
		t.Fatalf("send %v: %v", signal, err)
	}
}

// kill ends the process without a word, and returns when it has ended.
func (p *process) kill(t *testing.T) {
	t.Helper()
	p.signal(t, syscall.SIGKILL)
	<-p.ended
}

// terminate has the daemon end, and demands that it lost nothing.
func (d *daemon) terminate(t *testing.T) {
	t.Helper()
	d.signal(t, syscall.SIGTERM)
	d.wait(t).mustSucceed(t)
}

// get asks for a page of the status, and returns the answer's code and text.
func (d *daemon) get(t *testing.T, path string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, d.status+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	// A connection of its own, so that none is left behind.
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatalf("ask for %s: %v\n%s", path, err, d.stderr.String())
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("read %s: %v", path, err)
	}
	return response.StatusCode, string(text)
}

// metrics are the values of /metrics by name and labels, as in the text format:
// `labelstream_synced{kind="pods"}`.
func (d *daemon) metrics(t *testing.T) map[string]float64 {
	t.Helper()
	code, text := d.get(t, "/metrics")
	if code != http.StatusOK {
		t.Fatalf("/metrics answers %d:\n%s", code, text)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatalf("read /metrics: %v", err)
	}
	values := make(map[string]float64)
	for name, family := range families {
		for _, metric := range family.GetMetric() {
			values[name+labelsOf(metric)] = metric.GetCounter().GetValue() + metric.GetGauge().GetValue()
		}
	}
	return values
}

func labelsOf(metric *dto.Metric) string {
	var pairs []string
	for _, pair := range metric.GetLabel() {
		pairs = append(pairs, fmt.Sprintf("%s=%q", pair.GetName(), pair.GetValue()))
	}
	if pairs == nil {
		return ""
	}
	return "{" + strings.Join(pairs, ",") + "}"
}

// eventuallyTrue asks until the answer is yes.
func eventuallyTrue(t *testing.T, what string, ask func() bool) {
	t.Helper()
	end := time.After(patience)
	for !ask() {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-end:
			t.Fatalf("%s: not within %s", what, patience)
		}
	}
}

// elapse returns after a time that is part of what is tested, such as that of an
// outage.
func elapse(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
		t.Fatal(context.Cause(t.Context()))
	}
}
