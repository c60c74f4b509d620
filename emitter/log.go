package emitter

import (
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

// logEvery is how often the same thing is said again, at most: a destination
// that fails every other request must not fill the log.
const logEvery = time.Minute

// What a failure is called in the log.
const (
	fails      = "Sending fails, trying again"
	rejects    = "The destination rejects the settings, sending stops but for a batch now and then"
	refusesAll = "The destination refuses whatever it is sent, sending stops but for a batch now and then"
)

// failureLog says when sending begins to fail, when the failure changes, and
// when sending works again.
type failureLog struct {
	log logrus.FieldLogger

	mu sync.Mutex
	// failing are the senders whose last attempt failed. The failure ends when
	// there is none, else one bad batch would begin and end it all the time.
	failing map[int]error
	since   time.Time
	// said is whether the log shows this failure.
	said bool
	// last is when each class of failure was logged.
	last map[string]time.Time
}

func newFailureLog(log logrus.FieldLogger) *failureLog {
	return &failureLog{log: log, failing: map[int]error{}, last: map[string]time.Time{}}
}

func (l *failureLog) failed(sender int, a answer, message string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if len(l.failing) == 0 {
		l.since, l.said = now, false
		for class, at := range l.last {
			if now.Sub(at) >= logEvery {
				delete(l.last, class)
			}
		}
	}
	l.failing[sender] = a.err
	log := l.log.WithError(a.err)
	if _, ok := l.last[a.class]; ok {
		log.Debug("Sending fails still")
		return
	}
	l.last[a.class], l.said = now, true
	level := logrus.ErrorLevel
	if message == fails {
		level = logrus.WarnLevel
	}
	log.Log(level, message)
}

// current is why sending fails now, nil while it does not.
func (l *failureLog) current() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, err := range l.failing {
		return err
	}
	return nil
}

func (l *failureLog) ended(sender int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.failing[sender]; !ok {
		return
	}
	delete(l.failing, sender)
	if len(l.failing) == 0 && l.said {
		l.log.WithField("after", time.Since(l.since).Round(time.Millisecond).String()).Info("Sending works again")
	}
}

// maxNamed is how many refused records are named within logEvery. More would
// fill the log, and their number says enough.
const maxNamed = 100

// dropLog says which records do not reach the destination: each by its name as
// far as that goes, else the first of a reason at once, and what follows summed
// up in a line per logEvery.
type dropLog struct {
	log logrus.FieldLogger

	mu      sync.Mutex
	reasons map[string]*drops
	// names are those told since.
	names int
	since time.Time
}

// drops are those of one reason.
type drops struct {
	last    time.Time
	message string
	err     error
	// records are those that no line has counted yet.
	records int
}

func newDropLog(log logrus.FieldLogger) *dropLog {
	return &dropLog{log: log, reasons: map[string]*drops{}}
}

// named notes one record.
func (l *dropLog) named(reason string, err error, id identity) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.since) >= logEvery {
		l.names, l.since = 0, time.Now()
	}
	if l.names++; l.names > maxNamed {
		l.add(reason, "The destination refused more records, they are dropped", err, 1)
		return
	}
	l.log.WithError(err).WithFields(logrus.Fields{"kind": id.kind.Resource, "namespace": id.namespace, "name": id.name}).
		Error("The destination refused a record, it is dropped")
}

// dropped notes records without naming them.
func (l *dropLog) dropped(reason, message string, err error, records int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.add(reason, message, err, records)
}

func (l *dropLog) add(reason, message string, err error, records int) {
	d, ok := l.reasons[reason]
	if !ok {
		d = &drops{}
		l.reasons[reason] = d
	}
	d.message, d.err = message, err
	d.records += records
	if !ok || time.Since(d.last) >= logEvery {
		l.write(d)
	}
}

// flush says what has not been said yet.
func (l *dropLog) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range l.reasons {
		if d.records > 0 {
			l.write(d)
		}
	}
}

func (l *dropLog) write(d *drops) {
	l.log.WithError(d.err).WithField("records", d.records).Error(d.message)
	d.records, d.last = 0, time.Now()
}
