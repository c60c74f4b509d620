// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"strings"
	"sync"
	"time"

	"labelstream/emitter"
	"labelstream/informer"
)

const (
	// progressLines is how often progress is logged where there is no terminal.
	progressLines = 10 * time.Second
	// progressFrames is how often the bars on a terminal move.
	progressFrames = 200 * time.Millisecond
)

// progress is how much of everything has been read and sent.
type progress struct {
	// total is -1 while the server has not said how much there is.
	read, total, sent int64
	elapsed           time.Duration
	// waiting is what the run waits for: the kinds that cannot be read and why,
	// those that are being read, or the destination.
	waiting string
}

func measure(statuses []informer.Status, totals map[string]emitter.Totals, elapsed time.Duration) progress {
	p := progress{elapsed: elapsed}
	for _, t := range totals {
		p.sent += t.Accepted
	}
	for _, s := range statuses {
		p.read += s.Read
		switch {
		case s.Total < 0:
			p.total = -1
		case p.total >= 0:
			p.total += s.Total
		}
	}
	p.waiting = waitingFor(statuses)
	return p
}

// waitingFor names first what fails.
func waitingFor(statuses []informer.Status) string {
	var failing, reading []string
	for _, s := range informer.ByKind(statuses) {
		switch {
		case s.Synced:
		case s.Err != nil:
			failing = append(failing, s.Err.Error())
		default:
			reading = append(reading, s.Resource)
		}
	}
	if names := append(failing, reading...); len(names) > 0 {
		return strings.Join(names, ", ")
	}
	return "the destination"
}

// rate is the objects read a second, since the beginning.
func (p progress) rate() int64 { return perSecond(p.read, p.elapsed) }

func perSecond(n int64, elapsed time.Duration) int64 {
	return int64(float64(n) / max(elapsed, time.Millisecond).Seconds())
}

// showProgress shows how far the run is, until it is stopped or ctx ends: bars
// on a terminal, log lines elsewhere.
func (a *app) showProgress(ctx context.Context) (stop func()) {
	show, interval := func(_ []informer.Status, p progress) { a.logProgress(p) }, progressLines
	hide := func() {}
	// A dry run prints series there, which bars would overwrite.
	if canDraw(a.opts.Stderr) && !(a.opts.DryRun && isTerminal(a.opts.Stdout)) {
		bars := newBars(a.opts.Stderr)
		a.opts.Log.SetOutput(bars)
		show, interval = bars.show, progressFrames
		hide = func() {
			bars.draw(nil)
			a.opts.Log.SetOutput(a.opts.Stderr)
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() {
		begun := time.Now()
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				statuses := a.informers.Status()
				show(statuses, measure(statuses, a.sink.Totals(), time.Since(begun)))
			case <-ctx.Done():
				return
			}
		}
	})
	return func() { cancel(); running.Wait(); hide() }
}

func (a *app) logProgress(p progress) {
	log := a.log.WithField("read", p.read).WithField("sent", p.sent).
		WithField("objects_per_second", p.rate()).WithField("waiting_for", p.waiting)
	if p.total >= 0 {
		log = log.WithField("total", p.total)
	}
	log.Info("Reading objects")
}
