// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"labelstream/test/plot"
)

// axes are what grows, each with a picture and with why the figures are as they are.
var axes = []struct{ name, file, why string }{
	{"objects", "growth-objects.svg", "Processor time, time and bytes grow with the objects, each of which is read, encoded and sent once. Below some ten thousand the start of\n" +
		"the process is most of it. Memory does not grow: a page, the batches and the key tables are all that is held."},
	{"names in NAMESPACES", "growth-namespaces.svg", "More objects are read with each name, until all 300 namespaces that have some are named. Up to 100 names are a list each, two at a time,\n" +
		"which costs a request at least; more are one list of all objects, of which those of other namespaces are dropped. So from there on the\n" +
		"names alone are added, in memory as well: the setting itself, and a set of them."},
	{"kinds", "growth-kinds.svg", "The objects stay as many, so what grows is what a kind costs: a list of its own, with pages that begin small; its metrics; and the memory\n" +
		"of its own tables of label names, which are large here, since each kind has all the keys of mixed objects."},
}

const changesWhy = "Each object is new to labelstream, and is told by the watch; a batch waits for a second at most (SEND_INTERVAL=1s), so a rate is carried where\n" +
	"the last change is no more than a second behind. There is one API server, one watch, one leader, and one connection to the receiver. The\n" +
	"number of objects does not limit the rate: a change is one look-up in the ledger. It limits how long a list takes, by the table of\n" +
	"growth: where that is longer than the API server keeps its history, of five minutes by default, a second list follows, which\n" +
	"sends only what has changed.\n"

// comment follows the table of a section.
func comment(section string) string {
	switch section {
	case growthSection:
		var text strings.Builder
		for _, a := range axes {
			fmt.Fprintf(&text, "\n![%s](%s)\n\n%s\n", a.name, a.file, a.why)
		}
		return text.String()
	case changesSection:
		return "\n" + changesWhy
	}
	return ""
}

// draw writes the pictures of what grows beside the document.
func draw(directory string, results []result) error {
	for _, a := range axes {
		c := plot.Chart{Title: "A backfill by the number of " + a.name, X: a.name, LogX: true}
		for _, panel := range []struct {
			title string
			log   bool
			of    func(usage) float64
		}{
			{"processor time, s", true, func(u usage) float64 { return u.CPU.Seconds() }},
			{"time, s", true, func(u usage) float64 { return u.Wall.Seconds() }},
			{"bytes sent, MiB", true, func(u usage) float64 { return float64(u.Sent) / (1 << 20) }},
			{"peak of resident memory, MiB", false, func(u usage) float64 { return float64(u.Peak) / (1 << 20) }},
		} {
			var line plot.Line
			for _, r := range results {
				if r.scenario.axis == a.name {
					line.Points = append(line.Points, plot.Point{X: float64(r.scenario.size), Y: median(all(r.steps[0].product, panel.of))})
				}
			}
			c.Panels = append(c.Panels, plot.Panel{Title: panel.title, LogY: panel.log, Lines: []plot.Line{line}})
		}
		if err := os.WriteFile(filepath.Join(directory, a.file), []byte(c.SVG()), 0o644); err != nil {
			return fmt.Errorf("write a picture: %w", err)
		}
	}
	return nil
}
