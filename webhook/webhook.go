// SPDX-License-Identifier: Apache-2.0

// Package webhook is the admission webhook: the API server shows it each write
// as it comes. It allows them all, and none waits.
package webhook

import "labelstream/record"

// Outcome is what became of a review.
type Outcome string

// The outcomes that a Target gives.
const (
	Sent      Outcome = "sent"       // the record is in the queue
	Unchanged Outcome = "unchanged"  // the same was sent before
	NoRoom    Outcome = "no_room"    // the queue is full
	Excluded  Outcome = "excluded"   // the object's namespace was not chosen
	NotChosen Outcome = "not_chosen" // the kind was not chosen
	Stopping  Outcome = "stopping"   // the process ends
)

// The outcomes of reviews that no Target is asked about: they do not show an
// object's metadata as it will be.
const (
	dryRun      Outcome = "dry_run"
	connect     Outcome = "connect"
	subresource Outcome = "subresource"
	unnamed     Outcome = "unnamed"
)

// Change is what a review shows: an object as it is about to be, or as it was
// before it is deleted. It is valid until Review returns.
type Change struct {
	// Group and Resource name the kind, such as "apps" and "deployments".
	Group, Resource string
	// Object has its labels and annotations sorted by key.
	Object *record.Object
	// Old returns what the object was before an update; nil without one.
	Old func() *record.Object
	// Deleted says that the object is about to be deleted.
	Deleted bool
}

// Target receives what reviews show.
type Target interface {
	// Review handles a change. It returns the kind's name, "" where the kind was
	// not chosen. It is called concurrently and must not block.
	Review(*Change) (kind string, outcome Outcome)
}
