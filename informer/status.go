package informer

import (
	"sync"
	"time"

	"labelstream/record"
)

// Status is how far one informer has come.
type Status struct {
	// Resource is the kind's, Namespace the one that is listed, "" for all.
	Resource, Namespace string
	// Read counts the objects of the present or last list.
	Read int64
	// Excluded counts those among them that are in excluded namespaces.
	Excluded int64
	// Drops counts the tags that were left out or cut.
	Drops record.Drops
	// Total is how many the list will have read at its end, as the server
	// estimates it, or -1 while that is not known.
	Total int64
	// Synced is true once a list was handed over whole.
	Synced bool
	// Took is how long that list took.
	Took time.Duration
	// Err is why the list does not get on, nil while it does. Final says that
	// waiting will not help.
	Err   error
	Final bool
}

// Done tells whether there is nothing more to wait for.
func (s *Status) Done() bool { return s.Synced || s.Final }

// tracker holds the status of one informer and tells when it changes in a way
// that somebody may wait for.
type tracker struct {
	mu      sync.Mutex
	status  Status
	changed func()
}

func (t *tracker) snapshot() Status {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.status
}

// update changes the status and tells those who wait.
func (t *tracker) update(change func(*Status)) {
	t.progress(change)
	t.changed()
}

// progress changes the counts; nobody waits for those.
func (t *tracker) progress(change func(*Status)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	change(&t.status)
}
