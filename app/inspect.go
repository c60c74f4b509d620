// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"slices"

	"labelstream/emitter"
	"labelstream/informer"
	"labelstream/record"
)

// discard is the sink of an inspection, which needs only what the informers observe.
type discard struct{}

var _ sink = discard{}

func (discard) Put(ctx context.Context, _ *record.Record, _ func(*record.Record) bool) (bool, error) {
	return false, ctx.Err()
}
func (discard) Close()                            {}
func (discard) Run(context.Context) error         { return nil }
func (discard) Totals() map[string]emitter.Totals { return nil }

// gcPercent is how much garbage there may be by the heap, which the counts of an
// inspection make several times as large as it is otherwise. The collector does not
// look into most of them.
const gcPercent = 10

// inspect reads every object of every chosen kind once, sends nothing, and prints
// what there is. It returns nil only if all were read, else an error for each thing
// that is missing, which the report says too.
func (a *app) inspect(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, a.cfg.OnceTimeout,
		fmt.Errorf("not done within LABELSTREAM_ONCE_TIMEOUT (%s)", a.cfg.OnceTimeout))
	defer cancel()
	if _, isSet := os.LookupEnv("GOGC"); !isSet {
		defer debug.SetGCPercent(debug.SetGCPercent(gcPercent))
	}
	catalog, err := a.discover(ctx, discoveryPatience)
	if err != nil {
		return errors.Join(err, stopCause(ctx))
	}
	kinds, errs := catalog.Kinds(a.cfg)
	shown := func(k *informer.Kind) bool { return a.opts.Inspect.Reads(&k.Kind) && k.HasSeries() }
	if !slices.ContainsFunc(kinds, shown) && len(errs) == 0 {
		return fmt.Errorf("--kind=%s is none of the kinds that the settings choose", a.opts.Inspect.Kind)
	}
	kinds = slices.DeleteFunc(kinds, func(k *informer.Kind) bool { return !shown(k) && !k.IsParent(a.cfg) })
	for _, k := range kinds {
		k.Labels, k.Annotations = k.Labels && shown(k), k.Annotations && shown(k)
	}
	a.informers.Add(kinds)
	stopProgress := a.showProgress(ctx)
	a.readOnce(ctx)
	stopProgress()
	err = stopCause(ctx)
	errs = append(append(errs, missing(a.informers.Status(), nil, err != nil)...), err)
	report := a.collector.Report()
	for _, err := range errs {
		if err != nil {
			report.Notes = append(report.Notes, "Not all was read: "+err.Error())
		}
	}
	return errors.Join(append(errs, report.Write(a.opts.Stdout, a.opts.Inspect.Output))...)
}

// observe counts one object, and what would be sent of it.
func (a *app) observe(o *record.Object, r *record.Record, dropped record.Drops) {
	a.collector.Observe(o, r, emitter.RecordSize(r), dropped)
}
