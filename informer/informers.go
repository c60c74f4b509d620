package informer

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"labelstream/config"
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
}

// Informers are the shared informers of all kinds, and of all namespaces where
// these are read one by one.
type Informers struct {
	sources []*source
	// factories holds the kinds that client-go has types for, one for each
	// namespace ("" for all), since a factory knows one informer a Go type.
	factories map[string]informers.SharedInformerFactory
	others    []cache.SharedIndexInformer
	lists     gate
	changed   chan struct{}
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
	in := &Informers{
		factories: make(map[string]informers.SharedInformerFactory),
		changed:   make(chan struct{}, 1),
	}
	slots := make(chan *decoder, listsInFlight)
	for range listsInFlight {
		slots <- newDecoder()
	}
	vectors := newVectors(registerer)
	for _, kind := range kinds {
		for _, namespace := range scopes(kind, cfg.Namespaces) {
			s := &source{
				kind:    kind,
				client:  client,
				builder: record.NewBuilder(&kind.Kind, cfg),
				sink:    sink,
				options: options,
				metrics: vectors.forKind(kind.Resource),
				slots:   slots,
				lists:   &in.lists,
				log:     log.WithField("kind", kind.Resource),
			}
			s.tracker.changed = in.kick
			s.tracker.status = Status{Resource: kind.Resource, Namespace: namespace, Total: -1}
			s.path, s.params = location(kind, namespace)
			if namespace != "" {
				s.log = s.log.WithField("namespace", namespace)
			}
			in.add(s, namespace)
		}
	}
	return in
}

// scopes are the namespaces in which a kind is listed, "" for all at once.
func scopes(kind *Kind, chosen []string) []string {
	if len(chosen) == 0 || !kind.Namespaced && kind.GVR.GroupResource() != namespaces {
		return []string{""}
	}
	return chosen
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
	inform := func(kubernetes.Interface, time.Duration) cache.SharedIndexInformer {
		return cache.NewSharedIndexInformerWithOptions(s, &metav1.PartialObjectMetadata{},
			cache.SharedIndexInformerOptions{ObjectDescription: s.kind.Resource})
	}
	typed, err := scheme.Scheme.New(s.kind.GVK)
	if err != nil {
		in.others = append(in.others, inform(nil, 0))
		return
	}
	in.factory(namespace).InformerFor(typed, inform)
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
	for _, factory := range in.factories {
		factory.StartWithContext(ctx)
	}
	var running sync.WaitGroup
	for _, informer := range in.others {
		running.Go(func() { informer.RunWithContext(ctx) })
	}
	<-ctx.Done()
	for _, factory := range in.factories {
		factory.Shutdown()
	}
	running.Wait()
	in.lists.close()
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
	for _, s := range in.sources {
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

// Status tells how far each informer has come.
func (in *Informers) Status() []Status {
	all := make([]Status, len(in.sources))
	for i, s := range in.sources {
		all[i] = s.tracker.snapshot()
	}
	return all
}
