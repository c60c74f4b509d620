package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/sirupsen/logrus"
	"k8s.io/client-go/rest"

	"labelstream/config"
	"labelstream/informer"
	"labelstream/status"
)

// daemon reads and sends until it is told to end: all the time, or while it
// leads.
type daemon struct {
	cfg        *config.Config
	kubeconfig string
	registry   *prometheus.Registry
	log        logrus.FieldLogger

	mu sync.Mutex
	// tenure is the one that runs, nil while another replica leads.
	tenure *tenure
	// standby is the one that sends reviews meanwhile, where there is one.
	standby  *tenure
	election *election
	hook     *hook
}

func newDaemon(cfg *config.Config, kubeconfig string, registry *prometheus.Registry, log logrus.FieldLogger) *daemon {
	d := &daemon{cfg: cfg, kubeconfig: kubeconfig, registry: registry, log: log}
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "labelstream_leader",
		Help: "1 while this process reads and sends, 0 while another replica does.",
	}, func() float64 {
		if d.current() == nil {
			return 0
		}
		return 1
	}))
	return d
}

// run returns when ctx has ended and what was held is sent. The error says why
// the start failed, or what was not sent.
func (d *daemon) run(ctx context.Context) error {
	cluster, err := restConfig(d.kubeconfig)
	if err != nil {
		return err
	}
	if d.hook, err = newHook(cluster, d.cfg, reviewTarget{d}, d.registry, d.log); err != nil {
		return err
	}
	defer d.hook.serve(ctx)()
	if d.cfg.LeaderElection {
		if d.election, err = newElection(cluster, &d.cfg.Leader, d.log); err != nil {
			return err
		}
	}
	stop, err := d.serve(ctx)
	if err != nil {
		return err
	}
	// Whoever looks can see the end, too.
	defer stop()
	if d.election == nil {
		always := leaseTerm{Context: context.WithoutCancel(ctx), check: func() error { return nil }}
		return d.lead(ctx, always, cluster)
	}
	return d.campaign(ctx, cluster)
}

// campaign leads whenever the election is won.
func (d *daemon) campaign(ctx context.Context, cluster *rest.Config) error {
	between := standby{daemon: d, cluster: cluster}
	if err := between.begin(ctx); err != nil {
		return err
	}
	defer between.stop()
	return d.election.run(ctx, func(lease leaseTerm) error {
		between.stop()
		return errors.Join(d.lead(ctx, lease, cluster), between.begin(ctx))
	})
}

// lead runs a tenure until ctx or the lease ends.
func (d *daemon) lead(ctx context.Context, lease leaseTerm, cluster *rest.Config) error {
	t, err := newTenure(cluster, d.cfg, lease.check, false, d.log)
	if err != nil {
		return err
	}
	d.set(&d.tenure, t)
	defer d.set(&d.tenure, nil)
	return t.run(ctx, lease)
}

// set sets one of the daemon's tenures.
func (d *daemon) set(which **tenure, t *tenure) {
	d.mu.Lock()
	defer d.mu.Unlock()
	*which = t
}

func (d *daemon) current() *tenure {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.tenure
}

// reviewed is the tenure that takes reviews, nil where they are left to another
// replica.
func (d *daemon) reviewed() *tenure {
	d.mu.Lock()
	defer d.mu.Unlock()
	return cmp.Or(d.tenure, d.standby)
}

// serve serves the status until it is stopped. Ready ends with ctx.
func (d *daemon) serve(ctx context.Context) (stop func(), err error) {
	server, err := status.Listen(d.cfg.StatusAddress, status.Options{
		Gatherer: prometheus.GathererFunc(d.gather),
		Alive:    func() error { return errors.Join(d.stuck(time.Now()), d.hook.failure()) },
		Ready:    func() error { return errors.Join(stopCause(ctx), d.hook.ready()) },
		Report:   d.report,
		Profiles: d.cfg.PProf,
	})
	if err != nil {
		return nil, err
	}
	d.log.WithField("address", server.Address()).Info("Serving the status")
	serving, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	running.Go(func() {
		if err := server.Run(serving); err != nil {
			// Probes will notice.
			d.log.WithError(err).Error("The status is not served any more")
		}
	})
	return func() { cancel(); running.Wait() }, nil
}

// gather has the metrics of the process and of the tenure.
func (d *daemon) gather() ([]*dto.MetricFamily, error) {
	gatherers := prometheus.Gatherers{d.registry}
	if t := d.reviewed(); t != nil {
		gatherers = append(gatherers, t.registry)
	}
	return gatherers.Gather()
}

func (d *daemon) stuck(now time.Time) error {
	var errs []error
	if d.election != nil {
		errs = append(errs, d.election.stuck(now))
	}
	if t := d.reviewed(); t != nil {
		errs = append(errs, t.stuck(now))
	}
	return errors.Join(errs...)
}

// report writes a line for each kind, and for each resource that is missing, or
// why it is not known which are.
func (d *daemon) report(w io.Writer) {
	t := d.current()
	if t == nil {
		fmt.Fprintln(w, "another replica leads")
		return
	}
	for _, s := range informer.ByKind(t.informers.Status()) {
		fmt.Fprintf(w, "%s: %s\n", s.Resource, describe(&s, d.cfg.WatchEnabled, time.Now()))
	}
	for _, err := range t.finder.Missing() {
		fmt.Fprintln(w, err)
	}
}

// describe says in a line how far a kind is.
func describe(s *informer.Status, watch bool, now time.Time) string {
	text := fmt.Sprintf("listing, %d objects read", s.Read)
	if s.Synced {
		text = fmt.Sprintf("synced, %d objects", s.Sent)
		if watch && !s.Watching {
			text += ", not watched"
		}
		text += fmt.Sprintf(", current %s ago", now.Sub(s.Current).Round(time.Second))
	}
	for _, err := range []error{s.Err, s.WatchErr} {
		if err != nil {
			text += "; " + err.Error()
		}
	}
	return text
}
