package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// daemonEvents are how many events a watch brings at a time.
const daemonEvents = 10_000

// stage is a part of a daemon's life, one line of its results.
type stage struct {
	name string
	// things is how many objects or events the stage is about.
	things int
	// act makes it happen, by a POST to the synthetic server; "" is the start.
	act string
	// seen and sent are how many objects labelstream must read in it, and how
	// many samples it must send.
	seen, sent int64
	// list says that the stage ends with the end of a list.
	list bool
}

// daemonStages are the life of a daemon that is measured, at this many pods.
func daemonStages(pods int) []stage {
	events := min(daemonEvents, pods)
	all, some := int64(pods), int64(events)
	return []stage{
		{name: "backfill", things: pods, seen: all, sent: all, list: true},
		{name: "relist after an expired watch, nothing is new", things: pods, act: "expire", seen: all, list: true},
		{name: "events of pods whose labels are as they were", things: events, act: fmt.Sprintf("events?type=MODIFIED&count=%d", events), seen: some},
		{name: "events of new pods", things: events, act: fmt.Sprintf("events?type=ADDED&count=%d", events), seen: some, sent: some},
		{name: "relist after all pods were replaced by others", things: pods, act: "replace", seen: all, sent: all, list: true},
	}
}

// stageUsage is what a stage took, and what memory the process had at its end.
type stageUsage struct {
	CPU      time.Duration // user and system
	Resident int64         // bytes
	// PeakRSS is the most since the process's start, in bytes.
	PeakRSS int64
}

// daemonResult holds the counted runs, each with a usage for each stage.
type daemonResult struct {
	pods   int
	stages []stage
	runs   [][]stageUsage
}

// daemonName is by which --only chooses it.
func daemonName(pods int) string { return fmt.Sprintf("daemon, %s pods", thousands(pods)) }

// measureDaemon runs the daemon once that is not counted, and as often as asked
// for, each time against servers of its own: what happened to their pods in one
// life is not to be there in the next.
func measureDaemon(ctx context.Context, pods int, p programs, o options) (*daemonResult, error) {
	r := &daemonResult{pods: pods, stages: daemonStages(pods)}
	for i := range o.runs + 1 {
		usages, err := runDaemon(ctx, r, p, o)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			r.runs = append(r.runs, usages)
		}
	}
	return r, nil
}

// runDaemon is one life.
func runDaemon(ctx context.Context, r *daemonResult, p programs, o options) (usages []stageUsage, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, o.timeout, errors.New("it took longer than --timeout"))
	defer cancel()
	directory, err := os.MkdirTemp("", "labelstream-bench-")
	if err != nil {
		return nil, fmt.Errorf("make a directory for the kubeconfig: %w", err)
	}
	defer os.RemoveAll(directory)
	kubeconfig := filepath.Join(directory, "kubeconfig")
	server, err := startHelper(ctx, p.synthetic, "--pods", strconv.Itoa(r.pods), "--kubeconfig", kubeconfig)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, server.stop()) }()
	sink, err := startHelper(ctx, p.sink)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, sink.stop()) }()
	// It is the watch that is measured; the webhook would need a certificate.
	d, err := startDaemon(ctx, p.labelstream, kubeconfig, sink.url, "LABELSTREAM_WEBHOOK_ENABLED=false")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.stop()) }()
	for i, s := range r.stages {
		u, err := d.live(ctx, s, server.url)
		if err != nil {
			return nil, fmt.Errorf("stage %q: %w", s.name, err)
		}
		usages = append(usages, u)
		if i == 0 {
			fmt.Fprintf(os.Stderr, "  backfilled in %.2f s of processor time\n", u.CPU.Seconds())
		}
	}
	return usages, nil
}

// daemon is a labelstream that is measured while it runs: by the kernel's
// accounts of the process, from outside.
type daemon struct {
	command *exec.Cmd
	sink    string
	status  string
	// webhook is host and port, "" where it is off. It is served before the
	// status is.
	webhook string
	errors  *tail
	drained chan struct{}
	// seen, sent and lists are what it has read, sent and listed when the last
	// stage ended, cpu what it had taken.
	seen, sent int64
	lists      float64
	cpu        time.Duration
}

