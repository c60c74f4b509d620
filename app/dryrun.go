// SPDX-License-Identifier: Apache-2.0

package app

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/prometheus/common/model"

	"labelstream/emitter"
	"labelstream/record"
)

// printer is the sink of a dry run: it prints each series as a line of
// Prometheus' text format, where names outside its classic alphabet are quoted.
// On a terminal it escapes what a terminal would not show but obey.
type printer struct {
	terminal bool
	closed   chan struct{}

	mu   sync.Mutex
	out  *bufio.Writer
	line []byte
	// printed counts the records of each kind.
	printed map[string]emitter.Totals
	err     error
}

func newPrinter(w io.Writer) *printer {
	return &printer{
		terminal: isTerminal(w),
		closed:   make(chan struct{}),
		out:      bufio.NewWriter(w),
		printed:  make(map[string]emitter.Totals),
	}
}

// Put prints a record's series.
func (p *printer) Put(ctx context.Context, r *record.Record, want func(*record.Record) bool) (sent bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if want != nil && !want(r) {
		return false, nil
	}
	now := time.Now().UnixMilli()
	for cursor := record.Cursor(r.Series); len(cursor) > 0; {
		p.line = p.appendSeries(p.line[:0], &cursor, now)
		if _, err := p.out.Write(p.line); err != nil && p.err == nil {
			p.err = fmt.Errorf("print the series: %w", err)
		}
	}
	totals := p.printed[r.Kind.Resource]
	totals.Accepted++
	p.printed[r.Kind.Resource] = totals
	return true, nil
}

// Totals returns how many records of each kind were printed.
func (p *printer) Totals() map[string]emitter.Totals {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.printed)
}

var escapeValue = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

func (p *printer) appendSeries(dst []byte, cursor *record.Cursor, at int64) []byte {
	var metric string
	var labels []byte
	for range cursor.Count() {
		name, value := cursor.Label()
		if string(name) == "__name__" {
			metric = string(value)
			continue
		}
		if len(labels) > 0 {
			labels = append(labels, ',')
		}
		labels = append(append(labels, p.name(string(name))...), `="`...)
		labels = append(append(labels, p.escape(string(value))...), '"')
	}
	dst = append(append(append(append(dst, metric...), '{'), labels...), "} 1 "...)
	return append(strconv.AppendInt(dst, at, 10), '\n')
}

// name returns a label name as it is written.
func (p *printer) name(name string) string {
	if model.LegacyValidation.IsValidLabelName(name) {
		return name
	}
	return `"` + p.escape(name) + `"`
}

// escape escapes text as the format does, and on a terminal what is not graphic
// as Go does.
func (p *printer) escape(text string) string {
	text = escapeValue.Replace(text)
	hidden := func(r rune) bool { return !unicode.IsGraphic(r) }
	if !p.terminal || !strings.ContainsFunc(text, hidden) {
		return text
	}
	var escaped []byte
	for _, r := range text {
		if hidden(r) {
			quoted := strconv.QuoteRune(r)
			escaped = append(escaped, quoted[1:len(quoted)-1]...)
		} else {
			escaped = utf8.AppendRune(escaped, r)
		}
	}
	return string(escaped)
}

// Close ends the run.
func (p *printer) Close() { close(p.closed) }

// Run waits for the end and flushes what was printed.
func (p *printer) Run(ctx context.Context) error {
	select {
	case <-p.closed:
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.out.Flush(); err != nil && p.err == nil {
		p.err = fmt.Errorf("print the series: %w", err)
	}
	return p.err
}
