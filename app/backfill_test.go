// SPDX-License-Identifier: Apache-2.0

package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"

	"labelstream/emitter"
	"labelstream/informer"
	"labelstream/record"
)

// TestBackfill has all the ways in which a one-shot run ends.
func TestBackfill(t *testing.T) {
	for _, tt := range []struct {
		name     string
		settings map[string]string
		answer   int32
		sent     []string
		// want is what each error begins with.
		want []string
	}{
		{"all is read and accepted", nil, 0, []string{"a a", "b b"}, nil},
		{"a kind is missing", map[string]string{"LABELS_RESOURCES": "pods,rollouts.argoproj.io"}, 0, []string{"a a", "b b"}, []string{
			`LABELSTREAM_LABELS_RESOURCES: "rollouts.argoproj.io": the server has no such resource`,
		}},
		{"no kind is there", map[string]string{"LABELS_RESOURCES": "rollouts.argoproj.io"}, 0, nil, []string{
			`LABELSTREAM_LABELS_RESOURCES: "rollouts.argoproj.io": the server has no such resource`,
		}},
		{"records are refused", nil, http.StatusBadRequest, nil, []string{"send pods: records that the destination refused: 2"}},
		{"there is no time", map[string]string{"ONCE_TIMEOUT": "1s", "SHUTDOWN_TIMEOUT": "1ms"}, http.StatusServiceUnavailable, nil, []string{
			"2 records unsent: not done within LABELSTREAM_ONCE_TIMEOUT (1s), and what was held could not be sent within 1ms",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			receiver := newFakeReceiver(t)
			receiver.reject.Store(tt.answer)
			cfg := loadConfig(t, receiver.URL, tt.settings)
			r := start(t, cfg, Flags{Once: true, Kubeconfig: writeKubeconfig(t, newFakeCluster(t, "a", "b").URL)})
			receiver.expect(t, tt.name, tt.sent...)
			err := <-r.done
			var got []error
			if err != nil {
				got = err.(interface{ Unwrap() []error }).Unwrap()
			}
			if len(got) != len(tt.want) {
				t.Fatalf("errors %v, want %q", got, tt.want)
			}
			for i, want := range tt.want {
				if !strings.HasPrefix(got[i].Error(), want) {
					t.Errorf("error %q, want %q", got[i], want)
				}
			}
		})
	}
}

// TestUnmatchedPatterns warns of patterns only after all was read.
func TestUnmatchedPatterns(t *testing.T) {
	for resources, want := range map[string]string{"pods": "[^team$ ^cost]", "pods,jobs": ""} {
		cfg := loadConfig(t, "http://127.0.0.1:1", map[string]string{"LABELS_RESOURCES": resources, "LABELS_FILTERS": "app,^team$,^cost"})
		r := start(t, cfg, Flags{DryRun: true, Kubeconfig: writeKubeconfig(t, newFakeCluster(t, "a").URL)})
		<-r.done
		got := ""
		for _, entry := range r.logs.AllEntries() {
			if entry.Message == "Patterns matched no key" && entry.Data["variable"] == "LABELSTREAM_LABELS_FILTERS" {
				got += fmt.Sprint(entry.Data["patterns"])
			}
		}
		if got != want {
			t.Errorf("%s: warns of %q, want %q", resources, got, want)
		}
	}
}

// TestBackfillWithoutItsPort goes on: it may run beside a daemon.
func TestBackfillWithoutItsPort(t *testing.T) {
	receiver := newFakeReceiver(t)
	cfg := loadConfig(t, receiver.URL, map[string]string{"STATUS_ADDRESS": strings.TrimPrefix(receiver.URL, "http://")})
	r := start(t, cfg, Flags{Once: true, Kubeconfig: writeKubeconfig(t, newFakeCluster(t, "a").URL)})
	receiver.expect(t, "the backfill", "a a")
	if err := <-r.done; err != nil {
		t.Error(err)
	}
	if got := r.logs.AllEntries()[0].Message; got != "No metrics are served during this run" {
		t.Errorf("the log begins with %q", got)
	}
}

