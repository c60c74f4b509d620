package emitter

import (
	"context"
	"sync"
	"time"

	"labelstream/config"
)

// version is that of remote_write.
type version int

const (
	// undecided is for as long as nobody knows what the destination speaks.
	undecided version = iota
	v1
	v2
)

// askAgainAfter is how long a destination that was found to speak 1.0 only is
// believed to: it may be upgraded.
const askAgainAfter = time.Hour

// protocol is the version in which all senders send. While it is undecided, one
// part of a batch at a time is on trial, and all else waits.
type protocol struct {
	// auto is whether it is found out; else it is given.
	auto bool

	mu      sync.Mutex
	version version
	// until is when 1.0 is in question again, where it was found out.
	until time.Time
	// trial is closed when the one that is under way ends, nil without one.
	trial chan struct{}
}

func newProtocol(setting config.Protocol) *protocol {
	switch setting {
	case config.Protocol1:
		return &protocol{version: v1}
	case config.Protocol2:
		return &protocol{version: v2}
	default:
		return &protocol{auto: true}
	}
}

// begin returns the version to send in. Undecided means that the caller has the
// trial, and must end it; while another has it, begin blocks, until ctx ends.
func (p *protocol) begin(ctx context.Context) (version, error) {
	for {
		v, wait := p.tryBegin()
		if wait == nil {
			return v, nil
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return undecided, context.Cause(ctx)
		}
	}
}

// tryBegin returns what to wait for where another has the trial.
func (p *protocol) tryBegin() (version, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.auto && p.version == v1 && !time.Now().Before(p.until) {
		p.version = undecided
	}
	if p.version != undecided {
		return p.version, nil
	}
	if p.trial != nil {
		return undecided, p.trial
	}
	p.trial = make(chan struct{})
	return undecided, nil
}

// settle notes that the destination has accepted samples in this version.
func (p *protocol) settle(v version) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.auto && p.version != v {
		p.version, p.until = v, time.Now().Add(askAgainAfter)
	}
}

// end ends the caller's trial, whatever came of it.
func (p *protocol) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.trial)
	p.trial = nil
}

// inUse returns the version, undecided while there is none.
func (p *protocol) inUse() version {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.version
}
