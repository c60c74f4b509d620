package informer

import (
	"context"
	"fmt"
	"slices"
	"sync"
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
	"labelstream/ledger"
	"labelstream/record"
)

// listsInFlight bounds how many kinds are listed at a time: each needs a
// decoder and a page's worth of transport buffers, and one nearly keeps a
// processor busy.
const listsInFlight = 2

// Options are the settings of the informers.
type Options struct {
	// PageSize is the most objects that a page is asked for.
	PageSize int
	// IdleTimeout ends an attempt to read a page when the API server sends
	// nothing for so long; 0 means a minute.
	IdleTimeout time.Duration
	// FinalAfter is how long a refusal (403, 404 …) must last to be final; 0
	// means 30 seconds.
	FinalAfter time.Duration
	// Follow keeps a ledger of what was sent: objects that have not changed are
	// not sent again, and what was lost is.
	Follow bool
	// Watch follows changes; without Follow it is not looked at.
	Watch bool
	// ResyncInterval is how often Follow sends all again; 0 means never.
	ResyncInterval time.Duration
	// ReviewTime is how long a list waits before it is read, where reviews are
	// not confirmed by a watch; 0 means 30 seconds.
	ReviewTime time.Duration
	// Reviews says that [Informers.Reviews] is used. With Watch, the claims that
	// come of it are settled.
	Reviews bool
	// ReviewsOnly reads nothing, and sends what reviews show.
	ReviewsOnly bool
}

// unconfirmed says that reviews are all that is seen between two lists.
func (o *Options) unconfirmed() bool { return o.Reviews && o.Follow && !o.Watch }

// Informers are the shared informers of all kinds, and of all namespaces where
// these are read one by one. Its methods are safe for concurrent use.
type Informers struct {
	client   rest.Interface
	cfg      *config.Config
	sink     Sink
	options  Options
	vectors  *vectors
	log      logrus.FieldLogger
	slots    chan *decoder
	calls    gate
	changed  chan struct{}
	delivery delivery

	mu      sync.RWMutex
	sources []*source
	// kinds holds the sources by kind.
	kinds map[*record.Kind][]*source
	// resources holds the sources by resource.
	resources map[schema.GroupResource][]*source
	// factories holds the kinds that client-go has types for, one for each
	// namespace ("" for all), since a factory knows one informer a Go type.
	factories map[string]informers.SharedInformerFactory
	others    []cache.SharedIndexInformer
	// ctx is Run's, nil before; ended says that it has.
	ctx     context.Context
	ended   bool
	running sync.WaitGroup
}

// New builds the informers of kinds. Nothing is read before Run.
func New(client rest.Interface, kinds []*Kind, cfg *config.Config, sink Sink, options Options,
	registerer prometheus.Registerer, log logrus.FieldLogger,
) *Informers {
	if options.IdleTimeout == 0 {
		options.IdleTimeout = time.Minute
	}
	if options.FinalAfter == 0 {
		options.FinalAfter = finalAfter
	}
	if options.ReviewTime == 0 {
		options.ReviewTime = reviewTime
	}
	options.Follow = options.Follow && !options.ReviewsOnly
	options.Watch = options.Watch && options.Follow
	options.Reviews = options.Reviews || options.ReviewsOnly
	in := &Informers{
		client:    client,
		cfg:       cfg,
		sink:      sink,
		options:   options,
		vectors:   newVectors(registerer),
		log:       log,
		slots:     make(chan *decoder, listsInFlight),
		changed:   make(chan struct{}, 1),
		kinds:     make(map[*record.Kind][]*source),
		resources: make(map[schema.GroupResource][]*source),
		factories: make(map[string]informers.SharedInformerFactory),
	}
	for range listsInFlight {
		in.slots <- newDecoder()
	}
	registerer.MustRegister(collector{in})
	in.Add(kinds)
	return in
}

// Add adds kinds, and begins to read them where Run runs. A kind that is there
// already is not added again.
func (in *Informers) Add(kinds []*Kind) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.ended {
		return
	}
	for _, kind := range kinds {
		if in.has(kind) {
			continue
		}
		for _, namespace := range scopes(kind, in.cfg.Namespaces) {
			in.add(in.newSource(kind, namespace), namespace)
		}
	}
	if in.ctx != nil {
		in.startFactories()
	}
}

