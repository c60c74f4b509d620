package app

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
	"unicode"

	"golang.org/x/term"

	"labelstream/informer"
)

const (
	// barWidth is that of a bar without its text.
	barWidth = 20
	// maxBars leaves room on the terminal, also where many kinds fail.
	maxBars = 10
)

// bars draws lines at the end of a terminal's output, over those before. What is
// written to it, such as the log, goes above them.
type bars struct {
	width func() int
	// begun is when each kind was first being read, about.
	begun map[string]time.Time

	mu    sync.Mutex
	out   io.Writer
	lines []string
}

func newBars(out io.Writer) *bars {
	width := func() int {
		if file, ok := out.(*os.File); ok {
			if width, _, err := term.GetSize(int(file.Fd())); err == nil {
				return width
			}
		}
		return 80
	}
	return &bars{width: width, out: out, begun: make(map[string]time.Time)}
}

// Write implements [io.Writer]. The text ends with a line.
func (b *bars) Write(text []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.redraw(text, b.lines); err != nil {
		return 0, err
	}
	return len(text), nil
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

// show draws a bar for each kind that is being read, and a line for the run.
func (b *bars) show(statuses []informer.Status, p progress) {
	kinds, synced, width, now := informer.ByKind(statuses), 0, 0, time.Now()
	for _, kind := range kinds {
		width = max(width, len(kind.Resource))
	}
	var lines, failing []string
	for _, kind := range kinds {
		switch {
		case kind.Synced:
			synced++
		case kind.Err != nil:
			failing = append(failing, fmt.Sprintf("%-*s  %v", width, kind.Resource, kind.Err))
		case kind.Listing:
			if b.begun[kind.Resource].IsZero() {
				b.begun[kind.Resource] = now.Add(-progressFrames)
			}
			lines = append(lines, fmt.Sprintf("%-*s  %s", width, kind.Resource, bar(kind.Read, kind.Total, now.Sub(b.begun[kind.Resource]))))
		}
	}
	lines = append(lines, failing...)
	lines = append(lines[:min(len(lines), maxBars)],
		fmt.Sprintf("%d of %d kinds read, %d objects, %d sent, %d/s", synced, len(kinds), p.read, p.sent, p.rate()))
	for i := range lines {
		lines[i] = oneLine(lines[i], b.width()-1)
	}
	b.draw(lines)
}

// oneLine keeps a text in one line of the terminal: others would not be replaced.
func oneLine(text string, width int) string {
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
	runes := []rune(text)
	return string(runes[:min(len(runes), max(width, 0))])
}

// bar shows how far a list is, its rate, and the time that it will take. total is
// -1 where it is not known.
func bar(read, total int64, elapsed time.Duration) string {
	rate := perSecond(read, elapsed)
	if total <= 0 {
		return fmt.Sprintf("%d objects, %d/s", read, rate)
	}
	read = min(read, total)
	text := fmt.Sprintf("[%-*s] %3d%%  %d of %d objects, %d/s", barWidth, strings.Repeat("=", int(barWidth*read/total)), 100*read/total, read, total, rate)
	if rate > 0 {
		left := time.Duration((total-read)/rate) * time.Second
		text += fmt.Sprintf(", %v left", left)
	}
	return text
}
