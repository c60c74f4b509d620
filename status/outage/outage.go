// SPDX-License-Identifier: Apache-2.0

// Package outage logs a failure when it begins, when its cause changes, and when
// it ends, and keeps advice apart from what went wrong.
package outage

import (
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

// quiet is how long a cause that was logged is not logged again: a failure that
// comes and goes must not fill the log.
const quiet = time.Minute

// Outage is one thing that may fail for a while, such as the watch of one kind.
// Its methods are safe for concurrent use.
type Outage struct {
	log                logrus.FieldLogger
	failing, recovered string

	mu    sync.Mutex
	err   error
	since time.Time
	// logged says that the log shows this outage.
	logged bool
	// last is when each cause was logged.
	last map[string]time.Time
}

// New returns an outage that has not begun. failing and recovered are what the
// log says when it begins or changes, and when it ends.
func New(log logrus.FieldLogger, failing, recovered string) *Outage {
	return &Outage{log: log, failing: failing, recovered: recovered, last: make(map[string]time.Time)}
}

// Fail records a failure. Causes that are equal are the same failure; [Cause]
// gives one. It logs a warning where the cause is another than before and has
// not been logged within the last minute.
func (o *Outage) Fail(cause string, err error) { o.FailAt(logrus.WarnLevel, o.failing, cause, err) }

// FailAt is Fail with a level and a message of its own.
func (o *Outage) FailAt(level logrus.Level, message, cause string, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	if o.err == nil {
		o.since, o.logged = now, false
	}
	o.err = err
	if !o.logged {
		// Within one outage a cause is logged once; between outages it is quiet.
		maps.DeleteFunc(o.last, func(_ string, at time.Time) bool { return now.Sub(at) >= quiet })
	}
	log := o.log.WithFields(Fields(err))
	if _, ok := o.last[cause]; ok {
		log.Debug(message)
		return
	}
	o.last[cause], o.logged = now, true
	log.Log(level, message)
}

// End records that it works again.
func (o *Outage) End() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil {
		return
	}
	if o.logged {
		o.log.WithField("after", time.Since(o.since).Round(100*time.Millisecond).String()).Info(o.recovered)
	}
	o.err, o.since = nil, time.Time{}
}

// Err returns the last failure and when the outage began; nil while there is none.
func (o *Outage) Err() (since time.Time, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.since, o.err
}

// Cause is the innermost error's text. What is wrapped around it may hold a port
// or a count that differs each time.
func Cause(err error) string {
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(inner) {
		err = inner
	}
	return err.Error()
}

// hinted is an error with advice.
type hinted struct {
	error
	hint string
}

func (h *hinted) Unwrap() error { return h.error }

// WithHint adds to an error what to do about it. The error's text stays.
func WithHint(err error, hint string) error { return &hinted{error: err, hint: hint} }

// Hint returns the advice that [WithHint] has added, "" without any.
func Hint(err error) string {
	if h, ok := errors.AsType[*hinted](err); ok {
		return h.hint
	}
	return ""
}

// Fields are those of a log line on an error: the error, and its hint.
func Fields(err error) logrus.Fields {
	fields := logrus.Fields{logrus.ErrorKey: err}
	if hint := Hint(err); hint != "" {
		fields["hint"] = hint
	}
	return fields
}
