package informer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"

	"labelstream/ledger"
	"labelstream/record"
)

const (
	// watchTimeout is how long a watch lasts where the reflector does not say.
	watchTimeout = 5 * time.Minute
	// watchGrace is how much longer than asked for a watch may be silent.
	watchGrace = time.Minute
	// shortWatch is how long a watch lasts at least that brings nothing, or
	// something is wrong.
	shortWatch = time.Second
)

// acceptWatch asks for events with metadata alone.
const acceptWatch = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1," +
	"application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"

// watcher is what lasts from one watch of a source to the next.
type watcher struct {
	// mu is held for each event: where a watch has been stopped, the next one
	// may be open before the event in hand is done with.
	mu      sync.Mutex
	builder *record.Builder
	pulse   pulse
	trouble trouble
	// opened counts the watches.
	opened int
	// failure is why the last watch ended, if it should not have; short says
	// that it was one that ended at once.
	failure error
	short   bool
}

// WatchWithContext returns a watch whose events go to the sink, and appear to
// the reflector as bookmarks: its cache stays empty, and where the watch breaks
// it goes on at the version that was reached. It retries by itself: the errors
// that it returns are the context's end, and that the history is gone (410).
//
// Without Options.Watch the watch has no events: a backfill needs none, nor the
// right to watch.
func (s *source) WatchWithContext(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
	if !s.options.Watch {
		s.watch.pulse.rest()
		return watch.NewProxyWatcher(make(chan watch.Event)), nil
	}
	if !s.calls.enter() {
		return nil, context.Canceled
	}
	defer s.calls.leave()
	s.watch.mu.Lock()
	defer s.watch.mu.Unlock()
	err := s.watch.failure
	s.watch.failure = nil
	for {
		if err != nil {
			if err := s.pause(ctx, err); err != nil {
				return nil, err
			}
		}
		var body *watchBody
		if body, err = s.open(ctx, options); err == nil {
			return watch.NewStreamWatcher(s.stream(body, options.ResourceVersion), reporter{}), nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if expired(err) {
			s.lostTrack(err)
			return nil, err
		}
	}
}

// pause waits before the next attempt to watch. The error is the context's.
func (s *source) pause(ctx context.Context, err error) error {
	w := &s.watch
	delay := w.trouble.note(err, time.Now())
	s.metrics.failed("watch", err)
	err = s.describe("watch", err)
	if w.trouble.news {
		s.log.WithError(err).Warn("Cannot watch; trying again")
	}
	s.tracker.progress(func(st *Status) { st.WatchErr = err })
	w.pulse.within(delay + stepTime)
	select {
	case <-time.After(delay):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// watches says that the server has sent something of the watch, or that it has
// been silent as a watch may be: nothing is missing.
func (s *source) watches() {
	s.watchable()
	now := time.Now()
	s.tracker.progress(func(st *Status) { st.Current = now })
}

// watchable says that the trouble with watches is over.
func (s *source) watchable() {
	w := &s.watch
	if w.trouble.since.IsZero() {
		return
	}
	s.log.WithField("after", time.Since(w.trouble.since).Round(time.Millisecond)).Info("Watching again")
	w.trouble = trouble{}
	s.tracker.progress(func(st *Status) { st.WatchErr = nil })
}

// lostTrack says that a watch cannot go on, and a list must say what changed.
func (s *source) lostTrack(err error) {
	s.metrics.failed("watch", err)
	s.log.WithError(s.describe("watch", err)).Info("The watch cannot go on; listing again")
	s.watch.pulse.within(reflectorPatience)
}

// watchBody is a watch's open response.
type watchBody struct {
	idle   *idleReader
	body   io.ReadCloser
	cancel context.CancelCauseFunc
	// ctx ends with the watch.
	ctx   context.Context
	limit time.Duration
	// err is why nothing more can be read.
	err error
}

// Read reads for as long as a watch may be silent.
func (b *watchBody) Read(p []byte) (int, error) {
	n, err := b.idle.Read(p)
	if err != nil {
		b.err = err
	}
	return n, err
}

// Close ends the watch, whatever reads or waits for the sink.
func (b *watchBody) Close() {
	b.cancel(context.Canceled)
	b.idle.Stop()
	b.body.Close()
}

// open asks for a watch.
func (s *source) open(ctx context.Context, options metav1.ListOptions) (*watchBody, error) {
	limit := watchTimeout
	if options.TimeoutSeconds != nil {
		limit = time.Duration(*options.TimeoutSeconds) * time.Second
	}
	limit += watchGrace
	s.watch.pulse.within(limit + stepTime)
	ctx, cancel := context.WithCancelCause(ctx)
	idle := newIdleReader(limit, cancel)
	body, err := s.watchRequest(options).Stream(ctx)
	if err != nil {
		idle.Stop()
		err = because(ctx, s.withoutURL(err))
		cancel(nil)
		return nil, err
	}
	idle.Reader = body
	return &watchBody{idle: idle, body: body, cancel: cancel, ctx: ctx, limit: limit}, nil
}

func (s *source) watchRequest(options metav1.ListOptions) *rest.Request {
	r := s.get(acceptWatch)
	r.Param("watch", "true")
	r.Param("allowWatchBookmarks", strconv.FormatBool(options.AllowWatchBookmarks))
	r.Param("resourceVersion", options.ResourceVersion)
	if options.TimeoutSeconds != nil {
		r.Param("timeoutSeconds", strconv.FormatInt(*options.TimeoutSeconds, 10))
	}
	return r
}

// stream decodes a watch for the reflector.
type stream struct {
	*source
	body   *watchBody
	events *eventReader
	// version is the last that was reached; begun says that the reflector
	// knows the first.
	version string
	begun   bool
	opened  time.Time
	// brought says that the server has sent an event, ended that the last one
	// has been read.
	brought, ended bool
}

var _ watch.Decoder = (*stream)(nil)

// stream begins to decode a watch.
func (s *source) stream(body *watchBody, version string) *stream {
	w := &s.watch
	if w.opened++; w.opened > 1 {
		s.metrics.restarts.Inc()
	}
	if !w.short {
		s.watchable()
	}
	w.short = false
	s.tracker.progress(func(st *Status) { st.Watching = true })
	return &stream{source: s, body: body, events: newEventReader(body), version: version, opened: time.Now()}
}

// Decode reads one event, hands it to the sink, and returns it as a bookmark.
// It waits as long as the sink does. Whatever breaks the watch is its end: the
// reflector then watches on from the last bookmark.
func (s *stream) Decode() (watch.EventType, runtime.Object, error) {
	if !s.calls.enter() {
		return "", nil, io.EOF
	}
	defer s.calls.leave()
	s.watch.mu.Lock()
	defer s.watch.mu.Unlock()
	if !s.begun {
		// A watch that brings nothing and soon ends would be an error to the
		// reflector, for which it lists again.
		s.begun = true
		return s.bookmark()
	}
	if s.ended {
		return "", nil, io.EOF
	}
	s.watch.pulse.within(s.body.limit + stepTime)
	defer s.watch.pulse.within(reflectorPatience)
	typ, o, status, err := s.events.next()
	switch {
	case err != nil:
		return s.end(err)
	case typ == watch.Error:
		return s.refused(status)
	}
	s.brought = true
	s.watches()
	if err := s.hand(typ, o); err != nil {
		// The sink is closed only where all ends.
		<-s.body.ctx.Done()
		return "", nil, io.EOF
	}
	if len(o.ResourceVersion) > 0 {
		s.version = string(o.ResourceVersion)
	}
	return s.bookmark()
}

// hand gives an event's object to the sink.
func (s *stream) hand(typ watch.EventType, o *object) error {
	version := versionOf(o.ResourceVersion)
	decide := func(r *record.Record) ledger.Verdict { return s.table.Event(r, version) }
	switch typ {
	case watch.Added, watch.Modified:
	case watch.Deleted:
		// What is known is sent once more: the time of its last sample is when
		// the object was last there.
		decide = func(r *record.Record) ledger.Verdict { return ledger.Verdict(s.table.Delete(r.Key, version)) }
	default:
		return nil
	}
	s.metrics.seen.Inc()
	r, ok := s.watch.builder.Build(&o.Object)
	s.metrics.dropped(s.watch.builder.TakeDrops())
	if !ok {
		return nil
	}
	sent, err := s.offer(s.body.ctx, r, &s.watch.pulse, decide)
	if sent {
		s.metrics.watched.Inc()
	}
	return err
}

// versionOf reads a resourceVersion. It returns 0 for one that is no number, as
// servers may have that keep their objects elsewhere than in etcd.
func versionOf(text []byte) uint64 {
	version, err := strconv.ParseUint(string(text), 10, 64)
	if err != nil {
		return 0
	}
	return version
}

// end takes that nothing more can be read.
func (s *stream) end(err error) (watch.EventType, runtime.Object, error) {
	lasted := time.Since(s.opened).Round(time.Millisecond)
	if s.body.err == nil {
		// It was read and makes no sense: nor would it when read again.
		return s.refused(&apierrors.NewInternalError(err).ErrStatus)
	}
	s.stopped()
	switch {
	case s.body.ctx.Err() != nil:
	case errors.Is(err, io.EOF) && lasted >= shortWatch:
		// Its time was over, and nothing had happened.
		s.watches()
	case s.brought || lasted >= shortWatch:
		s.watchable()
	default:
		s.watch.failure, s.watch.short = fmt.Errorf("it ended after %s: %w", lasted, err), true
	}
	s.log.WithError(because(s.body.ctx, err)).WithField("after", lasted).Debug("The watch has ended")
	return "", nil, io.EOF
}

// refused takes that the server ends the watch with an error. The reflector
// gets to know and lists again, unless it only has to wait.
func (s *stream) refused(status *metav1.Status) (watch.EventType, runtime.Object, error) {
	s.stopped()
	err := apierrors.FromObject(status)
	if apierrors.IsTooManyRequests(err) {
		s.watch.failure = err
		return "", nil, io.EOF
	}
	s.lostTrack(err)
	return watch.Error, status, nil
}

func (s *stream) stopped() {
	s.ended = true
	s.tracker.progress(func(st *Status) { st.Watching = false })
}

// Close ends the watch. It is called while Decode runs, or after.
func (s *stream) Close() { s.body.Close() }

func (s *stream) bookmark() (watch.EventType, runtime.Object, error) {
	return watch.Bookmark, &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{ResourceVersion: s.version}}, nil
}

// reporter makes a status of an error for a stream watcher, which has none to
// report: Decode returns no error but the end.
type reporter struct{}

func (reporter) AsObject(err error) runtime.Object {
	return &metav1.Status{Status: metav1.StatusFailure, Code: http.StatusInternalServerError, Message: err.Error()}
}
