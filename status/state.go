package status

import "time"

// The conditions that a process is in.
const (
	// Follower is a replica that waits for the Lease.
	Follower Condition = "follower"
	// Backfilling is a process that has not read all for the first time.
	Backfilling Condition = "backfilling"
	// Healthy is one that has, and follows changes.
	Healthy Condition = "healthy"
	// Failing is one that has problems.
	Failing Condition = "failing"
)

// State is what a process does, as the status page and /api/v1/status show it.
// docs/status.md says what each field is; the JSON names are stable.
type State struct {
	Time    time.Time `json:"time"`
	Started time.Time `json:"started"`
	Build   Build     `json:"build"`
	// Mode is daemon, once or dry-run.
	Mode      string    `json:"mode"`
	Changes   string    `json:"changes,omitempty"`
	Condition Condition `json:"condition"`
	Leader    bool      `json:"leader"`
	// LeaseHolder is empty without an election.
	LeaseHolder string       `json:"leaseHolder,omitempty"`
	Problems    []Problem    `json:"problems"`
	Resources   []Resource   `json:"resources"`
	LeftOut     int          `json:"resourcesLeftOut"`
	Destination *Destination `json:"destination,omitempty"`
	Refused     []Refusal    `json:"refused"`
	Keys        Keys         `json:"keys"`
	Settings    []Setting    `json:"settings"`
}

// Condition is a process's as a whole.
type Condition string

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
	Objects int64  `json:"objects"`
	Read    int64  `json:"read"`
	Total   *int64 `json:"total"`
	Synced  bool   `json:"synced"`
	// Watching is nil where nothing is watched.
	Watching  *bool     `json:"watching,omitempty"`
	LastList  time.Time `json:"lastList,omitzero"`
	LastSync  time.Time `json:"lastSync,omitzero"`
	Sent      int64     `json:"sent"`
	Refused   int64     `json:"refused"`
	Dropped   Dropped   `json:"dropped"`
	Truncated uint64    `json:"truncated"`
	Error     string    `json:"error,omitempty"`
}

// Dropped counts values that were left out, by the reasons of
// labelstream_values_dropped_total.
type Dropped struct {
	Empty    uint64 `json:"empty"`
	Unsafe   uint64 `json:"unsafe"`
	LongName uint64 `json:"long_name"`
	TooMany  uint64 `json:"too_many"`
}

// Destination is how the delivery is.
type Destination struct {
	URL      string `json:"url"`
	Protocol string `json:"protocol"`
	// QueueLength and QueueCapacity are records.
	QueueLength      int64     `json:"queueLength"`
	QueueCapacity    int       `json:"queueCapacity"`
	OldestAgeSeconds float64   `json:"oldestAgeSeconds"`
	LastSuccess      time.Time `json:"lastSuccess,omitzero"`
	FailingSince     time.Time `json:"failingSince,omitzero"`
	Error            string    `json:"error,omitempty"`
	// RefusedUnnamed counts refused records of which the resource is not known.
	RefusedUnnamed int64 `json:"refusedUnnamed"`
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

// Keys are the distinct keys that were sent, and how many the receiver keeps, 0 for
// any number.
type Keys struct {
	Sent  int `json:"sent"`
	Limit int `json:"limit"`
}

// Setting is one that has not its default.
type Setting struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}
