package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"k8s.io/client-go/rest"

	"labelstream/config"
	"labelstream/emitter"
	"labelstream/informer"
	"labelstream/record"
)

// tenure is a time in which this process reads and sends: all of its life, or for
// as long as it leads. Nothing of one is used in the next.
type tenure struct {
	cfg *config.Config
	log logrus.FieldLogger
	// registry has the metrics of this tenure.
	registry  *prometheus.Registry
	finder    *informer.Finder
	informers *informer.Informers
	sink      *followed
	reviews   *informer.Reviews
}

// newTenure returns one that reads, and takes reviews where there is a webhook,
// or one that takes reviews only. It asks permit before each request to the
// destination.
func newTenure(cluster *rest.Config, cfg *config.Config, permit func() error, reviewsOnly bool, log logrus.FieldLogger) (*tenure, error) {
	client, err := informer.Client(cluster)
	if err != nil {
		return nil, err
	}
	t := &tenure{cfg: cfg, log: log, registry: prometheus.NewRegistry(), sink: &followed{}}
	t.sink.queue, err = newEmitter(cfg, emitter.Options{Registerer: t.registry, Logger: log, Observe: t.observe, Permit: permit})
	if err != nil {
		return nil, err
	}
	discover := func(ctx context.Context) (*informer.Catalog, error) { return informer.Discover(ctx, cluster, 0, log) }
	var reading prometheus.Registerer
	if !reviewsOnly {
		reading = t.registry
	}
	t.finder = informer.NewFinder(discover, cfg, reading, log)
	t.informers = informer.New(client, nil, cfg, t.sink, informer.Options{
		PageSize:       cfg.PageSize,
		Follow:         true,
		Watch:          cfg.WatchEnabled,
		ResyncInterval: cfg.ResyncInterval,
		Reviews:        cfg.WebhookEnabled,
		ReviewsOnly:    reviewsOnly,
	}, t.registry, log)
	t.reviews = t.informers.Reviews(t.sink)
	return t, nil
}

// run reads and sends until ctx ends, and then sends what is held. When the
// lease ends, all that is held is dropped at once. The error says what was not
// sent.
func (t *tenure) run(ctx, lease context.Context) error {
	reading, stopReading := context.WithCancel(lease)
	defer stopReading()
	defer context.AfterFunc(ctx, stopReading)()
	var running sync.WaitGroup
	running.Go(func() { t.informers.Run(reading) })
	running.Go(func() { t.finder.Run(reading, t.informers.Add) })
	sent := make(chan error, 1)
	go func() { sent <- deliver(ctx, lease, t.sink, t.cfg.ShutdownTimeout, t.log) }()
	running.Wait()
	t.sink.Close()
	return <-sent
}

// observe passes on what became of records.
func (t *tenure) observe(outcome emitter.Outcome, items []emitter.Item) {
	t.sink.settled(len(items))
	var tell func(*record.Kind, uint64)
	switch outcome {
	case emitter.Accepted:
		tell = t.informers.Accepted
	case emitter.Refused:
		tell = t.informers.Refused
	case emitter.Lost:
		tell = t.informers.Lost
	}
	for i := range items {
		tell(items[i].Kind, items[i].Key)
	}
}

// stuck returns an error where anything should have got on, and has
// not.
func (t *tenure) stuck(now time.Time) error {
	return errors.Join(t.informers.Stuck(now), t.finder.Stuck(now), t.sink.stuck(now, t.cfg.SendTimeout))
}

// settleTime is in what time every record has an outcome, beside a request's
// own: the emitter gives up one that is half an hour old, and may wait for some
// minutes more if the destination says so.
const settleTime = 40 * time.Minute

// followed is a sink of which is known that it gets on.
type followed struct {
	queue
	// open is the number of records without an outcome; changed is when there
	// was an outcome last, or the first record came, in nanoseconds of Unix
	// time.
	open, changed atomic.Int64
}

// Put puts the record, and waits as the sink does.
func (f *followed) Put(ctx context.Context, r *record.Record) error {
	if f.open.Add(1) == 1 {
		f.changed.Store(time.Now().UnixNano())
	}
	err := f.queue.Put(ctx, r)
	if err != nil {
		f.open.Add(-1)
	}
	return err
}

// TryPut puts the record if there is room for it.
func (f *followed) TryPut(r *record.Record) bool {
	if f.open.Add(1) == 1 {
		f.changed.Store(time.Now().UnixNano())
	}
	done := f.queue.TryPut(r)
	if !done {
		f.open.Add(-1)
	}
	return done
}

func (f *followed) settled(records int) {
	f.open.Add(-int64(records))
	f.changed.Store(time.Now().UnixNano())
}

// stuck returns an error where records wait and none has got an outcome for far
// too long. A destination that is down is no reason: records get too old then.
func (f *followed) stuck(now time.Time, requestTime time.Duration) error {
	idle := now.Sub(time.Unix(0, f.changed.Load()))
	if open := f.open.Load(); open > 0 && idle > settleTime+requestTime {
		return fmt.Errorf("sending is stuck: nothing became of any of %d records for %s", open, idle.Round(time.Second))
	}
	return nil
}