// startDaemon starts one with these further settings, and returns when it serves
// its status.
func startDaemon(ctx context.Context, program, kubeconfig, sink string, environment ...string) (*daemon, error) {
	command := exec.CommandContext(ctx, program, "--kubeconfig", kubeconfig)
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	command.Env = slices.Concat(cleanEnvironment(), []string{
		"LABELSTREAM_DESTINATION=" + sink + "/api/v1/write",
		"LABELSTREAM_LABELS_RESOURCES=pods",
		"LABELSTREAM_STATUS_ADDRESS=127.0.0.1:0",
		"LABELSTREAM_LOG_FORMAT=json",
		// What is sent is to be seen soon; batches are full without waiting.
		"LABELSTREAM_SEND_INTERVAL=1s",
		"LABELSTREAM_RESYNC_INTERVAL=0",
	}, environment)
	d := &daemon{command: command, sink: sink, errors: &tail{}, drained: make(chan struct{})}
	output, err := command.StderrPipe()
	if err != nil {
		return nil, fmt.Errorf("start labelstream: %w", err)
	}
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("start labelstream: %w", err)
	}
	reader := bufio.NewReader(io.TeeReader(output, d.errors))
	for d.status == "" {
		line, err := reader.ReadString('\n')
		if err != nil {
			close(d.drained)
			return nil, fmt.Errorf("start labelstream: it has not said where it serves its status: %w", d.stop())
		}
		var said struct{ Msg, Address, Webhook string }
		if json.Unmarshal([]byte(line), &said) != nil {
			continue
		}
		switch said.Msg {
		case "Serving the webhook":
			d.webhook = said.Webhook
		case "Serving the status":
			d.status = "http://" + said.Address
		}
	}
	go func() {
		defer close(d.drained)
		_, _ = io.Copy(io.Discard, reader)
	}()
	return d, nil
}

// stop ends it in order, and demands that it lost nothing.
func (d *daemon) stop() error {
	_ = d.command.Process.Signal(syscall.SIGTERM)
	<-d.drained
	if err := d.command.Wait(); err != nil {
		return fmt.Errorf("end labelstream: %w\n%s", err, d.errors)
	}
	return nil
}

// live makes a stage happen, waits for its end, and checks what was read and
// sent in it.
func (d *daemon) live(ctx context.Context, s stage, server string) (stageUsage, error) {
	if s.act != "" {
		if err := post(ctx, server+"/synthetic/"+s.act); err != nil {
			return stageUsage{}, err
		}
	}
	for {
		seen, lists, err := d.progress(ctx)
		if err != nil {
			return stageUsage{}, err
		}
		sent, err := fetchTotals(ctx, d.sink)
		if err != nil {
			return stageUsage{}, err
		}
		if seen-d.seen >= s.seen && sent.Samples-d.sent >= s.sent && (!s.list || lists > d.lists) {
			if seen-d.seen > s.seen || sent.Samples-d.sent > s.sent {
				return stageUsage{}, fmt.Errorf("labelstream read %d objects and sent %d samples, want %d and %d",
					seen-d.seen, sent.Samples-d.sent, s.seen, s.sent)
			}
			d.seen, d.sent, d.lists = seen, sent.Samples, lists
			return d.account()
		}
		// To ask costs the daemon some processor time, so not too often.
		select {
		case <-time.After(250 * time.Millisecond):
		case <-ctx.Done():
			return stageUsage{}, fmt.Errorf("wait until labelstream has read %d objects and sent %d samples (so far %d and %d): %w\n%s",
				s.seen, s.sent, seen-d.seen, sent.Samples-d.sent, context.Cause(ctx), d.errors)
		}
	}
}

// progress is how many objects labelstream has read, and how many lists it has
// ended, by the watches that followed them.
func (d *daemon) progress(ctx context.Context) (seen int64, lists float64, err error) {
	text, err := fetch(ctx, d.status+"/metrics")
	if err != nil {
		return 0, 0, err
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		return 0, 0, fmt.Errorf("read labelstream's metrics: %w", err)
	}
	sum := func(name string) float64 {
		total := 0.0
		for _, metric := range families[name].GetMetric() {
			total += metric.GetCounter().GetValue() + metric.GetGauge().GetValue()
		}
		return total
	}
	return int64(sum("labelstream_objects_seen_total")), sum("labelstream_synced") + sum("labelstream_watch_restarts_total"), nil
}

// account is what the stage has taken since the last one ended.
func (d *daemon) account() (stageUsage, error) {
	pid := d.command.Process.Pid
	cpu, err := processTime(pid)
	if err != nil {
		return stageUsage{}, err
	}
	resident, err := statusField(pid, "VmRSS")
	if err != nil {
		return stageUsage{}, err
	}
	peak, err := statusField(pid, "VmHWM")
	u := stageUsage{CPU: cpu - d.cpu, Resident: resident, PeakRSS: peak}
	d.cpu = cpu
	return u, err
}

// statusField is a size of /proc's status of a process, in bytes.
func statusField(pid int, name string) (int64, error) {
	file := fmt.Sprintf("/proc/%d/status", pid)
	status, err := os.ReadFile(file)
	if err != nil {
		return 0, fmt.Errorf("read a process's memory: %w", err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, found := strings.CutPrefix(line, name+":"); found {
			kibibytes, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("read %s of %s: %w", name, file, err)
			}
			return kibibytes << 10, nil
		}
	}
	return 0, fmt.Errorf("read a process's memory: %s has no %s", file, name)
}
