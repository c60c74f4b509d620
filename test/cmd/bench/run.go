// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"labelstream/test/loopback"
	"labelstream/test/process"
)

// usage is what a step took.
type usage struct {
	process.Account     // nothing is resident of a process that has ended
	Items           int // objects, events or reviews
	Wall            time.Duration
	P50, P99        time.Duration
}

// usageOf is that of a whole process, for so many objects.
func usageOf(l launched, objects int) usage {
	return usage{Account: process.Account{CPU: l.CPU, Peak: l.Peak}, Items: objects, Wall: l.Wall}
}

// subject is a program that is measured. In each run it begins anew, goes through
// the steps of its scenario and ends.
type subject interface {
	begin(ctx context.Context) error
	step(ctx context.Context, i int) (usage, error)
	end(ctx context.Context) error
}

// result holds the counted runs of a scenario, by step.
type result struct {
	scenario  scenario
	reference string // what it is called
	steps     []pairs
}

// pairs are the usages of one step: the i-th ones of both sides are a pair. There
// are no reference ones where nothing is compared.
type pairs struct{ product, reference []usage }

// measure runs the two sides in turns, once without counting and then as often as
// asked for.
func measure(ctx context.Context, s scenario, p programs, o options) (r result, err error) {
	fmt.Fprintf(os.Stderr, "%s: %s\n", s.section, s.name)
	directory, err := os.MkdirTemp("", "labelstream-bench-")
	if err != nil {
		return r, fmt.Errorf("make a directory for a scenario: %w", err)
	}
	defer os.RemoveAll(directory)
	r = result{scenario: s, reference: string(s.reference), steps: make([]pairs, len(steps[s.mode]))}
	if o.versus != "" {
		r.reference = filepath.Base(o.versus) + " of --vs"
	}
	var fixtures [2]*fixture
	for i := range fixtures {
		fixtures[i], err = startFixture(ctx, filepath.Join(directory, strconv.Itoa(i)), s, p)
		defer func() { err = errors.Join(err, fixtures[i].stop()) }()
		if err != nil {
			return r, err
		}
	}
	sides := subjects(fixtures, p, o)
	for run := range o.runs + 1 {
		usages, err := turn(ctx, sides, run, len(r.steps), o.timeout)
		if err != nil {
			return r, err
		}
		for i := range r.steps {
			if run > 0 {
				r.steps[i].product = append(r.steps[i].product, usages[0][i])
			}
			if run > 0 && len(sides) > 1 {
				r.steps[i].reference = append(r.steps[i].reference, usages[1][i])
			}
		}
	}
	return r, nil
}

// turn is one run of all sides, step by step: their usages. The side that goes
// first changes from run to run.
func turn(ctx context.Context, sides []subject, run, steps int, timeout time.Duration) (usages [2][]usage, err error) {
	order := []int{0, 1}[:len(sides)]
	if run%2 == 1 {
		slices.Reverse(order)
	}
	within := func(do func(context.Context) error) error {
		ctx, cancel := context.WithTimeoutCause(ctx, timeout, errors.New("it took longer than --timeout"))
		defer cancel()
		return do(ctx)
	}
	for _, side := range order {
		if err := within(sides[side].begin); err != nil {
			return usages, errors.Join(err, within(sides[side].end))
		}
		defer func() { err = errors.Join(err, within(sides[side].end)) }()
	}
	for i := range steps {
		for _, side := range order {
			err := within(func(ctx context.Context) error {
				u, err := sides[side].step(ctx, i)
				usages[side] = append(usages[side], u)
				return err
			})
			if err != nil {
				return usages, err
			}
		}
	}
	return usages, nil
}

// subjects are labelstream and what it is compared with, each with a fixture.
func subjects(f [2]*fixture, p programs, o options) []subject {
	s := f[0].scenario
	product := newProduct(f[0], p.labelstream, s.settings, o)
	switch {
	case o.versus != "":
		return []subject{product, newProduct(f[1], p.versus, slices.Concat(s.settings, o.settings), o)}
	case s.reference == defaults:
		return []subject{product, newProduct(f[1], p.labelstream, nil, o)}
	case s.reference == clientGo:
		return []subject{product, &metalist{fixture: f[1], program: p.metalist}}
	case s.reference == bare:
		return []subject{product, &bareServer{reviewer{daemonProcess: daemonProcess{fixture: f[1], program: p.bare}, loadTime: o.loadTime}}}
	}
	return []subject{product}
}

