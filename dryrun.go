package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"labelstream/emitter"
	"labelstream/record"
)

// printer is the sink of a dry run: it prints each series as a line of
// Prometheus' text format, where names outside its classic alphabet are quoted.
type printer struct {
	observe func(emitter.Outcome, []emitter.Item)
	closed  chan struct{}

	mu    sync.Mutex
	out   *bufio.Writer
	line  []byte
	names map[string]string
	err   error
}

func newPrinter(w io.Writer, observe func(emitter.Outcome, []emitter.Item)) *printer {
	return &printer{
		observe: observe,
		closed:  make(chan struct{}),
		out:     bufio.NewWriter(w),
		names:   make(map[string]string),
	}
}

// Put prints a record's series.
func (p *printer) Put(ctx context.Context, r *record.Record) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now().UnixMilli()
	for cursor := record.Cursor(r.Series); len(cursor) > 0; {
		p.line = p.appendSeries(p.line[:0], &cursor, now)
		if _, err := p.out.Write(p.line); err != nil && p.err == nil {
			p.err = fmt.Errorf("print the series: %w", err)
		}
	}
	p.observe(emitter.Accepted, []emitter.Item{{Kind: r.Kind, Key: r.Key, Series: r.Count}})
	return nil
}

var (
	classicName = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)
	escapeValue = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)
)

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
		labels = append(append(labels, p.name(name)...), `="`...)
		labels = append(append(labels, escapeValue.Replace(string(value))...), '"')
	}
	dst = append(append(append(append(dst, metric...), '{'), labels...), "} 1 "...)
	return append(strconv.AppendInt(dst, at, 10), '\n')
}

// name returns a label name as it is written.
func (p *printer) name(name []byte) string {
	if written, ok := p.names[string(name)]; ok {
		return written
	}
	written := string(name)
	if !classicName.Match(name) {
		written = `"` + escapeValue.Replace(written) + `"`
	}
	p.names[string(name)] = written
	return written
}

// Close ends the run.
func (p *printer) Close() { close(p.closed) }

// Hurry does nothing: nobody has to listen.
func (p *printer) Hurry() {}

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
