// SPDX-License-Identifier: Apache-2.0

package emitter

import (
	"context"
	"fmt"
	"math/rand/v2"

	"labelstream/record"
)

// awaitAcceptance returns at once, except where many records were refused in a row:
// then once the destination is seen to accept any. What waits meanwhile costs nothing,
// where its refusal would.
func (s *sender) awaitAcceptance(ctx context.Context, p *part) error {
	for s.refusedInRow >= maxRefusedInRow {
		a, err := s.probe(ctx, p)
		if err != nil {
			return err
		}
		if a.outcome == accepted {
			s.answered(0)
			return nil
		}
		err = fmt.Errorf("%d records in a row were refused, the last: %w", s.refusedInRow, a.err)
		s.hopeless("The destination refuses every record", "refuses every record", err)
		if err := s.pause(ctx); err != nil {
			return err
		}
	}
	return nil
}

// probe sends the witness once more, and one of the part's records if the witness is
// not accepted. The answer decides on neither: the record stays in the part.
func (s *sender) probe(ctx context.Context, p *part) (a answer, err error) {
	at := rand.IntN(len(p.entries))
	for _, one := range []part{s.witness.all(), {batch: p.batch, entries: p.entries[at : at+1]}} {
		if len(one.entries) == 0 {
			continue
		}
		if a, err = s.try(ctx, &one); err != nil || a.outcome == accepted {
			break
		}
	}
	return a, err
}

// remember makes the last record of an accepted part the witness, but for one whose
// object is gone by now.
func (s *sender) remember(p *part) {
	var last *entry
	for i := range p.entries {
		if e := &p.entries[i]; !e.deleted {
			last = e
		} else if last != nil && last.key == e.key {
			last = nil
		}
	}
	if last != nil {
		rec := record.Record{Kind: last.kind, Key: last.key, Count: int(last.series), Series: p.series(last)}
		s.witness.reset(s.queue.size.bytes)
		s.witness.add(&rec, newEntry(&rec, false), last.queued, s.queue.size.bytes)
	}
}

// forget gives up a witness whose object's end is in the part: its series must not come
// to life again.
func (s *sender) forget(p *part) {
	for i := range p.entries {
		if e := &p.entries[i]; e.deleted && len(s.witness.entries) > 0 && e.key == s.witness.entries[0].key {
			s.witness.reset(s.queue.size.bytes)
		}
	}
}
