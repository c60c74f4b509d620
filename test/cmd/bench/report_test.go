package main

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestPromises(t *testing.T) {
	measured := func(group, name string, pods int, cpu float64, peak int64, maxCPU, maxRSS float64) result {
		return result{
			scenario:  scenario{group: group, name: name, pods: pods, maxCPU: maxCPU, maxRSS: maxRSS},
			product:   []usage{seconds(cpu, 1, peak)},
			reference: []usage{seconds(10, 1, 20)},
		}
	}
	all := results{
		scenarios: []result{
			measured(groupLabels, "few", 10, 9, 30, 0, promisedRSS),
			measured(groupLabels, "many", 1000, 2.5, 33, 0.25, promisedRSS),
			measured(groupAnnotations, "annotated", 1000, 3.501, 36, 0.35, promisedRSS),
			measured(groupLarge, "large", 10, 9, 49, 0, promisedHardRSS),
			measured(groupConditions, "JSON", 10, 9, 99, 0, 0),
			{scenario: scenario{group: groupLabels, name: "the reference alone", maxCPU: 1, maxRSS: promisedRSS}, reference: []usage{seconds(1, 1, 1)}},
		},
		daemon:  &daemonResult{pods: promisedPods, runs: [][]stageUsage{{{Resident: 70 << 20, PeakRSS: 90 << 20}, {Resident: 72 << 20}}, {{Resident: 1}}}},
		webhook: testWebhookResult(1.25, 2, 1),
	}
	want := "\n| promise | limit | measured | |\n|---|--:|--:|---|\n" +
		"| peak memory of a backfill, the highest: annotated | at most 36 MiB | 36.0 MiB | kept |\n" +
		"| peak memory of a backfill, the highest: large | at most 48 MiB | 49.0 MiB | **missed** |\n" +
		"| peak memory at 1,000 pods by that at 10 | at most 1.1 | 1.100 | kept |\n" +
		"| processor time of a backfill by client-go's list: many | at most 0.25 | 0.250 | kept |\n" +
		"| processor time of a backfill by client-go's list: annotated | at most 0.35 | 0.350 | **missed** |\n" +
		"| resident memory of the daemon, 1,000,000 pods | at most 72 MiB | 72.0 MiB | kept |\n" +
		"| webhook by a bare server: reviews a second | at least 0.8 | 0.800 | kept |\n" +
		"| webhook by a bare server: processor time a review | at most 1.3 | 1.250 | kept |\n" +
		"| webhook by a bare server: p99 at 1,000 a second | at most 1.3 | 1.250 | kept |\n"
	if diff := cmp.Diff(want, promiseReport(promises(all))); diff != "" {
		t.Errorf("promises (-want +got):\n%s", diff)
	}
	want = "\n| promise | limit | measured | |\n|---|--:|--:|---|\n" +
		"| webhook by a bare server: reviews a second | at least 0.8 | 0.769 | **missed** |\n" +
		"| webhook by a bare server: processor time a review | at most 1.3 | 1.300 | kept |\n" +
		"| webhook by a bare server: p99 at 1,000 a second | at most 1.3 | 1.300 | kept |\n"
	if diff := cmp.Diff(want, promiseReport(promises(results{webhook: testWebhookResult(1.3), daemon: &daemonResult{pods: 5}}))); diff != "" {
		t.Errorf("promises (-want +got):\n%s", diff)
	}
	if got := promiseReport(promises(results{})); got != "" {
		t.Errorf("of nothing: %q", got)
	}
}

func TestPromisesOfScenarios(t *testing.T) {
	got := map[string][2]float64{}
	for _, s := range scenarios([]int{10_000, 1_000_000}, 3_000_000) {
		if s.group == groupSettings && s.maxCPU == 0 && s.maxRSS == 0 {
			continue
		}
		got[s.name] = [2]float64{s.maxCPU, s.maxRSS}
	}
	want := map[string][2]float64{
		"labels, 10,000 pods": {0, 36}, "labels, 1,000,000 pods": {0.25, 36}, "labels, 3,000,000 pods": {0, 36},
		"annotations, 10,000 pods": {0, 36}, "annotations, 1,000,000 pods": {0.35, 36},
		"as many Deployments, two lists at a time": {0, 36}, "receiver is down for 3 s after each 100 batches": {0, 48},
		"250 KiB annotations, values cut at 2,048 bytes": {0, 48}, "250 KiB annotations, sent whole": {0, 48}, "receiver takes 200 ms a batch": {0, 48},
		"server speaks JSON only": {}, "TLS and HTTP/2 to the server": {},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("promises (-want +got):\n%s", diff)
	}
}

