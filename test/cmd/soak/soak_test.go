// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/csv"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"labelstream/test/plot"
	"labelstream/test/receiver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestSchedule scales the receiver's outages up to 90 minutes, repeats the faults in
// a long run, and leaves time at the end.
func TestSchedule(t *testing.T) {
	for length, want := range map[time.Duration]struct {
		faults  int
		longest time.Duration
	}{
		time.Hour: {len(cycle), 15 * time.Minute}, 6 * time.Hour: {len(cycle), 90 * time.Minute}, 12 * time.Hour: {2 * len(cycle), 90 * time.Minute},
	} {
		var longest, before time.Duration
		all := schedule(length)
		for _, f := range all {
			longest = max(longest, f.lasts)
			if f.at <= before || f.at+f.lasts > length-min(length, longestCycle)/10 {
				t.Errorf("%v: %+v comes after a fault at %v", length, f, before)
			}
			before = f.at
		}
		if len(all) != want.faults || longest != want.longest {
			t.Errorf("%v: %d faults, of up to %v, want %+v", length, len(all), longest, want)
		}
	}
}

func pod(name, team string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: "n", Name: name, Labels: map[string]string{"team": team}}
}

// TestJudge lets samples arrive, and wants what is missing then.
func TestJudge(t *testing.T) {
	sent := func(j *judge, name, team string, timestamp int64) {
		s := expected("pod", pod(name, team))
		s.Samples = []receiver.Sample{{Timestamp: timestamp, Value: 1}}
		j.see(nil, nil, &receiver.Request{Series: []receiver.Series{s}})
	}
	for _, test := range []struct {
		name    string
		play    func(*judge)
		missing string
		late    int
	}{
		{"nothing has arrived", func(*judge) {}, "got nothing", 0},
		{"an older state", func(j *judge) { sent(j, "a", "x", 1) }, `want cloudzero_pod_labels{label_team="y",namespace="n",pod="a",resource_type="pod"}`, 0},
		{"the last state", func(j *judge) { sent(j, "a", "x", 1); sent(j, "a", "y", 2) }, "", 0},
		{"an older state after the last", func(j *judge) { sent(j, "a", "y", 1); sent(j, "a", "x", 2) }, `got cloudzero_pod_labels{label_team="x"`, 0},
		{"an older sample after the last", func(j *judge) { sent(j, "a", "y", 2); sent(j, "a", "x", 1) }, "", 1},
		{"another object", func(j *judge) { sent(j, "b", "y", 1) }, "got nothing", 0},
		{"deleted", func(j *judge) { j.forget("pod", pod("a", "y")); sent(j, "a", "y", 1) }, "", 0},
	} {
		j := newJudge()
		j.want("pod", pod("a", "x"))
		j.want("pod", pod("a", "y"))
		test.play(j)
		err := j.missing()
		if _, late := j.counts(); (err == nil) != (test.missing == "") || err != nil && !strings.Contains(err.Error(), test.missing) || late != test.late {
			t.Errorf("%s: %v, and %d late; want %q and %d", test.name, err, late, test.missing, test.late)
		}
		waiting, oldest, median := j.lag(time.Now().Add(time.Hour))
		if (waiting > 0) != (err != nil) || (oldest >= 3600) != (err != nil) || test.missing == "" && test.name != "deleted" && math.IsNaN(median) {
			t.Errorf("%s: %d wait, the oldest for %v s; the median lag is %v s", test.name, waiting, oldest, median)
		}
	}
}

// TestSamples reads samples as they were written, and finds the times of the faults.
func TestSamples(t *testing.T) {
	name := filepath.Join(t.TempDir(), "samples.csv")
	file, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	var want []sample
	rows := csv.NewWriter(file)
	_ = rows.Write(columns)
	down, killed := string(receiverDown), string(leaderKilled)
	for i, faults := range [][]string{nil, {down}, {down, killed}, nil, {down}} {
		s := sample{faults: faults, numbers: map[string]float64{}}
		for _, column := range columns {
			if column != "faults" {
				s.numbers[column] = float64(60*i) + 0.5
			}
		}
		s.numbers["b_leader"], s.numbers["a_queue"] = 1, math.NaN()
		want = append(want, s)
		_ = rows.Write(s.row())
	}
	rows.Flush()
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := readSamples(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(sample{}), cmpopts.EquateNaNs(), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("samples (-want +got):\n%s", diff)
	}
	minute := func(n float64) float64 { return n + 0.5/60 }
	wantBands := []plot.Band{
		{From: minute(2), To: minute(2), Name: killed}, {From: minute(1), To: minute(2), Name: down}, {From: minute(4), To: minute(4), Name: down},
	}
	if diff := cmp.Diff(wantBands, bands(got)); diff != "" {
		t.Errorf("bands (-want +got):\n%s", diff)
	}
	row := "| leader: records in the queue | 0.5 | 240.5 | 240.5 |\n"
	if text := document(options{}, got, bands(got)); !strings.Contains(text, row) || !strings.Contains(text, "- receiver down: 2, for up to 1 min") {
		t.Errorf("no %q in the document, or not the faults:\n%s", row, text)
	}
}
