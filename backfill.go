package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"k8s.io/client-go/rest"

	"labelstream/config"
	"labelstream/emitter"
	"labelstream/informer"
	"labelstream/record"
	"labelstream/status"
)

const (
	// discoveryPatience is how long an API server may be silent at the start.
	discoveryPatience = 30 * time.Second
	// giveUpAfter is how long a destination may reject the settings before a
	// one-shot run ends; it is tried every probeInterval meanwhile.
	giveUpAfter   = 30 * time.Second
	probeInterval = 5 * time.Second
)

// backfill is a one-shot run: every object of every chosen kind is read and
// sent, or it is said what was not.
type backfill struct {
	cfg            *config.Config
	flags          flags
	registry       *prometheus.Registry
	log            *logrus.Logger
	stdout, stderr io.Writer
}

// run returns nil only if every object was read and accepted. The errors that
// it joins are a line each.
func (b *backfill) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, b.cfg.OnceTimeout,
		fmt.Errorf("not done within LABELSTREAM_ONCE_TIMEOUT (%s)", b.cfg.OnceTimeout))
	defer cancel()
	cluster, err := restConfig(b.flags.kubeconfig)
	if err != nil {
		return err
	}
	defer b.serveStatus(ctx)()
	catalog, err := informer.Discover(ctx, cluster, discoveryPatience, b.log)
	if err != nil {
		return errors.Join(err, stopCause(ctx))
	}
	kinds, unresolved := catalog.Kinds(b.cfg)
	if len(kinds) == 0 {
		return errors.Join(unresolved...)
	}
	return errors.Join(append(unresolved, b.transfer(ctx, cluster, kinds))...)
}

// transfer reads the kinds and sends what they give.
func (b *backfill) transfer(ctx context.Context, cluster *rest.Config, kinds []*informer.Kind) error {
	client, err := informer.Client(cluster)
	if err != nil {
		return err
	}
	tally := newTally()
	sink, err := b.sink(tally)
	if err != nil {
		return err
	}
	informers := informer.New(client, kinds, b.cfg, sink, informer.Options{PageSize: b.cfg.PageSize}, b.registry, b.log)

	reading, stopReading := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { informers.Run(reading) })
	running.Go(func() { b.showProgress(reading, informers, tally) })
	sent := make(chan error, 1)
	go func() {
		sent <- deliver(ctx, context.WithoutCancel(ctx), sink, b.cfg.ShutdownTimeout, b.log)
		stopReading()
	}()
	_ = informers.Wait(reading)
	stopReading()
	running.Wait()
	sink.Close()
	sendErr := <-sent

	statuses := informers.Status()
	b.summarize(statuses, tally)
	if sendErr == nil {
		sendErr = stopCause(ctx)
	}
	return errors.Join(append(missing(statuses, tally, sendErr != nil), sendErr)...)
}

func (b *backfill) sink(tally *tally) (sink, error) {
	if b.flags.dryRun {
		return newPrinter(b.stdout, tally.observe), nil
	}
	return newEmitter(b.cfg, emitter.Options{
		Registerer:    b.registry,
		Logger:        b.log,
		Observe:       tally.observe,
		ProbeInterval: probeInterval,
		GiveUpAfter:   giveUpAfter,
	})
}

// serveStatus serves the metrics during the run. A run beside a daemon, or on
// somebody's laptop, is not worth failing for a port that is taken.
func (b *backfill) serveStatus(ctx context.Context) (stop func()) {
	server, err := status.Listen(b.cfg.StatusAddress, status.Options{Gatherer: b.registry, Profiles: b.cfg.PProf})
	if err != nil {
		b.log.WithError(err).Warn("No metrics are served during this run")
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() {
		if err := server.Run(ctx); err != nil {
			b.log.WithError(err).Warn("No metrics are served any more")
		}
	})
	return func() { cancel(); running.Wait() }
}

// tally counts what became of the records of each kind.
type tally struct {
	mu    sync.Mutex
	kinds map[string]*outcomes
}

// outcomes counts records by outcome.
type outcomes [3]int64

func newTally() *tally { return &tally{kinds: make(map[string]*outcomes)} }

// observe is called by the sink with records that share an outcome.
func (t *tally) observe(outcome emitter.Outcome, items []emitter.Item) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var kind *record.Kind
	var counts *outcomes
	for i := range items {
		if items[i].Kind != kind {
			kind = items[i].Kind
			counts = t.of(kind.Resource)
		}
		counts[outcome]++
	}
}

func (t *tally) of(resource string) *outcomes {
	counts, ok := t.kinds[resource]
	if !ok {
		counts = new(outcomes)
		t.kinds[resource] = counts
	}
	return counts
}

// counts returns a copy of a kind's.
func (t *tally) counts(resource string) outcomes {
	t.mu.Lock()
	defer t.mu.Unlock()
	return *t.of(resource)
}

// accepted is how many records the destination has taken.
func (t *tally) accepted() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	var n int64
	for _, counts := range t.kinds {
		n += counts[emitter.Accepted]
	}
	return n
}
