package main

import (
	"context"
	"fmt"
	"time"

	"github.com/schollz/progressbar/v3"

	"labelstream/informer"
)

const (
	// progressLines is how often progress is logged where there is no terminal.
	progressLines = 10 * time.Second
	// progressFrames is how often the bar on a terminal moves.
	progressFrames = 200 * time.Millisecond
)

// showProgress shows how far the run is until ctx ends: a bar on a terminal,
// log lines elsewhere.
func (b *backfill) showProgress(ctx context.Context, informers *informer.Informers, tally *tally) {
	show, interval := b.logProgress, progressLines
	if isTerminal(b.stderr) {
		bar := progressbar.NewOptions64(-1,
			progressbar.OptionSetWriter(b.stderr),
			progressbar.OptionSetDescription("Reading objects"),
			progressbar.OptionShowCount(),
			progressbar.OptionSetPredictTime(false),
			progressbar.OptionClearOnFinish(),
		)
		defer func() { _ = bar.Finish() }()
		show, interval = func(p progress) { moveBar(bar, p) }, progressFrames
	}
	since := time.Now()
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			show(measure(informers.Status(), tally, since))
		case <-ctx.Done():
			return
		}
	}
}

func moveBar(bar *progressbar.ProgressBar, p progress) {
	if p.total != bar.GetMax64() {
		bar.ChangeMax64(p.total)
	}
	bar.Describe(fmt.Sprintf("Reading objects, %d/s", p.rate()))
	_ = bar.Set64(p.read)
}

func (b *backfill) logProgress(p progress) {
	log := b.log.WithField("read", p.read).WithField("sent", p.sent).
		WithField("objects_per_second", p.rate())
	if p.total >= 0 {
		log = log.WithField("total", p.total)
	}
	log.Info("Reading objects")
}
