package informer

import (
	"bytes"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"labelstream/ledger"
	"labelstream/record"
)

// Queue takes records without waiting.
type Queue interface {
	// TryPut takes one record, which is valid only until TryPut returns. It
	// returns false where there is no room.
	TryPut(r *record.Record) bool
}

// Taken is what became of an object that an admission review has shown.
type Taken string

// What becomes of such an object.
const (
	// Sent says that its record is in the queue.
	Sent Taken = "sent"
	// Known says that it was sent before.
	Known Taken = "known"
	// Gone says that it was deleted, and its end has been sent.
	Gone Taken = "gone"
	// LeftToWatch says that the object was being handled at the moment, or that
	// the watch has an older review of it still to bring. What the review shows,
	// the watch will.
	LeftToWatch Taken = "left_to_watch"
	// Deferred says that it could not be taken, and a list will bring it.
	Deferred Taken = "deferred"
	// Dropped says that it could not be taken where there are no lists.
	Dropped Taken = "dropped"
	// Excluded says that it is in a namespace that was not chosen, or can be
	// no object.
	Excluded Taken = "excluded"
	// NotChosen says that its kind was not chosen, or is not known yet.
	NotChosen Taken = "not_chosen"
	// Standby says that nothing is read here.
	Standby Taken = "standby"
)

// The longest names that objects and namespaces have.
const (
	maxName      = 253
	maxNamespace = 63
)

// Reviews takes what admission reviews show. Its methods are safe for
// concurrent use and wait for nothing.
type Reviews struct {
	in    *Informers
	queue Queue
}

// Reviews returns what takes reviews, and puts their records into queue.
func (in *Informers) Reviews(queue Queue) *Reviews { return &Reviews{in: in, queue: queue} }

// Kind returns the name of a kind that is read, such as "deployments.apps", ""
// for any other.
func (r *Reviews) Kind(group, resource []byte) string {
	r.in.mu.RLock()
	defer r.in.mu.RUnlock()
	if r.in.ctx == nil {
		return ""
	}
	return nameOf(r.in.sourcesOf(group, resource))
}

// nameOf is the name of the kind that the sources are of, "" without any.
func nameOf(sources []*source) string {
	if len(sources) == 0 {
		return ""
	}
	return sources[0].kind.Resource
}

// Heal has a kind listed again, of which a review could not be read.
func (r *Reviews) Heal(group, resource []byte) {
	r.in.mu.RLock()
	defer r.in.mu.RUnlock()
	for _, s := range r.in.sourcesOf(group, resource) {
		if s.table != nil {
			s.table.Heal()
		}
	}
}

// Take takes the state that an object is about to have, or had if it is about to
// be deleted, and names its kind as [Reviews.Kind] does. With a watch that is a
// claim, which the watch settles, or a GET of the object's metadata.
func (r *Reviews) Take(group, resource []byte, o *record.Object, deleted bool) (kind string, taken Taken) {
	// Held until the end: a table that Run has cleared takes nothing more.
	r.in.mu.RLock()
	defer r.in.mu.RUnlock()
	if r.in.ctx == nil {
		return "", Standby
	}
	sources := r.in.sourcesOf(group, resource)
	kind = nameOf(sources)
	switch {
	case r.in.ended:
		return kind, Standby
	case kind == "":
		return kind, NotChosen
	}
	return kind, r.take(sources, o, deleted)
}

// take takes an object of the kind that the sources are of.
func (r *Reviews) take(sources []*source, o *record.Object, deleted bool) Taken {
	if !isName(o.Name, maxName) || len(o.Namespace) > 0 && !isName(o.Namespace, maxNamespace) {
		return Excluded
	}
	for _, s := range sources {
		if s.has(o) {
			return s.take(o, deleted, r.queue)
		}
	}
	return Excluded
}

func (in *Informers) sourcesOf(group, resource []byte) []*source {
	return in.resources[schema.GroupResource{Group: string(group), Resource: string(resource)}]
}

// isName tells whether a name can be one in the path of a request: whoever
// reaches the webhook can make up names, and they are asked for.
func isName(name []byte, longest int) bool {
	return len(name) > 0 && len(name) <= longest && bytes.IndexByte(name, '/') < 0 && bytes.IndexByte(name, '%') < 0 &&
		string(name) != "." && string(name) != ".."
}

// has tells whether the source lists the object, if it is of its kind.
func (s *source) has(o *record.Object) bool {
	switch {
	case s.kind.Namespaced != (len(o.Namespace) > 0):
		return false
	case s.namespace == "":
		return true
	case s.kind.Namespaced:
		return string(o.Namespace) == s.namespace
	}
	return string(o.Name) == s.namespace
}

// reviewer builds the records of reviews, one at a time.
type reviewer struct {
	mu      sync.Mutex
	builder *record.Builder
}

// take takes an object of a review.
func (s *source) take(o *record.Object, deleted bool, queue Queue) Taken {
	s.reviewer.mu.Lock()
	defer s.reviewer.mu.Unlock()
	r, ok := s.reviewer.builder.Build(o)
	s.metrics.dropped(s.reviewer.builder.TakeDrops())
	if !ok {
		return Excluded
	}
	taken := s.enqueue(r, deleted, queue)
	if taken == Sent {
		s.metrics.reviewed.Inc()
	}
	return taken
}

func (s *source) enqueue(r *record.Record, deleted bool, queue Queue) Taken {
	if s.table == nil {
		if queue.TryPut(r) {
			return Sent
		}
		return Dropped
	}
	if !s.options.Watch {
		return s.enqueueUnwatched(r, queue)
	}
	now := time.Now()
	if !s.table.TryAcquire(r.Key) {
		if !deleted {
			s.table.Leave(r, now)
		}
		return LeftToWatch
	}
	defer s.table.Release(r.Key)
	if deleted && s.complete() && !s.table.Known(r.Key) {
		// Of two who delete it at the same time, one is late.
		return Gone
	}
	switch verdict, left := s.table.Claim(r, now); {
	case left:
		return LeftToWatch
	case verdict == ledger.Skip:
		return Known
	}
	if !queue.TryPut(r) {
		s.table.Unsent(r.Key)
		return Deferred
	}
	return Sent
}

// enqueueUnwatched is for where nothing would settle a claim before the next
// list.
func (s *source) enqueueUnwatched(r *record.Record, queue Queue) Taken {
	if !s.table.TryAcquire(r.Key) {
		s.table.Heal()
		return Deferred
	}
	defer s.table.Release(r.Key)
	if s.table.Review(r) == ledger.Skip {
		return Known
	}
	if !queue.TryPut(r) {
		s.table.Lost(r.Key)
		return Deferred
	}
	return Sent
}
