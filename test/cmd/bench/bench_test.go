package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

// TestMain also is the launcher and the program that it launches, as the tests
// ask for by the arguments.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == launchCommand {
		os.Exit(launch(os.Args[2:]))
	}
	if len(os.Args) > 1 && (os.Args[1] == "hold" || os.Args[1] == "--once") {
		hold()
		return
	}
	if len(os.Args) > 1 && os.Args[1] == "--kubeconfig" {
		memory := touch(heldBytes)
		fmt.Println(fakePods)
		runtime.KeepAlive(memory)
		return
	}
	goleak.VerifyTestMain(m)
}

const heldBytes = 64 << 20

// fakePods is what the reference that this program plays has read.
const fakePods = 300

// touch gives memory that is resident.
func touch(bytes int) []byte {
	memory := make([]byte, bytes)
	for i := 0; i < len(memory); i += os.Getpagesize() {
		memory[i] = 1
	}
	return memory
}

// hold is a program that uses memory, and tells its peak and its environment.
func hold() {
	memory := touch(heldBytes)
	peak, err := ownPeak()
	fmt.Println(peak, err, os.Environ())
	runtime.KeepAlive(memory)
}

func TestLaunchMeasuresTheProcessAlone(t *testing.T) {
	// This process becomes larger than what it measures.
	mine := touch(2 * heldBytes)
	t.Setenv("GOGC", "10")
	t.Setenv("LABELSTREAM_BATCH_SIZE", "7")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	u, output, err := launchProcess(t.Context(), []string{"LABELSTREAM_DESTINATION=x", exitAtOnce}, self, "hold")
	if err != nil {
		t.Fatal(err)
	}
	var told int64
	if _, err := fmt.Sscan(output, &told); err != nil {
		t.Fatalf("output %q: %v", output, err)
	}
	own, err := ownPeak()
	if err != nil {
		t.Fatal(err)
	}
	// The process may grow a little after it has told.
	const slack = 8 << 20
	if u.PeakRSS < told-slack || u.PeakRSS > told+slack || own < u.PeakRSS+slack {
		t.Errorf("a peak of %d bytes is measured, the process told %d, this one has %d", u.PeakRSS, told, own)
	}
	if u.LauncherPeak <= 0 || u.LauncherPeak >= heldBytes/2 {
		t.Errorf("the launcher's own peak is %d bytes", u.LauncherPeak)
	}
	if u.CPU <= 0 || u.Wall <= 0 || u.ExitCode != 0 {
		t.Errorf("usage %+v", u)
	}
	if !strings.Contains(output, "LABELSTREAM_DESTINATION=x") || strings.Contains(output, "GOGC") || strings.Contains(output, "LABELSTREAM_BATCH_SIZE") {
		t.Errorf("the environment is not clean: %q", output)
	}
	runtime.KeepAlive(mine)
}

func TestLaunchTellsFailures(t *testing.T) {
	shell, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name    string
		program string
		args    []string
		want    string
	}{
		{"exit code", shell, []string{"-c", "echo no destination >&2; exit 3"}, "ended with exit code 3:\nno destination"},
		{"no such program", "/nonexistent/program", nil, "no such file or directory"},
		{"too small to measure", shell, []string{"-c", "exit 0"}, "is not more than the launcher's"},
	} {
		_, _, err := launchProcess(t.Context(), []string{exitAtOnce}, test.program, test.args...)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want one with %q", test.name, err, test.want)
		}
	}
}

// exitAtOnce keeps programs with the race detector from sleeping for a second
// before they end.
const exitAtOnce = "GORACE=atexit_sleep_ms=0"

