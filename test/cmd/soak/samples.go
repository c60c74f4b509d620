// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"encoding/csv"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"labelstream/test/plot"
)

// columns are those of the file. NaN is empty.
var columns = []string{
	"seconds", "faults",
	"a_leader", "a_resident_mib", "a_goroutines", "a_files", "a_queue",
	"b_leader", "b_resident_mib", "b_goroutines", "b_files", "b_queue",
	"waiting", "oldest_s", "lag_s",
}

// sample is a row: its numbers by column, and the faults since the row before.
type sample struct {
	numbers map[string]float64
	faults  []string
}

func (s sample) row() []string {
	row := make([]string, len(columns))
	for i, name := range columns {
		if n := s.numbers[name]; name == "faults" {
			row[i] = strings.Join(s.faults, ";")
		} else if !math.IsNaN(n) {
			row[i] = strconv.FormatFloat(math.Round(n*10)/10, 'f', -1, 64)
		}
	}
	return row
}

// readSamples reads what rows wrote.
func readSamples(name string) ([]sample, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	rows, err := csv.NewReader(file).ReadAll()
	if err != nil || len(rows) == 0 || !slices.Equal(rows[0], columns) {
		return nil, fmt.Errorf("read the samples in %s: want the columns %v: %w", name, columns, cmp.Or(err, os.ErrInvalid))
	}
	var all []sample
	for _, row := range rows[1:] {
		s := sample{numbers: map[string]float64{}}
		for i, cell := range row {
			switch {
			case columns[i] == "faults":
				s.faults = strings.FieldsFunc(cell, func(r rune) bool { return r == ';' })
			case cell == "":
				s.numbers[columns[i]] = math.NaN()
			default:
				if s.numbers[columns[i]], err = strconv.ParseFloat(cell, 64); err != nil {
					return nil, fmt.Errorf("read the samples in %s: %w", name, err)
				}
			}
		}
		all = append(all, s)
	}
	return all, nil
}

const maxPoints = 500

// picture draws the samples over minutes. Where there are many it takes the highest
// of some each.
func picture(samples []sample) plot.Chart {
	c := plot.Chart{Title: "labelstream over hours of faults", X: "minutes", Bands: bands(samples)}
	group := len(samples)/maxPoints + 1
	line := func(column, name string) plot.Line {
		l := plot.Line{Name: name}
		for some := range slices.Chunk(samples, group) {
			highest := math.NaN()
			for _, s := range some {
				if n := s.numbers[column]; math.IsNaN(highest) || n > highest {
					highest = n
				}
			}
			l.Points = append(l.Points, plot.Point{X: some[0].numbers["seconds"] / 60, Y: highest})
		}
		return l
	}
	for _, panel := range []struct{ title, column string }{
		{"resident memory, MiB", "resident_mib"}, {"goroutines", "goroutines"}, {"open files", "files"}, {"records in the queue", "queue"},
	} {
		c.Panels = append(c.Panels, plot.Panel{Title: panel.title, Lines: []plot.Line{line("a_"+panel.column, "replica a"), line("b_"+panel.column, "replica b")}})
	}
	c.Panels = append(c.Panels,
		plot.Panel{Title: "changes that have not arrived", Lines: []plot.Line{line("waiting", "")}},
		plot.Panel{Title: "seconds from change to arrival", Lines: []plot.Line{line("oldest_s", "oldest that waits"), line("lag_s", "median")}})
	return c
}

// bands are the times of each kind of fault. A row tells of those since the row
// before.
func bands(samples []sample) (all []plot.Band) {
	for _, f := range cycle {
		kind, open := string(f.kind), false
		if slices.ContainsFunc(all, func(b plot.Band) bool { return b.Name == kind }) {
			continue
		}
		for _, s := range samples {
			minute := s.numbers["seconds"] / 60
			switch active := slices.Contains(s.faults, kind); {
			case active && open:
				all[len(all)-1].To = minute
			case active:
				all = append(all, plot.Band{From: minute, To: minute, Name: kind})
				open = true
			default:
				open = false
			}
		}
	}
	return all
}

// table tells the figures in the first tenth of the run, in the last, and at most.
func table(samples []sample) string {
	text := "| | first tenth, median | last tenth, median | highest |\n|---|--:|--:|--:|\n"
	tenth := max(len(samples)/10, 1)
	for _, row := range []struct {
		title, column string
		leader        float64 // whose column, 1 for the leader's
	}{
		{"leader: resident memory, MiB", "resident_mib", 1},
		{"leader: goroutines", "goroutines", 1},
		{"leader: open files", "files", 1},
		{"leader: records in the queue", "queue", 1},
		{"follower: resident memory, MiB", "resident_mib", 0},
		{"seconds from change to arrival, median of 10 s", "lag_s", 0},
		{"seconds that the oldest change waits", "oldest_s", 0},
	} {
		numbers := func(some []sample) (all []float64) {
			for _, s := range some {
				for _, replica := range []string{"", "a_", "b_"} {
					n, known := s.numbers[replica+row.column]
					if known && !math.IsNaN(n) && (replica == "" || s.numbers[replica+"leader"] == row.leader) {
						all = append(all, n)
					}
				}
			}
			slices.Sort(all)
			return append(all, math.NaN())
		}
		first, last, all := numbers(samples[:tenth]), numbers(samples[len(samples)-tenth:]), numbers(samples)
		text += fmt.Sprintf("| %s | %.1f | %.1f | %.1f |\n", row.title, first[(len(first)-1)/2], last[(len(last)-1)/2], all[max(len(all)-2, 0)])
	}
	return text
}
