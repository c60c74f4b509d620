// SPDX-License-Identifier: Apache-2.0

package status

import (
	"time"

	"labelstream/config"
	"labelstream/emitter"
	"labelstream/record"
)

// State is what a process does, as the status page and /api/v1/status show it.
// docs/status.md says what each field is; the JSON names are stable.
type State struct {
	Time    time.Time `json:"time"`
	Started time.Time `json:"started"`
	Build   Build     `json:"build"`
	// Mode is daemon, once or dry-run.
	Mode string `json:"mode"`
	// Changes is empty but in a daemon.
	Changes config.Changes `json:"changes,omitempty"`
	// Condition is follower, backfilling, healthy or failing.
	Condition string `json:"condition"`
	Leader    bool   `json:"leader"`
	// LeaseHolder is empty without an election.
	LeaseHolder string     `json:"leaseHolder,omitempty"`
	Problems    []Problem  `json:"problems"`
	Resources   []Resource `json:"resources"`
	LeftOut     int        `json:"resourcesLeftOut"`
	// Destination is nil in a dry run.
	Destination *emitter.Status  `json:"destination,omitempty"`
	Keys        Keys             `json:"keys"`
	Settings    []config.Setting `json:"settings"`
}

// Problem is what fails, and what to do about it.
type Problem struct {
	Error string `json:"error"`
	Hint  string `json:"hint,omitempty"`
}

// Resource is how far one kind is.
type Resource struct {
	Resource string `json:"resource"`
	// Objects are those that are known, Read those of the present or last list, and
	// Total is how many that will have read, nil while that is not known.
	Objects  int64        `json:"objects"`
	Read     int64        `json:"read"`
	Total    *int64       `json:"total"`
	Synced   bool         `json:"synced"`
	Watching bool         `json:"watching"`
	LastList time.Time    `json:"lastList,omitzero"`
	LastSync time.Time    `json:"lastSync,omitzero"`
	Sent     int64        `json:"sent"`
	Refused  int64        `json:"refused"`
	Drops    record.Drops `json:"drops"`
	Error    string       `json:"error,omitempty"`
}

// Keys are the distinct keys that were sent, and how many the receiver keeps.
type Keys struct {
	Sent  int `json:"sent"`
	Limit int `json:"limit"`
}

// Ago is how long before the state a time was.
func (s *State) Ago(at time.Time) string {
	if at.IsZero() {
		return "never"
	}
	return s.Time.Sub(at).Round(time.Second).String() + " ago"
}
