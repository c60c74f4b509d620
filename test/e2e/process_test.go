// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"labelstream/test/process"
)

// settings are LABELSTREAM_* variables without the prefix.
type settings map[string]string

// and returns both, where the others win.
func (s settings) and(others settings) settings {
	all := settings{}
	maps.Copy(all, s)
	maps.Copy(all, others)
	return all
}

// invocation is how the binary is run.
type invocation struct {
	// plane is the shared one where nil. A kubeconfig, if there is one, is used in
	// place of the user's.
	plane      *plane
	user       string
	kubeconfig string
	args       []string
	settings   settings
	// limit is after how long the run is killed, patience where zero.
	limit time.Duration
}

// with is the same with further settings.
func (inv invocation) with(more settings) invocation {
	inv.settings = inv.settings.and(more)
	return inv
}

// environment is the binary's whole one: the tester's settings stay out.
func (inv invocation) environment(t *testing.T) []string {
	t.Helper()
	home := t.TempDir()
	if inv.kubeconfig == "" {
		inv.kubeconfig = filepath.Join(home, "kubeconfig")
		if inv.plane == nil {
			inv.plane = shared.plane
		}
		if err := inv.plane.WriteKubeconfig(inv.kubeconfig, inv.user); err != nil {
			t.Fatal(err)
		}
	}
	env := []string{"HOME=" + home, "PATH=" + os.Getenv("PATH"), "KUBECONFIG=" + inv.kubeconfig}
	all := settings{"STATUS_ADDRESS": "127.0.0.1:0", "ONCE_TIMEOUT": "5m"}.and(inv.settings)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		env = append(env, "LABELSTREAM_"+name+"="+all[name])
	}
	return env
}

// run is a process of the binary.
type run struct {
	cmd    *exec.Cmd
	ctx    context.Context
	stdout bytes.Buffer
	stderr logBuffer
	ended  chan struct{}
	err    error
}

// launch starts the binary. It ends with the test, or with the tests where these
// are killed, if nothing else ends it.
func launch(t *testing.T, inv invocation) *run {
	t.Helper()
	return launchProgram(t, inv, shared.binary, inv.args...)
}

// launchProgram does so with another program that runs the binary.
func launchProgram(t *testing.T, inv invocation, program string, args ...string) *run {
	t.Helper()
	if inv.limit == 0 {
		inv.limit = patience
	}
	ctx, cancel := context.WithTimeout(t.Context(), inv.limit)
	p := &run{ctx: ctx, ended: make(chan struct{}), stderr: logBuffer{changed: make(chan struct{})}}
	p.cmd = exec.CommandContext(ctx, program, args...)
	p.cmd.Env = inv.environment(t)
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	ended, err := process.Begin(p.cmd)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		p.err = <-ended
	}()
	t.Cleanup(func() {
		cancel()
		<-p.ended
		if t.Failed() {
			t.Logf("the log of %s:\n%s", strings.Join(p.cmd.Args, " "), lastLines(p.stderr.String(), 60))
		}
	})
	return p
}

func lastLines(text string, n int) string {
	lines := strings.SplitAfter(text, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "")
}

// wait returns how the run ended, and fails the test if it had to be killed.
func (p *run) wait(t *testing.T) result {
	t.Helper()
	<-p.ended
	r := result{code: p.cmd.ProcessState.ExitCode(), stdout: p.stdout.String(), stderr: p.stderr.String()}
	if p.ctx.Err() != nil {
		t.Fatalf("the run did not end: %v\n%s", context.Cause(p.ctx), r.stderr)
	}
	if p.err != nil && !errors.As(p.err, new(*exec.ExitError)) {
		t.Fatal(p.err)
	}
	return r
}

// await waits until the log matches a pattern, and returns the submatches.
func (p *run) await(t *testing.T, pattern *regexp.Regexp) []string {
	t.Helper()
	for ended := false; ; {
		text, changed := p.stderr.read()
		if found := pattern.FindStringSubmatch(text); found != nil {
			return found
		}
		if ended {
			t.Fatalf("the run ended and has never said %s:\n%s", pattern, text)
		}
		select {
		case <-changed:
		case <-p.ended:
			// The last lines have come by now.
			ended = true
		}
	}
}

// awaitLog waits until the log has a text.
func (p *run) awaitLog(t *testing.T, text string) {
	t.Helper()
	p.await(t, regexp.MustCompile(regexp.QuoteMeta(text)))
}

// signal sends one to the process.
func (p *run) signal(t *testing.T, signal syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(signal); err != nil {
		t.Fatalf("send %v: %v", signal, err)
	}
}

// kill ends the process without a word, and returns when it has ended.
func (p *run) kill(t *testing.T) {
	t.Helper()
	p.signal(t, syscall.SIGKILL)
	<-p.ended
}

// peakRSS is the most memory that the process has had resident so far, in bytes.
func (p *run) peakRSS(t *testing.T) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		var kibibytes int64
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &kibibytes); err == nil {
			return kibibytes << 10
		}
	}
	t.Fatalf("no VmHWM in the process's status:\n%s", status)
	return 0
}

// logBuffer is written by the process while a test reads it.
type logBuffer struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{}
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.changed)
	b.changed = make(chan struct{})
	return b.text.Write(p)
}

// read returns what was written, and what is closed when there is more.
func (b *logBuffer) read() (text string, changed <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String(), b.changed
}

func (b *logBuffer) String() string {
	text, _ := b.read()
	return text
}

// result is how a run ended.
type result struct {
	code           int
	stdout, stderr string
}

