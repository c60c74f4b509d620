package informer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/wait"

	"labelstream/ledger"
	"labelstream/record"
)

const (
	// firstLimit is the size of a list's first page, before it is known how
	// large the kind's objects are.
	firstLimit = 50
	// pageBytes is how large a page may get. A server cuts a response that is
	// read for over a minute once the rest does not fit the transport's window
	// (4 MiB), and a destination that is slow makes us read slowly.
	pageBytes = 2 << 20
	// growth bounds how much larger a page may be than the one before it: the
	// next objects may be larger than the last.
	growth = 10
	// finalAfter is how long a refusal must last to be believed: an API server
	// that starts says 403 and 404 to everyone for a moment.
	finalAfter = 30 * time.Second
	// reviewTime is how long an API server waits for webhooks at most: a write
	// that was shown before has happened then, or never will.
	reviewTime = 30 * time.Second
)

// walk is one list: page after page, each retried until it has been read.
type walk struct {
	*source
	why     reason
	started time.Time
	// decide asks the ledger about an item, where there is one.
	decide  func(*record.Record) ledger.Verdict
	records prometheus.Counter
	limit   int
	token   string
	// version is the resourceVersion of the first page.
	version              string
	read, excluded, sent int64
	// counted is what the metrics have of read.
	counted int64
	// last is the key of the object that was handed over last. Lists come in
	// the order of keys; ordered tells that this one does. After a failure the
	// objects up to resume are skipped; skipped is the last of them so far.
	key, last, resume, skipped []byte
	ordered                    bool
	trouble                    trouble
}

func newWalk(s *source, why reason) *walk {
	return &walk{
		source: s, why: why, started: time.Now(), records: s.metrics.records[why],
		limit: min(firstLimit, s.options.PageSize), ordered: true,
	}
}

// run reads all pages and returns the first one's resourceVersion.
func (w *walk) run(ctx context.Context) (string, error) {
	gone := 0
	first := !w.complete()
	if w.table == nil {
		if err := w.readAll(ctx); err != nil {
			return "", err
		}
	} else {
		list := w.table.Begin(w.why == reasonResync, time.Now())
		defer list.Abandon()
		w.decide = list.Item
		if w.options.unconfirmed() && !first {
			if err := w.letCommit(ctx); err != nil {
				return "", err
			}
		}
		if err := w.readAll(ctx); err != nil {
			return "", err
		}
		gone, _ = list.End()
		if w.options.unconfirmed() && first {
			// Of what was written until now, reviews may have come before there
			// was anybody to take them, or before the list began.
			w.table.Heal()
		}
	}
	now := time.Now()
	w.tracker.update(func(s *Status) {
		s.Synced, s.Current, s.Listed, s.Took, s.Err, s.Final = true, now, now, now.Sub(w.started), nil, false
	})
	if w.table != nil {
		w.log.WithField("why", w.why).WithField("read", w.read).WithField("sent", w.sent).WithField("gone", gone).
			WithField("seconds", now.Sub(w.started).Round(time.Millisecond).Seconds()).Info("Listed")
	}
	return w.version, nil
}