func (in *Informers) has(kind *Kind) bool {
	return slices.ContainsFunc(in.sources, func(s *source) bool {
		return s.kind.GVR.GroupResource() == kind.GVR.GroupResource()
	})
}

func (in *Informers) newSource(kind *Kind, namespace string) *source {
	s := &source{
		kind:      kind,
		namespace: namespace,
		client:    in.client,
		sink:      in.sink,
		options:   in.options,
		metrics:   in.vectors.forKind(kind.Resource, &in.options),
		log:       in.log.WithField("kind", kind.Resource),
		builder:   record.NewBuilder(&kind.Kind, in.cfg),
		listing:   make(chan struct{}, 1),
		listed:    make(chan struct{}),
		slots:     in.slots,
		calls:     &in.calls,
		delivery:  &in.delivery,
	}
	if in.options.Follow {
		s.table = ledger.New()
		s.watch.builder = record.NewBuilder(&kind.Kind, in.cfg)
	}
	if in.options.Reviews {
		s.reviewer.builder = record.NewBuilder(&kind.Kind, in.cfg)
		s.settler.builder = record.NewBuilder(&kind.Kind, in.cfg)
	}
	s.tracker.changed = in.kick
	s.tracker.status = Status{Resource: kind.Resource, Namespace: namespace, Total: -1}
	s.path, s.params = location(kind, namespace)
	if namespace != "" {
		s.log = s.log.WithField("namespace", namespace)
	}
	return s
}

// scopes are the namespaces in which a kind is listed, "" for all at once.
func scopes(kind *Kind, chosen []string) []string {
	if len(chosen) == 0 || !kind.Namespaced && kind.GVR.GroupResource() != namespaces {
		return []string{""}
	}
	return chosen
}

// Scope is where objects of a kind are read: in a namespace, everywhere where
// that is "", and of what is there only the object of a name where there is one.
type Scope struct{ Namespace, Name string }

// Scopes are where objects of the kind are read if these namespaces are
// chosen, each by a request of its own; none chosen means all.
func (k *Kind) Scopes(chosen []string) []Scope {
	var all []Scope
	for _, namespace := range scopes(k, chosen) {
		if k.Namespaced {
			all = append(all, Scope{Namespace: namespace})
		} else {
			all = append(all, Scope{Name: namespace})
		}
	}
	return all
}

// location is the path of a kind's list and its parameters. Of the namespaces
// themselves, a chosen one is found by its name.
func location(kind *Kind, namespace string) (path string, params map[string]string) {
	path = "/apis/" + kind.GVR.Group + "/" + kind.GVR.Version
	if kind.GVR.Group == "" {
		path = "/api/" + kind.GVR.Version
	}
	switch {
	case namespace == "":
	case kind.Namespaced:
		path += "/namespaces/" + namespace
	default:
		params = map[string]string{"fieldSelector": "metadata.name=" + namespace}
	}
	return path + "/" + kind.GVR.Resource, params
}

// add gives a source its informer.
func (in *Informers) add(s *source, namespace string) {
	in.sources = append(in.sources, s)
	in.kinds[&s.kind.Kind] = append(in.kinds[&s.kind.Kind], s)
	resource := s.kind.GVR.GroupResource()
	in.resources[resource] = append(in.resources[resource], s)
	if in.options.ReviewsOnly {
		return
	}
	if in.ctx != nil {
		in.attend(s)
	}
	inform := func(kubernetes.Interface, time.Duration) cache.SharedIndexInformer {
		informer := cache.NewSharedIndexInformerWithOptions(s, &metav1.PartialObjectMetadata{},
			cache.SharedIndexInformerOptions{ObjectDescription: s.kind.Resource})
		// Sources report their errors themselves. The only error is that the
		// informer runs already.
		_ = informer.SetWatchErrorHandlerWithContext(func(context.Context, *cache.Reflector, error) {})
		return informer
	}
	typed, err := scheme.Scheme.New(s.kind.GVK)
	if err == nil {
		in.factory(namespace).InformerFor(typed, inform)
		return
	}
	informer := inform(nil, 0)
	in.others = append(in.others, informer)
	if ctx := in.ctx; ctx != nil {
		in.running.Go(func() { informer.RunWithContext(ctx) })
	}
}

