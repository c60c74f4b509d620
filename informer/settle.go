package informer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"labelstream/ledger"
	"labelstream/record"
)

const (
	// settleInterval is how often it is looked which claims have waited for
	// too long, and settleMost how many of a source are asked for then. Where
	// there are more, a list is cheaper.
	settleInterval = 5 * time.Second
	settleMost     = 50
	// getTimeout bounds one request for an object.
	getTimeout = 10 * time.Second
	// settleQuiet is after how long without a failure the next is told: longer
	// than until an object is asked for again.
	settleQuiet = 2 * time.Minute
)

// acceptObject asks for metadata alone. The last form is what a server that
// cannot reduce objects to metadata answers.
const acceptObject = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"

// settler is what it takes to settle claims.
type settler struct {
	builder *record.Builder
	pulse   pulse
	// failed is when a request has failed last. The errors of two objects
	// differ, so the first is told and no other.
	failed time.Time
}

// settle asks the API server for the objects of claims that no event has
// settled in time, until ctx ends.
func (s *source) settle(ctx context.Context) {
	ticker := time.NewTicker(settleInterval)
	defer ticker.Stop()
	defer s.settler.pulse.rest()
	for {
		s.settler.pulse.within(settleInterval + stepTime)
		select {
		case <-ticker.C:
			s.settleDue(ctx)
		case <-ctx.Done():
			return
		}
	}
}

func (s *source) settleDue(ctx context.Context) {
	// Asked for first: a list that ends meanwhile leaves nothing due.
	healing := s.table.NeedsHealing()
	due := s.table.Due(time.Now(), settleMost+1)
	if len(due) > settleMost {
		if !healing {
			s.table.Heal()
		}
		return
	}
	for _, claim := range due {
		s.settler.pulse.within(getTimeout + stepTime)
		if s.table.Ask(claim, time.Now()) && !s.settleOne(ctx, claim) {
			return
		}
	}
}

// listInstead has a list settle what is due.
func (s *source) listInstead() {
	// The next look may come before that list begins.
	if !s.table.NeedsHealing() {
		s.table.Heal()
	}
}

// settleOne returns false where it is no use to go on with others. A claim that
// could not be settled is due again later.
func (s *source) settleOne(ctx context.Context, claim ledger.Claim) bool {
	o, err := s.object(ctx, claim)
	switch {
	case ctx.Err() != nil:
		return false
	case err == nil:
		return s.confirm(ctx, claim, o) == nil
	case apierrors.IsNotFound(err):
		if s.table.Forget(claim) {
			s.metrics.phantoms.Inc()
		}
		return true
	}
	s.metrics.failed("get", err)
	if apierrors.IsForbidden(err) || apierrors.IsMethodNotSupported(err) {
		s.listInstead()
	}
	now := time.Now()
	if now.Sub(s.settler.failed) > settleQuiet {
		s.log.WithError(s.describe("get", err)).Warn("Cannot ask whether what a review has shown came to be; trying again")
	}
	s.settler.failed = now
	all := ofAll(err)
	if all && !refusal(err) {
		s.table.Again(claim)
	}
	return !all
}

// errUnreadable marks an answer that makes no sense.
var errUnreadable = errors.New("decode")

// ofAll tells whether an error is no fault of the one object that was asked for:
// the server does not answer, lets us do nothing, or has too much to do.
func ofAll(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return !errors.Is(err, errUnreadable)
	}
	switch status.Status().Code {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return true
	}
	return false
}

// confirm takes what an object is. The error is the context's.
func (s *source) confirm(ctx context.Context, claim ledger.Claim, o *record.Object) error {
	r, ok := s.settler.builder.Build(o)
	s.metrics.dropped(s.settler.builder.TakeDrops())
	if !ok {
		return nil
	}
	sent, err := s.offer(ctx, r, &s.settler.pulse, func(r *record.Record) ledger.Verdict { return s.table.Confirm(claim, r) })
	if sent {
		s.metrics.corrected.Inc()
	}
	return err
}

// object asks for an object's metadata.
func (s *source) object(ctx context.Context, claim ledger.Claim) (*record.Object, error) {
	ctx, cancel := context.WithTimeout(ctx, getTimeout)
	defer cancel()
	result := s.client.Get().AbsPath(objectPath(s.kind, claim.Namespace, claim.Name)).MaxRetries(0).
		SetHeader("Accept", acceptObject).Do(ctx)
	// Only this error has what the server says.
	if err := result.Error(); err != nil {
		return nil, s.withoutURL(err)
	}
	body, err := result.Raw()
	if err != nil {
		return nil, err
	}
	var text jsonReader
	var o object
	text.value(body)
	if text.object(&o); text.err != nil {
		return nil, fmt.Errorf("%w %s %s/%s: %w", errUnreadable, s.kind.Resource, claim.Namespace, claim.Name, text.err)
	}
	return &o.Object, nil
}

func objectPath(kind *Kind, namespace, name string) string {
	if !kind.Namespaced {
		// The object stands below the list of all.
		namespace = ""
	}
	path, _ := location(kind, namespace)
	return path + "/" + name
}
