package informer

import (
	"context"
	"fmt"
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
)

// acceptObject asks for metadata alone. The last form is what a server that
// cannot reduce objects to metadata answers.
const acceptObject = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"

// settler is what it takes to settle claims.
type settler struct {
	builder *record.Builder
	pulse   pulse
	// failing says that the last request has failed. The errors of two
	// objects differ, so the first is told and no other.
	failing bool
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
	due := s.table.Due(time.Now(), settleMost+1)
	if len(due) > settleMost {
		s.table.Heal()
		return
	}
	for _, claim := range due {
		s.settler.pulse.within(getTimeout + stepTime)
		if !s.settleOne(ctx, claim) {
			return
		}
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
		s.settler.failing = false
		return s.confirm(ctx, claim, o) == nil
	case apierrors.IsNotFound(err):
		s.settler.failing = false
		if s.table.Forget(claim) {
			s.metrics.phantoms.Inc()
		}
		return true
	}
	s.metrics.failed("get", err)
	if apierrors.IsForbidden(err) {
		s.table.Heal()
	}
	if !s.settler.failing {
		s.settler.failing = true
		s.log.WithError(s.describe("get", err)).Warn("Cannot ask whether what a review has shown came to be; trying again")
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
		return nil, fmt.Errorf("decode %s %s/%s: %w", s.kind.Resource, claim.Namespace, claim.Name, text.err)
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
