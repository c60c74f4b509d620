// SPDX-License-Identifier: Apache-2.0

package emitter

import (
	"context"
	"fmt"
	"net/http"
	"time"

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
	reasonServerError   = "server_error"
	reasonUndecided     = "undecided"
)

// delivery is the way of one batch to the outcomes of its records.
type delivery struct {
	sender *sender
	// requests are those that the search for bad records has made and will make.
	requests int
	// accepted and refused count records.
	accepted, refused int
	conflict          bool
}

// deliver sends the batch until each of its records has an outcome. The error says
// why some are left without one.
func (s *sender) deliver(ctx context.Context, b *batch) error {
	if time.Since(s.lowered) >= lowerFor {
		s.limit = s.queue.size.bytes
	}
	d := delivery{sender: s}
	if err := d.sendAll(ctx, b.all()); err != nil {
		return err
	}
	if d.accepted+d.refused > 0 {
		s.stats.batches.WithLabelValues(string(d.result())).Inc()
	}
	return nil
}

// sendAll sends the records in as many requests as the limit of bytes needs.
func (d *delivery) sendAll(ctx context.Context, rest part) error {
	for len(rest.entries) > 0 {
		var p part
		p, rest = rest.cut(rest.fitting(d.sender.limit), true)
		if err := d.send(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// send gives the records of a part their outcome, or divides it.
func (d *delivery) send(ctx context.Context, p part) error {
	d.sender.forget(&p)
	if err := d.sender.awaitAcceptance(ctx, &p); err != nil {
		return err
	}
	a, rest, err := d.sender.send(ctx, &p)
	records := len(p.entries)
	if err != nil || records == 0 {
		return err
	}
	isTooLarge := a.status == http.StatusRequestEntityTooLarge
	if isTooLarge && records > 1 {
		_, bytes := p.totals()
		d.sender.lowerLimit(bytes / 2)
	}
	switch {
	case a.outcome == accepted:
		d.accept(&p, a)
		if len(rest.entries) > 0 {
			return d.send(ctx, rest)
		}
	case records == 1 || d.sender.cfg.OnRefused == config.OnRefusedDrop:
		d.refuse(&p, a, reasonOf(a))
	case isTooLarge:
		return d.sendAll(ctx, p)
	case a.status/100 == 2:
		d.refuse(&p, a, reasonNotWritten)
	case a.status >= 500:
		return d.divide(ctx, &p)
	case d.requests+2*d.sender.protocol.requests() < maxRequests:
		d.requests += 2 * d.sender.protocol.requests()
		return d.divide(ctx, &p)
	default:
		d.refuse(&p, a, reasonUndecided)
	}
	return nil
}

// divide searches for bad records in the halves of a part.
func (d *delivery) divide(ctx context.Context, p *part) error {
	left, right := p.cut(len(p.entries)/2, false)
	if err := d.send(ctx, left); err != nil {
		return err
	}
	return d.send(ctx, right)
}

// accept counts records that were accepted. Of those that an answer leaves out is
// known how many samples they have, and no record is blamed.
func (d *delivery) accept(p *part, a answer) {
	samples, _ := p.totals()
	records, leftOut, written := len(p.entries), 0, samples
	if a.written != notSaid && a.written < samples && a.status != http.StatusConflict {
		written = a.written
		leftOut = ((samples-written)*records + samples - 1) / samples
	}
	d.accepted += records - leftOut
	d.refused += leftOut
	d.conflict = d.conflict || a.status == http.StatusConflict
	d.sender.stats.accept(p, leftOut, written)
	if leftOut > 0 {
		d.sender.refusals.add(reasonNotWritten, a.err, leftOut, nil)
		d.sender.witness.reset(0) // it may be among these records, as it was
	} else {
		d.sender.refusals.acceptance(a.err)
		d.sender.remember(p)
	}
	d.sender.answered(0)
}

func (d *delivery) refuse(p *part, a answer, reason string) {
	records := len(p.entries)
	d.refused += records
	d.sender.stats.refuse(p, reason)
	id := p.identity()
	if name := p.oddName(); id != nil && name != "" && (reason == reasonBadRequest || reason == reasonUnprocessable) {
		id["hint"] = fmt.Sprintf("its label name %q has more than letters, digits and _: if the destination knows no such names, set LABELSTREAM_NAMES=underscore", name)
	}
	d.sender.refusals.add(reason, a.err, records, id)
	d.sender.answered(d.sender.refusedInRow + records)
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
	case a.status/100 == 2:
		return reasonNotWritten
	case a.status == http.StatusUnprocessableEntity:
		return reasonUnprocessable
	case a.status >= 500:
		return reasonServerError
	default:
		return reasonBadRequest
	}
}
