// SPDX-License-Identifier: Apache-2.0

package emitter

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"labelstream/config"
	"labelstream/status/outage"
)

const (
	minBackoff = 100 * time.Millisecond
	maxBackoff = 30 * time.Second
	// maxDeletionAge is how old a deletion may be when it is sent: its time is
	// that of the sending, and must not be far from the object's end.
	maxDeletionAge = 5 * time.Minute
	// maxRefusedInRow is how many records the destination may refuse in a row
	// before it is asked whether it refuses every record.
	maxRefusedInRow = 10
	// lowerFor is how long batches are smaller after one was too large.
	lowerFor = time.Hour
)

// sender has a share of the objects, each always the same, and sends their
// records one batch after the other.
type sender struct {
	cfg      *config.Delivery
	opts     Options
	queue    *queue
	encoder  *encoder
	client   *client
	clock    *clock
	protocol *protocol
	stats    *stats
	refusals *refusalLog
	log      logrus.FieldLogger
	outage   *outage.Outage
	// paused is since when nothing that is sent can be accepted, zero otherwise.
	paused time.Time
	// refusedInRow is how many records were refused since any was accepted.
	refusedInRow int
	// witness is a copy of a record that was accepted, as its object was last; empty
	// where there is none.
	witness batch
	// attempted is when the last request was made, as the time since the emitter
	// was made.
	attempted atomic.Int64
	// limit is the bytes of a request, lowered after one was too large.
	limit   int
	lowered time.Time
	jitter  func(time.Duration) time.Duration
}

func newSender(e *Emitter, id int, cfg *config.Delivery, opts Options) *sender {
	log := opts.Logger
	if cfg.Senders > 1 {
		log = log.WithField("sender", strconv.Itoa(id))
	}
	size := sizeQueue(cfg)
	age := func() time.Duration { return time.Since(e.start) }
	return &sender{
		cfg:      cfg,
		opts:     opts,
		queue:    newQueue(cfg, age, &e.stats.unsent),
		encoder:  newEncoder(size.bytes),
		client:   e.client,
		clock:    newClock(log),
		protocol: newProtocol(cfg.Protocol),
		stats:    e.stats,
		refusals: e.refusals,
		log:      log,
		outage:   outage.New(log, "Cannot send", "Sending again"),
		limit:    size.bytes,
		jitter:   upperHalf,
	}
}

// run sends until the queue is closed and empty. The error says why records are
// left in it.
func (s *sender) run(ctx context.Context) error {
	defer s.queue.close()
	for {
		b, err := s.queue.next(ctx)
		if b == nil {
			return err
		}
		if err := s.deliver(ctx, b); err != nil {
			return err
		}
		s.queue.release(b)
	}
}

// idle is how long records have waited without an attempt at the time now.
func (s *sender) idle(now time.Duration) time.Duration {
	return min(s.queue.oldest(now), now-time.Duration(s.attempted.Load()))
}

// send makes attempts with a part until an answer decides on it, or none of its
// records is to be sent any more. Where the answer is for a piece of it, p becomes that
// piece, and rest is the others. The error says why no more attempts are made.
func (s *sender) send(ctx context.Context, p *part) (a answer, rest part, err error) {
	backoff, same := minBackoff, streak{}
	for {
		s.dropOldDeletions(p)
		if len(p.entries) == 0 {
			return answer{}, part{}, nil
		}
		a, err = s.try(ctx, p)
		if same.add(a); err == nil && s.isSearched(p, same) {
			a, rest, err = s.search(ctx, p, a, same.length/maxSameErrors)
		}
		switch {
		case err != nil || a.outcome <= refused:
			return a, rest, err
		case a.outcome == retryable:
			err = s.retryLater(ctx, a, backoff)
			backoff = min(2*backoff, maxBackoff)
		default:
			s.hopeless("The destination rejects the settings", a.cause, a.err)
			err = s.pause(ctx)
		}
		if err != nil {
			return a, part{}, err
		}
	}
}

