// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"labelstream/test/process"
)

const heldBytes = 64 << 20

// TestMain is also a program that uses memory, and prints its peak.
func TestMain(m *testing.M) {
	if len(os.Args) < 2 || os.Args[1] != "hold" {
		goleak.VerifyTestMain(m)
		return
	}
	memory := touch(heldBytes)
	a, err := process.AccountOf(os.Getpid())
	fmt.Println(a.Peak, err)
	runtime.KeepAlive(memory)
	os.Exit(3)
}

// touch gives memory that is resident.
func touch(bytes int) []byte {
	memory := make([]byte, bytes)
	for i := 0; i < len(memory); i += os.Getpagesize() {
		memory[i] = 1
	}
	return memory
}

// TestPeakIsOfTheProcessAlone launches from a process that is larger than what is
// measured.
func TestPeakIsOfTheProcessAlone(t *testing.T) {
	launcher := filepath.Join(t.TempDir(), "bench")
	if _, err := goTool(t.Context(), ".", "build", "-o", launcher, "."); err != nil {
		t.Fatal(err)
	}
	mine := touch(2 * heldBytes)
	// Programs with the race detector sleep for a second before they end.
	l, err := launch(t.Context(), launcher, []string{"GORACE=atexit_sleep_ms=0"}, os.Args[0], "hold")
	checkError(t, "launch", err, "ended with exit code 3")
	runtime.KeepAlive(mine)
	var told int64
	if _, err := fmt.Sscan(l.Output, &told); err != nil {
		t.Fatalf("output %q: %v", l.Output, err)
	}
	// The process may grow a little after it has told.
	if slack := int64(8 << 20); l.Peak < told-slack || l.Peak > told+slack {
		t.Errorf("a peak of %d bytes is measured, the process told %d", l.Peak, told)
	}
	if l.Floor <= 0 || l.Floor >= heldBytes/2 || l.CPU <= 0 || l.Wall <= 0 || l.ExitCode != 3 {
		t.Errorf("launched %+v", l)
	}
}

func TestOptions(t *testing.T) {
	o, err := parseOptions(nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int{10_000, 100_000, 1_000_000}, o.objects); diff != "" || o.runs != 5 || o.output == "" || o.command != "make bench" {
		t.Errorf("defaults %+v\n%s", o, diff)
	}
	for _, args := range [][]string{{"--only", "JSON"}, {"--vs", "old", "--vs-env", "A=b", "--huge", "3000000"}} {
		if o, err := parseOptions(args); err != nil || o.output != "" {
			t.Errorf("%v writes the file %q with a part of the results (%v)", args, o.output, err)
		}
	}
	for _, args := range [][]string{{"--objects", "10,x"}, {"--objects", "0"}, {"--runs", "0"}, {"--load-time", "0s"}, {"--only", "("}} {
		if _, err := parseOptions(args); err == nil {
			t.Errorf("%v: no error", args)
		}
	}
}

func TestScenarios(t *testing.T) {
	names := map[string]bool{}
	promised := map[string]int{}
	for _, s := range scenarios([]int{10, 1_000_000}, 3_000_000) {
		name := s.section + ": " + s.name
		if names[name] || s.profile == "" || s.series < 1 || s.objects < 1 {
			t.Errorf("%+v is there twice, or lacks something", s)
		}
		names[name] = true
		for _, p := range s.promises {
			if p.step >= len(steps[s.mode]) || strings.HasSuffix(p.figure.name, "reference") && s.reference == "" {
				t.Errorf("%s: the promise of %s has nothing to be measured by", name, p.figure.name)
			}
			promised[fmt.Sprintf("%s %g", p.figure.name, p.limit)]++
		}
	}
	want := map[string]int{
		"processor time by that of the reference 0.25": 4, "processor time by that of the reference 0.35": 2, "processor time by that of the reference 1.3": 1,
		"processor time by that of the reference 1.15": 2,
		"p99 by that of the reference 1.3":             1, "rate by that of the reference 0.45": 1,
		"peak memory 36": 13, "peak memory 48": 4, "peak memory 80": 1, "resident memory 72": 1,
	}
	if diff := cmp.Diff(want, promised); diff != "" {
		t.Errorf("promises (-want +got):\n%s", diff)
	}
	for _, s := range scenarios([]int{500}, 0) {
		if s.objects > 500 && s.mode != webhook {
			t.Errorf("%s: %s has %d objects where 500 are the most", s.section, s.name, s.objects)
		}
	}
}

