// SPDX-License-Identifier: Apache-2.0

package informer

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"labelstream/record"
)

// Status is how far a kind has come, in one namespace or in all.
type Status struct {
	// Resource is the kind's, Namespace the one that is read, "" for all.
	Resource, Namespace string
	// Read counts the objects of the present or last list, and Excluded those
	// among them that are in excluded namespaces.
	Read, Excluded int64
	// Total is how many the list will have read at its end, as the server
	// estimates it, or -1 while that is not known.
	Total int64
	// Seen counts the objects that lists and watches have shown so far, and
	// Vanished those that a list did not show any more.
	Seen, Vanished int64
	// Drops counts the values that were left out or truncated so far.
	Drops record.Drops
	// Listing is true while pages are read. Synced is true once a list was handed
	// over whole, Listed is when the last one was, and Took how long it took.
	Listing, Synced bool
	Listed          time.Time
	Took            time.Duration
	// Err is why the list does not get on, nil while it does. Final says that
	// waiting will not help.
	Err   error
	Final bool
	// Watching is true while a watch is open, and Watches counts those opened so
	// far. WatchErr is why none can be opened, nil while one can.
	Watching bool
	Watches  int64
	WatchErr error
	// Current is when what was handed over was last known to be complete: a list
	// was, or a watch has shown an event, or nothing for all its time.
	Current time.Time
	// Progress is when a list or a watch last got on.
	Progress time.Time
	// LedgerEntries and LedgerBytes are the number of objects that the ledger
	// knows, and the memory that it takes.
	LedgerEntries, LedgerBytes int
}

// Done tells whether there is nothing more to wait for.
func (s *Status) Done() bool { return s.Synced || s.Final }

// Keys is how many distinct keys of labels and annotations were sent, 20,000 at most.
func (in *Informers) Keys() int { return in.keys.Len() }

// tracker holds the status of one source.
type tracker struct {
	changed chan struct{}
	mu      sync.Mutex
	status  Status
}

func (t *tracker) snapshot() Status {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.status
}

// progress notes that the source has got on, and changes the status.
func (t *tracker) progress(change func(*Status)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.status.Progress = time.Now()
	change(&t.status)
}

// update is progress that [Informers.Wait] may wait for.
func (t *tracker) update(change func(*Status)) {
	t.progress(change)
	select {
	case t.changed <- struct{}{}:
	default:
	}
}

// ByKind adds up the statuses of a kind's namespaces: the kind is synced and
// watched where all of them are, as current and as lately listed as the oldest
// of them. Errors are those of the first that has one.
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
	if s.Total += more.Total; s.Total < more.Total || more.Total < 0 {
		s.Total = -1 // one of them is not known
	}
	s.Seen += more.Seen
	s.Vanished += more.Vanished
	s.Drops.Add(more.Drops)
	s.Listing = s.Listing || more.Listing
	s.Synced = s.Synced && more.Synced
	s.Took = max(s.Took, more.Took)
	s.Err = cmp.Or(s.Err, more.Err)
	s.Final = s.Final || more.Final
	s.Watching = s.Watching && more.Watching
	s.Watches += more.Watches
	s.WatchErr = cmp.Or(s.WatchErr, more.WatchErr)
	s.Listed = slices.MinFunc([]time.Time{s.Listed, more.Listed}, time.Time.Compare)
	s.Current = slices.MinFunc([]time.Time{s.Current, more.Current}, time.Time.Compare)
	s.Progress = slices.MinFunc([]time.Time{s.Progress, more.Progress}, time.Time.Compare)
	s.LedgerEntries += more.LedgerEntries
	s.LedgerBytes += more.LedgerBytes
}