func TestMicroBenchmarks(t *testing.T) {
	const text = "goos: linux\npkg: labelstream/config\nBenchmarkKeep-2   \t 1000000\t       194.7 ns/op\t       0 B/op\t       0 allocs/op\nPASS\n" +
		"ok  \tlabelstream/config\t0.209s\npkg: labelstream/informer\n" +
		"BenchmarkDecode/proto-buf-2 \t 100\t 300000 ns/op\t 99.5 MB/s\t 1000 objects/s\t 24 B/op\t 1 allocs/op\n" +
		"BenchmarkDecode/proto-buf-2 \t 100\t 100000 ns/op\t 99.5 MB/s\t 3000 objects/s\t 22 B/op\t 1 allocs/op\n" +
		"BenchmarkDecode/json \t 100\t 500000 ns/op\t 12 B/op\t 1 allocs/op\n"
	all, err := parseBenchmarks([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	want := "\n## Parts\n\n" + microIntroduction + "\n| package | benchmark | a second | ns/op | B/op | allocs/op |\n|---|---|--:|--:|--:|--:|\n" +
		"| config | Keep | 5,136,107 operations | 194.7 | 0 | 0 |\n" +
		"| informer | Decode/proto-buf | 2,000 objects | 200000 | 23 | 1 |\n" +
		"| informer | Decode/json | 2,000 operations | 500000 | 12 | 1 |\n"
	if diff := cmp.Diff(want, microReport(all)); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
	for name, test := range map[string]struct{ text, want string }{
		"none":      {"pkg: labelstream/config\nPASS\n", "no benchmark was run"},
		"no pair":   {"BenchmarkA-2 100 300 ns/op 7\n", "is no figure with its unit"},
		"no figure": {"BenchmarkA-2 100 x ns/op\n", "is no figure with its unit"},
	} {
		_, err := parseBenchmarks([]byte(test.text))
		checkError(t, name, err, test.want)
	}
}

func TestProfileReport(t *testing.T) {
	const top = "File: labelstream\nType: cpu\nDuration: 2s, Total samples = 4.31s (215%)\nShowing nodes accounting for 1s, 23% of 4.31s total\n" +
		"      flat  flat%   sum%        cum   cum%\n" +
		"     530ms 12.30% 12.30%      530ms 12.30%  runtime.memmove\n" +
		"         0     0% 12.30%      2.79s 64.73%  labelstream/informer.(*walk).run (inline)\n"
	rows, err := parseTop([]byte(top))
	if err != nil {
		t.Fatal(err)
	}
	r := profileResult{backfill: profile{flat: rows, cumulative: rows[1:]}, webhook: profile{flat: rows[:1], cumulative: rows[:1]}}
	const header = "\n\n| flat | | cum | | function |\n|--:|--:|--:|--:|---|\n"
	first, second := "| 530ms | 12.30% | 530ms | 12.30% | `runtime.memmove` |\n", "| 0 | 0% | 2.79s | 64.73% | `labelstream/informer.(*walk).run (inline)` |\n"
	want := "\n## Profiles\n\n" + profileIntroduction +
		"\n### Backfill, by own time" + header + first + second + "\n### Backfill, by time with what is called" + header + second +
		"\n### Webhook, by own time" + header + first + "\n### Webhook, by time with what is called" + header + first
	if diff := cmp.Diff(want, r.report()); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
	for name, text := range map[string]string{"nothing": "", "another form": "flat flat% sum% cum cum%\n530ms memmove\n"} {
		_, err := parseTop([]byte(text))
		checkError(t, name, err, "read a profile: pprof wrote")
	}
	if got, want := profileURL("http://a", 5*time.Second), "http://a/debug/pprof/profile?seconds=5"; got != want {
		t.Errorf("asks for %q, want %q", got, want)
	}
}
