package emitter

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"labelstream/config"
)

const (
	minBackoff = 100 * time.Millisecond
	maxBackoff = 30 * time.Second
	// maxAge is half of what receivers allow, for they refuse samples that are
	// an hour old.
	maxAge = 30 * time.Minute
	// maxRequests is how many answers a batch may take that decide on a part of
	// it: 64 find three bad records among 500.
	maxRequests = 64
)

// delivery is the way of one batch to the outcomes of its records.
type delivery struct {
	*sender
	batch *batch
	// pending are the parts without an outcome: the next one last, each
	// beginning where the one after it in the list ends.
	pending []part
	// requests are those whose answer decided on what they carried.
	requests int
	// accepted, refused and lost count records.
	accepted, refused, lost int
	// fate is the batch's, as far as it is known.
	fate fate
	// err is the last refusal.
	err error
}

// deliver makes attempts until each record of the batch has an outcome. It
// calls giveUp where the destination has rejected the settings for too long.
func (s *sender) deliver(ctx context.Context, b *batch, giveUp context.CancelCauseFunc) {
	d := delivery{sender: s, batch: b, pending: append(s.pending[:0], b.all())}
	for len(d.pending) > 0 {
		last := len(d.pending) - 1
		p := d.pending[last]
		d.pending = d.pending[:last]
		d.conclude(p, d.send(ctx, p, giveUp))
	}
	s.pending = d.pending
	d.finish()
}

// mayDivide tells whether there are requests left to send the halves of a part,
// and all that is pending.
func (d *delivery) mayDivide() bool {
	each := 1
	if d.protocol.inUse() == undecided {
		each = 2
	}
	return d.requests+each*(len(d.pending)+2) <= maxRequests
}

// send makes attempts with a part until an answer decides on it.
func (d *delivery) send(ctx context.Context, p part, giveUp context.CancelCauseFunc) answer {
	backoff := minBackoff
	for ctx.Err() == nil {
		a, changed := d.turn(ctx, p, giveUp)
		switch a.verdict {
		case again:
			if a.after == 0 {
				a.after = d.jitter(backoff)
			}
			backoff = min(2*backoff, maxBackoff)
			if !d.hurried() {
				changed = d.hurry
			}
		case deferred, rejected:
		default:
			d.requests += a.requests
			return a
		}
		sleep(ctx, a.after, changed)
	}
	return answer{verdict: stopped}
}

// turn makes an attempt as soon as no other part is on trial, if the circuit
// admits it. Where it is deferred, changed is closed when asking again may be
// of use sooner than said.
func (d *delivery) turn(ctx context.Context, p part, giveUp context.CancelCauseFunc) (a answer, changed <-chan struct{}) {
	v, err := d.protocol.begin(ctx)
	if err != nil {
		return answer{verdict: stopped}, nil
	}
	if v == undecided {
		defer d.protocol.end()
	}
	if d.batch.age(d.now()) > maxAge {
		return answer{verdict: expired}, nil
	}
	wait, changed, err := d.circuit.admit()
	switch {
	case err != nil:
		giveUp(err)
		return answer{verdict: stopped}, nil
	case wait > 0:
		return answer{verdict: deferred, after: wait}, changed
	}
	a = d.exchange(ctx, p, v)
	switch {
	case a.verdict == stopped:
		giveUp(a.err)
		return a, nil
	case a.verdict == again && ctx.Err() != nil:
		// It was us who ended this attempt.
		return answer{verdict: stopped}, nil
	case a.gone && d.hurried():
		giveUp(a.err)
		return answer{verdict: stopped}, nil
	}
	open := d.circuit.answered(a)
	switch {
	case a.verdict == rejected:
		d.failure.failed(d.id, a, rejects)
	case a.verdict == again:
		d.failure.failed(d.id, a, fails)
	case !open:
		d.failure.ended(d.id)
	}
	return a, nil
}

// exchange makes an attempt in the protocol's version. An answer to 2.0 that may
// be that of a receiver that does not know it decides nothing: the same
// records go once more as 1.0, and that answer counts.
func (d *delivery) exchange(ctx context.Context, p part, v version) answer {
	if v == v1 {
		return d.attempt(ctx, p, v1)
	}
	a := d.attempt(ctx, p, v2)
	onTrial := v == undecided
	if !d.protocol.auto || !a.doubtful(onTrial, p == d.batch.all()) {
		if onTrial && a.verdict <= partial {
			d.protocol.settle(v2)
		}
		return a
	}
	older := d.attempt(ctx, p, v1)
	older.requests++
	if older.verdict == rejected && a.verdict == partial {
		return a
	}
	if older.taken() {
		d.protocol.settle(v1)
	}
	return older
}

