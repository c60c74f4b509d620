// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	// discoveryPatience is how long an API server may be silent at the start.
	discoveryPatience = 30 * time.Second
	// giveUpAfter is how long a destination may reject the settings before a
	// one-shot run ends; it is tried every probeInterval meanwhile.
	giveUpAfter   = 30 * time.Second
	probeInterval = 5 * time.Second
)

// backfill reads and sends every object of every chosen kind once. It returns
// nil only if all were accepted, else an error for each thing that is missing.
func (a *app) backfill(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, a.cfg.OnceTimeout,
		fmt.Errorf("not done within LABELSTREAM_ONCE_TIMEOUT (%s)", a.cfg.OnceTimeout))
	defer cancel()
	catalog, err := a.discover(ctx, discoveryPatience)
	if err != nil {
		return errors.Join(err, stopCause(ctx))
	}
	kinds, unresolved := catalog.Kinds(a.cfg)
	if len(kinds) == 0 {
		return errors.Join(unresolved...)
	}
	a.informers.Add(kinds)
	stopProgress := a.showProgress(ctx)
	err = a.transfer(ctx, context.WithoutCancel(ctx), a.readOnce)
	stopProgress()
	if err == nil {
		err = stopCause(ctx)
	}
	statuses, totals := a.informers.Status(), a.sink.Totals()
	a.summarize(statuses, totals)
	errs := append(unresolved, missing(statuses, totals, err != nil)...)
	if err = errors.Join(append(errs, err)...); err == nil {
		a.warnUnmatched()
	}
	return err
}

// readOnce lists every kind, until all are read or ctx ends.
func (a *app) readOnce(ctx context.Context) {
	ctx, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { a.informers.Run(ctx) })
	// The only error is that ctx has ended; the statuses tell what is missing.
	_ = a.informers.Wait(ctx)
	stop()
	running.Wait()
}