// letCommit waits until what was shown before the list began can be read. What
// is shown meanwhile is newer than the list. The error is the context's.
func (w *walk) letCommit(ctx context.Context) error {
	w.listPulse.within(w.options.ReviewTime + stepTime)
	select {
	case <-time.After(w.options.ReviewTime):
		w.started = time.Now()
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// readAll reads page after page, and retries by itself. The error is the
// context's.
func (w *walk) readAll(ctx context.Context) error {
	for done := false; !done; {
		d, err := w.slot(ctx)
		if err != nil {
			return err
		}
		done, err = w.pages(ctx, d)
		w.slots <- d
		if errors.As(err, &sinkError{}) {
			// Nothing is taken any more; who closed the sink ends ctx too.
			<-ctx.Done()
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			if err := w.recover(ctx, err); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *walk) slot(ctx context.Context) (*decoder, error) {
	w.listPulse.rest()
	select {
	case d := <-w.slots:
		return d, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// pages reads pages until the list is at its end or one fails.
func (w *walk) pages(ctx context.Context, d *decoder) (done bool, err error) {
	for {
		p, err := w.page(ctx, d)
		w.count()
		if w.version == "" {
			// Of the first attempt, even where it is cut off: what it handed
			// over is skipped by the next, which lists a later state.
			w.version = p.ResourceVersion
		}
		if err != nil {
			return false, err
		}
		w.recovered()
		w.token, w.limit = p.Continue, nextLimit(w.limit, w.options.PageSize, p)
		total := w.total(p)
		w.tracker.progress(func(s *Status) { s.Total = total })
		w.log.WithField("objects", p.Items).WithField("bytes", p.Bytes).Debug("Read a page of the list")
		if p.Continue == "" {
			return true, nil
		}
	}
}

// total estimates how many objects the list holds, or -1.
func (w *walk) total(p page) int64 {
	switch {
	case p.Continue == "":
		return w.read
	case p.Remaining < 0, w.resume != nil:
		// A list that began anew counts again what was read before.
		return -1
	}
	return w.read + p.Remaining
}

// nextLimit grows to most while pages stay under pageBytes, and falls when
// objects turn out larger.
func nextLimit(limit, most int, p page) int {
	if p.Items == 0 {
		return limit
	}
	fit := int64(p.Items) * pageBytes / max(p.Bytes, 1)
	return int(max(1, min(fit, int64(limit)*growth, int64(most))))
}

// page reads one page and hands its objects over.
func (w *walk) page(ctx context.Context, d *decoder) (page, error) {
	attempt, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	idle := newIdleReader(w.options.IdleTimeout, cancel)
	defer idle.Stop()
	w.listPulse.within(w.options.IdleTimeout + stepTime)
	body, err := w.request(w.limit, w.token).Stream(attempt)
	if err != nil {
		return page{}, because(attempt, w.withoutURL(err))
	}
	defer body.Close()
	idle.Reader = body
	p, err := d.list(idle, func(o *object) error { return w.hand(ctx, o) })
	if err != nil {
		return p, because(attempt, err)
	}
	return p, nil
}

// withoutURL leaves the request's URL out of an error: its query holds the
// continue token and is another with each attempt.
func (s *source) withoutURL(err error) error {
	var failed *url.Error
	if errors.As(err, &failed) {
		return fmt.Errorf("GET %s: %w", s.path, failed.Err)
	}
	return err
}

// because prefers the reason for which an attempt was ended to the error that
// its end caused.
func because(attempt context.Context, err error) error {
	if cause := context.Cause(attempt); cause != nil {
		return cause
	}
	return err
}

// hand gives one object to the sink, unless an earlier attempt has done so.
func (w *walk) hand(ctx context.Context, o *object) error {
	w.key = append(append(append(w.key[:0], o.Namespace...), '/'), o.Name...)
	if w.resume != nil {
		w.ordered = w.ordered && bytes.Compare(w.key, w.skipped) > 0
		if w.ordered && bytes.Compare(w.key, w.resume) <= 0 {
			w.skipped = append(w.skipped[:0], w.key...)
			return nil
		}
		w.resume = nil
	}
	if r, ok := w.builder.Build(&o.Object); !ok {
		w.excluded++
	} else if sent, err := w.offer(ctx, r, &w.listPulse, w.decide); err != nil {
		return err
	} else if sent {
		w.sent++
		w.records.Inc()
	}
	w.ordered = w.ordered && bytes.Compare(w.key, w.last) > 0
	w.key, w.last = w.last, w.key
	w.read++
	return nil
}

// count publishes what the last attempt has read.
func (w *walk) count() {
	drops := w.builder.TakeDrops()
	w.metrics.dropped(drops)
	w.metrics.seen.Add(float64(w.read - w.counted))
	w.counted = w.read
	w.tracker.progress(func(s *Status) {
		s.Read, s.Excluded = w.read, w.excluded
		s.Drops.Add(drops)
	})
}

// recover waits for as long as an error asks for, and prepares the next
// attempt. It returns an error only when ctx ends.
func (w *walk) recover(ctx context.Context, err error) error {
	w.resume, w.skipped = nil, w.skipped[:0]
	// Without the version of what was handed over, nothing may be skipped: a
	// watch from a later one would miss what changed between the two.
	if w.ordered && len(w.last) > 0 && w.version != "" {
		w.resume = bytes.Clone(w.last)
	}
	w.limit = max(1, w.limit/2)
	if expired(err) {
		// The server may give a token that goes on where the expired one was,
		// in the present state. Without one the list begins anew; what was
		// handed over is skipped. The version stays: the watch that follows
		// brings what changed since the first page.
		w.token = newToken(err)
	}
	now := time.Now()
	delay := w.trouble.note(err, now)
	final := false
	if refused := w.trouble.refused; !refused.IsZero() {
		left := w.options.FinalAfter - now.Sub(refused)
		if final = left <= 0; !final {
			delay = min(delay, left)
		}
	}
	described := w.describe("list", err)
	w.metrics.failed("list", err)
	w.listPulse.within(delay + stepTime)
	if w.trouble.news {
		w.log.WithError(described).Warn("Cannot list; trying again")
	}
	w.tracker.update(func(s *Status) { s.Err, s.Final = described, final })
	select {
	case <-time.After(delay):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (w *walk) recovered() {
	if w.trouble.since.IsZero() {
		return
	}
	w.log.WithField("after", time.Since(w.trouble.since).Round(time.Millisecond)).Info("Listing again")
	w.trouble = trouble{}
	w.tracker.update(func(s *Status) { s.Err, s.Final = nil, false })
}

// expired tells whether a continue token or version is too old (410).
func expired(err error) bool { return apierrors.IsResourceExpired(err) || apierrors.IsGone(err) }

func newToken(err error) string {
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		return status.Status().Continue
	}
	return ""
}

// refusal tells whether an error is the server's considered answer rather than
// a fault.
func refusal(err error) bool {
	return apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) || apierrors.IsNotFound(err) ||
		apierrors.IsMethodNotSupported(err) || apierrors.IsNotAcceptable(err) || apierrors.IsBadRequest(err)
}

// trouble follows a failure from its beginning to its end.
type trouble struct {
	since time.Time
	// refused is since when the server has answered with nothing but refusals.
	refused time.Time
	text    string
	news    bool
	backoff wait.Backoff
}

// note takes one more failure and returns how long to wait. A different
// failure than the last is news.
func (t *trouble) note(err error, now time.Time) time.Duration {
	if t.since.IsZero() {
		t.since = now
		t.backoff = newBackoff()
	}
	switch {
	case !refusal(err):
		t.refused = time.Time{}
	case t.refused.IsZero():
		// It takes several refusals to believe them, so the next come soon
		// even after a long outage.
		t.refused, t.backoff = now, newBackoff()
	}
	text := gist(err)
	t.news = text != t.text
	t.text = text
	delay := t.backoff.Step()
	if seconds, ok := apierrors.SuggestsClientDelay(err); ok {
		delay = max(delay, time.Duration(seconds)*time.Second)
	}
	return delay
}

// gist is the innermost error's text. What is wrapped around it may hold a
// port or a count that differs each time, and is no news.
func gist(err error) string {
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(inner) {
		err = inner
	}
	return err.Error()
}

func newBackoff() wait.Backoff {
	return wait.Backoff{Duration: 200 * time.Millisecond, Factor: 2, Jitter: 0.5, Steps: 20, Cap: 30 * time.Second}
}
