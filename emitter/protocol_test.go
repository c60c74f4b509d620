// SPDX-License-Identifier: Apache-2.0

package emitter

import (
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"labelstream/config"
)

// older answers 2.0 with the status, as a receiver that knows 1.0 alone does.
func older(status int, header ...string) answerer {
	return func(n int, r request, req *http.Request) (*http.Response, error) {
		if r.Version == v2 {
			return respond(status, "", header...), nil
		}
		return codes(204)(n, r, req)
	}
}

// then answers the first request as the one says, all others as the other does.
func then(first, others answerer) answerer {
	return func(n int, r request, req *http.Request) (*http.Response, error) {
		if n == 0 {
			return first(n, r, req)
		}
		return others(n, r, req)
	}
}

// Each sender settles the version with its first batch, notices a receiver that was
// downgraded, and loses nothing.
func TestProtocol(t *testing.T) {
	const isNew, isOld, isOpen = "2.0", "1.0", "unknown"
	newer := codes(204)
	onlyNewer := func(_ int, r request, _ *http.Request) (*http.Response, error) {
		if r.Version == v1 {
			return respond(415, ""), nil
		}
		return respond(400, "one is bad", samplesWritten, "1"), nil
	}
	noOlder := func(n int, r request, req *http.Request) (*http.Response, error) {
		if r.Version == v1 {
			return respond(415, ""), nil
		}
		return refusing(400)(n, r, req)
	}
	for _, c := range []struct {
		name   string
		answer answerer
		// batch is how many of the records it holds.
		batch    int
		records  []string
		versions []version
		settled  string
		refused  int64
	}{
		{"2.0", newer, 1, []string{"a", "b", "c"}, []version{v2, v2, v2}, isNew, 0},
		{"1.0 that says 204", older(204), 1, []string{"a", "b", "c"}, []version{v2, v1, v1, v1}, isOld, 0},
		{"1.0 that says 400", older(400), 1, []string{"a", "b", "c"}, []version{v2, v1, v1, v1}, isOld, 0},
		{"1.0 that says 409", older(409), 1, []string{"a", "b", "c"}, []version{v2, v1, v1, v1}, isOld, 0},
		{"1.0 that says 415", older(415), 1, []string{"a", "b", "c"}, []version{v2, v1, v1, v1}, isOld, 0},
		{"1.0 that says 500", older(500), 1, []string{"a", "b", "c"}, []version{v2, v1, v1, v1}, isOld, 0},
		{"later 204", then(newer, older(204)), 1, []string{"a", "b", "c"}, []version{v2, v2, v1, v1}, isOld, 0},
		{"later none written", then(newer, older(204, samplesWritten, "0")), 1, []string{"a", "b", "c"}, []version{v2, v2, v1, v1}, isOld, 0},
		{"later 400", then(newer, older(400)), 1, []string{"a", "b", "c"}, []version{v2, v2, v1, v1}, isOld, 0},
		{"later 404", then(newer, older(404)), 1, []string{"a", "b", "c"}, []version{v2, v2, v1, v1}, isOld, 0},
		{"later 415", then(newer, older(415)), 1, []string{"a", "b", "c"}, []version{v2, v2, v1, v1}, isOld, 0},
		{"later 422", then(newer, older(422)), 1, []string{"a", "b", "c"}, []version{v2, v2, v1, v1}, isOld, 0},
		// A bad record in the first batch does not decide, and 1.0 is not asked for
		// ever. What is too large says nothing on a version that is known.
		{"a bad record", refusing(400), 2, []string{"good", "bad", "good"}, []version{v2, v1, v2, v2, v2}, isNew, 1},
		{"a bad record and no 1.0", onlyNewer, 2, []string{"a", "b"}, []version{v2, v1}, isOpen, 1},
		{"a later bad record and no 1.0", noOlder, 1, []string{"a", "bad", "c"}, []version{v2, v2, v1, v2}, isNew, 1},
		{"too large", codes(204, 413, 204), 2, []string{"a", "b", "c", "d"}, []version{v2, v2, v2, v2}, isNew, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDestination(c.answer)
			h := newHarness(t, d, speaking(config.ProtocolAuto), batchSize(c.batch))
			h.deliver(records(c.records...)...)
			expect(t, "versions", d.versions(), c.versions)
			expect(t, "totals", h.Totals(), map[string]Totals{"pods": {Accepted: int64(len(c.records)) - c.refused, Refused: c.refused}})
			senders := map[string]int{c.settled: 1}
			h.expectMetrics(fmt.Sprintf(`
				# HELP labelstream_senders Senders by the version of remote_write in use; unknown while it is being found out.
				# TYPE labelstream_senders gauge
				labelstream_senders{version="1.0"} %d
				labelstream_senders{version="2.0"} %d
				labelstream_senders{version="unknown"} %d
			`, senders[isOld], senders[isNew], senders[isOpen]), "labelstream_senders")
		})
	}
}

// 1.0 is in question again after an hour; 2.0 is not.
func TestProtocolIsAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		upgrade := time.Now().Add(80 * time.Minute)
		d := newDestination(func(n int, r request, req *http.Request) (*http.Response, error) {
			if time.Now().Before(upgrade) {
				return older(415)(n, r, req)
			}
			return codes(204)(n, r, req)
		})
		h := newHarness(t, d, speaking(config.ProtocolAuto), batchSize(1))
		h.start(t.Context())
		for key := range uint64(6) {
			h.put(newRecord(key, "a"))
			time.Sleep(45 * time.Minute)
		}
		h.finish()
		// At 0, 45, 90, 135, 180 and 225 minutes.
		expect(t, "versions", d.versions(), []version{v2, v1, v1, v2, v2, v2, v2})
	})
}
