// SPDX-License-Identifier: Apache-2.0

package emitter

import (
	"cmp"
	"context"
	"slices"

	"labelstream/config"
)

// maxSameErrors is how many times in a row the same server error may be the answer to a
// part before bad records are searched for in it.
const maxSameErrors = 5

// streak counts the same server error in a row. One with a Retry-After does not count:
// the receiver knows that it is in trouble.
type streak struct{ status, length int }

func (s *streak) add(a answer) {
	if a.status < 500 || a.after > 0 {
		*s = streak{}
		return
	}
	if a.status != s.status {
		*s = streak{status: a.status}
	}
	s.length++
}

// isSearched tells whether the last server error makes a search due: each fifth in a
// row, and the first too that several suspects meet.
func (s *sender) isSearched(p *part, same streak) bool {
	isDue := same.length%maxSameErrors == 0 || same.length == 1 && p.isSuspect && len(p.entries) > 1
	return isDue && same.length > 0 && s.cfg.OnRefused == config.OnRefusedHalve
}

// search looks for bad records in a part that meets server errors: it tries pieces of
// the part once each, quarters first, eighths in later rounds.
//   - If a piece is accepted, p becomes it, and rest is the other records: suspects.
//   - If no piece of several suspects is, but the witness, they are refused, which divides
//     them. A single suspect object is refused as well.
//   - Otherwise it is an outage, and a stays the answer.
func (s *sender) search(ctx context.Context, p *part, a answer, round int) (found answer, rest part, err error) {
	// An object's records stay in one piece, in their order: so it does not matter which
	// piece is accepted first.
	slices.SortStableFunc(p.entries, func(a, b entry) int { return cmp.Compare(a.key, b.key) })
	isOne := p.entries[0].key == p.entries[len(p.entries)-1].key
	size := max(1, len(p.entries)>>min(1+round, 3))
	for from, to := 0, 0; to < len(p.entries) && !isOne; from = to {
		to = p.pieceEnd(from, size)
		piece := part{batch: p.batch, entries: p.entries[from:to]}
		if found, err = s.try(ctx, &piece); err != nil || found.outcome == accepted {
			rest = part{batch: p.batch, entries: slices.Concat(p.entries[:from], p.entries[to:]), isSuspect: true}
			*p = piece
			return found, rest, err
		}
	}
	switch witness := s.witness.all(); {
	case p.isSuspect && isOne:
		a.outcome = refused
	case p.isSuspect && len(witness.entries) > 0:
		if found, err = s.try(ctx, &witness); found.outcome == accepted {
			a.outcome = refused
		}
	}
	return a, rest, err
}
