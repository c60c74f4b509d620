// SPDX-License-Identifier: Apache-2.0

// Package app is where the parts of labelstream meet, and how they run: once, or
// as a daemon.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"labelstream/app/inspect"
	"labelstream/app/memory"
	"labelstream/config"
	"labelstream/emitter"
	"labelstream/informer"
	"labelstream/status"
)

// Options say what to run, and where it writes.
type Options struct {
	Flags
	Build          status.Build
	Log            *logrus.Logger
	Stdout, Stderr io.Writer
}

// sink takes the records of a run and delivers them.
type sink interface {
	informer.Sink
	// Close ends the input: Run returns once what was put has an outcome.
	Close()
	Run(ctx context.Context) error
	Totals() map[string]emitter.Totals
}

var (
	_ sink           = (*emitter.Emitter)(nil)
	_ sink           = (*printer)(nil)
	_ informer.Queue = (*emitter.Emitter)(nil)
)

// app is everything that runs in this process.
type app struct {
	cfg      *config.Config
	opts     *Options
	log      logrus.FieldLogger
	registry *prometheus.Registry
	// discover asks the API server for its resources, for as long as patience.
	discover  func(ctx context.Context, patience time.Duration) (*informer.Catalog, error)
	informers *informer.Informers
	sink      sink
	// emitter is the sink where records are sent, nil in a dry run.
	emitter *emitter.Emitter
	// collector counts what is read, nil but in an inspection.
	collector *inspect.Collector
	// status is nil where a one-shot run goes on without.
	status *status.Server

	// What only a daemon has: webhook and election are nil where the settings
	// want none.
	finder   *informer.Finder
	webhook  *webhookServer
	election *election
	started  time.Time
	// leading is true while this process reads and sends.
	leading atomic.Bool
}

// Run runs what the flags ask for. It returns nil only if all was done: roles
// printed, no check failed, every object of an inspection read, of a one-shot run
// accepted, or everything sent that a daemon held when ctx ended. Errors that are
// joined are to be logged one by one.
func Run(ctx context.Context, cfg *config.Config, opts Options) error {
	switch opts.Command {
	case "rbac":
		return printRoles(ctx, cfg, &opts)
	case "check":
		return runChecks(ctx, cfg, &opts)
	}
	memory.Limit(opts.Log)
	a, err := wire(ctx, cfg, &opts)
	if err != nil {
		return err
	}
	a.logPreset()
	defer a.serve(ctx)()
	switch {
	case opts.Command == "inspect":
		return a.inspect(ctx)
	case opts.once():
		return a.backfill(ctx)
	}
	return a.daemon(ctx)
}

// wire makes everything that runs. Addresses are taken here, so that one that is
// in use ends the start. Readiness ends with ctx.
func wire(ctx context.Context, cfg *config.Config, opts *Options) (*app, error) {
	a := &app{cfg: cfg, opts: opts, log: opts.Log, registry: status.NewRegistry(opts.Build), started: time.Now()}
	cluster, err := restConfig(opts)
	if err != nil {
		return nil, err
	}
	client, err := informer.Client(cluster)
	if err != nil {
		return nil, err
	}
	a.discover = func(ctx context.Context, patience time.Duration) (*informer.Catalog, error) {
		catalog, err := informer.Discover(ctx, cluster, patience, a.log)
		if err := memory.ReleaseBinary(); err != nil {
			a.log.WithError(err).Debug("Pages of the binary that only discovery needed stay in memory")
		}
		return catalog, err
	}
	if cfg.LeaderElection && !opts.once() {
		if a.election, err = newElection(cluster, cfg, a.log); err != nil {
			return nil, err
		}
	}
	if err := a.addSink(); err != nil {
		return nil, err
	}
	options := informer.Options{PageSize: cfg.PageSize, Once: opts.once(), Changes: cfg.Changes, ResyncInterval: cfg.ResyncInterval}
	if a.collector != nil {
		options.Observe = a.observe
	}
	if !opts.once() {
		discover := func(ctx context.Context) (*informer.Catalog, error) { return a.discover(ctx, 0) }
		a.finder = informer.NewFinder(discover, cfg, a.registry, a.log)
		options.Rediscover = a.finder.Rediscover
	}
	a.informers = informer.New(client, cfg, a.sink, options, a.registry, a.log)
	if opts.once() {
		a.status, err = status.Listen(cfg.StatusAddress, status.Options{Gatherer: a.registry, State: func() *status.State { return a.state(ctx) }, Profiles: cfg.Pprof})
		if err != nil {
			// A run beside a daemon, or on a laptop, goes on where the port is taken.
			a.log.WithError(err).Warn("No metrics are served during this run")
		}
		return a, nil
	}
	return a, a.addDaemon(ctx, cluster)
}

// addSink makes what delivers the records.
func (a *app) addSink() (err error) {
	if a.opts.Command == "inspect" {
		a.collector, a.sink = inspect.NewCollector(a.cfg, a.opts.Inspect), discard{}
		return nil
	}
	if a.opts.DryRun {
		a.sink = newPrinter(a.opts.Stdout)
		return nil
	}
	options := emitter.Options{UserAgent: userAgent(a.opts), Registerer: a.registry, Logger: a.log}
	if a.opts.Once {
		options.ProbeInterval, options.GiveUpAfter = probeInterval, giveUpAfter
	}
	if a.election != nil {
		options.AllowSend = a.election.check
	}
	a.emitter, err = emitter.New(&a.cfg.Delivery, options)
	a.sink = a.emitter
	return err
}

// serve serves status and webhook until it is stopped, so also while ctx has
// ended and the rest is sent.
func (a *app) serve(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	if a.status != nil {
		a.log.WithField("address", a.status.Address()).Info("Serving the status")
		running.Go(func() {
			if err := a.status.Run(ctx); err != nil {
				a.log.WithError(err).Error("The status is not served any more")
			}
		})
	}
	if a.webhook != nil {
		running.Go(func() { a.webhook.run(ctx) })
	}
	return func() { cancel(); running.Wait() }
}

// transfer runs the sink beside read, which feeds it until it is done or its
// context ends. What the sink holds when ctx ends may still be sent within
// SHUTDOWN_TIMEOUT. When the lease ends, everything does at once.
func (a *app) transfer(ctx, lease context.Context, read func(context.Context)) error {
	reading, stopReading := context.WithCancel(lease)
	defer stopReading()
	sending, stopSending := context.WithCancelCause(lease)
	defer stopSending(nil)
	defer context.AfterFunc(ctx, func() {
		a.log.WithError(stopCause(ctx)).Warn("Stopping; sending what is held")
		stopReading()
		timer := time.AfterFunc(a.cfg.ShutdownTimeout, func() {
			stopSending(fmt.Errorf("%w, and what was held could not be sent within %s", stopCause(ctx), a.cfg.ShutdownTimeout))
		})
		context.AfterFunc(sending, func() { timer.Stop() })
	})()
	sent := make(chan error, 1)
	go func() {
		sent <- a.sink.Run(sending)
		stopReading()
	}()
	read(reading)
	a.sink.Close()
	return <-sent
}

var errStopped = errors.New("stopped by a signal")

// stopCause is why a run was ended before it was done, nil where it was not.
func stopCause(ctx context.Context) error {
	switch cause := context.Cause(ctx); {
	case cause == nil:
		return nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return cause
	default:
		return errStopped
	}
}