// TestProductRunsAreChecked plays the product with this program, and a sink that
// has received a given number more each time it is asked.
func TestProductRunsAreChecked(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name            string
		series, samples int64
		want            string
	}{
		{"all there", 600, 600, ""},
		{"one missing", 599, 599, "delivered 599 series with 599 samples, the server has 600"},
		{"one twice", 601, 601, "delivered 601 series with 601 samples, the server has 600"},
		{"a series without a sample", 600, 599, "delivered 600 series with 599 samples, the server has 600"},
	} {
		var received totals
		sink := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"series":%d,"samples":%d,"requests":9}`, received.Series, received.Samples)
			received.Series += test.series
			received.Samples += test.samples
		}))
		b := bench{
			scenario: scenario{pods: 300, seriesPerPod: 2, environment: []string{exitAtOnce}},
			programs: programs{labelstream: self},
			options:  options{timeout: time.Hour},
			sink:     sink.URL,
		}
		_, err := b.runProduct(t.Context())
		sink.Close()
		checkError(t, test.name, err, test.want)
	}
}

// TestReferenceRunsAreChecked plays the reference with this program.
func TestReferenceRunsAreChecked(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for pods, want := range map[int]string{fakePods: "", fakePods + 1: `read "300" objects, the server has 301`} {
		b := bench{scenario: scenario{pods: pods}, programs: programs{metalist: self}, options: options{timeout: time.Hour}}
		_, err := b.runReference(t.Context())
		checkError(t, fmt.Sprintf("%d pods", pods), err, want)
	}
}

// checkError wants an error that contains the text, or none for no text.
func checkError(t *testing.T, name string, err error, want string) {
	t.Helper()
	if (err != nil) != (want != "") || err != nil && !strings.Contains(err.Error(), want) {
		t.Errorf("%s: error %v, want %q", name, err, want)
	}
}

func TestOptions(t *testing.T) {
	o, err := parseOptions(nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int{10_000, 100_000, 1_000_000}, o.sizes); diff != "" || o.runs != 5 || o.output == "" || o.command != "make bench" {
		t.Errorf("defaults %+v\n%s", o, diff)
	}
	if o, err := parseOptions([]string{"--huge", "3000000"}); err != nil || o.huge != 3_000_000 || o.output == "" || o.command != `make bench BENCHARGS="--huge 3000000"` {
		t.Errorf("with 3 million pods: %+v, %v", o, err)
	}
	for _, args := range [][]string{{"--only", "JSON"}, {"--reference-only"}} {
		if o, err := parseOptions(args); err != nil || o.output != "" {
			t.Errorf("%v writes the file %q with a part of the results (%v)", args, o.output, err)
		}
	}
	for _, args := range [][]string{{"--sizes", "10,x"}, {"--sizes", "0"}, {"--runs", "0"}, {"--webhook-time", "21s"}, {"--webhook-time", "0s"}, {"--only", "("}} {
		if _, err := parseOptions(args); err == nil {
			t.Errorf("%v: no error", args)
		}
	}
}

func TestScenarios(t *testing.T) {
	var got []string
	for _, s := range scenarios([]int{10, 2000}, 3_000_000) {
		got = append(got, s.name)
	}
	want := []string{
		"labels, 10 pods", "labels, 2,000 pods", "labels, 3,000,000 pods",
		"annotations, 10 pods", "annotations, 2,000 pods",
		"250 KiB annotations, values cut at 2,048 bytes", "250 KiB annotations, sent whole",
		"receiver takes 200 ms a batch", "receiver is down for 3 s after each 100 batches", "as many Deployments, two lists at a time",
		"server speaks JSON only", "TLS and HTTP/2 to the server",
		"as they are", "`LABELSTREAM_PAGE_SIZE=250`", "`LABELSTREAM_PAGE_SIZE=1000`",
		"`LABELSTREAM_BATCH_SIZE=250`", "`LABELSTREAM_BATCH_SIZE=1000`", "`LABELSTREAM_BATCH_SIZE=2000`",
		"`LABELSTREAM_SENDERS=1`", "`LABELSTREAM_SENDERS=4`", "`LABELSTREAM_PROTOCOL=1.0`", "`GOGC=25`", "`GOGC=100`", "`GOGC=200`",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("scenarios (-want +got):\n%s", diff)
	}
}

func seconds(cpu, wall float64, mebibytes int64) usage {
	return usage{CPU: time.Duration(cpu * 1e9), Wall: time.Duration(wall * 1e9), PeakRSS: mebibytes << 20}
}

func TestReport(t *testing.T) {
	scenarios := []result{
		{
			scenario:  scenario{group: groupLabels, name: "labels, 1,000 pods", pods: 1000},
			product:   []usage{seconds(1, 2, 20), seconds(2, 1, 22), seconds(3, 4, 21)},
			reference: []usage{seconds(10, 10, 30), seconds(4, 10, 32), seconds(10, 10, 31)},
		},
		{
			scenario:  scenario{group: groupLabels, name: "labels, 5,000 pods", pods: 5000},
			product:   []usage{seconds(5, 2, 24), seconds(6, 2, 23)},
			reference: []usage{seconds(10, 10, 30), seconds(10, 10, 30)},
		},
		{scenario: scenario{group: groupLarge, name: "alone", pods: 100}, reference: []usage{seconds(1, 1, 9)}},
		{scenario: scenario{group: groupConditions, name: "no reference", pods: 100}, product: []usage{seconds(1, 1, 9)}},
		{scenario: scenario{group: groupSettings, name: "as they are", pods: 100}, product: []usage{seconds(1, 1, 9), seconds(3, 1, 9)}},
		{scenario: scenario{group: groupSettings, name: "others", pods: 100}, product: []usage{seconds(3, 1, 9)}},
	}
	m := machine{processor: "Some CPU", memory: "8 kB", kernel: "6.1", goVersion: "go1", cores: 4}
	_, after, _ := strings.Cut(introduction, "%s\n")
	_, got, found := strings.Cut(report(m, options{runs: 3, command: "make it"}, results{scenarios: scenarios}), "    make it\n")
	if !found {
		t.Fatal("the report does not say how it is had again")
	}
	header := "| scenario | pods | process | CPU s | objects/s | peak RSS MiB | CPU ratio |\n|---|--:|---|--:|--:|--:|--:|\n"
	want := fmt.Sprintf(after, "Some CPU, 4 cores; memory 8 kB; Linux 6.1; go1", 3) +
		"\n| promise | limit | measured | |\n|---|--:|--:|---|\n" +
		"| peak memory at 5,000 pods by that at 1,000 | at most 1.1 | 1.091 | kept |\n" +
		backfillIntroduction + legend + "\n### Labels\n\n" + header +
		"| labels, 1,000 pods | 1,000 | labelstream | 2.00 (1.00–3.00) | 500 | 22.0 | **0.30** |\n" +
		"| labels, 1,000 pods | 1,000 | client-go list | 10.00 (4.00–10.00) | 100 | 32.0 |  |\n" +
		"| labels, 5,000 pods | 5,000 | labelstream | 5.50 (5.00–6.00) | 2,500 | 24.0 | **0.55** |\n" +
		"| labels, 5,000 pods | 5,000 | client-go list | 10.00 (10.00–10.00) | 500 | 30.0 |  |\n" +
		"\n### Large annotations\n\n" + header +
		"| alone | 100 | client-go list | 1.00 (1.00–1.00) | 100 | 9.0 |  |\n" +
		"\n### Other conditions\n\n" + header +
		"| no reference | 100 | labelstream | 1.00 (1.00–1.00) | 100 | 9.0 |  |\n" +
		"\n### Settings\n\n" + header +
		"| as they are | 100 | labelstream | 2.00 (1.00–3.00) | 100 | 9.0 | 1.00 |\n" +
		"| others | 100 | labelstream | 3.00 (3.00–3.00) | 100 | 9.0 | 1.50 |\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
}

func TestCheckMemory(t *testing.T) {
	results := []result{{scenario: scenario{name: "small"}, product: []usage{seconds(1, 1, 20)}}, {scenario: scenario{name: "big"}, product: []usage{seconds(1, 1, 49)}}}
	for limit, want := range map[int]string{0: "", 49: "", 48: `"big"`} {
		checkError(t, fmt.Sprintf("limit %d", limit), checkMemory(results, limit), want)
	}
}

func TestMachineIsDescribedWithoutItsName(t *testing.T) {
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	m := readMachine()
	if text := m.String(); regexp.MustCompile(`\b` + regexp.QuoteMeta(name) + `\b`).MatchString(text) {
		t.Errorf("%q holds the host's name", text)
	}
	if m.cores < 1 || m.kernel == "unknown" || m.memory == "unknown" {
		t.Errorf("machine %+v", m)
	}
}
