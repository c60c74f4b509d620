package emitter

import (
	"context"
	"net/http"

	"labelstream/config"
)

// maxRequests is how many a batch may take to find bad records: 64 find three
// among 500.
const maxRequests = 64

// The reasons for which records are refused. Each is the answer's, but for those
// that were refused with others when the search for the bad ones ended.
const (
	reasonBadRequest    = "bad_request"
	reasonTooLarge      = "too_large"
	reasonUnprocessable = "unprocessable"
	reasonNotWritten    = "not_written"
	reasonUndecided     = "undecided"
)

// delivery is the way of one batch to the outcomes of its records.
type delivery struct {
	sender *sender
	batch  *batch
	// from is the first record without an outcome.
	from int
	// ends are where the parts end that are to be sent, the next one last. The
	// first part begins at from, each other where the one before it ends.
	ends []int
	// whole is where the last part begins that is no piece of something refused.
	whole int
	// requests are those that searched for bad records.
	requests int
	// accepted and refused count records.
	accepted, refused int
	conflict          bool
}

// deliver sends the batch until each of its records has an outcome. The error says
// why some are left without one.
func (s *sender) deliver(ctx context.Context, b *batch) error {
	if err := s.startBatch(ctx); err != nil {
		return err
	}
	d := delivery{sender: s, batch: b}
	for d.from < len(b.entries) {
		p, isWhole := d.next()
		a, err := s.send(ctx, b, p, isWhole)
		if err != nil {
			return err
		}
		// The place for a step between refused and retryable: a part whose failure
		// looks like its own could be divided here too.
		d.handle(p, a, isWhole)
	}
	if d.accepted+d.refused > 0 {
		s.stats.batches.WithLabelValues(string(d.result())).Inc()
	}
	return nil
}

// next is the part to send. A batch that is larger than the limit by now is sent
// in several. isWhole says that the part is no piece of something refused.
func (d *delivery) next() (p part, isWhole bool) {
	if len(d.ends) == 0 {
		d.whole = d.from
		d.ends = append(d.ends, d.batch.firstPart(d.from, int(d.sender.queue.limit.Load())).to)
	}
	return part{d.from, d.ends[len(d.ends)-1]}, len(d.ends) == 1 && d.from == d.whole
}

// handle gives the records of a part their outcome, or divides it.
func (d *delivery) handle(p part, a answer, isWhole bool) {
	isTooLarge := a.status == http.StatusRequestEntityTooLarge
	if !isWhole {
		d.requests += a.requests
	}
	records, samples, bytes := d.batch.totals(p)
	if isTooLarge && records > 1 {
		d.sender.lowerLimit(bytes / 2)
	}
	switch {
	case a.outcome == accepted:
		d.accept(p, a, records, samples)
	case records == 1 || d.sender.onRefused == config.OnRefusedDrop:
		d.refuse(p, a, records, reasonOf(a))
	case isTooLarge:
		d.ends = d.ends[:0] // in parts below the limit
	case a.written == 0:
		d.refuse(p, a, records, reasonNotWritten)
	case d.canDivide():
		d.ends = append(d.ends, p.from+p.len()/2)
	default:
		d.refuse(p, a, records, reasonUndecided)
	}
}

// canDivide tells whether there are requests left to send the halves of a part,
// and all that is pending.
func (d *delivery) canDivide() bool {
	each := 1
	if d.sender.protocol.version() == unknown {
		each = 2
	}
	return d.requests+each*(len(d.ends)+1) < maxRequests
}

// accept counts records that were accepted. Of those that an answer leaves out is
// known how many samples they have, and no record is blamed.
func (d *delivery) accept(p part, a answer, records, samples int) {
	d.end(p, records)
	if records == 0 {
		return
	}
	leftOut, written := 0, samples
	if a.written != notSaid && a.status != http.StatusConflict {
		written = a.written
		leftOut = ((samples-written)*records + samples - 1) / samples
		d.refused += leftOut
	}
	d.accepted += records - leftOut
	d.conflict = d.conflict || a.status == http.StatusConflict
	d.sender.stats.accept(d.batch.of(p), leftOut, written, d.sender.clock.now())
	if leftOut > 0 {
		d.sender.refusals.add(reasonNotWritten, a.err, leftOut, identity{})
	}
	d.sender.recovered()
}

func (d *delivery) refuse(p part, a answer, records int, reason string) {
	d.end(p, records)
	d.refused += records
	for resource, n := range byResource(d.batch.of(p)) {
		d.sender.stats.refuse(resource, reason, n)
	}
	id := identity{}
	if p.len() == 1 {
		id = d.batch.identity(p.from)
	}
	d.sender.refusals.add(reason, a.err, records, id)
	d.sender.refusedMore(records, a.err)
}

// end moves on to what follows the part.
func (d *delivery) end(p part, records int) {
	d.from = p.to
	d.ends = d.ends[:len(d.ends)-1]
	d.sender.stats.unsent.Add(-int64(records))
}

// result is the batch's.
func (d *delivery) result() batchResult {
	switch {
	case d.refused > 0 && d.accepted == 0:
		return batchRefused
	case d.refused > 0:
		return batchPartial
	case d.conflict:
		return batchConflict
	default:
		return batchAccepted
	}
}

func reasonOf(a answer) string {
	switch {
	case a.status == http.StatusRequestEntityTooLarge:
		return reasonTooLarge
	case a.written == 0:
		return reasonNotWritten
	case a.status == http.StatusUnprocessableEntity:
		return reasonUnprocessable
	default:
		return reasonBadRequest
	}
}
