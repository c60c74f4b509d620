package informer

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"labelstream/config"
)

const (
	// findInterval is how often it is looked whether a resource that was not
	// there is now: at least, and up to twice that.
	findInterval = 30 * time.Second
	// findTime is far more than an API server may take to say what it serves.
	findTime = 5 * time.Minute
)

// Finder finds the kinds that the settings name, also those that the server
// has only later. Its methods are safe for concurrent use.
type Finder struct {
	discover func(context.Context) (*Catalog, error)
	cfg      *config.Config
	log      logrus.FieldLogger
	pulse    pulse

	mu    sync.Mutex
	kinds []*Kind
	// unseen are the names of which nothing has been found so far.
	unseen map[string]bool
	// missing are the errors of what was not found, done that there are none.
	missing []error
	done    bool
	// failure is why the server does not say what it serves, nil while it does.
	failure error
}

// NewFinder returns a finder of the kinds that cfg names. discover asks the
// server once what it serves, and returns an error where it does not say, such
// as [Discover]. registerer gets the finder's metric, and may be nil.
func NewFinder(discover func(context.Context) (*Catalog, error), cfg *config.Config, registerer prometheus.Registerer, log logrus.FieldLogger) *Finder {
	f := &Finder{discover: discover, cfg: cfg, log: log, unseen: make(map[string]bool)}
	for _, name := range chosenNames(cfg) {
		f.unseen[name] = true
	}
	if registerer != nil {
		registerer.MustRegister(finderCollector{f})
	}
	return f
}

// Run hands the kinds that it finds to found, each once, and blocks until ctx
// ends. Where all that is named has been found, and nothing is named by its
// group, it only waits.
func (f *Finder) Run(ctx context.Context, found func([]*Kind)) {
	defer f.pulse.rest()
	var t trouble
	for !f.complete() {
		f.pulse.within(findTime)
		catalog, err := f.discover(ctx)
		if ctx.Err() != nil {
			return
		}
		f.fail(err)
		pause := findInterval + rand.N(findInterval)
		if err != nil {
			pause = t.note(err, time.Now())
			if t.news {
				f.log.WithError(err).Warn("Cannot find out what the API server serves; trying again")
			}
		} else {
			t = trouble{}
			if kinds := f.take(catalog); len(kinds) > 0 {
				found(kinds)
			}
		}
		f.pulse.within(pause + stepTime)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
	f.pulse.rest()
	<-ctx.Done()
}

// take returns the kinds of a catalog that are new, and notes what is missing.
func (f *Finder) take(catalog *Catalog) []*Kind {
	kinds, missing := catalog.Kinds(f.cfg)
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, err := range missing {
		if !slices.ContainsFunc(f.missing, func(known error) bool { return known.Error() == err.Error() }) {
			f.log.WithError(err).Warn("A resource cannot be read; looking for it again")
		}
	}
	f.missing, f.done = missing, len(missing) == 0
	maps.DeleteFunc(f.unseen, func(name string, _ bool) bool {
		_, err := catalog.resolve(name)
		return err == nil
	})
	kinds = slices.DeleteFunc(kinds, func(kind *Kind) bool {
		return slices.ContainsFunc(f.kinds, func(known *Kind) bool { return known.GVR.GroupResource() == kind.GVR.GroupResource() })
	})
	for _, kind := range kinds {
		f.log.WithField("kind", kind.Resource).WithField("version", kind.GVR.Version).Info("Found a kind to read")
	}
	f.kinds = append(f.kinds, kinds...)
	return kinds
}

// fail notes why the server does not say what it serves, or that it does.
func (f *Finder) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failure = err
}

// complete tells whether no further kind can come.
func (f *Finder) complete() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.done && !slices.ContainsFunc(chosenNames(f.cfg), isWholeGroup)
}

// Missing returns an error for each resource that the server does not have
// yet, and first of all the one for which it does not say what it has.
func (f *Finder) Missing() []error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failure != nil {
		return append([]error{f.failure}, f.missing...)
	}
	return slices.Clone(f.missing)
}

// seen tells of a name of the settings whether anything was found of it.
func (f *Finder) seen(name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.unseen[name]
}

// Stuck returns an error if the finder should have got on by the time now, and
// has not.
func (f *Finder) Stuck(now time.Time) error {
	if late := f.pulse.late(now); late > 0 {
		return fmt.Errorf("the search for kinds is stuck: it should have got on %s ago", late.Round(time.Second))
	}
	return nil
}
