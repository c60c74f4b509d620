// SPDX-License-Identifier: Apache-2.0

package informer

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"labelstream/config"
	"labelstream/informer/decode"
	"labelstream/ledger"
	"labelstream/record"
	"labelstream/status/outage"
)

// listsInFlight bounds how many kinds are listed at a time: each needs a decoder
// and a page's worth of transport buffers, and one nearly keeps a processor
// busy.
const listsInFlight = 2

// stuckAfter is how long a kind may make no progress that waits for nobody.
const stuckAfter = 30 * time.Minute

// Sink takes the records that are read.
type Sink interface {
	// Put waits for room, then asks want whether the record is to be sent (nil:
	// always) and takes it, before any other record of the object. The record is
	// valid only until Put returns. It returns an error only when ctx ends or the
	// sink has been closed, after which ctx must end too.
	Put(ctx context.Context, r *record.Record, want func(*record.Record) bool) (sent bool, err error)
}

// Options are the settings of the informers.
type Options struct {
	// PageSize is the most objects that a page is asked for.
	PageSize int
	// IdleTimeout ends an attempt to read a page when the API server sends nothing
	// for so long; 0 means a minute.
	IdleTimeout time.Duration
	// FinalAfter is how long a refusal (403, 404 …) must last to be final; 0 means
	// 30 seconds. With Once, answers that the server has failed (5xx) are final
	// after ten times as long.
	FinalAfter time.Duration
	// Once reads everything a single time. Else a ledger keeps what was sent, and
	// only changes are sent between two resyncs.
	Once bool
	// Changes is what tells of changes between two lists.
	Changes config.Changes
	// ResyncInterval is how often all is listed and sent again; 0 means never.
	ResyncInterval time.Duration
	// ReviewTime is how long a list waits before it is read where reviews tell of
	// changes: as long as an API server may hold a write; 0 means 30 seconds.
	ReviewTime time.Duration
	// ParentDelay is how long after a change of a namespace, or of a job, what takes from
	// it is listed again: once for all changes meanwhile; 0 means 30 seconds.
	ParentDelay time.Duration
	// Rediscover, if set, is called when the server does not find a kind's
	// resource. It must not block. [Informers.Add] takes what is found.
	Rediscover func()
	// Observe, if set, is called with each object that is read and chosen, before
	// its record is put: with all that it has, its record, and what was dropped to
	// build that. All are valid until it returns. Calls for different kinds may be
	// concurrent.
	Observe func(o *record.Object, r *record.Record, dropped record.Drops)
}

func (o *Options) watches() bool { return !o.Once && o.Changes == config.ChangesWatch }
func (o *Options) reviews() bool { return !o.Once && o.Changes == config.ChangesWebhook }

// recordSources names for the metrics why there can be records.
func (o *Options) recordSources() map[reason]string {
	sources := map[reason]string{reasonFirst: "list"}
	if !o.Once {
		sources[reasonResync], sources[reasonRelist], sources[reasonRequested] = "resync", "relist", "relist"
	}
	if o.watches() {
		sources[reasonWatch] = "watch"
	}
	if o.reviews() {
		sources[reasonReview] = "webhook"
	}
	return sources
}

// Informers are the shared informers of all kinds, and of all namespaces where
// these are read one by one. Its methods are safe for concurrent use.
type Informers struct {
	client   rest.Interface
	cfg      *config.Config
	sink     Sink
	options  Options
	counters *counters
	log      logrus.FieldLogger
	keys     *record.Keys
	// slots holds a decoder for each list that may be in flight.
	slots   chan *decode.ListDecoder
	changed chan struct{}
	// chosen are the namespaces that are read where they are too many to be read
	// one by one, else nil.
	chosen map[string]bool
	// namespaces and jobs are what others take something from, nil where they do not.
	namespaces, jobs *parents
	// ctx ends with Run.
	ctx     context.Context
	stop    context.CancelFunc
	running sync.WaitGroup // informers, and calls of theirs

	mu      sync.RWMutex
	sources []*Source
	kinds   map[schema.GroupResource]*kindState
	// factories holds the kinds that client-go has types for, one for each
	// namespace ("" for all), since a factory knows one informer a Go type.
	factories    map[string]informers.SharedInformerFactory
	begun, ended bool
}

