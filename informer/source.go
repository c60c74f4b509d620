package informer

import (
	"context"
	"errors"
	"strconv"
	"sync"

	"github.com/sirupsen/logrus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"labelstream/record"
)

// Sink takes the records that are read.
type Sink interface {
	// Put takes one record, which is valid only until Put returns. It blocks
	// while there is no room, and returns an error only when ctx ends or the
	// sink has been closed, after which ctx must end too.
	Put(ctx context.Context, r *record.Record) error
}

// source is the ListerWatcher of one informer: it streams what it lists to the
// sink and shows the reflector an empty list.
type source struct {
	kind    *Kind
	path    string
	params  map[string]string
	client  rest.Interface
	builder *record.Builder
	sink    Sink
	options Options
	metrics *metrics
	tracker tracker
	// slots holds a decoder for each list that may be in flight.
	slots chan *decoder
	lists *gate
	log   logrus.FieldLogger
}

var _ cache.ListerWatcherWithContext = (*source)(nil)

// accept asks for metadata alone, in protobuf where the server speaks it. The
// last form is what a server that cannot reduce objects to metadata answers.
const accept = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1," +
	"application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"

func (s *source) request(limit int, token string) *rest.Request {
	// The client's DisableCompression is lost where it has no TLS of its own.
	r := s.client.Get().AbsPath(s.path).MaxRetries(0).
		SetHeader("Accept", accept).SetHeader("Accept-Encoding", "identity")
	for name, value := range s.params {
		r.Param(name, value)
	}
	r.Param("limit", strconv.Itoa(limit))
	if token != "" {
		r.Param("continue", token)
	}
	return r
}

// ListWithContext hands every object to the sink and returns an empty list of
// the first page's resourceVersion, from which a watch misses nothing. It
// retries by itself: the only error it returns is the context's end.
func (s *source) ListWithContext(ctx context.Context, _ metav1.ListOptions) (runtime.Object, error) {
	if !s.lists.enter() {
		return nil, context.Canceled
	}
	defer s.lists.leave()
	version, err := newWalk(s).run(ctx)
	if err != nil {
		return nil, err
	}
	return &metav1.PartialObjectMetadataList{ListMeta: metav1.ListMeta{ResourceVersion: version}}, nil
}

// WatchWithContext returns a watch without events: a backfill needs none, nor
// the right to watch.
func (s *source) WatchWithContext(context.Context, metav1.ListOptions) (watch.Interface, error) {
	return watch.NewProxyWatcher(make(chan watch.Event)), nil
}

// IsWatchListSemanticsUnSupported keeps the reflector from streaming the list
// through a watch: such a list cannot wait for a slow destination, and starts
// over when it is cut.
func (s *source) IsWatchListSemanticsUnSupported() bool { return true }

var errNoContext = errors.New("labelstream's sources are only called with a context")

// List is never called: reflectors prefer ListWithContext.
func (s *source) List(metav1.ListOptions) (runtime.Object, error) { return nil, errNoContext }

// Watch is never called: reflectors prefer WatchWithContext.
func (s *source) Watch(metav1.ListOptions) (watch.Interface, error) { return nil, errNoContext }

// gate lets lists in until it is closed, and waits for those inside. A
// reflector that is stopped does not wait for its List.
type gate struct {
	mu     sync.Mutex
	closed bool
	inside sync.WaitGroup
}

func (g *gate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	g.inside.Add(1)
	return true
}

func (g *gate) leave() { g.inside.Done() }

func (g *gate) close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.inside.Wait()
}
