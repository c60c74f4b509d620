// SPDX-License-Identifier: Apache-2.0

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
	// maxShown bounds an error there in bytes: a receiver's words may be long.
	maxShown = 300
)

// Status is how the delivery is, as the status page and its JSON show it.
type Status struct {
	// URL lacks what may be secret.
	URL string `json:"url"`
	// Protocol names the versions in use, several where senders differ.
	Protocol         string    `json:"protocol"`
	QueueLength      int64     `json:"queueLength"`
	QueueCapacity    int       `json:"queueCapacity"`
	OldestAgeSeconds float64   `json:"oldestAgeSeconds"`
	LastSuccess      time.Time `json:"lastSuccess,omitzero"`
	// FailingSince and Err are those of the sender that has failed for longest.
	FailingSince time.Time `json:"failingSince,omitzero"`
	Error        string    `json:"error,omitempty"`
	Err          error     `json:"-"`
	// Refused are the last refusals, the newest first.
	Refused []Refusal `json:"refused"`
}

// Refusal is one record that the destination refused, or several without a name.
type Refusal struct {
	Time      time.Time `json:"time"`
	Resource  string    `json:"resource,omitempty"`
	Namespace string    `json:"namespace,omitempty"`
	Name      string    `json:"name,omitempty"`
	Records   int       `json:"records"`
	Reason    string    `json:"reason"`
	Error     string    `json:"error"`
	Hint      string    `json:"hint,omitempty"`
}

// Status returns how the delivery is now.
func (e *Emitter) Status() *Status {
	s := &Status{
		URL: e.client.name, QueueLength: e.Unsent(), QueueCapacity: e.capacity, OldestAgeSeconds: e.oldest().Seconds(), Refused: e.refusals.recent(),
	}
	if at := e.stats.lastSuccess.Load(); at > 0 {
		s.LastSuccess = time.UnixMilli(at).UTC()
	}
	var inUse []string
	for v, name := range versionNames {
		if e.sendersUsing(version(v)) > 0 {
			inUse = append(inUse, name)
		}
	}
	s.Protocol = strings.Join(inUse, ", ")
	for _, sender := range e.senders {
		if since, err := sender.outage.Err(); err != nil && (s.Err == nil || since.Before(s.FailingSince)) {
			s.FailingSince, s.Err, s.Error = since.UTC(), err, shorten(err)
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
	r := Refusal{time.Now().UTC(), text("kind"), text("namespace"), text("name"), records, reason, shorten(err), text("hint")}
	l.last = slices.Insert(l.last, 0, r)[:min(len(l.last)+1, maxRecent)]
}

func (l *refusalLog) recent() []Refusal {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]Refusal{}, l.last...)
}

// shorten copies, so that what is cut off is not kept in memory.
func shorten(err error) string {
	text := err.Error()
	if len(text) <= maxShown {
		return text
	}
	return strings.ToValidUTF8(text[:maxShown], "") + "…"
}
