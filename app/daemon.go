// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/rest"

	"labelstream/config"
	"labelstream/emitter"
	"labelstream/informer"
	"labelstream/status"
)

// addDaemon makes what a one-shot run does without.
func (a *app) addDaemon(ctx context.Context, cluster *rest.Config) (err error) {
	a.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "labelstream_leader",
		Help: "1 while this process reads and sends, 0 while another replica does.",
	}, func() float64 {
		if a.leading.Load() {
			return 1
		}
		return 0
	}))
	a.status, err = status.Listen(a.cfg.StatusAddress, status.Options{
		Gatherer: a.registry,
		Alive:    func() error { return a.alive(time.Now()) },
		Ready:    func() error { return errors.Join(stopCause(ctx), a.webhook.ready()) },
		Report:   a.report,
		State:    func() *status.State { return a.state(ctx) },
		Profiles: a.cfg.Pprof,
	})
	if err == nil && a.cfg.Changes == config.ChangesWebhook {
		a.webhook, err = newWebhookServer(cluster, a.cfg, reviews{a.informers, a.emitter}, a.registry, a.log)
	}
	return err
}

// daemon reads and sends until ctx ends, or the lease is lost. The error says
// what was not sent.
func (a *app) daemon(ctx context.Context) error {
	if a.election == nil {
		return a.lead(ctx, context.WithoutCancel(ctx))
	}
	return a.election.run(ctx, a.lead)
}

// lead reads and sends until ctx or the lease ends. Where it is ctx, what is
// held then is sent; where it is the lease, another replica sends it.
func (a *app) lead(ctx, lease context.Context) error {
	a.leading.Store(true)
	defer a.leading.Store(false)
	return a.transfer(ctx, lease, func(ctx context.Context) {
		var running sync.WaitGroup
		running.Go(func() { a.informers.Run(ctx) })
		running.Go(func() { a.finder.Run(ctx, a.informers.Add) })
		running.Wait()
	})
}

// alive returns why the process must be restarted, nil where it is well.
func (a *app) alive(now time.Time) error {
	return errors.Join(a.informers.Alive(now, a.emitter.Full()), a.emitter.Alive(now), a.webhook.failure())
}

// report writes a line for each kind, and one for each that is missing.
func (a *app) report(w io.Writer) {
	if !a.leading.Load() {
		fmt.Fprintln(w, "another replica leads")
		return
	}
	now, totals := time.Now(), a.emitter.Totals()
	for _, s := range informer.ByKind(a.informers.Status()) {
		fmt.Fprintf(w, "%s: %s\n", s.Resource, describe(&s, totals[s.Resource], a.cfg.Changes, now))
	}
	if n := totals[""].Refused; n > 0 {
		fmt.Fprintf(w, "%d records refused so far, of kinds that the destination did not name\n", n)
	}
	for _, err := range a.finder.Missing() {
		fmt.Fprintln(w, err)
	}
}

// describe says in a line how far a kind is.
func describe(s *informer.Status, totals emitter.Totals, changes config.Changes, now time.Time) string {
	text := fmt.Sprintf("listing, %d objects read", s.Read)
	if s.Synced {
		text = fmt.Sprintf("synced, %d objects", s.LedgerEntries)
		if changes == config.ChangesWatch && !s.Watching {
			text += ", not watched"
		}
		text += fmt.Sprintf(", current %s ago", now.Sub(s.Current).Round(time.Second))
	}
	if totals.Refused > 0 {
		text += fmt.Sprintf(", %d records refused so far", totals.Refused)
	}
	for _, err := range []error{s.Err, s.WatchErr} {
		if err != nil {
			text += "; " + err.Error()
		}
	}
	return text
}
