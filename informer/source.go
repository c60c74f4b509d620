package informer

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strconv"
	"sync"

	"github.com/sirupsen/logrus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"labelstream/ledger"
	"labelstream/record"
)

// Sink takes the records that are read.
type Sink interface {
	// Put takes one record, which is valid only until Put returns. It blocks
	// while there is no room, and returns an error only when ctx ends or the
	// sink has been closed, after which ctx must end too.
	Put(ctx context.Context, r *record.Record) error
}

// source is the ListerWatcher of one informer: it streams what it lists and
// watches to the sink, and shows the reflector an empty list and bookmarks.
type source struct {
	kind *Kind
	// namespace is the one that is listed, "" for all.
	namespace string
	path      string
	params    map[string]string
	client    rest.Interface
	sink      Sink
	options   Options
	metrics   *metrics
	tracker   tracker
	log       logrus.FieldLogger
	// builder is for lists, of which one runs at a time.
	builder *record.Builder
	// listing is held by the list that runs.
	listing chan struct{}
	// listed is closed when the first list is complete.
	listed chan struct{}
	// slots holds a decoder for each list that may be in flight.
	slots chan *decoder
	// calls are those of reflectors, which do not wait for them.
	calls *gate
	// table is what was sent, or nil where all that is read is sent.
	table    *ledger.Table
	delivery *delivery
	// listPulse and tendPulse show that lists and what starts them get on.
	listPulse, tendPulse pulse
	watch                watcher
	reviewer             reviewer
	settler              settler
}

var _ cache.ListerWatcherWithContext = (*source)(nil)

// accept asks for metadata alone, in protobuf where the server speaks it. The
// last form is what a server that cannot reduce objects to metadata answers.
const accept = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1," +
	"application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"

func (s *source) request(limit int, token string) *rest.Request {
	r := s.get(accept)
	r.Param("limit", strconv.Itoa(limit))
	if token != "" {
		r.Param("continue", token)
	}
	return r
}

// get asks for the kind's objects in one of the forms that accept names.
func (s *source) get(accept string) *rest.Request {
	// The client's DisableCompression is lost where it has no TLS of its own.
	r := s.client.Get().AbsPath(s.path).MaxRetries(0).
		SetHeader("Accept", accept).SetHeader("Accept-Encoding", "identity")
	for name, value := range s.params {
		r.Param(name, value)
	}
	return r
}

// ListWithContext hands every object to the sink and returns an empty list of
// the first page's resourceVersion, from which a watch misses nothing. It
// retries by itself: the only error it returns is the context's end.
func (s *source) ListWithContext(ctx context.Context, _ metav1.ListOptions) (runtime.Object, error) {
	if !s.calls.enter() {
		return nil, context.Canceled
	}
	defer s.calls.leave()
	defer keepTrace()
	s.watch.pulse.rest()
	version, err := s.list(ctx, reasonList)
	if err != nil {
		return nil, err
	}
	s.watch.pulse.within(reflectorPatience)
	select {
	case <-s.listed:
	default:
		close(s.listed)
	}
	return &metav1.PartialObjectMetadataList{ListMeta: metav1.ListMeta{ResourceVersion: version}}, nil
}

// keepTrace puts the trace of a panic into it. The reflector recovers from one
// and panics with it in another goroutine, whose trace says nothing.
func keepTrace() {
	if v := recover(); v != nil {
		panic(fmt.Sprintf("%v\n\n%s", v, debug.Stack()))
	}
}

// reason is why there is a list.
type reason string

const (
	// reasonList is the first list, and any after the watch has lost its way.
	reasonList reason = "list"
	// reasonResync lists send all again.
	reasonResync reason = "resync"
	// reasonHeal lists make good what was lost.
	reasonHeal reason = "heal"
)

// list reads all objects once, when no other list of this source runs any
// more, and returns the version of the first page. The error is the context's.
func (s *source) list(ctx context.Context, why reason) (version string, err error) {
	select {
	case s.listing <- struct{}{}:
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	defer func() {
		s.listPulse.rest()
		<-s.listing
	}()
	return newWalk(s, why).run(ctx)
}

// sinkError marks an error that is not the server's.
type sinkError struct{ error }

// offer hands a record over, and returns whether it was. Where there is a
// ledger, decide asks it whether the record is to be sent, and nobody else may
// until it is in the queue.
func (s *source) offer(ctx context.Context, r *record.Record, p *pulse,
	decide func(*record.Record) ledger.Verdict,
) (sent bool, err error) {
	if s.table == nil {
		if err := s.sink.Put(ctx, r); err != nil {
			return false, sinkError{err}
		}
		return true, nil
	}
	// Both waits are as long as the destination wants.
	p.rest()
	if err := s.table.Acquire(ctx, r.Key); err != nil {
		return false, sinkError{err}
	}
	defer s.table.Release(r.Key)
	if decide(r) == ledger.Send {
		if err := s.sink.Put(ctx, r); err != nil {
			s.table.Lost(r.Key)
			return false, sinkError{err}
		}
		sent = true
	}
	p.within(stepTime)
	return sent, nil
}

// describe says what to do about an error of a list or a watch.
func (s *source) describe(verb string, err error) error {
	what := verb + " " + s.kind.Resource
	if namespace := s.tracker.snapshot().Namespace; namespace != "" {
		what += " in namespace " + namespace
	}
	switch {
	case apierrors.IsForbidden(err):
		return fmt.Errorf("%s: forbidden; grant the verb %q on resource %q in API group %q: %w",
			what, verb, s.kind.GVR.Resource, s.kind.GVR.Group, err)
	case apierrors.IsUnauthorized(err):
		return fmt.Errorf("%s: the API server does not accept the credentials: %w", what, err)
	}
	return fmt.Errorf("%s: %w", what, err)
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

// gate lets calls in until it is closed, and waits for those inside. A
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
