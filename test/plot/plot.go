// SPDX-License-Identifier: Apache-2.0

// Package plot draws lines over one axis as SVG, in panels below each other.
package plot

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Chart is a picture. Its X are numbers of one unit, which the axis' title names.
type Chart struct {
	Title, X string
	// LogX makes an axis of powers of ten.
	LogX   bool
	Panels []Panel
	Bands  []Band
}

// Panel has an axis of its own, from 0, or with LogY from the power of ten below the
// least that is above 0.
type Panel struct {
	Title string
	LogY  bool
	Lines []Line
}

// Line is broken where a Y is not a number.
type Line struct {
	Name   string
	Points []Point
}

// Point is a place on a line.
type Point struct{ X, Y float64 }

// Band shades all panels from one X to another. Where they are equal it is a line.
// Bands of one name have one colour, which a legend tells.
type Band struct {
	From, To float64
	Name     string
}

const (
	width, left, right = 900.0, 70.0, 20.0
	top, height, gap   = 76.0, 110.0, 44.0
)

var (
	colours     = []string{"#0969da", "#bc4c00", "#1a7f37", "#8250df", "#cf222e", "#57606a"}
	bandColours = []string{"#8250df", "#9a6700", "#1a7f37", "#cf222e", "#0550ae", "#bf3989", "#57606a"}
)

// axis maps numbers to places. With log it has a mark for each power of ten.
type axis struct {
	log      bool
	from, to float64
	at, size float64
}

func newAxis(numbers []float64, log bool, at, size float64) axis {
	a := axis{log: log, from: math.Inf(1), to: math.Inf(-1), at: at, size: size}
	for _, n := range numbers {
		// On an axis of powers there is no place for zero.
		if !math.IsNaN(n) && (n > 0 || !log) {
			a.from, a.to = min(a.from, n), max(a.to, n)
		}
	}
	switch {
	case a.from > a.to:
		a.from, a.to = 0, 1
		if log {
			a.from, a.to = 1, 10
		}
	case log:
		a.from, a.to = math.Pow(10, math.Floor(math.Log10(a.from))), math.Pow(10, math.Ceil(math.Log10(a.to)))
	default:
		a.from = min(a.from, 0)
	}
	if a.to <= a.from && log {
		a.to = a.from * 10
	} else if a.to <= a.from {
		a.to = a.from + 1
	}
	return a
}

func (a axis) place(n float64) float64 {
	if a.log {
		return a.at + a.size*math.Log10(max(n, a.from)/a.from)/math.Log10(a.to/a.from)
	}
	return a.at + a.size*(n-a.from)/(a.to-a.from)
}

// marks are round numbers, at most a handful.
func (a axis) marks() (all []float64) {
	if a.log {
		for n := a.from; n <= a.to*1.001; n *= 10 {
			all = append(all, n)
		}
		return all
	}
	step := math.Pow(10, math.Floor(math.Log10((a.to-a.from)/2)))
	for _, factor := range []float64{1, 2, 5, 10} {
		if (a.to-a.from)/(step*factor) <= 5 {
			step *= factor
			break
		}
	}
	for n := math.Ceil(a.from/step) * step; n <= a.to; n += step {
		all = append(all, n)
	}
	return all
}

// SVG is the picture.
func (c Chart) SVG() string {
	var svg strings.Builder
	bottom := top + float64(len(c.Panels))*(height+gap)
	fmt.Fprintf(&svg, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" font-family="sans-serif" font-size="12" fill="#24292f">`+"\n", width, bottom+10)
	fmt.Fprintf(&svg, "<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n<text x=\"%g\" y=\"20\" font-size=\"15\">%s</text>\n", left, html.EscapeString(c.Title))
	var xs []float64
	for _, panel := range c.Panels {
		for _, line := range panel.Lines {
			for _, p := range line.Points {
				xs = append(xs, p.X)
			}
		}
	}
	var names []string
	for _, band := range c.Bands {
		if !slices.Contains(names, band.Name) {
			text(&svg, left+float64(len(names))*117, 40, "start", bandColours[len(names)%len(bandColours)], band.Name)
			names = append(names, band.Name)
		}
	}
	x := newAxis(xs, c.LogX, left, width-left-right)
	for i, panel := range c.Panels {
		at := top + float64(i)*(height+gap)
		for _, band := range c.Bands {
			from := x.place(band.From)
			fmt.Fprintf(&svg, "<rect x=\"%.1f\" y=\"%g\" width=\"%.1f\" height=\"%g\" fill=\"%s\" opacity=\"0.25\"/>\n",
				from, at, max(x.place(band.To)-from, 2), height, bandColours[slices.Index(names, band.Name)%len(bandColours)])
		}
		panel.draw(&svg, x, at)
	}
	for _, n := range x.marks() {
		text(&svg, x.place(n), bottom-gap+16, "middle", "", number(n))
	}
	text(&svg, width-right, bottom, "end", "", c.X)
	svg.WriteString("</svg>\n")
	return svg.String()
}

func (p Panel) draw(svg *strings.Builder, x axis, at float64) {
	var ys []float64
	for _, line := range p.Lines {
		for _, point := range line.Points {
			ys = append(ys, point.Y)
		}
	}
	y := newAxis(ys, p.LogY, at+height, -height)
	for _, n := range y.marks() {
		fmt.Fprintf(svg, "<path d=\"M%g %.1fH%g\" stroke=\"#d0d7de\"/>\n", left, y.place(n), width-right)
		text(svg, left-6, y.place(n)+4, "end", "", number(n))
	}
	text(svg, left, at-8, "start", "", p.Title)
	for i, line := range p.Lines {
		colour := colours[i%len(colours)]
		text(svg, width-right-float64(len(p.Lines)-1-i)*130, at-8, "end", colour, line.Name)
		fmt.Fprintf(svg, "<path d=\"%s\" fill=\"none\" stroke=\"%s\" stroke-width=\"1.5\"/>\n", line.path(x, y), colour)
	}
}

// path also shows a point that has no neighbour.
func (l Line) path(x, y axis) string {
	var path strings.Builder
	command := 'M'
	for _, p := range l.Points {
		if math.IsNaN(p.Y) {
			command = 'M'
			continue
		}
		fmt.Fprintf(&path, "%c%.1f %.1f", command, x.place(p.X), y.place(p.Y))
		if command == 'M' {
			path.WriteString("h1")
		}
		command = 'L'
	}
	return path.String()
}

func text(svg *strings.Builder, x, y float64, anchor, colour, words string) {
	if colour != "" {
		colour = ` fill="` + colour + `"`
	}
	fmt.Fprintf(svg, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\"%s>%s</text>\n", x, y, anchor, colour, html.EscapeString(words))
}

// number is short: 1.5M for a million and a half.
func number(n float64) string {
	for _, unit := range []struct {
		size float64
		name string
	}{{1e6, "M"}, {1e3, "k"}} {
		if math.Abs(n) >= unit.size {
			return strconv.FormatFloat(n/unit.size, 'g', 4, 64) + unit.name
		}
	}
	return strconv.FormatFloat(n, 'g', 4, 64)
}
