package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sirupsen/logrus"

	"labelstream/config"
	"labelstream/emitter"
	"labelstream/informer"
)

// sink takes the records of a run and delivers them.
type sink interface {
	informer.Sink
	// Close ends the input. Run returns when all that was put has an outcome,
	// or ctx ends.
	Close()
	// Hurry has Run return where the destination is a neighbour that is gone.
	Hurry()
	Run(ctx context.Context) error
}

// queue is a sink that also takes records without waiting.
type queue interface {
	sink
	informer.Queue
}

var (
	_ queue = (*emitter.Emitter)(nil)
	_ sink  = (*printer)(nil)
	_ queue = (*followed)(nil)
)

func newEmitter(cfg *config.Config, options emitter.Options) (*emitter.Emitter, error) {
	options.UserAgent = userAgent()
	return emitter.New(&cfg.Delivery, options)
}

var errStopped = errors.New("stopped by a signal")

// deliver runs the sink. What it holds when ctx ends may still be sent within
// the timeout, unless limit ends too, or the destination is a neighbour that is
// gone.
func deliver(ctx, limit context.Context, sink sink, timeout time.Duration, log logrus.FieldLogger) error {
	sending, stop := context.WithCancelCause(limit)
	defer stop(nil)
	defer context.AfterFunc(ctx, func() {
		log.WithError(stopCause(ctx)).Warn("Stopping; sending what is held")
		sink.Hurry()
		timer := time.AfterFunc(timeout, func() {
			stop(fmt.Errorf("%w, and what was held could not be sent within %s", stopCause(ctx), timeout))
		})
		context.AfterFunc(sending, func() { timer.Stop() })
	})()
	err := sink.Run(sending)
	if cause := stopCause(ctx); err != nil && cause != nil && !errors.Is(err, cause) {
		// Not both wrapped: what joins errors is a line for each.
		return fmt.Errorf("%v: %w", cause, err)
	}
	return err
}

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