// fixture is what a side of a scenario has for itself: an API server, a sink, a
// port for reviews, and a certificate for it, which is in the directory as
// tls.crt and tls.key.
type fixture struct {
	scenario        scenario
	directory       string
	launcher        string
	helpers         []*process.Process
	synthetic, sink string // URLs
	webhook         string // host and port
	trusted         *x509.CertPool
}

func startFixture(ctx context.Context, directory string, s scenario, p programs) (f *fixture, err error) {
	f = &fixture{scenario: s, directory: directory, launcher: p.launch}
	if err := os.Mkdir(directory, 0o755); err != nil {
		return f, fmt.Errorf("make a directory for a fixture: %w", err)
	}
	if f.trusted, err = writeCertificate(directory); err != nil {
		return f, err
	}
	ports, err := loopback.FreePorts(1)
	if err != nil {
		return f, err
	}
	f.webhook = fmt.Sprintf("127.0.0.1:%d", ports[0])
	for _, one := range []struct {
		url           *string
		name, program string
		args          []string
	}{
		{&f.synthetic, "synthetic", p.synthetic, append([]string{"--pods", strconv.Itoa(s.objects), "--profile", s.profile, "--kubeconfig", f.file("kubeconfig")}, s.server...)},
		{&f.sink, "sink", p.sink, s.sink},
	} {
		helper, url, err := startHelper(ctx, f.file(one.name+".log"), one.program, one.args...)
		if err != nil {
			return f, err
		}
		f.helpers, *one.url = append(f.helpers, helper), url
	}
	return f, nil
}

func (f *fixture) file(name string) string { return filepath.Join(f.directory, name) }

func (f *fixture) stop() (err error) {
	for _, helper := range f.helpers {
		err = errors.Join(err, helper.Stop())
	}
	return err
}

// received is how many samples the sink has counted. Each must be of a series of
// its own.
func (f *fixture) received(ctx context.Context) (int, error) {
	text, err := loopback.Ask(ctx, http.DefaultClient, http.MethodGet, f.sink+"/totals", nil)
	if err != nil {
		return 0, err
	}
	var totals struct{ Series, Samples int }
	if err := json.Unmarshal(text, &totals); err != nil {
		return 0, fmt.Errorf("read the totals of the sink: %w", err)
	}
	if totals.Series != totals.Samples {
		return 0, fmt.Errorf("labelstream delivered %d series with %d samples", totals.Series, totals.Samples)
	}
	return totals.Samples, nil
}

// await waits until the sink has received so many samples. More are an error.
func (f *fixture) await(ctx context.Context, want int) error {
	for {
		got, err := f.received(ctx)
		switch {
		case err != nil:
			return err
		case got > want:
			return fmt.Errorf("labelstream delivered %d samples, want %d", got, want)
		case got == want:
			return nil
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("labelstream delivered %d samples, want %d: %w", got, want, context.Cause(ctx))
		}
	}
}

// newProduct is labelstream in the scenario's mode. A setting "-NAME" takes away
// one that it would have.
func newProduct(f *fixture, program string, settings []string, o options) subject {
	all := []string{"LABELSTREAM_DESTINATION=" + f.sink + "/api/v1/write", "LABELSTREAM_LABELS_RESOURCES=pods", "LABELSTREAM_STATUS_ADDRESS=127.0.0.1:0"}
	if f.scenario.mode != once {
		// What is sent is to arrive soon; batches are full without waiting.
		all = append(all, "LABELSTREAM_SEND_INTERVAL=1s", "LABELSTREAM_RESYNC_INTERVAL=0", "LABELSTREAM_CHANGES=watch")
	}
	if f.scenario.mode == webhook {
		all = append(all, "LABELSTREAM_CHANGES=webhook", "LABELSTREAM_WEBHOOK_CERT_DIR=${CERT_DIR}", "LABELSTREAM_WEBHOOK_ADDRESS="+f.webhook)
	}
	all = append(all, settings...)
	all = slices.DeleteFunc(all, func(one string) bool {
		name, _, _ := strings.Cut(one, "=")
		return slices.Contains(settings, "-"+name) || strings.HasPrefix(one, "-")
	})
	for i, one := range all {
		all[i] = strings.ReplaceAll(one, "${CERT_DIR}", f.directory)
	}
	d := daemonProcess{fixture: f, program: program, settings: all}
	switch f.scenario.mode {
	case daemon:
		return &watcher{daemonProcess: d}
	case webhook:
		return &reviewer{daemonProcess: d, loadTime: o.loadTime}
	}
	return &backfill{fixture: f, program: program, settings: all}
}

// wholeRun is a subject whose process runs within its only step.
type wholeRun struct{}

func (wholeRun) begin(context.Context) error { return nil }
func (wholeRun) end(context.Context) error   { return nil }

