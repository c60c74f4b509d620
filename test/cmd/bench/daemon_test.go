package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestDaemonStages(t *testing.T) {
	for pods, want := range map[int][]string{
		1_000_000: {"start 1000000 0 1000000 1000000 true", "expire 1000000 0 1000000 0 true",
			"events?type=MODIFIED&count=10000 10000 0 10000 0 false", "events?type=ADDED&count=10000 10000 0 10000 10000 false",
			"replace 1000000 0 1000000 1000000 true"},
		500: {"start 500 0 500 500 true", "expire 500 0 500 0 true",
			"events?type=MODIFIED&count=500 500 0 500 0 false", "events?type=ADDED&count=500 500 0 500 500 false",
			"replace 500 0 500 500 true"},
	} {
		var got []string
		for _, s := range daemonStages(pods) {
			if s.act == "" {
				s.act = "start"
			}
			got = append(got, fmt.Sprintf("%s %d 0 %d %d %t", s.act, s.things, s.seen, s.sent, s.list))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("stages of %d pods (-want +got):\n%s", pods, diff)
		}
	}
}

// TestStagesAreChecked plays labelstream, its sink and the synthetic server with
// one that has seen, sent and listed a given number more after the stage began.
func TestStagesAreChecked(t *testing.T) {
	for _, test := range []struct {
		name              string
		seen, sent, lists int
		want              string
	}{
		{"as it should be", 500, 20, 1, ""},
		{"one sample too many", 500, 21, 1, "labelstream read 500 objects and sent 21 samples, want 500 and 20"},
		{"one object twice", 501, 20, 1, "labelstream read 501 objects and sent 20 samples, want 500 and 20"},
		{"one sample too few", 500, 19, 1, context.Canceled.Error()},
		{"without a list", 500, 20, 0, context.Canceled.Error()},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		acted, asked := 0, 0
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch r.Method + r.URL.Path {
			case "POST/synthetic/expire":
				acted = 1
			case "GET/totals":
				// Who asks again and again is not satisfied.
				if asked++; asked > 2 {
					cancel()
				}
				fmt.Fprintf(w, `{"samples":%d}`, 7+acted*test.sent)
			case "GET/metrics":
				fmt.Fprintf(w, "# TYPE labelstream_objects_seen_total counter\nlabelstream_objects_seen_total %d\n"+
					"# TYPE labelstream_watch_restarts_total counter\nlabelstream_watch_restarts_total %d\n", 9+acted*test.seen, acted*test.lists)
			default:
				http.NotFound(w, r)
			}
		}))
		self, err := os.FindProcess(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		d := daemon{command: &exec.Cmd{Process: self}, sink: server.URL, status: server.URL, errors: &tail{}, seen: 9, sent: 7}
		_, err = d.live(ctx, stage{act: "expire", seen: 500, sent: 20, list: true}, server.URL)
		cancel()
		server.Close()
		checkError(t, test.name, err, test.want)
	}
}

func TestAccountIsOfTheStage(t *testing.T) {
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	d := daemon{command: &exec.Cmd{Process: self}}
	whole, err := d.account()
	if err != nil {
		t.Fatal(err)
	}
	memory := touch(heldBytes)
	stage, err := d.account()
	if err != nil {
		t.Fatal(err)
	}
	if whole.CPU <= 0 || stage.CPU <= 0 || d.cpu != whole.CPU+stage.CPU {
		t.Errorf("the process has taken %v, in stages of %v and %v", d.cpu, whole.CPU, stage.CPU)
	}
	if stage.Resident < heldBytes || stage.PeakRSS < stage.Resident {
		t.Errorf("%d bytes are resident, %d at most, want at least %d", stage.Resident, stage.PeakRSS, heldBytes)
	}
	runtime.KeepAlive(memory)
}

func TestDaemonReport(t *testing.T) {
	at := func(cpu float64, resident, peak int64) stageUsage {
		return stageUsage{CPU: time.Duration(cpu * 1e9), Resident: resident << 20, PeakRSS: peak << 20}
	}
	r := &daemonResult{
		pods:   2000,
		stages: []stage{{name: "first", things: 2000, sent: 2000}, {name: "second", things: 500}},
		runs:   [][]stageUsage{{at(1, 50, 51), at(0.1, 52, 60)}, {at(2, 49, 53), at(0.3, 55, 59)}, {at(4, 48, 52), at(0.2, 54, 58)}},
	}
	want := "\n## Daemon, 2,000 pods\n\n" + daemonIntroduction +
		"\n| stage | objects | samples sent | CPU s | CPU µs each | resident MiB | peak RSS MiB |\n|---|--:|--:|--:|--:|--:|--:|\n" +
		"| first | 2,000 | 2,000 | 2.00 (1.00–4.00) | 1000.0 | 50.0 | 53.0 |\n" +
		"| second | 500 | 0 | 0.20 (0.10–0.30) | 400.0 | 55.0 | 60.0 |\n"
	if diff := cmp.Diff(want, r.report()); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
	for limit, want := range map[int]string{0: "", 60: "", 59: "daemon, 2,000 pods"} {
		checkError(t, fmt.Sprintf("limit %d", limit), checkDaemonMemory(r, limit), want)
	}
	if err := checkDaemonMemory(nil, 1); err != nil {
		t.Error(err)
	}
}
