// SPDX-License-Identifier: Apache-2.0

package informer

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
)

// body is the response to one request. A server that goes silent ends it: the
// attempt is cancelled with an error when a single read takes longer than limit.
// The time between reads, in which the destination is waited for, does not
// count.
type body struct {
	response io.ReadCloser
	limit    time.Duration
	timer    *time.Timer
	// plain is the response without compression, known once it has begun.
	plain io.Reader
	// err is why nothing more can be read.
	err error
}

// open sends a request, whose answer begins within the limit. cancel ends the
// attempt, which is the request's context.
func open(attempt context.Context, request *rest.Request, limit time.Duration, cancel context.CancelCauseFunc) (*body, error) {
	b := &body{limit: limit, timer: time.AfterFunc(limit, func() {
		cancel(fmt.Errorf("the API server sent nothing for %s", limit.Round(time.Second)))
	})}
	response, err := request.Stream(attempt)
	b.timer.Stop()
	if err != nil {
		return nil, causeOf(attempt, withoutQuery(err))
	}
	b.response = response
	return b, nil
}

// Read reads with the time limit running.
func (b *body) Read(p []byte) (int, error) {
	b.timer.Reset(b.limit)
	defer b.timer.Stop()
	if b.plain == nil {
		b.plain, b.err = decompressed(b.response)
	}
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.plain.Read(p)
	b.err = err
	return n, err
}

// Close ends the request.
func (b *body) Close() {
	b.timer.Stop()
	b.response.Close()
}

// decompressed reads what a proxy has compressed although it was asked not to:
// neither protobuf nor JSON begins like gzip.
func decompressed(response io.Reader) (io.Reader, error) {
	// What is read into a buffer larger than this one is not copied.
	in := bufio.NewReaderSize(response, 16)
	if head, _ := in.Peek(2); string(head) != "\x1f\x8b" {
		return in, nil
	}
	plain, err := gzip.NewReader(bufio.NewReader(in))
	if err != nil {
		return nil, fmt.Errorf("read what a proxy has compressed: %w", err)
	}
	return plain, nil
}

// withoutQuery leaves the request's query out of an error: it holds the continue
// token and is another with each attempt.
func withoutQuery(err error) error {
	failed, ok := errors.AsType[*url.Error](err)
	if !ok {
		return err
	}
	path := failed.URL
	if parsed, err := url.Parse(failed.URL); err == nil {
		path = parsed.Path
	}
	return fmt.Errorf("GET %s: %w", path, failed.Err)
}

// causeOf prefers the reason for which an attempt was ended to the error that
// its end caused.
func causeOf(attempt context.Context, err error) error {
	if cause := context.Cause(attempt); cause != nil && err != nil {
		return cause
	}
	return err
}

// expired tells whether a continue token or version is too old (410).
func expired(err error) bool { return apierrors.IsResourceExpired(err) || apierrors.IsGone(err) }

// newToken is the token of a 410 with which the list goes on, if there is one.
func newToken(err error) string {
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		return status.Status().Continue
	}
	return ""
}

// patience is how long a failure must last to be final, 0 where none does: a
// fault on the way, a server that asks to wait, and for a daemon one that is
// broken.
func (o *Options) patience(err error) time.Duration {
	var status apierrors.APIStatus
	switch {
	case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err), apierrors.IsNotFound(err),
		apierrors.IsMethodNotSupported(err), apierrors.IsNotAcceptable(err), apierrors.IsBadRequest(err):
		return o.FinalAfter
	case o.Once && (errors.Is(err, errNoProgress) || errors.As(err, &status) && status.Status().Code >= 500):
		// The server cannot serve the resource: five minutes, unless set otherwise.
		return 10 * o.FinalAfter
	}
	return 0
}

func newBackoff() wait.Backoff {
	return wait.Backoff{Duration: 200 * time.Millisecond, Factor: 2, Jitter: 0.5, Steps: 20, Cap: 30 * time.Second}
}

// retries paces attempts that fail. The zero value is before the first failure.
type retries struct {
	backoff wait.Backoff
	// since is when the failures with this patience began.
	patience time.Duration
	since    time.Time
}

// next returns how long to wait after one more failure, and whether failures of
// its kind have lasted for so long that they are final. An API server that starts
// says 403 and 404 to everyone for a moment.
func (r *retries) next(err error, options *Options) (delay time.Duration, final bool) {
	now, patience := time.Now(), options.patience(err)
	if first := r.since.IsZero(); first || patience != r.patience {
		if first || patience == options.FinalAfter {
			// It takes several refusals to believe them, so the next come soon even
			// after a long outage.
			r.backoff = newBackoff()
		}
		r.patience, r.since = patience, now
	}
	delay = r.backoff.Step()
	if seconds, ok := apierrors.SuggestsClientDelay(err); ok {
		delay = max(delay, time.Duration(seconds)*time.Second)
	}
	if patience == 0 {
		return delay, false
	}
	left := patience - now.Sub(r.since)
	if left <= 0 {
		return delay, true
	}
	return min(delay, left), false
}

// sleep waits. The error is the context's.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// readable is a duration as a log shows it.
func readable(d time.Duration) string {
	if d < time.Second {
		return d.Round(time.Millisecond).String()
	}
	return d.Round(100 * time.Millisecond).String()
}