// once runs the binary with --once to its end.
func once(t *testing.T, inv invocation) result {
	t.Helper()
	return launchOnce(t, inv).wait(t)
}

func launchOnce(t *testing.T, inv invocation) *run {
	t.Helper()
	inv.args = append([]string{"--once"}, inv.args...)
	return launch(t, inv)
}

func (r result) mustSucceed(t *testing.T) { t.Helper(); r.mustEndWith(t, 0) }

func (r result) mustFail(t *testing.T) { t.Helper(); r.mustEndWith(t, 1) }

func (r result) mustEndWith(t *testing.T, code int) {
	t.Helper()
	if r.code != code {
		t.Fatalf("exit code %d, want %d:\n%s", r.code, code, r.stderr)
	}
}

// entry is a line of the log.
type entry struct {
	Level   string `json:"level"`
	Message string `json:"msg"`
	Kind    string `json:"kind"`
	// Name is that of an object.
	Name  string `json:"name"`
	Sent  int    `json:"sent"`
	Error string `json:"error"`
	Hint  string `json:"hint"`
}

func (r result) log(t *testing.T) []entry {
	t.Helper()
	var entries []entry
	for line := range strings.Lines(r.stderr) {
		var e entry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("a line of the log is no JSON: %v\n%s", err, line)
		}
		entries = append(entries, e)
	}
	return entries
}

// mustSayOnce demands one line at level error that contains all these words.
func (r result) mustSayOnce(t *testing.T, words ...string) {
	t.Helper()
	n := 0
	for _, e := range r.log(t) {
		text := strings.Join([]string{e.Message, e.Name, e.Error, e.Hint}, " ")
		if (e.Level == "error" || e.Level == "fatal") && containsAll(text, words) {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d errors say all of %q, want 1:\n%s", n, words, r.stderr)
	}
}

func containsAll(text string, words []string) bool {
	return !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(text, word) })
}

// mustHaveSent demands what the log's summary says of a kind.
func (r result) mustHaveSent(t *testing.T, kind string, want int) {
	t.Helper()
	for _, e := range r.log(t) {
		if e.Kind == kind && strings.HasSuffix(strings.ToLower(e.Message), "backfilled") {
			if e.Sent != want {
				t.Errorf("the summary says that %d %s were sent, want %d", e.Sent, kind, want)
			}
			return
		}
	}
	t.Errorf("no summary of %s:\n%s", kind, r.stderr)
}

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

// following are the settings of daemons: what changes is sent soon, in one order.
var following = settings{
	"LABELS_RESOURCES": "pods",
	"LABELS_FILTERS":   "^step$",
	"SENDERS":          "1",
	"SEND_INTERVAL":    "50ms",
}

// daemonLimit is after how long a daemon that nothing has ended is killed.
const daemonLimit = time.Hour

// daemon is a run that stays.
type daemon struct {
	*run
	// status is the URL of what an operator looks at.
	status string
}

// startDaemon starts one, and returns when it serves its status.
func startDaemon(t *testing.T, inv invocation) *daemon {
	t.Helper()
	inv.limit = daemonLimit
	return launch(t, inv).serving(t)
}

// serving returns when the process serves its status.
func (p *run) serving(t *testing.T) *daemon {
	t.Helper()
	return &daemon{run: p, status: "http://" + p.await(t, servedAt)[1]}
}

var servedAt = regexp.MustCompile(`"address":"([^"]+)"[^\n]*"Serving the status"`)

// terminate ends the daemon, and demands that it lost nothing.
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

// awaitReport waits until /readyz?verbose says something.
func (d *daemon) awaitReport(t *testing.T, pattern string) {
	t.Helper()
	eventuallyTrue(t, "the report has "+pattern, func() bool {
		_, text := d.get(t, "/readyz?verbose")
		return regexp.MustCompile(pattern).MatchString(text)
	})
}

// awaitReady waits until the daemon is.
func (d *daemon) awaitReady(t *testing.T) {
	t.Helper()
	eventuallyTrue(t, "the daemon is ready", func() bool {
		code, _ := d.get(t, "/readyz")
		return code == http.StatusOK
	})
}

// awaitSynced waits until all objects of kinds have been read once.
func (d *daemon) awaitSynced(t *testing.T, kinds ...string) {
	t.Helper()
	for _, kind := range kinds {
		d.awaitMetrics(t, map[string]float64{fmt.Sprintf("labelstream_synced{resource=%q}", kind): 1})
	}
}

// awaitMetrics waits until metrics have certain values.
func (d *daemon) awaitMetrics(t *testing.T, want map[string]float64) {
	t.Helper()
	eventuallyTrue(t, fmt.Sprintf("metrics are %v", want), func() bool {
		got := d.metrics(t)
		for name, value := range want {
			if v, ok := got[name]; !ok || v != value {
				return false
			}
		}
		return true
	})
}

// metrics are the values of /metrics by name and labels, as in the text format:
// `labelstream_synced{resource="pods"}`.
func (d *daemon) metrics(t *testing.T) map[string]float64 {
	t.Helper()
	code, text := d.get(t, "/metrics")
	if code != http.StatusOK {
		t.Fatalf("/metrics answers %d:\n%s", code, text)
	}
	values := make(map[string]float64)
	for _, line := range metricLine.FindAllStringSubmatch(text, -1) {
		value, err := strconv.ParseFloat(line[2], 64)
		if err != nil {
			t.Fatalf("read /metrics: %v", err)
		}
		values[line[1]] = value
	}
	return values
}

var metricLine = regexp.MustCompile(`(?m)^([^#].*) (\S+)$`)

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
