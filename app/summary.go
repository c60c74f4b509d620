// SPDX-License-Identifier: Apache-2.0

package app

import (
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"text/tabwriter"

	"github.com/sirupsen/logrus"

	"labelstream/emitter"
	"labelstream/informer"
)

// summarize says what came of each kind, over all its namespaces: in a table on a
// terminal, in a log line elsewhere.
func (a *app) summarize(statuses []informer.Status, totals map[string]emitter.Totals) {
	if isTerminal(a.opts.Stderr) {
		writeSummary(a.opts.Stderr, informer.ByKind(statuses), totals)
		return
	}
	for _, s := range informer.ByKind(statuses) {
		sent := totals[s.Resource]
		fields := logrus.Fields{
			"kind":    s.Resource,
			"read":    s.Read,
			"sent":    sent.Accepted,
			"seconds": math.Round(s.Took.Seconds()*100) / 100,
		}
		if s.Took > 0 {
			fields["objects_per_second"] = perSecond(s.Read, s.Took)
		}
		for name, n := range map[string]int64{
			"refused":          sent.Refused,
			"excluded":         s.Excluded,
			"values_empty":     int64(s.Drops.Empty),
			"values_unsafe":    int64(s.Drops.Unsafe),
			"values_truncated": int64(s.Drops.Truncated),
			"labels_long_name": int64(s.Drops.LongName),
			"labels_too_many":  int64(s.Drops.TooMany),
		} {
			if n > 0 {
				fields[name] = n
			}
		}
		if isBackfilled(&s, sent) {
			a.log.WithFields(fields).Info("Backfilled")
		} else {
			a.log.WithFields(fields).Error("Not backfilled")
		}
	}
}

func isBackfilled(s *informer.Status, sent emitter.Totals) bool {
	return s.Synced && sent.Accepted == s.Read-s.Excluded
}

func writeSummary(w io.Writer, kinds []informer.Status, totals map[string]emitter.Totals) {
	table := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "KIND\tREAD\tEXCLUDED\tSENT\tREFUSED\tVALUES DROPPED\tVALUES CUT\tSECONDS\tOBJECTS/S\tBACKFILLED")
	for _, s := range kinds {
		sent, drops := totals[s.Resource], s.Drops
		result := "yes"
		if !isBackfilled(&s, sent) {
			result = "no"
		}
		fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%.2f\t%d\t%s\n", s.Resource, s.Read, s.Excluded, sent.Accepted, sent.Refused,
			drops.Empty+drops.Unsafe+drops.LongName+drops.TooMany, drops.Truncated, s.Took.Seconds(), perSecond(s.Read, s.Took), result)
	}
	_ = table.Flush()
}

// warnUnmatched names the patterns that matched no key of all that was read.
func (a *app) warnUnmatched() {
	unmatched := a.cfg.Unmatched()
	for _, variable := range slices.Sorted(maps.Keys(unmatched)) {
		a.log.WithFields(logrus.Fields{
			"variable": variable,
			"patterns": unmatched[variable],
			"hint":     "patterns match keys as objects have them, such as app.kubernetes.io/name",
		}).Warn("Patterns matched no key")
	}
}

// missing returns an error for each thing that was not read or not accepted.
// Where the run was ended, that is the one reason for what was not finished.
func missing(statuses []informer.Status, totals map[string]emitter.Totals, ended bool) []error {
	var errs []error
	for _, s := range statuses {
		switch {
		case s.Synced:
		case s.Err != nil:
			errs = append(errs, s.Err)
		case !ended:
			errs = append(errs, fmt.Errorf("list %s: not finished", s.Resource))
		}
	}
	for _, s := range informer.ByKind(statuses) {
		if n := totals[s.Resource].Refused; n > 0 {
			errs = append(errs, fmt.Errorf("send %s: records that the destination refused: %d", s.Resource, n))
		}
	}
	if n := totals[""].Refused; n > 0 {
		errs = append(errs, fmt.Errorf("send records of several kinds: records that the destination refused, without saying which: %d", n))
	}
	return errs
}
