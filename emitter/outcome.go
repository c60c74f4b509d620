package emitter

import (
	"net/http"
	"strconv"
	"strings"

	"labelstream/record"
)

// fate is how a batch ended.
type fate string

const (
	fateAccepted fate = "accepted"
	// fateConflict is accepted too: the receiver has newer samples.
	fateConflict fate = "conflict"
	// fatePartial is a batch of which some records were refused.
	fatePartial fate = "partial"
	fateRefused fate = "refused"
	// fateTooOld and fateShutdown are the two ways to be lost.
	fateTooOld   fate = "too_old"
	fateShutdown fate = "shutdown"
)

var fates = []fate{fateAccepted, fateConflict, fatePartial, fateRefused, fateTooOld, fateShutdown}

const statusTooLarge = http.StatusRequestEntityTooLarge

// The reasons for which records are dropped, beside the two fates that lose
// them. Each is the answer's, but for those that were refused with others when
// the search for the bad ones ended.
const (
	reasonBadRequest    = "bad_request"
	reasonTooLarge      = "too_large"
	reasonUnprocessable = "unprocessable"
	reasonNotWritten    = "not_written"
	reasonUndecided     = "undecided"
)

var reasons = []string{
	reasonBadRequest, reasonTooLarge, reasonUnprocessable, reasonNotWritten, reasonUndecided,
	string(fateTooOld), string(fateShutdown),
}

// reasonOf is why the answer's records are refused.
func reasonOf(a answer) string {
	switch {
	case a.verdict == partial:
		return reasonNotWritten
	case a.status == statusTooLarge:
		return reasonTooLarge
	case a.status == http.StatusUnprocessableEntity:
		return reasonUnprocessable
	default:
		return reasonBadRequest
	}
}

// settle gives the records of a part their outcome, and the reason of one that
// is not good.
func (d *delivery) settle(p part, o Outcome, reason string) {
	d.account(o, reason, d.batch.items[p.from:p.to])
	if o == Accepted {
		d.metrics.accepted(d.batch.samples(p), d.now())
	}
}

func (d *delivery) account(o Outcome, reason string, items []Item) {
	if len(items) == 0 {
		return
	}
	switch o {
	case Accepted:
		d.accepted += len(items)
	case Refused:
		d.refused += len(items)
	case Lost:
		d.lost += len(items)
	}
	d.queued.Add(-int64(len(items)))
	if reason != "" {
		d.metrics.dropped.WithLabelValues(reason).Add(float64(len(items)))
	}
	if reason == string(fateShutdown) {
		d.unsent.Add(int64(len(items)))
	}
	d.observe(o, items)
}

// keep settles a part of which the receiver has taken some samples for good,
// and says how many.
func (d *delivery) keep(p part, a answer) {
	d.err = a.err
	bad := d.batch.notWritten(p, d.batch.samples(p)-a.written, a.words)
	var taken, left []Item
	for i, item := range d.batch.items[p.from:p.to] {
		if bad[i] {
			left = append(left, item)
		} else {
			taken = append(taken, item)
		}
	}
	d.drops.dropped(reasonNotWritten, "The destination left out records, they are dropped", a.err, len(left))
	d.account(Accepted, "", taken)
	d.account(Refused, reasonNotWritten, left)
	if a.written > 0 {
		d.metrics.accepted(a.written, d.now())
	}
}

// notWritten tells of each record in a part whether it is among those that so
// many samples belong to. Receivers say how many they left out, and most say in
// words which. The rest are taken from the end: their number is right, and all
// of them stay as they are anyway.
func (b *batch) notWritten(p part, samples int, words string) []bool {
	bad := make([]bool, p.len())
	for i := 0; i < len(bad) && samples > 0; i++ {
		if n := b.identity(p.from + i).in(words); n > 0 {
			bad[i] = true
			samples -= min(n, b.items[p.from+i].Series)
		}
	}
	for i := len(bad) - 1; i >= 0 && samples > 0; i-- {
		if !bad[i] {
			bad[i] = true
			samples -= b.items[p.from+i].Series
		}
	}
	return bad
}

// identity says which object a record is of.
type identity struct {
	kind            *record.Kind
	namespace, name string
}

// identity reads it from the labels of the record's first series, so that the
// queue need not hold it.
func (b *batch) identity(i int) identity {
	id := identity{kind: b.items[i].Kind}
	series := record.Cursor(b.arena[b.start(i):b.spans[i].end])
	if len(series) == 0 {
		return id
	}
	for range series.Count() {
		switch name, value := series.Label(); string(name) {
		case id.kind.NameLabel:
			id.name = string(value)
		case "namespace":
			if id.kind.Namespaced {
				id.namespace = string(value)
			}
		}
	}
	return id
}

// in counts the lines of a text that name the object as Prometheus writes
// labels.
func (id identity) in(text string) int {
	name, namespace := id.kind.NameLabel+"="+strconv.Quote(id.name), ""
	if id.namespace != "" {
		namespace = "namespace=" + strconv.Quote(id.namespace)
	}
	n := 0
	for line := range strings.Lines(text) {
		if strings.Contains(line, name) && strings.Contains(line, namespace) {
			n++
		}
	}
	return n
}
