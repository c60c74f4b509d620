package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"labelstream/test/receiver"
)

// settings are LABELSTREAM_* variables without the prefix.
type settings map[string]string

// and returns both, where the others win.
func (s settings) and(others settings) settings {
	all := maps.Clone(s)
	if all == nil {
		all = settings{}
	}
	maps.Copy(all, others)
	return all
}

// invocation is how the binary is run.
type invocation struct {
	// user whose kubeconfig it gets; kubeconfig is a path to use instead.
	plane      *plane
	user       string
	kubeconfig string
	args       []string
	settings   settings
	// limit is after how long a run that should have ended is killed, patience
	// where zero.
	limit time.Duration
}

// process is a run of the binary.
type process struct {
	cmd    *exec.Cmd
	ctx    context.Context
	stdout bytes.Buffer
	stderr logBuffer
	ended  chan struct{}
	err    error
}

// result is how a run ended.
type result struct {
	code           int
	stdout, stderr string
}

// launch starts the binary; the test's end kills it, if nothing else did.
func launch(t *testing.T, inv invocation) *process {
	t.Helper()
	if inv.limit == 0 {
		inv.limit = patience
	}
	ctx, cancel := context.WithTimeout(t.Context(), inv.limit)
	p := &process{ctx: ctx, ended: make(chan struct{})}
	p.stderr.changed = make(chan struct{})
	p.cmd = exec.CommandContext(ctx, shared.binary, inv.args...)
	p.cmd.Env = environment(t, inv)
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	if err := p.cmd.Start(); err != nil {
		cancel()
		t.Fatalf("start %s: %v", shared.binary, err)
	}
	go func() {
		defer close(p.ended)
		p.err = p.cmd.Wait()
	}()
	t.Cleanup(func() {
		cancel()
		<-p.ended
	})
	return p
}

// environment is the binary's whole one: the tester's settings stay out.
func environment(t *testing.T, inv invocation) []string {
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
	// A run ends by itself too, should the tests be killed.
	all := settings{"STATUS_ADDRESS": "127.0.0.1:0", "ONCE_TIMEOUT": "5m"}.and(inv.settings)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		env = append(env, "LABELSTREAM_"+name+"="+all[name])
	}
	return env
}

// wait returns how the run ended, and fails the test if it had to be killed.
func (p *process) wait(t *testing.T) result {
	t.Helper()
	<-p.ended
	r := result{code: p.cmd.ProcessState.ExitCode(), stdout: p.stdout.String(), stderr: p.stderr.String()}
	if p.ctx.Err() != nil {
		t.Fatalf("the run did not end: %v\n%s", context.Cause(p.ctx), r.stderr)
	}
	if exit := new(exec.ExitError); p.err != nil && !errors.As(p.err, &exit) {
		t.Fatal(p.err)
	}
	return r
}

// awaitLog waits until the run has logged a line that contains the text.
func (p *process) awaitLog(t *testing.T, text string) {
	t.Helper()
	if !p.stderr.await(text, p.ended) {
		t.Fatalf("the run ended and has never said %q:\n%s", text, p.stderr.String())
	}
}

// once runs the binary with --once to its end.
func once(t *testing.T, inv invocation) result {
	t.Helper()
	inv.args = append([]string{"--once"}, inv.args...)
	return launch(t, inv).wait(t)
}

func (r result) mustSucceed(t *testing.T) {
	t.Helper()
	if r.code != 0 {
		t.Fatalf("exit code %d, want 0:\n%s", r.code, r.stderr)
	}
}

func (r result) mustFail(t *testing.T) {
	t.Helper()
	if r.code != 1 {
		t.Fatalf("exit code %d, want 1:\n%s", r.code, r.stderr)
	}
}

// errors are the messages of the log at level error.
func (r result) errors(t *testing.T) []string {
	t.Helper()
	var messages []string
	for _, e := range r.log(t) {
		if e.Level == "error" || e.Level == "fatal" {
			messages = append(messages, e.Message)
		}
	}
	return messages
}

// entry is a line of the log.
type entry struct {
	Level   string `json:"level"`
	Message string `json:"msg"`
	Kind    string `json:"kind"`
	// Namespace and Name are those of an object.
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Read      int    `json:"read"`
	Sent      int    `json:"sent"`
	Error     string `json:"error"`
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

// summary is the log's line for a kind.
func (r result) summary(t *testing.T, kind string) entry {
	t.Helper()
	for _, e := range r.log(t) {
		if e.Kind == kind && strings.HasSuffix(strings.ToLower(e.Message), "backfilled") {
			return e
		}
	}
	t.Fatalf("no summary of %s:\n%s", kind, r.stderr)
	return entry{}
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

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// await returns true as soon as the text was written, false when the end comes
// before that.
func (b *logBuffer) await(text string, end <-chan struct{}) bool {
	for {
		b.mu.Lock()
		found, changed := strings.Contains(b.text.String(), text), b.changed
		b.mu.Unlock()
		if found {
			return true
		}
		select {
		case <-changed:
		case <-end:
			return strings.Contains(b.String(), text)
		}
	}
}

// newReceiver is a receiver that is up, and whose senders must not break the
// protocol.
func newReceiver(t *testing.T) *receiver.Server {
	t.Helper()
	s, err := receiver.Start(receiver.New(receiver.Options{}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Down()
		for _, err := range s.Violations() {
			t.Errorf("remote_write: %v", err)
		}
	})
	return s
}

// awaitRequests waits until so many requests have begun.
func awaitRequests(t *testing.T, s *receiver.Server, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := s.WaitFor(ctx, func() bool { return s.Requests() >= n }); err != nil {
		t.Fatal(err)
	}
}

// compareSeries compares what was received with what should have been. Every
// series must have exactly one sample, of value 1.
func compareSeries(t *testing.T, got []receiver.Series, want []string) {
	t.Helper()
	texts := make([]string, 0, len(got))
	for _, series := range got {
		texts = append(texts, series.String())
		if len(series.Samples) != 1 || series.Samples[0].Value != 1 {
			t.Errorf("series %s has the samples %v, want a single 1", series, series.Samples)
		}
	}
	compare(t, want, texts)
}

// compare holds sorted series against others in any order.
func compare(t *testing.T, want, got []string) {
	t.Helper()
	if diff := cmp.Diff(slices.Sorted(slices.Values(want)), got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("series (-want +got):\n%s", diff)
	}
}

// ofNamespaces are the series of some namespaces, for the others belong to
// other tests.
func ofNamespaces(s *receiver.Server, namespaces ...string) []receiver.Series {
	var own []receiver.Series
	for _, series := range s.All() {
		if slices.Contains(namespaces, series.Get("namespace")) {
			own = append(own, series)
		}
	}
	return own
}
