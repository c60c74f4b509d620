package app

import (
	"context"
	"errors"
	"strings"
	"time"

	"labelstream/config"
	"labelstream/emitter"
	"labelstream/informer"
	"labelstream/status"
	"labelstream/status/outage"
)

const (
	// maxResources and maxText bound what the status page shows: kinds, and bytes of
	// an error or of a setting's value.
	maxResources = 500
	maxText      = 500
)

// state is what the status page shows. The readiness ends with ctx.
func (a *app) state(ctx context.Context) *status.State {
	now := time.Now()
	s := &status.State{
		Time: now.UTC(), Started: a.started.UTC(), Build: a.opts.Build, Mode: "once", Leader: true, Condition: status.Follower,
		Problems: []status.Problem{}, Resources: []status.Resource{}, Refused: []status.Refusal{}, Settings: []status.Setting{},
		Keys: status.Keys{Sent: a.informers.Keys(), Limit: a.cfg.MaxKeys},
	}
	for _, setting := range a.cfg.Changed {
		s.Settings = append(s.Settings, status.Setting{Name: setting.Name, Value: cut(setting.Value)})
	}
	switch {
	case !a.opts.once():
		s.Mode, s.Changes, s.Leader = "daemon", string(a.cfg.Changes), a.leading.Load()
		addProblems(s, stopCause(ctx), a.webhook.ready(), a.alive(now))
	case a.emitter == nil:
		s.Mode = "dry-run"
	}
	if a.election != nil {
		s.LeaseHolder = a.election.elector.GetLeader()
	}
	if s.Leader {
		s.Condition = status.Healthy
		a.addResources(s)
	}
	if a.emitter != nil {
		a.addDestination(s)
	}
	if len(s.Problems) > 0 {
		s.Condition = status.Failing
	}
	return s
}

// addResources adds the kinds, and those that are missing.
func (a *app) addResources(s *status.State) {
	kinds, totals := informer.ByKind(a.informers.Status()), a.sink.Totals()
	if len(kinds) == 0 {
		s.Condition = status.Backfilling
	}
	for _, kind := range kinds {
		if !kind.Synced {
			s.Condition = status.Backfilling
		}
		addProblems(s, kind.Err, kind.WatchErr)
	}
	if a.finder != nil {
		addProblems(s, a.finder.Missing()...)
	}
	s.LeftOut = max(0, len(kinds)-maxResources)
	for _, kind := range kinds[:len(kinds)-s.LeftOut] {
		s.Resources = append(s.Resources, a.resource(&kind, totals[kind.Resource]))
	}
}

func (a *app) resource(kind *informer.Status, totals emitter.Totals) status.Resource {
	r := status.Resource{
		Resource: kind.Resource, Objects: int64(kind.LedgerEntries), Read: kind.Read, Synced: kind.Synced,
		LastList: kind.Listed.UTC(), LastSync: kind.Current.UTC(), Sent: totals.Accepted, Refused: totals.Refused,
		Dropped: status.Dropped{
			Empty: uint64(kind.Drops.Empty), Unsafe: uint64(kind.Drops.Unsafe), LongName: uint64(kind.Drops.LongName), TooMany: uint64(kind.Drops.TooMany),
		},
		Truncated: uint64(kind.Drops.Truncated),
	}
	if kind.Total >= 0 {
		r.Total = &kind.Total
	}
	if a.opts.once() {
		r.Objects = kind.Read - kind.Excluded
	} else if a.cfg.Changes == config.ChangesWatch {
		r.Watching = &kind.Watching
	}
	if err := errors.Join(kind.Err, kind.WatchErr); err != nil {
		r.Error = cut(err.Error())
	}
	return r
}

func (a *app) addDestination(s *status.State) {
	e := a.emitter.Status()
	addProblems(s, e.Err)
	s.Destination = &status.Destination{
		URL: e.Destination, Protocol: e.Protocol, QueueLength: e.Unsent, QueueCapacity: e.Capacity, OldestAgeSeconds: e.Oldest.Seconds(),
		LastSuccess: e.LastSuccess.UTC(), RefusedUnnamed: a.emitter.Totals()[""].Refused,
	}
	if e.Err != nil {
		s.Destination.FailingSince, s.Destination.Error = e.Since.UTC(), cut(e.Err.Error())
	}
	for _, r := range e.Recent {
		r.Time = r.Time.UTC()
		s.Refused = append(s.Refused, status.Refusal(r))
	}
}

// addProblems adds those that are errors. Of too many it adds the first.
func addProblems(s *status.State, errs ...error) {
	for _, err := range errs {
		if err != nil && len(s.Problems) < maxResources {
			s.Problems = append(s.Problems, status.Problem{Error: cut(err.Error()), Hint: outage.Hint(err)})
		}
	}
}

func cut(text string) string {
	if len(text) > maxText {
		return strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	return text
}
