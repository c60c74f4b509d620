package emitter

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

const (
	minBackoff = 100 * time.Millisecond
	maxBackoff = 30 * time.Second
	// maxAge is half of what receivers allow, for they refuse samples that are
	// an hour old.
	maxAge = 30 * time.Minute
)

// fate is how a batch ended.
type fate string

const (
	fateAccepted fate = "accepted"
	// fateConflict is accepted too: the receiver has newer samples.
	fateConflict fate = "conflict"
	fateRefused  fate = "refused"
	// fateTooOld and fateShutdown are the two ways to be lost.
	fateTooOld   fate = "too_old"
	fateShutdown fate = "shutdown"
)

func (f fate) outcome() Outcome {
	switch f {
	case fateAccepted, fateConflict:
		return Accepted
	case fateRefused:
		return Refused
	default:
		return Lost
	}
}

// deliver makes attempts until the batch has a fate. The error is that of a
// destination that has rejected the settings for too long; the batch is then
// lost.
func (s *sender) deliver(ctx context.Context, b *batch) (fate, error) {
	if ctx.Err() != nil {
		return fateShutdown, nil
	}
	payload := s.encoder.encode(b, 0, len(b.items))
	backoff := minBackoff
	for {
		if b.age(s.now()) > maxAge {
			s.drops.dropped("too old", "Records could not be delivered in time, they are lost",
				fmt.Errorf("older than %v", maxAge), len(b.items))
			return fateTooOld, nil
		}
		wait, changed, err := s.circuit.admit()
		if err != nil {
			return fateShutdown, err
		}
		if wait == 0 {
			a := s.attempt(ctx, payload)
			if f, ok := s.conclude(ctx, b, a); ok {
				return f, nil
			}
			if a.verdict == again {
				wait, backoff = s.pause(a, backoff)
			}
		}
		if !sleep(ctx, wait, changed) {
			return fateShutdown, nil
		}
	}
}

// attempt sends the payload once.
func (s *sender) attempt(ctx context.Context, payload []byte) answer {
	start := time.Now()
	a := s.client.send(ctx, payload, &s.encoder.reading)
	s.metrics.sendSeconds.Observe(time.Since(start).Seconds())
	return a
}

// conclude tells the circuit and the log of the answer, and returns the fate
// that it gives the batch, if it gives one.
func (s *sender) conclude(ctx context.Context, b *batch, a answer) (fate, bool) {
	if a.verdict == again && ctx.Err() != nil {
		// It was us who ended this attempt.
		return fateShutdown, true
	}
	if a.verdict == rejected {
		s.circuit.open(a.err)
	} else {
		// Any other answer, even a failure, says that the rejection is not
		// what is wrong now.
		s.circuit.close()
	}
	switch a.verdict {
	case again, rejected:
		s.failure.failed(s.id, a)
		return "", false
	case refused:
		s.failure.ended(s.id)
		s.drops.dropped(a.class, "The destination refused records, they are dropped", a.err, len(b.items))
		return fateRefused, true
	case conflict:
		s.failure.ended(s.id)
		return fateConflict, true
	default:
		s.failure.ended(s.id)
		return fateAccepted, true
	}
}

// pause returns how long to wait before the next attempt, and the backoff
// after that one.
func (s *sender) pause(a answer, backoff time.Duration) (wait, next time.Duration) {
	wait = a.after
	if wait == 0 {
		wait = s.jitter(backoff)
	}
	return wait, min(2*backoff, maxBackoff)
}

// fullJitter is anything up to d, so that the senders of many clusters spread
// out after an outage.
func fullJitter(d time.Duration) time.Duration {
	return rand.N(d) + 1
}

// sleep waits until wait is over or changed is closed. It returns false when
// ctx has ended.
func sleep(ctx context.Context, wait time.Duration, changed <-chan struct{}) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-changed:
	case <-timer.C:
	}
	return ctx.Err() == nil
}
