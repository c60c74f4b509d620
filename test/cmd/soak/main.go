// SPDX-License-Identifier: Apache-2.0

// Command soak runs two replicas of labelstream for hours, against a synthetic
// cluster whose pods change all the time and a receiver, while both fail, replicas
// are killed and paused, and certificates are replaced. It samples what the replicas
// take and how late changes arrive into a file, and draws that. It fails if the last
// state of any object is missing at the receiver in the end, and never because of a
// figure.
//
// Run it in the directory of the test module. LABELSTREAM_BINARY names the binary.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"labelstream/test/loopback"
)

type options struct {
	binary   string
	hours    float64
	objects  int
	changes  float64
	interval time.Duration
	samples  string
	docs     string
	note     string
	draw     bool
}

func main() {
	o := options{binary: os.Getenv("LABELSTREAM_BINARY")}
	flag.Float64Var(&o.hours, "hours", 1, "length of the run")
	flag.IntVar(&o.objects, "objects", 20_000, "number of pods at the begin")
	flag.Float64Var(&o.changes, "changes", 300, "changes of pods a minute")
	flag.DurationVar(&o.interval, "interval", 10*time.Second, "time between two samples")
	flag.StringVar(&o.samples, "samples", "../dist/soak/samples.csv", "`file` of samples; the replicas' logs lie beside it")
	flag.StringVar(&o.docs, "docs", "../docs", "`directory` to write soak.md and soak.svg to")
	flag.StringVar(&o.note, "note", "", "a `sentence` for the document, about the machine perhaps")
	flag.BoolVar(&o.draw, "draw", false, "write the document anew from a file of samples, without a run")
	flag.Parse()
	loopback.Main("soak", func(ctx context.Context) error { return soak(ctx, o) })
}

func soak(ctx context.Context, o options) error {
	if !o.draw {
		if err := os.MkdirAll(filepath.Dir(o.samples), 0o755); err != nil {
			return fmt.Errorf("make the directory of the samples: %w", err)
		}
		if err := run(ctx, o); err != nil {
			return err
		}
	}
	samples, err := readSamples(o.samples)
	if err != nil {
		return err
	}
	if len(samples) == 0 {
		return errors.New("the run was shorter than the time between two samples: give more --hours, or a shorter --interval")
	}
	c := picture(samples)
	return errors.Join(
		os.WriteFile(filepath.Join(o.docs, "soak.svg"), []byte(c.SVG()), 0o644),
		os.WriteFile(filepath.Join(o.docs, "soak.md"), []byte(document(o, samples, c.Bands)), 0o644))
}
