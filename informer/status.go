package informer

import (
	"cmp"
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
	// Watching is true while a watch is open. WatchErr is why none can be
	// opened, nil while one can.
	Watching bool
	WatchErr error
	// Current is when what was handed over was last known to be complete: a
	// list was, or a watch has brought an event, or nothing for all its time.
	Current time.Time
	// Listed is when a list was last complete.
	Listed time.Time
	// Sent and SentBytes are the number of objects that the ledger knows, and
	// the memory that it takes.
	Sent, SentBytes int
	// Changes counts what reviews should have shown of what watches brought: an
	// object that came to be, ended, or has other tags.
	Changes uint64
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

// ByKind adds up the statuses of a kind's namespaces: the kind is synced and
// watched where all of them are, as current and as lately listed as the oldest of them. Errors
// are those of the first that has one.
func ByKind(statuses []Status) []Status {
	var kinds []Status
	for _, s := range statuses {
		last := len(kinds) - 1
		if last < 0 || kinds[last].Resource != s.Resource {
			kinds = append(kinds, s)
			continue
		}
		kinds[last].add(&s)
	}
	return kinds
}

func (s *Status) add(more *Status) {
	s.Read += more.Read
	s.Excluded += more.Excluded
	s.Drops.Add(more.Drops)
	s.Took = max(s.Took, more.Took)
	s.Synced = s.Synced && more.Synced
	s.Watching = s.Watching && more.Watching
	s.Err = cmp.Or(s.Err, more.Err)
	s.WatchErr = cmp.Or(s.WatchErr, more.WatchErr)
	if more.Current.Before(s.Current) {
		s.Current = more.Current
	}
	if more.Listed.Before(s.Listed) {
		s.Listed = more.Listed
	}
	s.Sent += more.Sent
	s.SentBytes += more.SentBytes
	s.Changes += more.Changes
}
