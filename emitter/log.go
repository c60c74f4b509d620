package emitter

import (
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

// logEvery is how often the same thing is said again, at most: a destination
// that fails every other request must not fill the log.
const logEvery = time.Minute

// failureLog says when sending begins to fail, when the failure changes, and
// when sending works again.
type failureLog struct {
	log logrus.FieldLogger

	mu sync.Mutex
	// failing are the senders whose last attempt failed. The failure ends when
	// there is none, else one bad batch would begin and end it all the time.
	failing map[int]struct{}
	since   time.Time
	// said is whether the log shows this failure.
	said bool
	// last is when each class of failure was logged.
	last map[string]time.Time
}

func newFailureLog(log logrus.FieldLogger) *failureLog {
	return &failureLog{log: log, failing: map[int]struct{}{}, last: map[string]time.Time{}}
}

func (l *failureLog) failed(sender int, a answer) {
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
	l.failing[sender] = struct{}{}
	log := l.log.WithError(a.err)
	if _, ok := l.last[a.class]; ok {
		log.Debug("Sending fails still")
		return
	}
	l.last[a.class], l.said = now, true
	if a.verdict == rejected {
		log.Error("The destination rejects the settings, sending stops but for a batch now and then")
		return
	}
	log.Warn("Sending fails, trying again")
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

// dropLog says which records do not reach the destination: the first of a
// class at once, what follows summed up, a line in logEvery.
type dropLog struct {
	log logrus.FieldLogger

	mu      sync.Mutex
	classes map[string]*drops
}

// drops are those of one class.
type drops struct {
	last    time.Time
	message string
	err     error
	// records are those that no line has counted yet.
	records int
}

func newDropLog(log logrus.FieldLogger) *dropLog {
	return &dropLog{log: log, classes: map[string]*drops{}}
}

// dropped notes records. Class is from a small set.
func (l *dropLog) dropped(class, message string, err error, records int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	d, ok := l.classes[class]
	if !ok {
		d = &drops{}
		l.classes[class] = d
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
	for _, d := range l.classes {
		if d.records > 0 {
			l.write(d)
		}
	}
}

func (l *dropLog) write(d *drops) {
	l.log.WithError(d.err).WithField("records", d.records).Error(d.message)
	d.records, d.last = 0, time.Now()
}
