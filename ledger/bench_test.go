package ledger

import (
	"bufio"
	"bytes"
	"fmt"
	"math"
	"os"
	"os/exec"
	"strings"
	"testing"

	"labelstream/record"
)

// million is the number of objects that the promises are about.
const million = 1_000_000

// filler brings objects to a table without allocating for each.
type filler struct {
	record record.Record
	series [8]byte
}

func (f *filler) object(id uint64, value byte) *record.Record {
	f.series[0] = value
	f.record.Key, f.record.Series = keyOf(id), f.series[:]
	return &f.record
}

func fill(table *Table) {
	var f filler
	list := table.Begin(true, noon)
	for id := range uint64(million) {
		list.Item(f.object(id, 1))
	}
	list.End()
}

// workloads are what the memory is measured after. Each runs in a process of
// its own.
var workloads = map[string]func(*Table){
	"empty": func(*Table) {},
	"fill":  fill,
	// Each object is deleted, and another created.
	"replace": func(table *Table) {
		fill(table)
		var f filler
		for id := range uint64(million) {
			table.Event(f.object(million+id, 1))
			table.Delete(keyOf(id))
		}
	},
	// The same, while a watch was broken: the list that follows has all of the
	// new before it forgets any of the old.
	"replace-by-list": func(table *Table) {
		fill(table)
		var f filler
		list := table.Begin(false, noon)
		for id := range uint64(million) {
			list.Item(f.object(million+id, 1))
		}
		list.End()
	},
	"relist": func(table *Table) {
		fill(table)
		var f filler
		list := table.Begin(false, noon)
		for id := range uint64(million) {
			list.Item(f.object(id, 1))
		}
		list.End()
	},
	"delete-all": func(table *Table) {
		fill(table)
		for id := range uint64(million) {
			table.Delete(keyOf(id))
		}
	},
}

// workloadVariable makes this test's process run a workload instead of tests.
const workloadVariable = "LEDGER_TEST_WORKLOAD"

// runWorkload prints the table's size, and the process's memory as the kernel
// has it.
func runWorkload(name string) {
	table := New()
	workloads[name](table)
	fmt.Println("Objects:", table.Len())
	fmt.Println("Bytes:", table.Bytes())
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Stdout.Write(status)
}

// measure runs a workload and returns what it printed, by name.
func measure(b *testing.B, workload string) map[string]float64 {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), workloadVariable+"="+workload)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		b.Fatalf("run workload %s: %v", workload, err)
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
// peak and at the end, beyond that of a process with an empty table.
func BenchmarkMemory(b *testing.B) {
	base := measure(b, "empty")
	for _, workload := range []string{"fill", "relist", "replace", "replace-by-list", "delete-all"} {
		b.Run(workload, func(b *testing.B) {
			var peak, resident, table float64
			for b.Loop() {
				got := measure(b, workload)
				peak = max(peak, got["VmHWM"]-base["VmHWM"])
				resident = max(resident, got["VmRSS"]-base["VmHWM"])
				table = got["Bytes"] / got["Objects"]
			}
			b.ReportMetric(peak/1024, "peak-MiB")
			b.ReportMetric(resident/1024, "resident-MiB")
			if !math.IsNaN(table) {
				b.ReportMetric(table, "B/object")
			}
		})
	}
}

func BenchmarkMillion(b *testing.B) {
	table := newTable(b)
	fill(table)
	var f filler
	b.Run("event-unchanged", func(b *testing.B) {
		id := uint64(0)
		for b.Loop() {
			table.Event(f.object(id%million, 1))
			id++
		}
	})
	b.Run("item-unchanged", func(b *testing.B) {
		list := table.Begin(false, noon)
		defer list.Abandon()
		id := uint64(0)
		for b.Loop() {
			list.Item(f.object(id%million, 1))
			id++
		}
	})
	b.Run("turn", func(b *testing.B) {
		for b.Loop() {
			if err := table.Acquire(b.Context(), 1); err != nil {
				b.Fatal(err)
			}
			table.Release(1)
		}
	})
	b.Run("create-and-delete", func(b *testing.B) {
		id := uint64(0)
		for b.Loop() {
			table.Event(f.object(million+id, 1))
			table.Delete(keyOf(id))
			id++
		}
	})
	b.Run("list-begin", func(b *testing.B) {
		for b.Loop() {
			table.Begin(false, noon)
		}
	})
	b.Run("list-end", func(b *testing.B) {
		list := table.Begin(false, noon)
		table.entries.update(func(e *entry) { e.state |= seen })
		for b.Loop() {
			list.End()
			table.list = list // as if it had not ended
		}
	})
}

// BenchmarkGrow is an object's share in the growth to a million.
func BenchmarkGrow(b *testing.B) {
	for b.Loop() {
		table := New()
		fill(table)
		table.Clear()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/million, "ns/object")
}
