// SPDX-License-Identifier: Apache-2.0

package plot

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAxis(t *testing.T) {
	for _, test := range []struct {
		numbers []float64
		log     bool
		marks   []float64
		middle  float64 // the number in the middle of the axis
	}{
		{[]float64{3, math.NaN(), 42}, false, []float64{0, 10, 20, 30, 40}, 21},
		{[]float64{1000, 5e6}, true, []float64{1e3, 1e4, 1e5, 1e6, 1e7}, 1e5},
		{[]float64{0, 0}, false, []float64{0, 0.2, 0.4, 0.6, 0.8, 1}, 0.5},
		{[]float64{0, 10, 1000}, true, []float64{10, 100, 1000}, 100},
		{[]float64{10}, true, []float64{10, 100}, math.Sqrt(1000)},
		{nil, true, []float64{1, 10}, math.Sqrt(10)},
		{nil, false, []float64{0, 0.2, 0.4, 0.6, 0.8, 1}, 0.5},
	} {
		a := newAxis(test.numbers, test.log, 100, -80)
		near := cmp.Comparer(func(a, b float64) bool { return math.Abs(a-b) < 1e-9*max(1, math.Abs(b)) })
		if diff := cmp.Diff(test.marks, a.marks(), near); diff != "" || math.Abs(a.place(test.middle)-60) > 1e-9 {
			t.Errorf("%v: %v is at %v, want 60; marks (-want +got):\n%s", test.numbers, test.middle, a.place(test.middle), diff)
		}
	}
}

// TestSVG breaks the line where it has no number, and must be XML.
func TestSVG(t *testing.T) {
	svg := Chart{Title: "a < b", X: "s", Bands: []Band{{2, 3, "down & out"}}, Panels: []Panel{{Title: "p", Lines: []Line{
		{"l", []Point{{0, 0}, {1, 10}, {2, math.NaN()}, {4, 5}}}}}}}.SVG()
	for _, want := range []string{`d="M70.0 186.0h1L272.5 76.0M880.0 131.0h1"`, `<rect x="475.0" y="76" width="202.5"`, `>down &amp; out</text>`, "a &lt; b"} {
		if !strings.Contains(svg, want) {
			t.Errorf("no %s in:\n%s", want, svg)
		}
	}
	decoder := xml.NewDecoder(strings.NewReader(svg))
	for {
		if _, err := decoder.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}