// backfill is `labelstream --once`.
type backfill struct {
	wholeRun
	fixture  *fixture
	program  string
	settings []string
}

// step demands that every series has arrived, once.
func (b *backfill) step(ctx context.Context, _ int) (usage, error) {
	before, err := b.fixture.received(ctx)
	if err != nil {
		return usage{}, err
	}
	l, err := launch(ctx, b.fixture.launcher, b.settings, b.program, "--once", "--kubeconfig", b.fixture.file("kubeconfig"))
	if err != nil {
		return usage{}, err
	}
	after, err := b.fixture.received(ctx)
	s := b.fixture.scenario
	if want := s.objects * s.series; err == nil && after-before != want {
		err = fmt.Errorf("labelstream delivered %d samples, want %d", after-before, want)
	}
	return usageOf(l, s.objects), err
}

type metalist struct {
	wholeRun
	fixture *fixture
	program string
}

// step demands that every object was read.
func (m *metalist) step(ctx context.Context, _ int) (usage, error) {
	l, err := launch(ctx, m.fixture.launcher, nil, m.program, "--kubeconfig", m.fixture.file("kubeconfig"))
	n := m.fixture.scenario.objects
	if got := strings.TrimSpace(l.Output); err == nil && got != strconv.Itoa(n) {
		err = fmt.Errorf("client-go's list read %q objects, the server has %d", got, n)
	}
	return usageOf(l, n), err
}

// daemonProcess is a labelstream that runs until it is ended.
type daemonProcess struct {
	fixture  *fixture
	program  string
	settings []string
	process  *process.Process
	cpu      time.Duration // until the last step
	expected int           // samples at the sink
}

func (d *daemonProcess) log() string { return d.fixture.file("labelstream.log") }

func (d *daemonProcess) begin(ctx context.Context) (err error) {
	d.cpu = 0
	if d.expected, err = d.fixture.received(ctx); err != nil {
		return err
	}
	d.process, err = process.StartWith(append(cleanEnvironment(), d.settings...), d.log(), d.program, "--kubeconfig", d.fixture.file("kubeconfig"))
	return err
}

// end demands that it lost nothing.
func (d *daemonProcess) end(context.Context) error {
	if d.process == nil {
		return nil
	}
	return d.process.Stop()
}

// await waits for so many further samples.
func (d *daemonProcess) await(ctx context.Context, samples int) error {
	d.expected += samples
	if err := d.fixture.await(ctx, d.expected); err != nil {
		return fmt.Errorf("%w; its log ends:\n%s", err, process.Tail(d.log(), 5))
	}
	return nil
}

// watcher is a daemon that goes through the stages of a life.
type watcher struct{ daemonProcess }

// begin does nothing: the backfill is the first step.
func (w *watcher) begin(context.Context) error { return nil }

// watchedEvents are how many events a watch brings at a time.
const watchedEvents = 10_000

// step makes a stage happen, and waits for its end: the samples that it must
// bring, and the watch that follows a list. Events without a change bring none,
// so one of a new object comes after them.
func (w *watcher) step(ctx context.Context, i int) (usage, error) {
	objects := w.fixture.scenario.objects
	events := min(watchedEvents, objects)
	stage := [...]struct {
		items, samples int
		acts           []string
	}{
		{items: objects, samples: objects},
		{items: objects, acts: []string{"expire"}},
		{items: events, samples: 1, acts: []string{fmt.Sprintf("events?type=MODIFIED&count=%d", events), "events?type=ADDED&count=1"}},
		{items: events, samples: events - 1, acts: []string{fmt.Sprintf("events?type=ADDED&count=%d", events)}},
		stageReplace: {items: objects, samples: objects, acts: []string{"replace"}},
	}[i]
	begun := time.Now()
	if i == 0 {
		if err := w.daemonProcess.begin(ctx); err != nil {
			return usage{}, err
		}
	}
	for _, act := range append(stage.acts, "await") {
		if _, err := loopback.Ask(ctx, http.DefaultClient, http.MethodPost, w.fixture.synthetic+"/synthetic/"+act, nil); err != nil {
			return usage{}, fmt.Errorf("%w; labelstream's log ends:\n%s", err, process.Tail(w.log(), 5))
		}
	}
	if err := w.await(ctx, stage.samples); err != nil {
		return usage{}, fmt.Errorf("%s: %w", steps[daemon][i], err)
	}
	account, err := process.AccountOf(w.process.Pid())
	u := usage{Account: account, Items: stage.items, Wall: time.Since(begun)}
	u.CPU -= w.cpu
	w.cpu = account.CPU
	return u, err
}
