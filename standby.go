package main

import (
	"context"
	"sync"

	"k8s.io/client-go/rest"
)

// standby is the tenure of a replica that does not lead, where there is no
// watch: a review comes to one replica, and nothing else would tell the leader
// before the next resync. It reads nothing, and sends what reviews show.
//
// With a watch there is none: the leader sees all, and two processes must not
// send for the same object.
type standby struct {
	daemon  *daemon
	cluster *rest.Config
	// end ends the one that runs, and waits until what it holds is sent.
	end func()
}

// begin begins one, if there is to be one.
func (s *standby) begin(ctx context.Context) error {
	d := s.daemon
	if !d.cfg.WebhookEnabled || d.cfg.WatchEnabled || ctx.Err() != nil {
		return nil
	}
	t, err := newTenure(s.cluster, d.cfg, nil, true, d.log)
	if err != nil {
		return err
	}
	d.set(&d.standby, t)
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() {
		if err := t.run(ctx, context.WithoutCancel(ctx)); err != nil {
			d.log.WithError(err).Warn("Not all that reviews have shown was sent")
		}
	})
	s.end = func() {
		d.set(&d.standby, nil)
		cancel()
		running.Wait()
	}
	return nil
}

func (s *standby) stop() {
	if s.end != nil {
		s.end()
		s.end = nil
	}
}
