// SPDX-License-Identifier: Apache-2.0

package emitter

import (
	"net/http"
	"sync/atomic"
	"time"

	"labelstream/config"
)

// askAgainAfter is how long a destination that was found to speak 1.0 only is
// believed to: it may be upgraded.
const askAgainAfter = time.Hour

// protocol is the version in which a sender sends.
type protocol struct {
	// auto is whether it is found out; else it is given.
	auto bool
	// inUse is unknown until it is found out. Metrics read it at any time.
	inUse atomic.Int32
	// until is when 1.0 is in question again, where it was found out.
	until time.Time
}

func newProtocol(setting config.Protocol) *protocol {
	p := &protocol{auto: setting == config.ProtocolAuto}
	p.inUse.Store(int32(map[config.Protocol]version{config.Protocol1: v1, config.Protocol2: v2}[setting]))
	return p
}

func (p *protocol) version() version {
	if p.auto && version(p.inUse.Load()) == v1 && !time.Now().Before(p.until) {
		p.inUse.Store(int32(unknown))
	}
	return version(p.inUse.Load())
}

// requests is how many a part takes at most: where the version is not known, one of
// each.
func (p *protocol) requests() int {
	if p.version() == unknown {
		return 2
	}
	return 1
}

// settle records the final answer to a request of this version.
func (p *protocol) settle(v version, a answer) {
	if p.auto && a.outcome == accepted && p.version() != v {
		p.inUse.Store(int32(v))
		p.until = time.Now().Add(askAgainAfter)
	}
}

// doubts tells whether the answer to a 2.0 request may be one of a receiver that
// does not know 2.0: then the same records are sent once as 1.0. Until the version
// is known, that is every final answer but a success that says what was written,
// and the failure of one that cannot read the message. Afterwards it is an answer
// to a whole batch that has nothing written: pieces are sent to find a bad record.
func (p *protocol) doubts(a answer, isWhole bool) bool {
	isSuccess := a.status/100 == 2
	switch {
	case !p.auto, isSuccess && a.written > 0, a.status == http.StatusUnauthorized, a.status == http.StatusForbidden:
		return false
	case p.version() == unknown:
		return a.outcome != retryable || a.status >= 500 && a.status != http.StatusServiceUnavailable
	default:
		return isWhole && a.outcome != accepted && a.outcome != retryable &&
			a.status != http.StatusRequestEntityTooLarge && (a.written == notSaid || isSuccess)
	}
}
