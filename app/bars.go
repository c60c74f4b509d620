// SPDX-License-Identifier: Apache-2.0

package app

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"labelstream/informer"
)

// barWidth is that of a bar without its text.
const barWidth = 20

// bars draws lines at the end of a terminal's output, over those before. What is
// written to it, such as the log, goes above them.
type bars struct {
	// begun is when each kind was first being read, about.
	begun map[string]time.Time

	mu    sync.Mutex
	out   io.Writer
	lines []string
}

func newBars(out io.Writer) *bars { return &bars{begun: make(map[string]time.Time), out: out} }

// Write implements [io.Writer]. The text ends with a line.
func (b *bars) Write(text []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(text), b.redraw(text, b.lines)
}

// draw replaces the lines.
func (b *bars) draw(lines []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	_ = b.redraw(nil, lines)
}

// redraw writes all at once, so that nothing flickers.
func (b *bars) redraw(text []byte, lines []string) error {
	var all bytes.Buffer
	if len(b.lines) > 0 {
		fmt.Fprintf(&all, "\x1b[%dA\x1b[J", len(b.lines))
	}
	all.Write(text)
	for _, line := range lines {
		all.WriteString(line + "\n")
	}
	b.lines = lines
	_, err := b.out.Write(all.Bytes())
	return err
}

// show draws a bar for each kind that is being read, and a line for the run. Why a
// kind cannot be read is in the log.
func (b *bars) show(statuses []informer.Status, p progress) {
	kinds, synced, width, now := informer.ByKind(statuses), 0, 0, time.Now()
	for _, kind := range kinds {
		width = max(width, len(kind.Resource))
	}
	var lines []string
	for _, kind := range kinds {
		switch {
		case kind.Synced:
			synced++
		case kind.Listing:
			if b.begun[kind.Resource].IsZero() {
				b.begun[kind.Resource] = now.Add(-progressFrames)
			}
			lines = append(lines, fmt.Sprintf("%-*s  %s", width, kind.Resource, bar(kind.Read, kind.Total, now.Sub(b.begun[kind.Resource]))))
		}
	}
	lines = append(lines, fmt.Sprintf("%d of %d kinds read, %d objects, %d sent, %d/s", synced, len(kinds), p.read, p.sent, p.rate()))
	for i, line := range lines {
		// Two lines on the terminal would be replaced as one.
		lines[i] = line[:min(len(line), widthOf(b.out)-1)]
	}
	b.draw(lines)
}

func widthOf(w io.Writer) int {
	if file, ok := w.(*os.File); ok {
		if width, _, err := term.GetSize(int(file.Fd())); err == nil && width > 0 {
			return width
		}
	}
	return 80
}

// bar shows how far a list is, its rate, and the time that it will take. total is
// -1 where it is not known.
func bar(read, total int64, elapsed time.Duration) string {
	rate := perSecond(read, elapsed)
	if total <= 0 {
		return fmt.Sprintf("%d objects, %d/s", read, rate)
	}
	read = min(read, total)
	left := time.Duration((total-read)/max(rate, 1)) * time.Second
	return fmt.Sprintf("[%-*s] %3d%%  %d of %d objects, %d/s, %v left", barWidth, strings.Repeat("=", int(barWidth*read/total)), 100*read/total, read, total, rate, left)
}
