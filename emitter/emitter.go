// Package emitter delivers records to the destination by remote_write: a
// bounded queue, batches, their encoding, and the attempts until each batch is
// accepted, refused or lost.
package emitter

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"labelstream/config"
	"labelstream/record"
)

// ErrClosed is what Put returns once the emitter takes no more records.
var ErrClosed = errors.New("emitter is closed")

// Outcome is what became of a record.
type Outcome int

// The outcomes of a record.
const (
	// Accepted records are at the destination.
	Accepted Outcome = iota
	// Refused records are not wanted by the destination. Sending them again
	// would not help. Where a 2.0 receiver says only how many it left out, as
	// many are reported; which ones is then a guess.
	Refused
	// Lost records could not be delivered. The destination may have some of
	// them, where its answer did not arrive.
	Lost
)

// String names the outcome as in logs.
func (o Outcome) String() string {
	return [...]string{"accepted", "refused", "lost"}[o]
}

// Item is what Observe learns of a record.
type Item struct {
	Kind *record.Kind
	// Key is the record's.
	Key uint64
	// Series is the number of series that the record has, one sample each.
	Series int
}

// Options are what an Emitter needs beside its settings.
type Options struct {
	// UserAgent is sent with each request, such as "labelstream/1.2.3".
	UserAgent string
	// Transport carries the requests. Nil means a pooled one that authenticates
	// as the settings say.
	Transport http.RoundTripper
	// Registerer takes the metrics. Nil means that nobody reads them.
	Registerer prometheus.Registerer
	// Logger is required.
	Logger logrus.FieldLogger
	// Observe is told what became of records, each exactly once. Senders call
	// it at the same time as each other and wait for it, so it must neither
	// block nor call Put. The items are valid until it returns. Nil means that
	// nobody wants to know.
	Observe func(Outcome, []Item)
	// Permit is asked right before each request. Its error ends Run as the end of
	// ctx does, and nothing more is sent; it must not block. Nil means that
	// requests are always permitted.
	Permit func() error
	// Now is the clock that samples are stamped with, and that their age is
	// measured by. Nil means time.Now.
	Now func() time.Time
	// ProbeInterval is how often one batch is tried while the destination
	// rejects the settings or refuses everything. Zero means a minute.
	ProbeInterval time.Duration
	// GiveUpAfter ends Run when the destination has done so for so long. Zero means never.
	GiveUpAfter time.Duration
}

// Emitter queues records and sends them in batches. Its methods are safe for
// concurrent use.
type Emitter struct {
	senders  []*sender
	circuit  *circuit
	protocol *protocol
	client   *client
	// limit is how large batches may be.
	limit     byteLimit
	onRefused config.OnRefused
	log       logrus.FieldLogger
	metrics   *metrics
	failure   *failureLog
	drops     *dropLog
	observe   func(Outcome, []Item)
	permit    func() error
	now       func() time.Time
	// jitter shortens a backoff by chance.
	jitter func(time.Duration) time.Duration
	// queued is the number of records whose outcome is open.
	queued atomic.Int64
	// unsent is the number of records that the end of Run left without one.
	unsent  atomic.Int64
	blocked blocked
	// hurry is closed when the process is about to end.
	hurry     chan struct{}
	hurryOnce sync.Once
}

// New makes an emitter that sends nothing until Run is called. The settings
// are taken as validated, and must not change. The error says which file or
// setting of authentication or TLS cannot be used.
func New(cfg *config.Delivery, opts Options) (*Emitter, error) {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Observe == nil {
		opts.Observe = func(Outcome, []Item) {}
	}
	if opts.Permit == nil {
		opts.Permit = func() error { return nil }
	}
	if opts.ProbeInterval == 0 {
		opts.ProbeInterval = time.Minute
	}
	client, err := newClient(cfg, opts)
	if err != nil {
		return nil, err
	}
	log := opts.Logger.WithField("destination", client.name)
	e := &Emitter{
		circuit:   newCircuit(opts.ProbeInterval, opts.GiveUpAfter),
		protocol:  newProtocol(cfg.Protocol),
		client:    client,
		onRefused: cfg.OnRefused,
		log:       log,
		failure:   newFailureLog(log),
		drops:     newDropLog(log),
		observe:   opts.Observe,
		permit:    opts.Permit,
		now:       opts.Now,
		jitter:    fullJitter,
		hurry:     make(chan struct{}),
	}
	size := sizeQueue(cfg)
	for id := range cfg.Senders {
		e.senders = append(e.senders, newSender(e, id, size, cfg.SendInterval))
	}
	e.metrics = newMetrics(opts.Registerer, e, cfg.Senders*size.batches*size.records)
	return e, nil
}

// Put copies the record into the queue and stamps it with the time. It blocks
// while the queue is full, until there is room, ctx ends (its error is
// returned), or the emitter is closed (ErrClosed). Records of one object, put
// one after the other, are sent in that order.
func (e *Emitter) Put(ctx context.Context, rec *record.Record) error {
	return e.senders[rec.Key%uint64(len(e.senders))].put(ctx, rec)
}

// TryPut is Put for callers that must not wait: it returns false where there is
// no room, or the emitter is closed.
func (e *Emitter) TryPut(rec *record.Record) bool {
	done, err := e.senders[rec.Key%uint64(len(e.senders))].tryPut(rec)
	return done && err == nil
}

// Close ends the input: from now on Put returns ErrClosed, and Run returns
// once what the queue holds has an outcome. It does not block.
func (e *Emitter) Close() {
	for _, s := range e.senders {
		s.close()
	}
}

// Hurry says that the process is about to end. From now on Run ends where the
// destination is at a loopback address and nobody listens there: a collector in
// the same pod has ended first, and will not be back. It does not block.
func (e *Emitter) Hurry() { e.hurryOnce.Do(func() { close(e.hurry) }) }

func (e *Emitter) hurried() bool {
	select {
	case <-e.hurry:
		return true
	default:
		return false
	}
}

// Run sends, and blocks until the emitter is closed and every record has an
// outcome, until ctx ends, Options.Permit fails, or the destination is gone after
// Hurry, or until the destination has rejected the settings or refused everything for
// Options.GiveUpAfter. It then closes the emitter; records without an outcome
// are reported as Lost, and the error says how many there were and wraps the
// cause: that of ctx, Permit's, that of the last attempt, or the rejection. It
// is called once.
func (e *Emitter) Run(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var wg sync.WaitGroup
	for _, s := range e.senders {
		wg.Go(func() { s.run(ctx, stop) })
	}
	wg.Wait()
	e.client.close()
	e.drops.flush()
	if n := e.unsent.Load(); n > 0 {
		return fmt.Errorf("%d records unsent: %w", n, e.why(context.Cause(ctx)))
	}
	return nil
}

// why adds to the cause for which Run ended the failure that kept records from
// being sent before.
func (e *Emitter) why(cause error) error {
	// Each sender has an error of its own for what stopped them all.
	if err := e.failure.current(); err != nil && !strings.Contains(cause.Error(), err.Error()) {
		return fmt.Errorf("%w; before that: %w", cause, err)
	}
	return cause
}

// SettingError returns the error of a destination that rejects the settings
// (its URL, the credentials) or refuses everything, and since when it does; nil
// while it does not.
func (e *Emitter) SettingError() (since time.Time, err error) {
	return e.circuit.state()
}

// age is how old the oldest record without an outcome is, zero without any.
func (e *Emitter) age() time.Duration {
	var oldest time.Duration
	for _, s := range e.senders {
		for _, b := range s.batches {
			oldest = max(oldest, b.age(e.now()))
		}
	}
	return oldest
}
