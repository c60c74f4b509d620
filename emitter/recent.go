package emitter

import (
	"slices"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
)

const (
	// maxRecent is how many refusals are kept for the status page.
	maxRecent = 20
	// maxRecentError bounds their errors in bytes: a receiver's words may be long.
	maxRecentError = 300
)

// Status is how the delivery is.
type Status struct {
	// Destination is the URL without what may be secret.
	Destination string
	// Protocol names the versions of remote_write in use: 1.0, 2.0, or unknown while
	// it is being found out; several where senders differ.
	Protocol string
	// Unsent are the records in the queue or in flight, Capacity is how many it holds
	// at most, and Oldest how long the oldest of them has waited.
	Unsent   int64
	Capacity int
	Oldest   time.Duration
	// LastSuccess is when the destination last accepted samples, zero before.
	LastSuccess time.Time
	// Err is why nothing can be sent, and Since is since when; nil while it can.
	Err   error
	Since time.Time
	// Recent are the last refusals, the newest first.
	Recent []Refusal
}

// Refusal is one record that the destination refused, or several that it refused
// without a name.
type Refusal struct {
	Time                      time.Time
	Resource, Namespace, Name string
	Records                   int
	Reason, Error, Hint       string
}

// Status returns how the delivery is now.
func (e *Emitter) Status() Status {
	s := Status{
		Destination: e.client.name, Unsent: e.Unsent(), Capacity: e.capacity, Oldest: e.oldest(), Recent: e.refusals.recent(),
	}
	if at := e.stats.lastSuccess.Load(); at > 0 {
		s.LastSuccess = time.UnixMilli(at)
	}
	var inUse []string
	for v, name := range versionNames {
		if e.sendersUsing(version(v)) > 0 {
			inUse = append(inUse, name)
		}
	}
	s.Protocol = strings.Join(inUse, ", ")
	for _, sender := range e.senders {
		if since, err := sender.outage.Err(); err != nil && (s.Err == nil || since.Before(s.Since)) {
			s.Since, s.Err = since, err
		}
	}
	return s
}

// keep keeps a refusal for the status page.
func (l *refusalLog) keep(reason string, err error, records int, id logrus.Fields) {
	text := func(field string) string {
		value, _ := id[field].(string)
		return value
	}
	r := Refusal{
		Time: time.Now(), Records: records, Reason: reason, Hint: text("hint"),
		Resource: text("kind"), Namespace: text("namespace"), Name: text("name"),
	}
	if r.Error = err.Error(); len(r.Error) > maxRecentError {
		// A copy, which does not keep the rest in memory.
		r.Error = strings.ToValidUTF8(r.Error[:maxRecentError], "") + "…"
	}
	l.last = slices.Insert(l.last, 0, r)
	l.last = l.last[:min(len(l.last), maxRecent)]
}

func (l *refusalLog) recent() []Refusal {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.last)
}