// TestDryRun prints what a backfill would send, and nothing else.
func TestDryRun(t *testing.T) {
	r := start(t, loadConfig(t, "http://127.0.0.1:1", nil), Flags{DryRun: true, Kubeconfig: writeKubeconfig(t, newFakeCluster(t, "a").URL)})
	if err := <-r.done; err != nil {
		t.Error(err)
	}
	const want = `cloudzero_pod_labels{label_app="a",namespace="shop",pod="a",resource_type="pod"} 1 `
	if got := r.stdout.String(); !strings.HasPrefix(got, want) || strings.Count(got, "\n") != 1 {
		t.Errorf("printed %q, want %q", got, want)
	}
}

func buildRecord(t *testing.T, o *record.Object) *record.Record {
	t.Helper()
	cfg := loadConfig(t, "http://127.0.0.1:1", map[string]string{"UNSAFE_VALUES": "keep"})
	kind := &record.Kind{Resource: "pods", Type: "pod", Metric: "pod", NameLabel: "pod", Namespaced: true, Labels: true, Annotations: true}
	r, ok := record.NewBuilder(kind, cfg, nil).Build(o)
	if !ok {
		t.Fatal("the object gives no record")
	}
	return r
}

// TestPrinter prints Prometheus' text format. On a terminal it escapes what the
// terminal would obey.
func TestPrinter(t *testing.T) {
	r := buildRecord(t, &record.Object{
		Namespace: []byte("default"), Name: []byte("web"),
		Labels:      []record.KeyValue{{Key: []byte("app"), Value: []byte("web")}, {Key: []byte("app.kubernetes.io/name"), Value: []byte("x")}},
		Annotations: []record.KeyValue{{Key: []byte("note"), Value: []byte("a \"b\"\nc\\d \x1b[31mé\u0085\u202e")}},
	})
	for _, tt := range []struct {
		terminal bool
		note     string
	}{
		{false, "a \\\"b\\\"\\nc\\\\d \x1b[31mé\u0085\u202e"},
		{true, `a \"b\"\nc\\d \x1b[31mé\u0085\u202e`},
	} {
		var out bytes.Buffer
		p := newPrinter(&out)
		p.terminal = tt.terminal
		before := time.Now().UnixMilli()
		if sent, err := p.Put(t.Context(), r, nil); !sent || err != nil {
			t.Fatal(sent, err)
		}
		if sent, err := p.Put(t.Context(), r, func(*record.Record) bool { return false }); sent || err != nil {
			t.Errorf("a record that is not wanted: %t, %v", sent, err)
		}
		after := time.Now().UnixMilli()
		p.Close()
		if err := p.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		want := []string{
			`cloudzero_pod_labels{label_app="web","label_app.kubernetes.io/name"="x",namespace="default",pod="web",resource_type="pod"} 1`,
			`cloudzero_pod_annotations{label_note="` + tt.note + `",namespace="default",pod="web",resource_type="pod"} 1`,
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
		if diff := cmp.Diff(map[string]emitter.Totals{"pods": {Accepted: 1}}, p.Totals()); diff != "" {
			t.Errorf("totals (-want +got):\n%s", diff)
		}
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("disk full") }

// TestWriteErrors are of the output of a dry run, and of the roles.
func TestWriteErrors(t *testing.T) {
	p := newPrinter(brokenWriter{})
	if _, err := p.Put(t.Context(), buildRecord(t, &record.Object{Namespace: []byte("shop"), Name: []byte("a")}), nil); err != nil {
		t.Fatal(err)
	}
	p.Close()
	if err := p.Run(t.Context()); err == nil || err.Error() != "print the series: disk full" {
		t.Errorf("Run returns %v", err)
	}
	cfg := loadConfig(t, "http://127.0.0.1:1", nil)
	if err := Run(t.Context(), cfg, Options{Flags: Flags{Command: "rbac"}, Stdout: brokenWriter{}}); err == nil || err.Error() != "print the roles: disk full" {
		t.Errorf("error %v", err)
	}
}

func TestMissing(t *testing.T) {
	statuses := []informer.Status{
		{Resource: "pods", Namespace: "a", Read: 2, Synced: true, Took: time.Second},
		{Resource: "pods", Namespace: "b", Read: 1, Err: errors.New("list pods in namespace b: forbidden")},
		{Resource: "nodes", Read: 3},
	}
	totals := map[string]emitter.Totals{"pods": {Accepted: 2, Refused: 1}, "nodes": {}, "": {Refused: 3}}
	forbidden, refused := "list pods in namespace b: forbidden", "send pods: records that the destination refused: 1"
	unknown := "send records of several kinds: records that the destination refused, without saying which: 3"
	for _, tt := range []struct {
		ended bool
		want  []string
	}{
		{false, []string{forbidden, "list nodes: not finished", refused, unknown}},
		{true, []string{forbidden, refused, unknown}},
	} {
		var got []string
		for _, err := range missing(statuses, totals, tt.ended) {
			got = append(got, err.Error())
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("where the run was ended: %t: missing (-want +got):\n%s", tt.ended, diff)
		}
	}
}

func TestSummarize(t *testing.T) {
	log, hook := logtest.NewNullLogger()
	a := &app{log: log, opts: &Options{}}
	a.summarize([]informer.Status{
		{Resource: "pods", Namespace: "a", Read: 2, Excluded: 1, Synced: true, Took: 2 * time.Second},
		{Resource: "pods", Namespace: "b", Read: 1, Drops: record.Drops{Truncated: 4, LongName: 1, TooMany: 2}, Synced: true, Took: time.Second},
		{Resource: "nodes", Read: 0, Err: errors.New("forbidden")},
		{Resource: "jobs.batch", Read: 1, Synced: true},
	}, map[string]emitter.Totals{"pods": {Accepted: 2}, "jobs.batch": {Refused: 1}})
	var got []logrus.Fields
	for _, entry := range hook.AllEntries() {
		entry.Data["msg"], entry.Data["level"] = entry.Message, entry.Level.String()
		got = append(got, entry.Data)
	}
	want := []logrus.Fields{
		{"msg": "Backfilled", "level": "info", "kind": "pods", "read": int64(3), "sent": int64(2), "seconds": 2.0,
			"objects_per_second": int64(1), "excluded": int64(1), "values_truncated": int64(4),
			"labels_long_name": int64(1), "labels_too_many": int64(2)},
		{"msg": "Not backfilled", "level": "error", "kind": "nodes", "read": int64(0), "sent": int64(0), "seconds": 0.0},
		{"msg": "Not backfilled", "level": "error", "kind": "jobs.batch", "read": int64(1), "sent": int64(0), "seconds": 0.0, "refused": int64(1)},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
}

func TestMeasure(t *testing.T) {
	broken := errors.New("list widgets.example.com: conversion webhook failed")
	totals := map[string]emitter.Totals{"pods": {Accepted: 1}, "nodes": {Accepted: 2, Refused: 1}}
	for _, tt := range []struct {
		statuses []informer.Status
		want     progress
	}{
		{
			[]informer.Status{{Read: 1, Total: 10, Synced: true}, {Read: 2, Total: 5, Synced: true}},
			progress{read: 3, total: 15, sent: 3, elapsed: time.Second, waiting: "the destination"},
		},
		{
			[]informer.Status{{Resource: "pods", Read: 1, Total: 10}, {Resource: "nodes", Synced: true}, {Resource: "widgets.example.com", Read: 2, Total: -1, Err: broken}, {Resource: "jobs", Total: 5}},
			progress{read: 3, total: -1, sent: 3, elapsed: time.Second, waiting: broken.Error() + ", pods, jobs"},
		},
	} {
		if diff := cmp.Diff(tt.want, measure(tt.statuses, totals, time.Second), cmp.AllowUnexported(progress{})); diff != "" {
			t.Errorf("progress (-want +got):\n%s", diff)
		}
	}
}

// TestProgressLine shows the rate, and names what it waits for.
func TestProgressLine(t *testing.T) {
	log, hook := logtest.NewNullLogger()
	a := &app{log: log}
	a.logProgress(progress{read: 100, total: 200, sent: 50, elapsed: 2 * time.Second, waiting: "pods"})
	a.logProgress(progress{read: 5, total: -1, waiting: "the destination"})
	want := []logrus.Fields{
		{"read": int64(100), "total": int64(200), "sent": int64(50), "objects_per_second": int64(50), "waiting_for": "pods"},
		{"read": int64(5), "sent": int64(0), "objects_per_second": int64(5000), "waiting_for": "the destination"},
	}
	for i, entry := range hook.AllEntries() {
		if diff := cmp.Diff(want[i], entry.Data); diff != "" {
			t.Errorf("line %d (-want +got):\n%s", i, diff)
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

// TestBars draws over what was drawn before, and puts the log above it.
func TestBars(t *testing.T) { synctest.Test(t, testBars) }

func testBars(t *testing.T) {
	var out bytes.Buffer
	b := newBars(&out)
	b.begun["pods"] = time.Now().Add(-2 * time.Second)
	drawn := func() string {
		defer out.Reset()
		return out.String()
	}
	b.show([]informer.Status{
		{Resource: "pods", Namespace: "a", Read: 15, Total: 50, Listing: true}, {Resource: "pods", Namespace: "b", Read: 5, Total: 50, Listing: true},
		{Resource: "nodes", Read: 3, Total: 3, Synced: true}, {Resource: "jobs.batch"}, {Resource: "widgets.example.com", Total: 1},
	}, progress{read: 23, sent: 3, elapsed: time.Second})
	const run = "1 of 4 kinds read, 23 objects, 3 sent, 23/s\n"
	const lines = "pods                 [====                ]  20%  20 of 100 objects, 10/s, 8s l\n" + run
	if diff := cmp.Diff(lines, drawn()); diff != "" {
		t.Errorf("first (-want +got):\n%s", diff)
	}
	if n, err := b.Write([]byte("a line of the log\n")); n != 18 || err != nil {
		t.Errorf("Write returns %d, %v", n, err)
	}
	if diff := cmp.Diff("\x1b[2A\x1b[Ja line of the log\n"+lines, drawn()); diff != "" {
		t.Errorf("with a line of the log (-want +got):\n%s", diff)
	}
	b.draw(nil)
	if got := drawn(); got != "\x1b[2A\x1b[J" {
		t.Errorf("at the end it writes %q", got)
	}
	for _, tt := range []struct {
		read, total int64
		elapsed     time.Duration
		want        string
	}{
		{0, 10, 0, "[                    ]   0%  0 of 10 objects, 0/s, 10s left"},
		{12, 10, time.Second, "[====================] 100%  10 of 10 objects, 12/s, 0s left"},
		{12, -1, 2 * time.Second, "12 objects, 6/s"},
	} {
		if got := bar(tt.read, tt.total, tt.elapsed); got != tt.want {
			t.Errorf("the bar is %q, want %q", got, tt.want)
		}
	}
}

func TestSummaryTable(t *testing.T) {
	var out bytes.Buffer
	writeSummary(&out, []informer.Status{
		{Resource: "pods", Read: 30, Excluded: 1, Synced: true, Took: 2 * time.Second, Drops: record.Drops{Empty: 1, Unsafe: 2, LongName: 3, TooMany: 4, Truncated: 5}},
		{Resource: "jobs.batch", Read: 1, Synced: true, Took: time.Second},
	}, map[string]emitter.Totals{"pods": {Accepted: 29}, "jobs.batch": {Refused: 1}})
	const want = `KIND         READ   EXCLUDED   SENT   REFUSED   VALUES DROPPED   VALUES CUT   SECONDS   OBJECTS/S   BACKFILLED
pods         30     1          29     0         10               5            2.00      15          yes
jobs.batch   1      0          0      1         0                0            1.00      1           no
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("summary (-want +got):\n%s", diff)
	}
}
