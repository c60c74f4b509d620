// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"strings"
	"time"

	"labelstream/emitter"
	"labelstream/informer"
	"labelstream/status"
	"labelstream/status/outage"
)

const (
	// maxResources and maxText bound what the status page shows: kinds, and bytes of
	// an error.
	maxResources = 500
	maxText      = 500
)

// state is what the status page shows. The readiness ends with ctx.
func (a *app) state(ctx context.Context) *status.State {
	now := time.Now()
	s := &status.State{
		Time: now.UTC(), Started: a.started.UTC(), Build: a.opts.Build, Mode: "once", Leader: true, Condition: "follower",
		Problems: []status.Problem{}, Resources: []status.Resource{}, Keys: status.Keys{Sent: a.informers.Keys(), Limit: a.cfg.MaxKeys},
		Settings: a.cfg.Changed,
	}
	switch {
	case !a.opts.once():
		s.Mode, s.Changes, s.Leader = "daemon", a.cfg.Changes, a.leading.Load()
		addProblems(s, stopCause(ctx), a.webhook.ready(), a.alive(now))
	case a.collector != nil:
		s.Mode = "inspect"
	case a.emitter == nil:
		s.Mode = "dry-run"
	}
	if a.election != nil {
		s.LeaseHolder = a.election.elector.GetLeader()
	}
	if s.Leader {
		a.addResources(s)
	}
	if a.emitter != nil {
		s.Destination = a.emitter.Status()
		addProblems(s, s.Destination.Err)
	}
	if len(s.Problems) > 0 {
		s.Condition = "failing"
	}
	return s
}

// addResources adds the kinds, and the problems of those that are missing.
func (a *app) addResources(s *status.State) {
	kinds, totals := informer.ByKind(a.informers.Status()), a.sink.Totals()
	s.Condition = "healthy"
	if len(kinds) == 0 {
		s.Condition = "backfilling"
	}
	for i := range kinds {
		if !kinds[i].Synced {
			s.Condition = "backfilling"
		}
		addProblems(s, kinds[i].Err, kinds[i].WatchErr)
		if i < maxResources {
			s.Resources = append(s.Resources, a.resource(&kinds[i], totals[kinds[i].Resource]))
		}
	}
	s.LeftOut = len(kinds) - len(s.Resources)
	if a.finder != nil {
		addProblems(s, a.finder.Missing()...)
	}
}

func (a *app) resource(kind *informer.Status, totals emitter.Totals) status.Resource {
	r := status.Resource{
		Resource: kind.Resource, Objects: int64(kind.LedgerEntries), Read: kind.Read, Synced: kind.Synced, Watching: kind.Watching,
		LastList: kind.Listed.UTC(), LastSync: kind.Current.UTC(), Sent: totals.Accepted, Refused: totals.Refused,
		Drops: kind.Drops,
	}
	if kind.Total >= 0 {
		r.Total = &kind.Total
	}
	if a.opts.once() {
		r.Objects = kind.Read - kind.Excluded // there is no ledger
	}
	if err := errors.Join(kind.Err, kind.WatchErr); err != nil {
		r.Error = shorten(err.Error())
	}
	return r
}

// addProblems adds those that are errors. Of too many it adds the first.
func addProblems(s *status.State, errs ...error) {
	for _, err := range errs {
		if err != nil && len(s.Problems) < maxResources {
			s.Problems = append(s.Problems, status.Problem{Error: shorten(err.Error()), Hint: outage.Hint(err)})
		}
	}
}

func shorten(text string) string {
	if len(text) > maxText {
		return strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	return text
}
