// SPDX-License-Identifier: Apache-2.0

package informer

import (
	"k8s.io/apimachinery/pkg/runtime/schema"

	"labelstream/record"
)

// Queue takes records without waiting.
type Queue interface {
	// TryPut asks want whether the record is to be sent, and takes it. The record
	// is valid only until TryPut returns. Where there is no room, want is not
	// asked.
	TryPut(r *record.Record, want func(*record.Record) bool) (sent, room bool)
}

// ReviewOutcome is what became of an object that an admission review has shown.
type ReviewOutcome string

// What becomes of such an object.
const (
	// Sent says that its record is in the queue.
	Sent ReviewOutcome = "sent"
	// Unchanged says that it was sent before.
	Unchanged ReviewOutcome = "unchanged"
	// NoRoom says that the queue was full. The kind is listed again.
	NoRoom ReviewOutcome = "no_room"
	// Excluded says that it is in a namespace that was not chosen, or can be no
	// object.
	Excluded ReviewOutcome = "excluded"
	// NotChosen says that its kind was not chosen, or is not known yet.
	NotChosen ReviewOutcome = "not_chosen"
	// Stopping says that nothing is read any more.
	Stopping ReviewOutcome = "stopping"
)

// Change is what an admission review shows.
type Change struct {
	Group, Resource string
	// Object is as it is about to be, or was if it is about to be deleted.
	Object *record.Object
	// Old returns what the object was before an update; nil without one.
	Old     func() *record.Object
	Deleted bool
}

// Review takes a change and puts the object's record into queue. It names the kind,
// such as "deployments.apps", where it is one that is read. It waits for nothing.
// It is for use where reviews tell of changes.
func (in *Informers) Review(c *Change, queue Queue) (kind string, outcome ReviewOutcome) {
	// Held until the end, so that no ledger is closed meanwhile.
	in.mu.RLock()
	defer in.mu.RUnlock()
	k := in.kinds[schema.GroupResource{Group: c.Group, Resource: c.Resource}]
	switch {
	case k == nil:
		return "", NotChosen
	case in.ended || in.options.Once:
		return k.Resource, Stopping
	}
	for _, s := range k.sources {
		if s.covers(c.Object) {
			return k.Resource, s.review(c, queue)
		}
	}
	return k.Resource, Excluded
}

// covers tells whether an object of its kind is one that the source reads.
func (s *Source) covers(o *record.Object) bool {
	return s.kind.Namespaced == (len(o.Namespace) > 0) &&
		(s.scope.Namespace == "" || s.scope.Namespace == string(o.Namespace)) &&
		(s.scope.Name == "" || s.scope.Name == string(o.Name)) && s.chooses(o)
}

// chooses tells whether an object is in one of the namespaces that are chosen,
// where these are read by one list.
func (s *Source) chooses(o *record.Object) bool {
	switch {
	case s.in.chosen == nil:
		return true
	case s.kind.Namespaced:
		return s.in.chosen[string(o.Namespace)]
	}
	return s.kind.NameLabel != namespaceLabel || s.in.chosen[string(o.Name)]
}

// reviewed is what a review shows of an object that is selected, or was until now: then
// that is its end. before is what it was, where its old series must be ended. shown is nil
// where nothing is to be sent.
func (s *Source) reviewed(c *Change) (shown, before *record.Object, ends bool) {
	if c.Old != nil && (s.in.cfg.StaleMarkers || !s.kind.selector.Empty()) {
		if before = c.Old(); !s.selects(before, true) {
			before = nil
		}
	}
	switch {
	case s.selects(c.Object, true):
		if !s.in.cfg.StaleMarkers {
			before = nil
		}
		return c.Object, before, c.Deleted
	case before != nil:
		return before, nil, true
	}
	return nil, nil, false
}

func (s *Source) review(c *Change, queue Queue) ReviewOutcome {
	k := s.kind
	k.reviewMu.Lock()
	defer k.reviewMu.Unlock()
	s.give(&k.reviewer, c.Object, c.Deleted)
	if !k.HasSeries() {
		return NotChosen
	}
	shown, before, ends := s.reviewed(c)
	if shown == nil {
		return Excluded
	}
	k.old = k.old[:0]
	if before != nil {
		if r, ok := k.reviewer.Build(s.enrich(&k.reviewer, before)); ok {
			k.old = append(k.old, r.Series...)
		}
		k.reviewer.TakeDrops()
	}
	r, ok := k.reviewer.Build(s.enrich(&k.reviewer, shown))
	s.dropped(k.reviewer.TakeDrops(), shown)
	if !ok {
		return Excluded
	}
	r.End(k.old)
	want := s.write
	if ends {
		// The time of its last sample is when it was last there.
		r.Deleted, want = true, s.end
	}
	switch sent, room := queue.TryPut(r, want); {
	case !room:
		s.requestList()
		return NoRoom
	case !sent:
		return Unchanged
	}
	k.records[reasonReview].Inc()
	return Sent
}