// kindState is what the sources of one kind share.
type kindState struct {
	*Kind
	sources []*Source
	// records counts those that were handed over.
	records map[reason]prometheus.Counter
	// selector selects the objects that are sent.
	selector config.Selector
	// gives is what others take from the kind, nil where they take nothing.
	gives *parents
	// mu is held while builder builds a record, until it has been handed over.
	mu      sync.Mutex
	builder builder
	// reviewMu and reviewer are the same for reviews, which do not wait.
	reviewMu sync.Mutex
	reviewer builder
	// old has the series of a review's old object.
	old []byte
	// told has what the log has said of the kind.
	told [len(limits)]atomic.Bool
}

// builder builds the records of a kind.
type builder struct {
	*record.Builder
	*record.Enricher
}

func (in *Informers) newBuilder(kind *Kind) builder {
	var above record.Parents
	if in.jobs != nil && kind.GVR.GroupResource() == podsResource {
		above = in.jobs
	}
	return builder{record.NewBuilder(&kind.Kind, in.cfg, in.keys), record.NewEnricher(in.cfg, above)}
}

// New returns informers without a kind.
func New(client rest.Interface, cfg *config.Config, sink Sink, options Options,
	registerer prometheus.Registerer, log logrus.FieldLogger,
) *Informers {
	options.IdleTimeout = cmp.Or(options.IdleTimeout, time.Minute)
	options.FinalAfter = cmp.Or(options.FinalAfter, 30*time.Second)
	options.ParentDelay = cmp.Or(options.ParentDelay, 30*time.Second)
	options.ReviewTime = cmp.Or(options.ReviewTime, 30*time.Second)
	if options.Once {
		options.ResyncInterval = 0
	}
	in := &Informers{
		client:    client,
		cfg:       cfg,
		sink:      sink,
		options:   options,
		counters:  newCounters(registerer),
		log:       log,
		keys:      newKeys(cfg.MaxKeys, registerer, log),
		slots:     make(chan *decode.ListDecoder, listsInFlight),
		changed:   make(chan struct{}, 1),
		kinds:     make(map[schema.GroupResource]*kindState),
		factories: make(map[string]informers.SharedInformerFactory),
	}
	if len(cfg.Namespaces) > maxScopes {
		in.chosen = make(map[string]bool, len(cfg.Namespaces))
		for _, namespace := range cfg.Namespaces {
			in.chosen[namespace] = true
		}
	}
	in.addParents(registerer)
	in.ctx, in.stop = context.WithCancel(context.Background())
	for range listsInFlight {
		in.slots <- decode.NewListDecoder(cfg.OwnerLabels)
	}
	registerer.MustRegister(collector{in})
	return in
}

// Add adds kinds, and begins to read them where Run runs. A kind that is served
// in another version or scope than before is read anew; one that is not is left
// as it is.
func (in *Informers) Add(kinds []*Kind) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.ended {
		return
	}
	for _, kind := range kinds {
		before := in.kinds[kind.GVR.GroupResource()]
		if before != nil && before.GVR == kind.GVR && before.Namespaced == kind.Namespaced {
			continue
		}
		if before != nil {
			in.remove(before)
		}
		in.add(kind)
	}
}

func (in *Informers) add(kind *Kind) {
	k := &kindState{
		Kind: kind, records: make(map[reason]prometheus.Counter),
		selector: in.cfg.LabelSelector.With(kind.Selector), gives: in.given(kind), builder: in.newBuilder(kind), reviewer: in.newBuilder(kind),
	}
	// What there can be is there from the beginning.
	for why, source := range in.options.recordSources() {
		k.records[why] = in.counters.records.WithLabelValues(source, kind.Resource)
	}
	in.kinds[kind.GVR.GroupResource()] = k
	for _, scope := range kind.Scopes(in.cfg.Namespaces) {
		s := in.newSource(k, scope)
		k.sources = append(k.sources, s)
		in.sources = append(in.sources, s)
		if k.gives != nil {
			k.gives.await(s)
		}
	}
	for _, s := range k.sources {
		if in.begun {
			in.running.Go(s.run)
		}
	}
}

