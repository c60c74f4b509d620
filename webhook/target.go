// Package webhook is the admission webhook: it shows the API server's writes
// as they come, allows them all, and never has one wait.
package webhook

import "labelstream/record"

// Outcome is what became of a review.
type Outcome string

// The outcomes that a Target gives.
const (
	// Sent reviews gave a record that is in the queue.
	Sent Outcome = "sent"
	// Known reviews show what was sent before.
	Known Outcome = "known"
	// Gone reviews are of deletions whose end has been sent before.
	Gone Outcome = "gone"
	// LeftToWatch reviews came while the same object was being handled, or after
	// one that did: its watch will bring what they show.
	LeftToWatch Outcome = "left_to_watch"
	// Deferred reviews could not be taken: their kind is listed again.
	Deferred Outcome = "deferred"
	// Excluded reviews are of objects in namespaces that were not chosen.
	Excluded Outcome = "excluded"
	// NotChosen reviews are of kinds that were not chosen, or are not known
	// yet.
	NotChosen Outcome = "not_chosen"
	// Standby reviews came to a replica that leaves them to the leader.
	Standby Outcome = "standby"
)

// The outcomes that need no Target.
const (
	// dryRun, connect, subresource and unnamed reviews are of no object's
	// metadata that will be.
	dryRun      Outcome = "dry_run"
	connect     Outcome = "connect"
	subresource Outcome = "subresource"
	unnamed     Outcome = "unnamed"
	// unread reviews were not read to their end, or not taken: too large, over
	// the budget, or cut off. Where their beginning names a chosen kind, that is listed
	// again.
	tooLarge   Outcome = "too_large"
	overBudget Outcome = "over_budget"
	cutOff     Outcome = "cut_off"
)

// Change is what a review shows: an object as it is about to be, or, of one
// that is about to be deleted, as it was. It is valid until Take returns.
type Change struct {
	// Group and Resource name the kind, such as "apps" and "deployments".
	Group, Resource []byte
	Object          *record.Object
	// Deleted says that it is about to be deleted.
	Deleted bool
}

// Target takes what reviews show. Its methods may be called at the same time,
// and must not wait for anything.
type Target interface {
	// Take takes a change, and names its kind as Kind does.
	Take(*Change) (kind string, outcome Outcome)
	// Heal takes that a review of the kind has not been read.
	Heal(group, resource []byte)
	// Kind returns the name of a kind that was chosen, or "".
	Kind(group, resource []byte) string
}