func (in *Informers) factory(namespace string) informers.SharedInformerFactory {
	factory, ok := in.factories[namespace]
	if !ok {
		// No client: every informer of ours brings its own ListerWatcher.
		factory = informers.NewSharedInformerFactoryWithOptions(nil, 0, informers.WithNamespace(namespace))
		in.factories[namespace] = factory
	}
	return factory
}

// Run runs the informers until ctx ends, and returns when all that they
// started has ended. It can be called once.
func (in *Informers) Run(ctx context.Context) {
	in.begin(ctx)
	<-ctx.Done()
	in.mu.Lock()
	in.ended = true
	in.mu.Unlock()
	for _, factory := range in.factories {
		factory.Shutdown()
	}
	in.running.Wait()
	in.calls.close()
	for _, s := range in.sources {
		if s.table != nil {
			s.table.Clear()
		}
	}
}

// begin starts what there is, and has Add start what comes later.
func (in *Informers) begin(ctx context.Context) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.ctx = ctx
	for _, informer := range in.others {
		in.running.Go(func() { informer.RunWithContext(ctx) })
	}
	for _, s := range in.sources {
		in.attend(s)
	}
	in.startFactories()
}

// startFactories starts their informers that do not run yet.
func (in *Informers) startFactories() {
	for _, factory := range in.factories {
		factory.StartWithContext(in.ctx)
	}
}

// attend starts what a source needs beside its informer.
func (in *Informers) attend(s *source) {
	if in.options.Follow {
		in.running.Go(func() { s.tend(in.ctx) })
	}
	if in.options.Reviews && in.options.Watch {
		in.running.Go(func() { s.settle(in.ctx) })
	}
}

// Wait blocks until each informer's list has been handed over or has failed
// for good, or until ctx ends; the error is the context's.
func (in *Informers) Wait(ctx context.Context) error {
	for !in.done() {
		select {
		case <-in.changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

func (in *Informers) done() bool {
	for _, s := range in.all() {
		if status := s.tracker.snapshot(); !status.Done() {
			return false
		}
	}
	return true
}

func (in *Informers) kick() {
	select {
	case in.changed <- struct{}{}:
	default:
	}
}

// all returns the sources there are now.
func (in *Informers) all() []*source {
	in.mu.RLock()
	defer in.mu.RUnlock()
	return in.sources[:len(in.sources):len(in.sources)]
}

// Status tells how far each informer has come, those of a kind one after the
// other.
func (in *Informers) Status() []Status {
	sources := in.all()
	statuses := make([]Status, len(sources))
	for i, s := range sources {
		statuses[i] = s.tracker.snapshot()
		if s.table != nil {
			statuses[i].Sent, statuses[i].SentBytes, statuses[i].Changes = s.table.Len(), s.table.Bytes(), s.table.Changes()
		}
	}
	return statuses
}

// Stuck returns an error that names a loop which should have got on by the time
// now, and has not; nil where there is none. To wait for the destination is not
// to be stuck.
func (in *Informers) Stuck(now time.Time) error {
	for _, s := range in.all() {
		for what, p := range map[string]*pulse{"list": &s.listPulse, "watch": &s.watch.pulse, "resync": &s.tendPulse, "settling": &s.settler.pulse} {
			if late := p.late(now); late > 0 {
				return fmt.Errorf("the %s of %s is stuck: it should have got on %s ago", what, s.kind.Resource, late.Round(time.Second))
			}
		}
	}
	return nil
}

// Accepted takes that the destination has a record of kind.
func (in *Informers) Accepted(kind *record.Kind, key uint64) {
	in.delivery.accepted()
	in.tables(kind, func(t *ledger.Table) { t.Accepted(key) })
}

// Refused takes that the destination does not want a record of kind.
func (in *Informers) Refused(kind *record.Kind, key uint64) {
	in.tables(kind, func(t *ledger.Table) { t.Refused(key) })
}

// Lost takes that a record of kind could not be delivered: the kind will be
// listed again.
func (in *Informers) Lost(kind *record.Kind, key uint64) {
	in.delivery.failed(time.Now())
	in.tables(kind, func(t *ledger.Table) { t.Lost(key) })
}

func (in *Informers) tables(kind *record.Kind, tell func(*ledger.Table)) {
	in.mu.RLock()
	defer in.mu.RUnlock()
	for _, s := range in.kinds[kind] {
		if s.table != nil {
			tell(s.table)
		}
	}
}