// addParents makes what the settings need of parents.
func (in *Informers) addParents(registerer prometheus.Registerer) {
	if in.cfg.ReadsNamespaces() {
		in.namespaces = newParents(parent{unselected: !in.cfg.NamespaceSelector.Empty()}, in.options.ParentDelay,
			func() { in.requestLists(func(k *kindState) bool { return k.Namespaced }) }, in.log.WithField("kind", "namespaces"))
		in.namespaces.register("namespaces", registerer)
	}
	if in.cfg.OwnerLabels {
		in.jobs = newParents(parent{}, in.options.ParentDelay,
			func() { in.requestLists(func(k *kindState) bool { return k.GVR.GroupResource() == podsResource }) }, in.log.WithField("kind", "jobs.batch"))
		in.jobs.register("jobs.batch", registerer)
	}
}

// given is what others take from a kind, nil where they take nothing.
func (in *Informers) given(kind *Kind) *parents {
	switch kind.GVR.GroupResource() {
	case namespacesResource:
		return in.namespaces
	case jobsResource:
		return in.jobs
	}
	return nil
}

// reads reports whether a resource is read.
func (in *Informers) reads(resource schema.GroupResource) bool {
	in.mu.RLock()
	defer in.mu.RUnlock()
	return in.kinds[resource] != nil
}

// requestLists lists kinds again, each once.
func (in *Informers) requestLists(of func(*kindState) bool) {
	in.mu.RLock()
	defer in.mu.RUnlock()
	for _, s := range in.sources {
		if of(s.kind) {
			s.requestList()
		}
	}
}

// remove ends the sources of a kind. What runs of them has no effect any more.
func (in *Informers) remove(k *kindState) {
	in.log.WithField("kind", k.Resource).Info("Kind is served differently; reading it anew")
	for _, s := range k.sources {
		s.close()
		if k.gives != nil {
			k.gives.settle(s)
		}
	}
	in.sources = slices.DeleteFunc(in.sources, func(s *Source) bool { return s.kind == k })
}

func (in *Informers) newSource(k *kindState, scope Scope) *Source {
	log := in.log.WithField("kind", k.Resource)
	if scope != (Scope{}) {
		log = log.WithField("namespace", scope.String())
	}
	s := &Source{
		in:       in,
		kind:     k,
		scope:    scope,
		log:      log,
		listing:  outage.New(log, "Cannot list", "Listing again"),
		watching: outage.New(log, "Cannot watch", "Watching again"),
		next:     reasonFirst,
	}
	s.informer = in.informer(s)
	s.path, s.params = location(k.Kind, scope)
	if k.gives == nil && !k.selector.Empty() {
		s.params["labelSelector"] = k.selector.String()
	}
	s.ctx, s.stop = context.WithCancel(in.ctx)
	s.status.changed = in.changed
	s.status.status = Status{Resource: k.Resource, Namespace: scope.String(), Total: -1}
	if !in.options.Once {
		s.ledger = ledger.New()
		s.observe = func(r *record.Record) bool { return s.ledger.Observe(r.Key, r.Hash()) }
		s.drop = func(r *record.Record) bool { return s.ledger.Drop(r.Key) }
		s.forget = func(r *record.Record) bool { return s.ledger.Delete(r.Key) }
		s.end = func(r *record.Record) bool { s.ledger.Delete(r.Key); return true }
		s.write = func(r *record.Record) bool { return s.ledger.Write(r.Key, r.Hash()) }
	}
	return s
}

// run runs the source's informer until the source ends.
func (s *Source) run() { s.informer.RunWithContext(s.ctx) }

// close ends a source for good.
func (s *Source) close() {
	s.stop()
	if s.ledger != nil {
		s.ledger.Close()
	}
}

