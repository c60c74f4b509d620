// SPDX-License-Identifier: Apache-2.0

package informer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"labelstream/informer/decode"
	"labelstream/ledger"
	"labelstream/record"
	"labelstream/status/outage"
)

const (
	// firstLimit is the size of a list's first page, before it is known how large
	// the kind's objects are.
	firstLimit = 50
	// pageBytes is how large a page may get. A server cuts a response that is read
	// for over a minute once the rest does not fit the transport's window (4 MiB),
	// and a slow destination makes us read slowly.
	pageBytes = 2 << 20
	// growth bounds how much larger a page is than the one before it: the next
	// objects may be larger than the last.
	growth = 10

	// watchTimeout is how long a watch is asked to last, up to twice that, and
	// watchGrace how much longer it may be silent. One that shows nothing and ends
	// before shortWatch is a failure.
	watchTimeout = 5 * time.Minute
	watchGrace   = time.Minute
	shortWatch   = time.Second
)

// reason is why objects are read.
type reason string

const (
	reasonFirst reason = "first"
	// reasonRelist is that the watch could not go on.
	reasonRelist reason = "relist"
	// reasonResync is that it is time to send all again.
	reasonResync reason = "resync"
	// reasonRequested is that there was no room for the record of a review, or that a
	// parent of the objects has changed.
	reasonRequested reason = "requested"

	reasonWatch  reason = "watch"
	reasonReview reason = "webhook"
)

// Source is the ListerWatcher of one informer: it lists a kind in a scope, then
// watches, until it is time to list again. It streams what it reads to the sink,
// and shows the reflector an empty list and a watch without events.
type Source struct {
	in     *Informers
	kind   *kindState
	scope  Scope
	path   string
	params map[string]string
	log    logrus.FieldLogger
	status tracker
	// listing and watching are the failures of lists and watches.
	listing, watching *outage.Outage

	// ledger is what was sent, and observe, forget and drop are what a sink asks it; nil
	// where all that is read is sent.
	ledger                *ledger.Ledger
	observe, forget, drop func(*record.Record) bool
	// write and end are what a queue asks for a review.
	write, end func(*record.Record) bool
	// requested says that the kind must be listed again, and following ends what it
	// does between two lists.
	requested atomic.Bool
	following atomic.Pointer[context.CancelCauseFunc]

	// ctx ends with Run, or when the kind is served differently.
	ctx      context.Context
	stop     context.CancelFunc
	informer cache.SharedIndexInformer

	// The reflector lists and watches in turn, so what follows needs no lock.
	// next is why the next list comes, unless due has passed by then; due is when
	// all must be sent again, zero for never.
	next reason
	due  time.Time
	// reached is the version that the last watch came to.
	reached string
}

var _ cache.ListerWatcherWithContext = (*Source)(nil)