func (s *sender) retryLater(ctx context.Context, a answer, backoff time.Duration) error {
	// A failure says that the settings are not what is wrong now.
	s.paused = time.Time{}
	s.outage.Fail(a.cause, a.err)
	if a.after == 0 {
		a.after = s.jitter(backoff)
	}
	return sleep(ctx, a.after)
}

// try makes one attempt in the protocol's version. Where the answer to 2.0 may be
// that of a receiver that does not know it, the same records go once more as 1.0,
// and that answer counts; unless 1.0 is not spoken, but 2.0 was or says what was
// written.
func (s *sender) try(ctx context.Context, p *part) (answer, error) {
	if s.protocol.version() == v1 {
		return s.post(ctx, p, v1)
	}
	a, err := s.post(ctx, p, v2)
	if err != nil || !s.protocol.doubts(a, p.isWhole) {
		s.protocol.settle(v2, a)
		return a, err
	}
	older, err := s.post(ctx, p, v1)
	if err == nil && older.outcome == misconfigured && (a.written != notSaid || s.protocol.version() == v2) {
		return a, nil
	}
	s.protocol.settle(v1, older)
	return older, err
}

// post makes one request with a part, stamped now.
func (s *sender) post(ctx context.Context, p *part, v version) (answer, error) {
	s.attempted.Store(int64(s.queue.age()))
	m := message{version: v, body: s.encoder.encode(p, v, s.clock.stamp(p.entries)), reading: &s.encoder.reading}
	m.samples, _ = p.totals()
	if err := s.opts.AllowSend(); err != nil {
		return answer{outcome: retryable}, err
	}
	start := time.Now()
	a := s.client.post(ctx, m)
	s.stats.requestSeconds.Observe(time.Since(start).Seconds())
	if a.outcome == retryable && ctx.Err() != nil {
		// It was us who ended this request.
		return a, context.Cause(ctx)
	}
	return a, nil
}

// dropOldDeletions removes deletions that have waited for too long.
func (s *sender) dropOldDeletions(p *part) {
	now := s.queue.age()
	p.entries = slices.DeleteFunc(p.entries, func(e entry) bool {
		isOld := e.deleted && now-e.queued > maxDeletionAge
		if isOld {
			s.stats.unsent.Add(-1)
			s.stats.deletionsDropped.WithLabelValues(e.kind.Resource).Inc()
		}
		return isOld
	})
}

func (s *sender) lowerLimit(bytes int) {
	s.limit, s.lowered = bytes, time.Now()
	s.log.WithFields(logrus.Fields{"bytes": bytes, "for": lowerFor.String()}).
		Warn("The destination refuses batches as too large, smaller ones are sent")
}

// answered records that the destination works: so many records were refused since it
// accepted any.
func (s *sender) answered(refusedInRow int) {
	s.refusedInRow = refusedInRow
	if refusedInRow < maxRefusedInRow {
		s.paused = time.Time{}
		s.outage.End()
	}
}

// pause waits until the next attempt is due while nothing that is sent can be
// accepted: the destination rejects the settings or refuses every record. The error
// says that there will be none.
func (s *sender) pause(ctx context.Context) error {
	interval, giveUpAfter := s.opts.ProbeInterval, s.opts.GiveUpAfter
	if giveUpAfter == 0 {
		return sleep(ctx, interval)
	}
	left := giveUpAfter - time.Since(s.paused)
	if err := sleep(ctx, min(interval, left)); err != nil || left > interval {
		return err
	}
	_, err := s.outage.Err()
	return fmt.Errorf("gave up after %v: %w", giveUpAfter, err)
}

// hopeless records that nothing that is sent can be accepted.
func (s *sender) hopeless(message, cause string, err error) {
	if s.paused.IsZero() {
		s.paused = time.Now()
	}
	s.outage.FailAt(logrus.ErrorLevel, message, cause, err)
}

// upperHalf is anything from half of d to d, so that the senders of many clusters
// spread out after an outage, and no backoff is shorter than the one before.
func upperHalf(d time.Duration) time.Duration { return d - rand.N(d/2+1) }

// sleep waits until wait is over, or ctx ends, whose cause it returns.
func sleep(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