// informer returns the informer of a source, from its namespace's factory where
// client-go has a type for the kind.
func (in *Informers) informer(s *Source) cache.SharedIndexInformer {
	build := func(kubernetes.Interface, time.Duration) cache.SharedIndexInformer {
		informer := cache.NewSharedIndexInformerWithOptions(s, &metav1.PartialObjectMetadata{},
			cache.SharedIndexInformerOptions{ObjectDescription: s.kind.Resource})
		// Sources report their errors themselves. The only error is that the
		// informer runs already.
		_ = informer.SetWatchErrorHandlerWithContext(func(context.Context, *cache.Reflector, error) {})
		return informer
	}
	typed, err := scheme.Scheme.New(s.kind.GVK)
	if err != nil {
		return build(nil, 0)
	}
	namespace := s.scope.String()
	if in.factories[namespace] == nil {
		// No client: every informer of ours brings its own ListerWatcher.
		in.factories[namespace] = informers.NewSharedInformerFactoryWithOptions(nil, 0, informers.WithNamespace(namespace))
	}
	return in.factories[namespace].InformerFor(typed, build)
}

// Run runs the informers until ctx ends, and returns when all that they started
// has ended. It can be called once.
func (in *Informers) Run(ctx context.Context) {
	in.mu.Lock()
	in.begun = true
	for _, s := range in.sources {
		in.running.Go(s.run)
	}
	in.mu.Unlock()
	<-ctx.Done()
	in.mu.Lock()
	in.ended = true
	in.mu.Unlock()
	in.stop()
	in.running.Wait()
	for _, s := range in.sources {
		s.close()
	}
}

// Wait blocks until each kind has been handed over whole or has failed for good,
// or until ctx ends; the error is the context's.
func (in *Informers) Wait(ctx context.Context) error {
	unfinished := func(s Status) bool { return !s.Done() }
	for slices.ContainsFunc(in.Status(), unfinished) {
		select {
		case <-in.changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// enter lets a call of a reflector in while Run runs. A reflector that is stopped
// does not wait for its List; Run does.
func (in *Informers) enter() bool {
	in.mu.RLock()
	defer in.mu.RUnlock()
	if !in.ended {
		in.running.Add(1)
	}
	return !in.ended
}

// Status tells how far each kind and namespace has come, those of a kind one
// after the other.
func (in *Informers) Status() []Status {
	in.mu.RLock()
	defer in.mu.RUnlock()
	statuses := make([]Status, len(in.sources))
	for i, s := range in.sources {
		statuses[i] = s.status.snapshot()
		if s.ledger != nil {
			statuses[i].LedgerEntries, statuses[i].LedgerBytes = s.ledger.Len(), s.ledger.Bytes()
		}
	}
	return statuses
}

// Alive returns an error that names a kind whose list or watch has made no progress
// for half an hour. A failure that is known, and a queue that is full, are not for
// a restart to mend. now must be read from the clock as it is: what counts is
// monotonic time.
func (in *Informers) Alive(now time.Time, queueFull bool) error {
	for _, s := range in.Status() {
		idle, working, excused := now.Sub(s.Progress), s.Listing || s.Watching, queueFull || s.Err != nil || s.WatchErr != nil
		if idle >= stuckAfter && working && !excused {
			return fmt.Errorf("%s has made no progress for %s", s.Resource, idle.Round(time.Second))
		}
	}
	return nil
}

// location is the path of a kind's list and its parameters.
func location(kind *Kind, scope Scope) (path string, params map[string]string) {
	params = make(map[string]string)
	path = "/apis/" + kind.GVR.Group + "/" + kind.GVR.Version
	if kind.GVR.Group == "" {
		path = "/api/" + kind.GVR.Version
	}
	if scope.Namespace != "" {
		path += "/namespaces/" + scope.Namespace
	}
	if scope.Name != "" {
		params["fieldSelector"] = "metadata.name=" + scope.Name
	}
	return path + "/" + kind.GVR.Resource, params
}