// ListWithContext hands every object to the sink and returns an empty list of
// the first page's resourceVersion, from which a watch misses nothing. It
// retries by itself: the only error it returns is that the source has ended.
func (s *Source) ListWithContext(context.Context, metav1.ListOptions) (runtime.Object, error) {
	if !s.in.enter() {
		return nil, context.Canceled
	}
	defer s.in.running.Done()
	defer keepTrace()
	version, err := s.list(s.ctx)
	if err != nil {
		return nil, err
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

// list reads all objects once and returns the version of the first page. The
// error is the context's.
func (s *Source) list(ctx context.Context) (version string, err error) {
	if err := s.awaitParents(ctx); err != nil {
		return "", err
	}
	l := s.beginList()
	if s.in.options.reviews() {
		// What was shown before can be read then, or never will be; what is shown
		// meanwhile is newer than the list.
		if err := sleep(ctx, s.in.options.ReviewTime); err != nil {
			return "", err
		}
	}
	if err := l.run(ctx); err != nil {
		return "", err
	}
	s.endList(l)
	return l.version, nil
}

// awaitParents waits until it is known what the kind's objects take from others, or
// that this cannot be known. The error is the context's.
func (s *Source) awaitParents(ctx context.Context) error {
	if s.kind.Namespaced && s.in.namespaces != nil && s.in.reads(namespacesResource) {
		if err := s.in.namespaces.wait(ctx); err != nil {
			return err
		}
	}
	if s.kind.GVR.GroupResource() == podsResource && s.in.jobs != nil && s.in.reads(jobsResource) {
		return s.in.jobs.wait(ctx)
	}
	return nil
}

// beginList notes why there is a list, and when the next that sends all is due.
func (s *Source) beginList() *list {
	now := time.Now()
	why := s.next
	if !s.due.IsZero() && !now.Before(s.due) {
		why = reasonResync
	}
	s.next = reasonRelist
	if interval := s.in.options.ResyncInterval; interval > 0 && (why == reasonFirst || why == reasonResync) {
		// Up to a tenth sooner, so that kinds spread out, and never later:
		// receivers let series go stale after a fixed time.
		s.due = now.Add(interval - rand.N(interval/10+1))
	}
	s.requested.Store(false)
	if s.ledger != nil {
		s.ledger.BeginList(why == reasonResync)
	}
	if s.kind.gives != nil {
		s.kind.gives.beginList(s)
	}
	s.status.progress(func(st *Status) { st.Read, st.Excluded, st.Total = 0, 0, -1 })
	return &list{
		source: s, why: why, began: now, records: s.kind.records[why],
		limit: min(firstLimit, s.in.options.PageSize), ordered: true,
	}
}

// endList records that the list is complete.
func (s *Source) endList(l *list) {
	now := time.Now()
	vanished := 0
	if s.ledger != nil {
		vanished = s.ledger.EndList()
	}
	if s.kind.gives != nil {
		s.kind.gives.endList(s)
		s.kind.gives.settle(s)
	}
	s.status.update(func(st *Status) {
		st.Synced, st.Current, st.Listed, st.Took, st.Err, st.Final = true, now, now, now.Sub(l.began), nil, false
		st.Vanished += int64(vanished)
	})
	if older, err := resourceversion.CompareResourceVersion(l.version, s.reached); err == nil && older < 0 {
		s.log.WithFields(logrus.Fields{"listed": l.version, "watched": s.reached, "hint": "was etcd restored from a backup?"}).
			Warn("The list is older than what was watched before it")
	}
	s.reached = l.version
	if !s.in.options.Once {
		s.log.WithFields(logrus.Fields{
			"why": l.why, "read": l.read, "sent": l.sent, "vanished": vanished, "took": readable(now.Sub(l.began)),
		}).Info("Listed")
	}
}

// list is one list: page after page, each tried again until it has been read.
type list struct {
	source  *Source
	why     reason
	began   time.Time
	records prometheus.Counter
	limit   int
	token   string
	// version is the resourceVersion of the first page.
	version              string
	read, excluded, sent int64
	// last is the name of the object that was handed over last, as name builds
	// it. Lists come in the order of names; ordered says that this one does.
	// After a failure the objects up to resume are skipped; skipped is the last
	// of them so far.
	name, last, resume, skipped []byte
	ordered                     bool
	retries                     retries
}

// run reads all pages, and retries by itself. The error is the context's.
func (l *list) run(ctx context.Context) error {
	for {
		err := l.pages(ctx)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
		if err := l.retry(ctx, err); err != nil {
			return err
		}
	}
}

// pages reads pages, in one of the list slots, until the list is at its end or a
// page fails.
func (l *list) pages(ctx context.Context) error {
	s := l.source
	var d *decode.ListDecoder
	select {
	case d = <-s.in.slots:
		defer func() { s.in.slots <- d }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if s.in.ctx.Err() != nil {
		// The slot is that of a list for which everything has ended a moment before.
		return context.Cause(s.in.ctx)
	}
	s.status.progress(func(st *Status) { st.Listing = true })
	defer s.status.progress(func(st *Status) { st.Listing = false })
	for {
		page, err := l.page(ctx, d)
		if l.version == "" {
			// Of the first attempt, even where it is cut off: what it handed over is
			// skipped by the next, which lists a later state.
			l.version = page.ResourceVersion
		}
		if err == nil && page.Continue != "" && page.Continue == l.token {
			err = errNoProgress
		}
		l.count(page, err)
		if err != nil {
			return err
		}
		s.listing.End()
		l.retries = retries{}
		l.token, l.limit = page.Continue, nextLimit(l.limit, s.in.options.PageSize, page)
		s.log.WithField("objects", page.Items).WithField("bytes", page.Bytes).Debug("Read a page of the list")
		if page.Continue == "" {
			return nil
		}
	}
}

var errNoProgress = errors.New("the server answers a page with the token that it was asked with, so the list would never end")

// nextLimit grows to most while pages stay under pageBytes, and falls when
// objects turn out larger.
func nextLimit(limit, most int, p decode.Page) int {
	if p.Items == 0 {
		return limit
	}
	fit := int64(p.Items) * pageBytes / max(p.Bytes, 1)
	return int(max(1, min(fit, int64(limit)*growth, int64(most))))
}

// page reads one page and hands its objects over.
func (l *list) page(ctx context.Context, d *decode.ListDecoder) (decode.Page, error) {
	s := l.source
	attempt, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	request := s.request(decode.AcceptList).Param("limit", strconv.Itoa(l.limit))
	if l.token != "" {
		request.Param("continue", l.token)
	}
	b, err := open(attempt, request, s.in.options.IdleTimeout, cancel)
	if err != nil {
		return decode.Page{}, err
	}
	defer b.Close()
	page, err := d.Decode(b, func(o *decode.Object) error { return l.deliver(ctx, o) })
	return page, causeOf(attempt, err)
}

// deliver hands one object over, unless an earlier attempt has done so.
func (l *list) deliver(ctx context.Context, o *decode.Object) error {
	l.name = append(append(append(l.name[:0], o.Namespace...), '/'), o.Name...)
	if l.resume != nil {
		l.ordered = l.ordered && bytes.Compare(l.name, l.skipped) > 0
		if l.ordered && bytes.Compare(l.name, l.resume) <= 0 {
			l.skipped = append(l.skipped[:0], l.name...)
			return nil
		}
		l.resume = nil
	}
	s := l.source
	excluded, sent, err := s.put(ctx, &o.Object, false)
	switch {
	case err != nil:
		return err
	case sent:
		l.sent++
		l.records.Inc()
	case excluded:
		l.excluded++
	}
	l.ordered = l.ordered && bytes.Compare(l.name, l.last) > 0
	l.name, l.last = l.last, l.name
	if l.read++; l.read%64 == 0 { // a page may take long
		s.status.progress(func(*Status) {})
	}
	return nil
}

// put builds one object's record and hands it over, if the ledger lets it be
// sent. It waits as long as the sink does. Of an object that is not selected any more,
// the last record is sent.
func (s *Source) put(ctx context.Context, o *record.Object, deleted bool) (excluded, sent bool, err error) {
	if !s.chooses(o) {
		return true, false, nil
	}
	k := s.kind
	k.mu.Lock()
	defer k.mu.Unlock()
	s.give(&k.builder, o, deleted)
	// The API server selects the objects of other kinds.
	isSelected := s.selects(o, k.gives != nil)
	if !k.HasSeries() || !isSelected && s.ledger == nil {
		return true, false, nil
	}
	o = s.enrich(&k.builder, o)
	r, ok := k.builder.Build(o)
	drops := k.builder.TakeDrops()
	s.dropped(drops, o)
	switch {
	case !ok:
		return true, false, nil
	case ctx.Err() != nil:
		// It waited for another source of the kind, and a newer watch may have
		// begun.
		return false, false, context.Cause(ctx)
	}
	if observe := s.in.options.Observe; observe != nil {
		observe(o, r, drops)
	}
	want := s.observe
	switch {
	case !isSelected:
		r.Deleted, want = true, s.drop
	case deleted:
		r.Deleted, want = true, s.forget
	}
	sent, err = s.in.sink.Put(ctx, r, want)
	if err != nil {
		// A sink that is closed takes nothing more; what closed it ends ctx too.
		<-ctx.Done()
	}
	return !isSelected, sent, err
}

// count publishes what an attempt to read a page has come to.
func (l *list) count(page decode.Page, err error) {
	total := int64(-1)
	switch {
	case err != nil:
	case page.Continue == "":
		total = l.read
	case page.Remaining >= 0 && l.resume == nil:
		// A list that began anew counts again what was read before.
		total = l.read + page.Remaining
	}
	l.source.status.progress(func(s *Status) {
		s.Seen += l.read - s.Read
		s.Read, s.Excluded = l.read, l.excluded
		if err == nil {
			s.Total, s.Err, s.Final = total, nil, false
		}
	})
}

// retry waits for as long as an error asks for, and prepares the next attempt.
// The error it returns is the context's.
func (l *list) retry(ctx context.Context, err error) error {
	l.resume, l.skipped = nil, l.skipped[:0]
	// Without the version of what was handed over, nothing may be skipped: a
	// watch from a later one would miss what changed between the two.
	if l.ordered && len(l.last) > 0 && l.version != "" {
		l.resume = bytes.Clone(l.last)
	}
	l.limit = max(1, l.limit/2)
	if expired(err) {
		// The server may give a token that goes on where the expired one was, in
		// the present state. Without one the list begins anew; what was handed over
		// is skipped. The version stays: the watch that follows shows what has
		// changed since the first page.
		l.token = newToken(err)
	}
	s := l.source
	delay, final := l.retries.next(err, &s.in.options)
	s.in.counters.failed(s.kind.Resource, "list", err)
	described := s.describe("list", err)
	s.listing.Fail(outage.Cause(err), described)
	missing := apierrors.IsNotFound(err)
	s.status.update(func(st *Status) {
		st.Err, st.Final = described, final
		st.Synced = st.Synced && !(missing && final)
	})
	if final && s.kind.gives != nil {
		s.kind.gives.settle(s)
	}
	if missing && s.in.options.Rediscover != nil {
		s.in.options.Rediscover()
	}
	return sleep(ctx, delay)
}

// WatchWithContext returns a watch without events: they go to the sink. It ends
// with 410 (expired) when the kind must be listed again, and else when it is
// stopped.
func (s *Source) WatchWithContext(_ context.Context, options metav1.ListOptions) (watch.Interface, error) {
	if !s.in.enter() {
		return nil, context.Canceled
	}
	ctx, cancel := context.WithCancel(s.ctx)
	w := &reflectorWatch{events: make(chan watch.Event), cancel: cancel}
	go func() {
		defer s.in.running.Done()
		defer cancel()
		defer close(w.events)
		err := s.follow(ctx, options.ResourceVersion)
		if ctx.Err() != nil {
			return
		}
		status := apierrors.NewResourceExpired(err.Error()).Status()
		select {
		case w.events <- watch.Event{Type: watch.Error, Object: &status}:
		case <-ctx.Done():
		}
	}()
	return w, nil
}

// reflectorWatch is the reflector's side of a watch.
type reflectorWatch struct {
	events chan watch.Event
	cancel context.CancelFunc
}

// Stop implements watch.Interface.
func (w *reflectorWatch) Stop() { w.cancel() }

// ResultChan implements watch.Interface.
func (w *reflectorWatch) ResultChan() <-chan watch.Event { return w.events }

var (
	errResync    = errors.New("it is time to send all again")
	errRequested = errors.New("a list was requested")
)

// follow takes what changes until the kind must be listed again, and returns
// why. Where nothing is watched, it only waits.
func (s *Source) follow(ctx context.Context, version string) error {
	if !s.due.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadlineCause(ctx, s.due, errResync)
		defer cancel()
	}
	ctx, interrupt := context.WithCancelCause(ctx)
	defer interrupt(nil)
	s.following.Store(&interrupt)
	if s.requested.Load() {
		interrupt(errRequested)
	}
	err := s.followUntil(ctx, version)
	if errors.Is(err, errRequested) {
		s.next = reasonRequested
	}
	return err
}

// followUntil follows until ctx ends, or the watch cannot go on.
func (s *Source) followUntil(ctx context.Context, version string) error {
	if s.in.options.watches() {
		w := &watcher{source: s, version: version}
		defer func() { s.reached = w.version }()
		return w.run(ctx)
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

// requestList lists the kind again, as soon as it is not being listed.
func (s *Source) requestList() {
	s.requested.Store(true)
	if interrupt := s.following.Load(); interrupt != nil {
		(*interrupt)(errRequested)
	}
}

// watcher watches from one list to the next, by one request after the other.
type watcher struct {
	source  *Source
	version string
	retries retries
	// short says that the last watch ended at once.
	short bool
}

// run watches until it cannot go on, and returns why.
func (w *watcher) run(ctx context.Context) error {
	s := w.source
	for {
		err := w.watch(ctx)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err == nil:
			continue
		}
		s.in.counters.failed(s.kind.Resource, "watch", err)
		described := s.describe("watch", err)
		if mustList(err) {
			s.log.WithFields(outage.Fields(described)).Info("Cannot go on watching; listing again")
			return err
		}
		delay, _ := w.retries.next(err, &s.in.options)
		s.watching.Fail(outage.Cause(err), described)
		s.status.progress(func(st *Status) { st.WatchErr = described })
		if err := sleep(ctx, delay); err != nil {
			return err
		}
	}
}

// lostError is that a watch was ended by what it showed.
type lostError struct{ error }

func (e lostError) Unwrap() error { return e.error }

// mustList tells whether a watch cannot go on from the version that it has. A
// resource that is not found is for the list to report.
func mustList(err error) bool {
	return expired(err) || apierrors.IsNotFound(err) || errors.As(err, &lostError{})
}

// watch makes one request and reads events until it ends. Where the next may
// follow at once, there is no error.
func (w *watcher) watch(ctx context.Context) error {
	s := w.source
	attempt, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timeout := watchTimeout + rand.N(watchTimeout)
	request := s.request(decode.AcceptWatch).Param("watch", "true").Param("allowWatchBookmarks", "true").
		Param("resourceVersion", w.version).Param("timeoutSeconds", strconv.Itoa(int(timeout.Seconds())))
	b, err := open(attempt, request, timeout+watchGrace, cancel)
	if err != nil {
		return err
	}
	defer b.Close()
	s.status.progress(func(st *Status) { st.Watching, st.Watches = true, st.Watches+1 })
	if !w.short {
		w.works()
	}
	defer s.status.progress(func(st *Status) { st.Watching = false })
	began := time.Now()
	seen, err := w.events(attempt, decode.NewWatchDecoder(b, s.in.cfg.OwnerLabels))
	lasted := time.Since(began)
	s.log.WithError(causeOf(attempt, err)).WithField("after", readable(lasted)).Debug("The watch has ended")
	switch {
	case ctx.Err() != nil || errors.As(err, &lostError{}) || apierrors.IsTooManyRequests(err):
		return err
	case b.err == nil:
		// It was read and makes no sense: it would not when read again.
		return lostError{err}
	case !seen && lasted < shortWatch:
		w.short = true
		return fmt.Errorf("it ended after %s: %w", readable(lasted), err)
	}
	w.works()
	if errors.Is(err, io.EOF) { // its time was over
		w.current()
	}
	return nil
}

// events hands events over until the stream ends, and returns why it did, and
// whether there were any.
func (w *watcher) events(ctx context.Context, d *decode.WatchDecoder) (seen bool, err error) {
	for {
		typ, o, status, err := d.Next()
		switch {
		case err != nil:
			return seen, err
		case typ == watch.Error:
			err := apierrors.FromObject(status)
			if apierrors.IsTooManyRequests(err) {
				return seen, err
			}
			return seen, lostError{err}
		}
		seen = true
		w.current()
		if err := w.deliver(ctx, typ, o); err != nil {
			return seen, err
		}
		if len(o.ResourceVersion) > 0 {
			w.version = string(o.ResourceVersion)
		}
	}
}

// deliver hands an event's object over. Of one that was deleted, the last record
// is sent, if the object was known.
func (w *watcher) deliver(ctx context.Context, typ watch.EventType, o *decode.Object) error {
	if typ != watch.Added && typ != watch.Modified && typ != watch.Deleted {
		return nil
	}
	s := w.source
	s.status.progress(func(st *Status) { st.Seen++ })
	_, sent, err := s.put(ctx, &o.Object, typ == watch.Deleted)
	if sent {
		s.kind.records[reasonWatch].Inc()
	}
	return err
}

// works records that the kind can be watched.
func (w *watcher) works() {
	w.short, w.retries = false, retries{}
	w.source.watching.End()
	w.source.status.progress(func(s *Status) { s.WatchErr = nil })
}

// current records that nothing is missing: the server has sent something, or was
// silent as a watch may be.
func (w *watcher) current() {
	w.works()
	now := time.Now()
	w.source.status.progress(func(s *Status) { s.Current = now })
}

// request asks for the kind's objects in one of the forms that accept names.
func (s *Source) request(accept string) *rest.Request {
	// The client's DisableCompression is lost where it has no TLS of its own.
	r := s.in.client.Get().AbsPath(s.path).MaxRetries(0).
		SetHeader("Accept", accept).SetHeader("Accept-Encoding", "identity")
	for name, value := range s.params {
		r.Param(name, value)
	}
	return r
}

// describe says of an error what failed, and what to do about it.
func (s *Source) describe(verb string, err error) error {
	what := verb + " " + s.kind.Resource
	if where := s.scope.String(); where != "" {
		what += " in namespace " + where
	}
	described := fmt.Errorf("%s: %w", what, err)
	switch {
	case apierrors.IsForbidden(err):
		return outage.WithHint(described, fmt.Sprintf("grant the verb %q on resource %q in API group %q", verb, s.kind.GVR.Resource, s.kind.GVR.Group))
	case apierrors.IsUnauthorized(err):
		return outage.WithHint(described, "the API server does not accept the credentials")
	}
	return described
}

// IsWatchListSemanticsUnSupported keeps the reflector from listing through a
// watch: that cannot wait for a slow destination, and starts over when it is cut.
func (s *Source) IsWatchListSemanticsUnSupported() bool { return true }

// List is not used: reflectors prefer ListWithContext.
func (s *Source) List(o metav1.ListOptions) (runtime.Object, error) {
	return s.ListWithContext(s.ctx, o)
}

// Watch is not used: reflectors prefer WatchWithContext.
func (s *Source) Watch(o metav1.ListOptions) (watch.Interface, error) {
	return s.WatchWithContext(s.ctx, o)
}
