package emitter

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"labelstream/config"
)

// speaks answers as a receiver of 2.0 does where v2 is given, else as one that
// knows 1.0 alone and says the status to 2.0.
func speaks(v version, status int) answerer {
	return func(n int, r request, req *http.Request) (*http.Response, error) {
		if r.Version == v2 && v == v1 {
			return respond(status, ""), nil
		}
		return codes(204)(n, r, req)
	}
}

// Each sender settles the version with its first batch, and nothing is lost.
func TestProtocolIsSettled(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer answerer
		want   []version
	}{
		{"2.0", speaks(v2, 0), []version{v2, v2, v2}},
		{"1.0 that says 204 and keeps nothing", speaks(v1, 204), []version{v2, v1, v1, v1}},
		{"1.0 that says 400", speaks(v1, 400), []version{v2, v1, v1, v1}},
		{"1.0 that says 409", speaks(v1, 409), []version{v2, v1, v1, v1}},
		{"1.0 that says 415", speaks(v1, 415), []version{v2, v1, v1, v1}},
		{"1.0 that says 500", speaks(v1, 500), []version{v2, v1, v1, v1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDestination(c.answer)
			h := newTestEmitter(t, d, speaking(config.ProtocolAuto), batchSize(1))
			h.expectMetrics(sendersMetric(0, 0, 1), "labelstream_senders")
			h.deliver(records("a", "b", "c")...)
			expect(t, "versions", d.versions(), c.want)
			expect(t, "totals", h.Totals(), map[string]Totals{"pods": {Accepted: 3}})
			if c.want[len(c.want)-1] == v1 {
				h.expectMetrics(sendersMetric(1, 0, 0), "labelstream_senders")
			} else {
				h.expectMetrics(sendersMetric(0, 1, 0), "labelstream_senders")
			}
		})
	}
}

func sendersMetric(v1, v2, unknown int) string {
	return fmt.Sprintf(`
		# HELP labelstream_senders Senders by the version of remote_write in use; unknown while it is being found out.
		# TYPE labelstream_senders gauge
		labelstream_senders{version="1.0"} %d
		labelstream_senders{version="2.0"} %d
		labelstream_senders{version="unknown"} %d
	`, v1, v2, unknown)
}

// 1.0 is in question again after an hour; 2.0 is not.
func TestProtocolIsAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		upgrade := time.Now().Add(90 * time.Minute)
		d := newDestination(func(n int, r request, req *http.Request) (*http.Response, error) {
			if time.Now().Before(upgrade) {
				return speaks(v1, 415)(n, r, req)
			}
			return speaks(v2, 0)(n, r, req)
		})
		h := newTestEmitter(t, d, speaking(config.ProtocolAuto), batchSize(1))
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

// A receiver that was downgraded is noticed, and nothing is lost.
func TestProtocolIsDoubted(t *testing.T) {
	for _, status := range []int{200, 204, 400, 404, 415, 422} {
		for _, none := range []bool{false, true} {
			if none && status/100 != 2 {
				continue
			}
			t.Run(fmt.Sprint(status, none), func(t *testing.T) {
				d := newDestination(func(n int, r request, req *http.Request) (*http.Response, error) {
					if n == 0 || r.Version == v1 {
						return codes(204)(n, r, req)
					}
					resp := respond(status, "")
					if none {
						resp.Header.Set(samplesWritten, "0")
					}
					return resp, nil
				})
				h := newTestEmitter(t, d, speaking(config.ProtocolAuto), batchSize(1))
				h.deliver(records("a", "b", "c")...)
				expect(t, "versions", d.versions(), []version{v2, v2, v1, v1})
				expect(t, "totals", h.Totals(), map[string]Totals{"pods": {Accepted: 3}})
			})
		}
	}
}

// A bad record in the first batch does not decide on the protocol.
func TestProtocolDespiteBadRecord(t *testing.T) {
	d := newDestination(refusing(400))
	h := newTestEmitter(t, d, speaking(config.ProtocolAuto))
	h.deliver(records("good", "bad", "good")...)
	expect(t, "versions", d.versions(), []version{v2, v1, v2, v2, v2})
	expect(t, "totals", h.Totals(), map[string]Totals{"pods": {Accepted: 2, Refused: 1}})
}

// A receiver of 2.0 alone that refuses a record of the first batch is not asked
// in vain for ever.
func TestProtocolDespiteBadRecordAndNoOlder(t *testing.T) {
	d := newDestination(func(_ int, r request, _ *http.Request) (*http.Response, error) {
		if r.Version == v1 {
			return respond(415, ""), nil
		}
		return respond(400, "one is bad", samplesWritten, "1"), nil
	})
	h := newTestEmitter(t, d, speaking(config.ProtocolAuto))
	h.deliver(records("a", "b")...)
	expect(t, "versions", d.versions(), []version{v2, v1})
	expect(t, "totals", h.Totals(), map[string]Totals{"pods": {Accepted: 1, Refused: 1}})
}

// A batch that is too large says nothing about a protocol that is known.
func TestProtocolDespiteTooLarge(t *testing.T) {
	d := newDestination(func(n int, r request, req *http.Request) (*http.Response, error) {
		return codes(200, 413, 200)(n, r, req)
	})
	h := newTestEmitter(t, d, speaking(config.ProtocolAuto))
	h.deliver(records("a", "b", "c", "d")...)
	expect(t, "versions", slices.Compact(d.versions()), []version{v2})
	expect(t, "requests", d.names(), [][]string{{"a", "b"}, {"c", "d"}, {"c"}, {"d"}})
}
