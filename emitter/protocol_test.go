package emitter

import (
	"context"
	"errors"
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
func speaks(v version, status int) func(int, *http.Request) (*http.Response, error) {
	return func(_ int, req *http.Request) (*http.Response, error) {
		isV2 := req.Header.Get("X-Prometheus-Remote-Write-Version") == "2.0.0"
		switch {
		case !isV2:
			return respond(204, ""), nil
		case v == v2:
			return respond(204, "", samplesWritten, "9999"), nil
		default:
			return respond(status, ""), nil
		}
	}
}

func autoHarness(t *testing.T, d *destination, senders int) *harness {
	t.Helper()
	cfg := testConfig(t, "http://destination/write")
	cfg.Protocol, cfg.BatchSize = config.ProtocolAuto, 1
	return newHarness(cfg, Options{Transport: d}, senders)
}

// One batch is sent alone, and what it settles holds for all senders.
func TestProtocolIsSettledOnce(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer func(int, *http.Request) (*http.Response, error)
		want   []version
	}{
		{"2.0", speaks(v2, 0), []version{v2, v2, v2, v2, v2}},
		{"1.0 that says 204 and keeps nothing", speaks(v1, 204), []version{v2, v1, v1, v1, v1, v1}},
		{"1.0 that says 400", speaks(v1, 400), []version{v2, v1, v1, v1, v1, v1}},
		{"1.0 that says 415", speaks(v1, 415), []version{v2, v1, v1, v1, v1, v1}},
		{"1.0 that says 500", speaks(v1, 500), []version{v2, v1, v1, v1, v1, v1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDestination(func(n int, req *http.Request) (*http.Response, error) {
					time.Sleep(time.Second)
					return c.answer(n, req)
				})
				h := autoHarness(t, d, 5)
				for key := range uint64(5) {
					h.put(t, newRecord(key, "a"))
				}
				h.Close()
				expect(t, "Run", h.Run(t.Context()), nil)
				expect(t, "accepted", len(h.keys(Accepted)), 5)
				expect(t, "versions", d.versions(), c.want)
				// The trial takes one request or two, then all go at once.
				trial := len(c.want) - 4
				var times []time.Duration
				for i := range len(c.want) {
					times = append(times, min(time.Duration(i), time.Duration(trial))*time.Second)
				}
				expect(t, "times", d.times(), times)
				expect(t, "in use", h.protocol.inUse(), c.want[len(c.want)-1])
			})
		})
	}
}

// 1.0 is in question again after an hour; 2.0 is not.
func TestProtocolIsAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		upgrade := time.Now().Add(90 * time.Minute)
		d := newDestination(func(n int, req *http.Request) (*http.Response, error) {
			if time.Now().Before(upgrade) {
				return speaks(v1, 415)(n, req)
			}
			return speaks(v2, 0)(n, req)
		})
		h := autoHarness(t, d, 1)
		h.start(t.Context())
		for key := range uint64(6) {
			h.put(t, newRecord(key, "a"))
			time.Sleep(45 * time.Minute)
		}
		h.Close()
		expect(t, "Run", <-h.done, nil)
		// At 0, 45, 90, 135, 180 and 225 minutes.
		expect(t, "versions", d.versions(), []version{v2, v1, v1, v2, v2, v2, v2})
	})
}

// A receiver that was downgraded is noticed, and nothing is lost.
func TestProtocolIsDoubted(t *testing.T) {
	for _, status := range []int{200, 204, 400, 404, 415, 422} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			downgraded := false
			d := newDestination(func(n int, req *http.Request) (*http.Response, error) {
				downgraded = n > 0
				if downgraded {
					return speaks(v1, status)(n, req)
				}
				return speaks(v2, 0)(n, req)
			})
			h := autoHarness(t, d, 1)
			h.start(t.Context())
			for key := range uint64(3) {
				h.put(t, newRecord(key, "a"))
			}
			h.Close()
			expect(t, "Run", <-h.done, nil)
			expect(t, "versions", d.versions(), []version{v2, v2, v1, v1})
			expect(t, "accepted", h.keys(Accepted), []uint64{0, 1, 2})
		})
	}
}

// A bad record in the first batch does not decide on the protocol.
func TestProtocolDespiteBadRecord(t *testing.T) {
	d := newDestination(func(n int, req *http.Request) (*http.Response, error) { return nil, nil })
	d.answer = func(n int, req *http.Request) (*http.Response, error) {
		if slices.Contains(d.names()[n], "bad") {
			return respond(400, "bad"), nil
		}
		return speaks(v2, 0)(n, req)
	}
	cfg := testConfig(t, "http://destination/write")
	cfg.Protocol = config.ProtocolAuto
	h := newHarness(cfg, Options{Transport: d}, 1)
	h.start(t.Context())
	h.put(t, newRecord(1, "good"), newRecord(2, "bad"), newRecord(3, "good"))
	h.Close()
	expect(t, "Run", <-h.done, nil)
	expect(t, "versions", d.versions(), []version{v2, v1, v2, v2, v2})
	expect(t, "accepted", h.keys(Accepted), []uint64{1, 3})
	expect(t, "refused", h.keys(Refused), []uint64{2})
}

// A receiver of 2.0 alone that refuses a record of the first batch is not asked
// in vain for ever.
func TestProtocolDespiteBadRecordAndNoOlder(t *testing.T) {
	d := newDestination(func(_ int, req *http.Request) (*http.Response, error) {
		if req.Header.Get("X-Prometheus-Remote-Write-Version") == "0.1.0" {
			return respond(415, ""), nil
		}
		return respond(400, `pod="p2" is bad`, samplesWritten, "1"), nil
	})
	h := autoHarness(t, d, 1)
	h.senders[0].size.records = 2
	h.put(t, newRecord(1, "a"), newRecord(2, "b"))
	h.Close()
	expect(t, "Run", h.Run(t.Context()), nil)
	expect(t, "versions", d.versions(), []version{v2, v1})
	expect(t, "accepted", h.keys(Accepted), []uint64{1})
	expect(t, "refused", h.keys(Refused), []uint64{2})
}

// A batch that is too large says nothing about a protocol that is known.
func TestProtocolDespiteTooLarge(t *testing.T) {
	d := newDestination(func(n int, req *http.Request) (*http.Response, error) {
		if n == 1 {
			return respond(413, ""), nil
		}
		return speaks(v2, 0)(n, req)
	})
	cfg := testConfig(t, "http://destination/write")
	cfg.Protocol = config.ProtocolAuto
	h := newHarness(cfg, Options{Transport: d}, 1)
	h.start(t.Context())
	h.put(t, newRecord(1, "a"), newRecord(2, "b"), newRecord(3, "c"), newRecord(4, "d"))
	h.Close()
	expect(t, "Run", <-h.done, nil)
	expect(t, "versions", d.versions(), []version{v2, v2, v2, v2})
	expect(t, "requests", d.names(), [][]string{{"a", "b"}, {"c", "d"}, {"c"}, {"d"}})
}

// While a trial goes on, the end of the run ends the waiting too.
func TestShutdownDuringTrial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDestination(hang)
		h := autoHarness(t, d, 4)
		for key := range uint64(4) {
			h.put(t, newRecord(key, "a"))
		}
		ctx, cancel := context.WithCancel(t.Context())
		h.start(ctx)
		h.Close()
		synctest.Wait()
		expect(t, "requests", len(d.got()), 1)
		cancel()
		if err := <-h.done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
		expect(t, "lost", len(h.keys(Lost)), 4)
	})
}