// doubtful tells whether the answer to a 2.0 request may be one of a receiver
// that does not know 2.0. On trial that is all but a success that says what was
// written; afterwards it is what says nothing of it, and of whole batches only,
// for their parts are sent to find a bad record.
func (a *answer) doubtful(onTrial, whole bool) bool {
	switch a.status {
	case 0, 401, 403, 408, 429, 503:
		return false
	case 409, 413:
		return onTrial
	}
	if onTrial {
		return a.status/100 != 2 || a.written <= 0
	}
	return whole && a.written == notSaid && a.status < 500
}

// attempt sends a part once, if that is permitted.
func (d *delivery) attempt(ctx context.Context, p part, v version) answer {
	body := d.encoder.encode(d.batch, p, v)
	if err := d.permit(); err != nil {
		return answer{verdict: stopped, err: err}
	}
	start := time.Now()
	a := d.client.send(ctx, payload{version: v, body: body, samples: d.batch.samples(p), reading: &d.encoder.reading})
	d.metrics.sendSeconds.Observe(time.Since(start).Seconds())
	a.requests = 1
	return a
}

// conclude gives the records of a part their outcome, or divides it.
func (d *delivery) conclude(p part, a answer) {
	switch a.verdict {
	case accepted:
		d.settle(p, Accepted, "")
	case conflict:
		d.settle(p, Accepted, "")
		d.fate = fateConflict
	case partial:
		d.keep(p, a)
	case refused:
		d.refuse(p, a)
	case expired:
		d.drops.dropped(string(fateTooOld), "Records could not be delivered in time, they are lost",
			fmt.Errorf("older than %v", maxAge), p.len())
		d.settle(p, Lost, string(fateTooOld))
		d.fate = fateTooOld
	default:
		d.settle(p, Lost, string(fateShutdown))
		d.fate = fateShutdown
	}
}

// refuse divides a part that was refused, until a single record is; where that
// is not wanted, or takes too many requests, all of the part are.
func (d *delivery) refuse(p part, a answer) {
	d.err = a.err
	if a.status == statusTooLarge && p.len() > 1 {
		if limit, ok := d.limit.lower(d.batch.bytes(p)/2, d.now()); ok {
			d.log.WithField("bytes", limit).Warn("The destination refuses batches as too large, smaller ones are sent for an hour")
		}
	}
	switch {
	case p.len() == 1:
		d.drops.named(reasonOf(a), a.err, d.batch.identity(p.from))
		d.settle(p, Refused, reasonOf(a))
	case d.onRefused == config.OnRefusedDrop:
		d.drops.dropped(reasonOf(a), "The destination refused records, they are dropped", a.err, p.len())
		d.settle(p, Refused, reasonOf(a))
	case !d.mayDivide():
		d.drops.dropped(reasonUndecided, "The destination refused batches with too many bad records to find each, some are dropped with their neighbours",
			a.err, p.len())
		d.settle(p, Refused, reasonUndecided)
	default:
		middle := p.from + p.len()/2
		d.pending = append(d.pending, part{from: middle, to: p.to}, part{from: p.from, to: middle})
	}
}

// finish gives the batch its fate.
func (d *delivery) finish() {
	switch {
	case d.lost > 0:
	case d.accepted == 0 && d.refused > 0:
		d.fate = fateRefused
		if err := d.circuit.refusedWhole(d.err); err != nil {
			d.failure.failed(d.id, answer{class: "refused whole", err: err}, refusesAll)
		}
	case d.refused > 0:
		d.fate = fatePartial
	case d.fate == "":
		d.fate = fateAccepted
	}
	d.metrics.batches.WithLabelValues(string(d.fate)).Inc()
}

// fullJitter is anything up to d, so that the senders of many clusters spread
// out after an outage.
func fullJitter(d time.Duration) time.Duration {
	return rand.N(d) + 1
}

// sleep waits until wait is over, changed is closed, or ctx ends.
func sleep(ctx context.Context, wait time.Duration, changed <-chan struct{}) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-changed:
	case <-timer.C:
	}
}
