// SPDX-License-Identifier: Apache-2.0

package informer

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"labelstream/config"
	"labelstream/status/outage"
)

const (
	// findInterval is how often a resource that was not there is looked for: at
	// least, and up to twice that.
	findInterval = 30 * time.Second
	// rediscoverDelay is how long a server gets to know of a definition that has
	// changed, and others to ask for the same.
	rediscoverDelay = 5 * time.Second
)

// Finder finds the kinds that the settings name, also those that the server
// has only later. Its methods are safe for concurrent use.
type Finder struct {
	discover func(context.Context) (*Catalog, error)
	cfg      *config.Config
	log      logrus.FieldLogger
	failing  *outage.Outage
	again    chan struct{}

	// notFound tells by the names of the settings what has no kind, and so no
	// metric of one.
	notFound *prometheus.GaugeVec

	mu    sync.Mutex
	kinds map[schema.GroupResource]*Kind
	// missing are the errors of the last catalog.
	missing []error
}

// NewFinder returns a finder of the kinds that cfg names. discover asks the
// server once what it serves, as [Discover] does without patience.
func NewFinder(discover func(context.Context) (*Catalog, error), cfg *config.Config, registerer prometheus.Registerer, log logrus.FieldLogger) *Finder {
	f := &Finder{
		discover: discover, cfg: cfg, log: log, failing: newDiscoveryOutage(log), again: make(chan struct{}, 1),
		kinds: make(map[schema.GroupResource]*Kind),
		notFound: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "labelstream_resource_missing",
			Help: "1 while the API server does not serve what the settings name, or does not say what it serves; 0 once it was found."}, []string{"resource"}),
	}
	registerer.MustRegister(f.notFound)
	return f
}

// Run hands the kinds that it finds to found, and blocks until ctx ends. A kind is
// handed out again where the server serves it otherwise than before, such as in
// another version or scope. Once all that is named has been found, Run waits for
// [Finder.Rediscover].
func (f *Finder) Run(ctx context.Context, found func([]*Kind)) {
	for _, name := range chosenNames(f.cfg) {
		f.notFound.WithLabelValues(name).Set(1)
	}
	backoff := newBackoff()
	for ctx.Err() == nil {
		pause := findInterval + rand.N(findInterval)
		catalog, err := f.discover(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			f.failing.Fail(outage.Cause(err), err)
			pause = backoff.Step()
		default:
			f.failing.End()
			backoff = newBackoff()
			if kinds := f.take(catalog); len(kinds) > 0 {
				found(kinds)
			}
		}
		f.wait(ctx, pause)
	}
}

// Rediscover asks the server once more what it serves, since something that was
// found is not there any more, or is another. It does not block.
func (f *Finder) Rediscover() {
	select {
	case f.again <- struct{}{}:
	default:
	}
}

// wait returns when the server is to be asked again, or ctx has ended.
func (f *Finder) wait(ctx context.Context, pause time.Duration) {
	var due <-chan time.Time
	if !f.complete() {
		due = time.After(pause)
	}
	select {
	case <-due:
	case <-ctx.Done():
	case <-f.again:
		_ = sleep(ctx, rediscoverDelay)
		// What was asked for meanwhile is the same.
		select {
		case <-f.again:
		default:
		}
	}
}

// complete reports whether no further kind is expected.
func (f *Finder) complete() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, err := f.failing.Err()
	awaited := func(err error) bool { return !errors.Is(err, errNotWatchable) }
	return err == nil && !slices.ContainsFunc(f.missing, awaited) && !slices.ContainsFunc(chosenNames(f.cfg), isWholeGroup)
}

// take returns the kinds of a catalog that are new or served otherwise, and keeps
// what is missing.
func (f *Finder) take(catalog *Catalog) []*Kind {
	catalog.mustWatch = f.cfg.Changes == config.ChangesWatch
	kinds, missing := catalog.Kinds(f.cfg)
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, err := range missing {
		if !slices.ContainsFunc(f.missing, func(known error) bool { return known.Error() == err.Error() }) {
			f.log.WithFields(outage.Fields(err)).Warn("Cannot read a resource")
		}
	}
	f.missing = missing
	for _, name := range chosenNames(f.cfg) {
		_, err := catalog.resolve(name)
		f.notFound.WithLabelValues(name).Set(boolToFloat(err != nil))
	}
	return slices.DeleteFunc(kinds, func(kind *Kind) bool { return !f.keep(kind, catalog) })
}

// keep remembers a kind. It returns false where the kind is as it was, or where
// another version stands in for one that could not be discovered.
func (f *Finder) keep(kind *Kind, catalog *Catalog) bool {
	resource := kind.GVR.GroupResource()
	known := f.kinds[resource]
	if known != nil && (*known == *kind || catalog.failed[resource.Group] != nil) {
		return false
	}
	f.kinds[resource] = kind
	f.log.WithFields(logrus.Fields{"kind": kind.Resource, "version": kind.GVR.Version}).Info("Found a kind to read")
	return true
}

// Missing returns an error for each resource that the server does not have, and
// first of all the one for which it does not say what it has.
func (f *Finder) Missing() []error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := f.failing.Err(); err != nil {
		return append([]error{err}, f.missing...)
	}
	return slices.Clone(f.missing)
}
