package ledger

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// million is the number of objects that the promises are about.
const million = 1_000_000

// fill lists a million objects from the one numbered from.
func fill(l *Ledger, from uint64) {
	l.BeginList(false)
	for id := range uint64(million) {
		l.Observe(keyOf(from+id), 1)
	}
	l.EndList()
}

// workloads are what the memory is measured after. Each runs in a process of its
// own.
var workloads = map[string]func(*Ledger){
	"empty": func(*Ledger) {},
	"fill":  func(l *Ledger) { fill(l, 0) },
	// Each object is deleted, and another created.
	"replace": func(l *Ledger) {
		fill(l, 0)
		for id := range uint64(million) {
			l.Observe(keyOf(million+id), 1)
			l.Delete(keyOf(id))
		}
	},
	// The same, while a watch was broken: the list that follows has all of the
	// new before it forgets any of the old.
	"replace-by-list": func(l *Ledger) {
		fill(l, 0)
		fill(l, million)
	},
}

// workloadVariable makes this test's process run a workload instead of tests.
const workloadVariable = "LEDGER_TEST_WORKLOAD"

// runWorkload prints the process's memory as the kernel has it.
func runWorkload(name string) {
	l := New()
	workloads[name](l)
	fmt.Println("Bytes:", l.Bytes())
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Stdout.Write(status)
}

// measure runs a workload and returns what it printed, by name.
func measure(t testing.TB, workload string) map[string]float64 {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), workloadVariable+"="+workload)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("run workload %s: %v", workload, err)
	}
	figures := make(map[string]float64)
	for scanner := bufio.NewScanner(bytes.NewReader(out)); scanner.Scan(); {
		name, value, _ := strings.Cut(scanner.Text(), ":")
		var figure float64
		if n, _ := fmt.Sscan(value, &figure); n == 1 {
			figures[name] = figure
		}
	}
	return figures
}

// BenchmarkMemory measures the resident memory with a million objects, at its
// peak and at the end, beyond that of a process with an empty ledger.
func BenchmarkMemory(b *testing.B) {
	base := measure(b, "empty")
	for _, workload := range []string{"fill", "replace", "replace-by-list"} {
		b.Run(workload, func(b *testing.B) {
			var peak, resident, size float64
			for b.Loop() {
				got := measure(b, workload)
				peak = max(peak, got["VmHWM"]-base["VmHWM"])
				resident = max(resident, got["VmRSS"]-base["VmHWM"])
				size = got["Bytes"]
			}
			b.ReportMetric(peak/1024, "peak-MiB")
			b.ReportMetric(resident/1024, "resident-MiB")
			b.ReportMetric(size/million, "B/object")
		})
	}
}

func BenchmarkMillion(b *testing.B) {
	l := newLedger(b)
	fill(l, 0)
	id := uint64(0)
	b.Run("unchanged", func(b *testing.B) {
		for b.Loop() {
			l.Observe(keyOf(id%million), 1)
			id++
		}
	})
	b.Run("create-and-delete", func(b *testing.B) {
		id := uint64(0)
		for b.Loop() {
			l.Observe(keyOf(million+id), 1)
			l.Delete(keyOf(id))
			id++
		}
	})
	b.Run("begin-and-end", func(b *testing.B) {
		for b.Loop() {
			l.BeginList(false)
			for i := range l.entries.slots {
				if e := &l.entries.slots[i]; e.state != 0 {
					e.state |= seen
				}
			}
			l.EndList()
		}
	})
}

// BenchmarkGrow is an object's share in the growth to a million.
func BenchmarkGrow(b *testing.B) {
	for b.Loop() {
		l := New()
		fill(l, 0)
		l.Close()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/million, "ns/object")
}