// fakeFixture has one server for all, and a launcher that prints a text.
func fakeFixture(t *testing.T, s scenario, serve http.HandlerFunc, launched string) *fixture {
	server := httptest.NewServer(serve)
	t.Cleanup(server.Close)
	f := &fixture{scenario: s, directory: t.TempDir(), synthetic: server.URL, sink: server.URL}
	f.launcher = f.file("launch")
	if err := os.WriteFile(f.launcher, []byte("#!/bin/sh\necho said >&2\nprintf %s '"+launched+"'"), 0o700); err != nil {
		t.Fatal(err)
	}
	return f
}

// TestRunsAreChecked plays the launcher, and a sink that has received a number
// more each time it is asked.
func TestRunsAreChecked(t *testing.T) {
	for _, test := range []struct {
		launched        string
		series, samples int
		product, list   string
	}{
		{`{"Peak":9,"Floor":5,"Output":"300\n"}`, 600, 600, "", ""},
		{`{"Peak":9,"Floor":5,"Output":"299\n"}`, 599, 599, "delivered 599 samples, want 600", `read "299" objects, the server has 300`},
		{`{"Peak":9,"Floor":5}`, 601, 601, "delivered 601 samples, want 600", `read "" objects`},
		{`{"Peak":9,"Floor":5}`, 600, 599, "delivered 600 series with 599 samples", `read "" objects`},
		{`{"Peak":9,"Floor":9}`, 600, 600, "is not more than the launcher's 9", "not more"},
		{`{"Peak":9,"ExitCode":3}`, 600, 600, "ended with exit code 3:\nsaid", "exit code 3"},
		{`nothing`, 600, 600, "launch labelstream: invalid character", "launch metalist: invalid character"},
	} {
		asked := 0
		f := fakeFixture(t, scenario{objects: 300, series: 2}, func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"series":%d,"samples":%d}`, asked*test.series, asked*test.samples)
			asked++
		}, test.launched)
		_, err := (&backfill{fixture: f, program: "labelstream"}).step(t.Context(), 0)
		checkError(t, test.launched, err, test.product)
		_, err = (&metalist{fixture: f, program: "metalist"}).step(t.Context(), 0)
		checkError(t, test.launched, err, test.list)
	}
}

// checkError wants an error that contains the text, or none for no text.
func checkError(t *testing.T, name string, err error, want string) {
	t.Helper()
	if (err != nil) != (want != "") || err != nil && !strings.Contains(err.Error(), want) {
		t.Errorf("%s: error %v, want %q", name, err, want)
	}
}

// TestStagesAreChecked plays a daemon that sends so many samples in its last stage.
func TestStagesAreChecked(t *testing.T) {
	for samples, want := range map[int]string{500: "", 501: "delivered 508 samples, want 507", 499: "context canceled"} {
		ctx, cancel := context.WithCancel(t.Context())
		var acts []string
		asked := 0
		f := fakeFixture(t, scenario{objects: 500}, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				acts = append(acts, r.URL.Path)
				return
			}
			// A runner that asks again and again is not satisfied.
			if asked++; asked > 2 {
				cancel()
			}
			fmt.Fprintf(w, `{"series":%d,"samples":%[1]d}`, 7+samples)
		}, "")
		p, err := process.Start(f.file("labelstream.log"), "sleep", "600")
		if err != nil {
			t.Fatal(err)
		}
		w := &watcher{daemonProcess{fixture: f, process: p, expected: 7}}
		u, err := w.step(ctx, stageReplace)
		checkError(t, fmt.Sprintf("%d samples", samples), err, want)
		if got := strings.Join(acts, " "); got != "/synthetic/replace /synthetic/await" || err == nil && (u.Items != 500 || u.Resident <= 0) {
			t.Errorf("acts %q, usage %+v", got, u)
		}
		p.Kill()
		cancel()
	}
}

func TestSettings(t *testing.T) {
	f := &fixture{scenario: scenario{mode: webhook}, directory: "/d", sink: "http://s", webhook: "h:1"}
	got := newProduct(f, "p", []string{"LABELSTREAM_OLD=${CERT_DIR}/tls.crt", "-LABELSTREAM_CHANGES", "-LABELSTREAM_RESYNC_INTERVAL"}, options{}).(*reviewer).settings
	want := []string{
		"LABELSTREAM_DESTINATION=http://s/api/v1/write", "LABELSTREAM_LABELS_RESOURCES=pods", "LABELSTREAM_STATUS_ADDRESS=127.0.0.1:0",
		"LABELSTREAM_SEND_INTERVAL=1s", "LABELSTREAM_WEBHOOK_CERT_DIR=/d", "LABELSTREAM_WEBHOOK_ADDRESS=h:1", "LABELSTREAM_OLD=/d/tls.crt",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
}

func TestPercentile(t *testing.T) {
	var took []time.Duration
	for i := range 2000 {
		took = append(took, time.Duration(2000-i))
	}
	if got := []time.Duration{percentile(took, 50), percentile(took, 99), percentile(took[:1], 99), percentile(nil, 99)}; !cmp.Equal(got, []time.Duration{1000, 1980, 1, 0}) {
		t.Errorf("percentiles %d", got)
	}
}

func used(items int, cpu, wall float64, resident, peak int64, p99 time.Duration) usage {
	return usage{
		Account: process.Account{CPU: time.Duration(cpu * 1e9), Resident: resident << 20, Peak: peak << 20},
		Items:   items, Wall: time.Duration(wall * 1e9), P50: p99 / 2, P99: p99,
	}
}

func TestReport(t *testing.T) {
	once := func(cpu, wall float64, peak int64) usage { return used(1000, cpu, wall, 0, peak, 0) }
	results := []result{
		{scenario{section: "Labels", name: "few", objects: 10, profile: "alike", promises: []promise{promisedCPU, promisedRSS}}, "list", []pairs{
			{[]usage{once(1, 2, 20), once(2, 1, 22), once(3, 4, 21)}, []usage{once(10, 10, 30), once(4, 10, 32), once(10, 10, 31)}}}},
		{scenario{section: "Labels", name: "many", objects: 1000, profile: "alike", promises: []promise{promisedCPU, promisedRSS}}, "list", []pairs{
			{[]usage{once(2, 2, 24), once(2, 2, 23)}, []usage{once(10, 10, 30), once(10, 10, 30)}}}},
		{scenario{section: "Webhook", mode: webhook, promises: webhookPromises}, "bare", []pairs{
			{[]usage{used(500, 1, 1, 30, 40, 0)}, []usage{used(1000, 1, 1, 20, 20, 0)}},
			{[]usage{used(1000, 1.3, 1, 30, 40, 4*time.Millisecond)}, []usage{used(1000, 1, 1, 20, 20, 2*time.Millisecond)}}}},
	}
	_, after, _ := strings.Cut(introduction, "%s\n")
	_, got, found := strings.Cut(report("a machine", options{runs: 3, command: "make it"}, results, "BenchmarkX 1\n"), "    make it\n")
	if !found {
		t.Fatal("the report does not say how it is written again")
	}
	tables, err := os.ReadFile("testdata/report.md")
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf(after, "a machine", 3) + "\n" + string(tables)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
}
