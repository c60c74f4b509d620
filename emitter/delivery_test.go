// SPDX-License-Identifier: Apache-2.0

package emitter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/sirupsen/logrus"

	"labelstream/config"
	"labelstream/record"
)

// When a part is sent again, and what the log says of it.
func TestRetries(t *testing.T) {
	const second, text = time.Second, "Cannot send error=send to http://destination/write: "
	const rejects = "error: The destination rejects the settings error=send to http://destination/write: status 40"
	errs := []error{1: &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}, 2: io.ErrUnexpectedEOF}
	failures := func(n int, r request, req *http.Request) (*http.Response, error) {
		switch n {
		case 0:
			return hang(n, r, req)
		case 1, 2:
			return nil, errs[n]
		}
		return respond(200, ""), nil
	}
	waits := func(n int, r request, req *http.Request) (*http.Response, error) {
		date := time.Now().Add(20 * second).UTC().Format(http.TimeFormat)
		resp, err := codes(429, 503, 503, 408, 500, 200)(n, r, req)
		resp.Header.Set("Retry-After", []string{"7", date, "86400", "0", "soon", ""}[n])
		return resp, err
	}
	for _, c := range []struct {
		name   string
		answer answerer
		// giveUpAfter is for wrong settings.
		giveUpAfter time.Duration
		times       []time.Duration
		log         []string
	}{
		{"the backoff doubles, and each fifth time the halves are tried", codes(503, 503, 503, 503, 503, 503, 503, 503, 503, 503, 503, 503, 503, 503, 503, 200), 0, []time.Duration{
			0, 100 * ms, 300 * ms, 700 * ms, 1500 * ms, 1500 * ms, 1500 * ms, 3100 * ms, 6300 * ms, 12700 * ms, 25500 * ms, 51100 * ms, 51100 * ms, 51100 * ms, 81100 * ms, 111100 * ms,
		}, []string{"warning: " + text + "status 503 Service Unavailable", "info: Sending again after=1m51.1s"}},
		{"Retry-After counts, and the backoff doubles meanwhile", waits, 0, []time.Duration{
			0, 7 * second, 27 * second, 327 * second, 327800 * ms, 329400 * ms,
		}, []string{
			"warning: " + text + "status 429 Too Many Requests", "warning: " + text + "status 503 Service Unavailable",
			"warning: " + text + "status 408 Request Timeout", "warning: " + text + "status 500 Internal Server Error", "info: Sending again after=5m29.4s",
		}},
		{"no answer", failures, 0, []time.Duration{0, 30100 * ms, 30300 * ms, 30700 * ms}, []string{
			"warning: " + text + "no answer within 30s: context deadline exceeded", "warning: " + text + "dial tcp: connection refused",
			"warning: " + text + "unexpected EOF", "info: Sending again after=700ms",
		}},
		{"wrong settings are tried once a minute", codes(401, 401, 403, 401, 200), 0, []time.Duration{
			0, 60 * second, 120 * second, 180 * second, 240 * second,
		}, []string{
			rejects + "1 Unauthorized hint=check the credentials for LABELSTREAM_DESTINATION",
			rejects + "3 Forbidden hint=check the credentials for LABELSTREAM_DESTINATION", "info: Sending again after=4m0s",
		}},
		{"a failure among wrong settings is one, and the time to give up begins anew", codes(404, 503, 503, 404, 200), 70 * second, []time.Duration{
			0, 60 * second, 60100 * ms, 60300 * ms, 120300 * ms,
		}, []string{
			rejects + "4 Not Found hint=check the path of LABELSTREAM_DESTINATION", "warning: " + text + "status 503 Service Unavailable",
			"info: Sending again after=2m0.3s",
		}},
	} {
		bubble(t, c.name, func(t *testing.T) {
			d := newDestination(c.answer)
			h := newHarness(t, d, probing(0, c.giveUpAfter))
			h.deliver(records("a", "b")...)
			expect(t, "times", d.times(), c.times)
			expect(t, "stored", d.stored(), []string{"a", "b"})
			expect(t, "log", h.lines(), c.log)
		})
	}
}

func TestUpperHalf(t *testing.T) {
	low, high := maxBackoff, time.Duration(0)
	for range 10_000 {
		d := upperHalf(maxBackoff)
		low, high = min(low, d), max(high, d)
	}
	// The chance that none of so many falls into either tenth is below 1e-400.
	if low < maxBackoff/2 || low > maxBackoff*11/20 || high > maxBackoff || high < maxBackoff*19/20 {
		t.Errorf("jitter is between %v and %v, want all of 15 s to 30 s", low, high)
	}
}

// A one-shot run gives up after 30 s, here with a probe every 8 s, where no setting
// or no record is right.
func TestGiveUp(t *testing.T) {
	const text = "send to http://destination/write: status 4"
	for status, c := range map[int]struct {
		records, requests int
		err               string
	}{
		401: {9, 2 * 4, "9 records unsent: gave up after 30s: " + text + "01 Unauthorized"},
		// Each sender is refused five batches of two records at once, then a record every 8 s.
		400: {100, 2 * (5*3 + 4), "16 records unsent: gave up after 30s: 10 records in a row were refused, the last: " + text + "00 Bad Request"},
	} {
		bubble(t, fmt.Sprint(status), func(t *testing.T) {
			d := newDestination(codes(status))
			h := newHarness(t, d, probing(8*time.Second, 30*time.Second), func(c *config.Delivery, _ *Options) { c.Senders = 2 })
			h.start(t.Context())
			start := time.Now()
			for key := range uint64(c.records) {
				if _, err := h.Put(t.Context(), newRecord(key, "a"), nil); err != nil {
					break
				}
			}
			expect(t, "Run", fmt.Sprint(<-h.done), c.err)
			expect(t, "time", time.Since(start), 30*time.Second)
			expect(t, "requests", len(d.got()), c.requests)
		})
	}
}

// Whatever the sender is at, the end of the context ends Run at once, and it says
// what is unsent and why.
func TestShutdown(t *testing.T) {
	slow := func(_ int, _ request, req *http.Request) (*http.Response, error) {
		select {
		case <-time.After(time.Second):
			return respond(200, ""), nil
		case <-req.Context().Done():
			return nil, req.Context().Err()
		}
	}
	const before = "7 records unsent: no time left; before that: send to http://destination/write: "
	for _, tc := range []struct {
		name     string
		answer   answerer
		protocol config.Protocol
		took     time.Duration
		err      string
	}{
		{"answers", codes(200), config.Protocol1, 0, "<nil>"},
		{"is slow", slow, config.Protocol1, 4 * time.Second, "<nil>"},
		{"hangs", hang, config.Protocol1, 20 * time.Second, "7 records unsent: no time left"},
		{"hangs on the first batch", hang, config.ProtocolAuto, 20 * time.Second, "7 records unsent: no time left"},
		{"fails", codes(503), config.Protocol1, 20 * time.Second, before + "status 503 Service Unavailable"},
		{"rejects", codes(404), config.Protocol1, 20 * time.Second, before + "status 404 Not Found"},
	} {
		bubble(t, "destination "+tc.name, func(t *testing.T) {
			h := newHarness(t, newDestination(tc.answer), speaking(tc.protocol))
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			h.start(ctx)
			for key := range uint64(7) {
				h.put(newRecord(key, "a"))
			}
			start := time.Now()
			h.Close()
			timer := time.AfterFunc(20*time.Second, func() { cancel(errors.New("no time left")) })
			defer timer.Stop()
			expect(t, "Run", fmt.Sprint(<-h.done), tc.err)
			expect(t, "time", time.Since(start), tc.took)
			expect(t, "accepted", h.Totals()["pods"].Accepted, 7-h.Unsent())
			if strings.HasPrefix(tc.name, "hangs") {
				// What we end ourselves is no failure of the destination.
				expect(t, "log", h.lines(), nil)
			}
		})
	}
}

// The end of the context ends Run without Close too, and nothing is sent then.
func TestShutdownIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDestination(codes(200))
		h := newHarness(t, d)
		ctx, cancel := context.WithCancel(t.Context())
		h.start(ctx)
		h.put(newRecord(1, "a"))
		cancel()
		expect(t, "Run", fmt.Sprint(<-h.done), "1 records unsent: context canceled")
		expect(t, "requests", d.got(), nil)
	})
}

// The second attempt with the first of two batches is not allowed.
func TestAllowSend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDestination(codes(503))
		notAny, asked := errors.New("not any more"), 0
		h := newHarness(t, d, func(_ *config.Delivery, o *Options) {
			o.AllowSend = func() error {
				if asked++; asked > 1 {
					return notAny
				}
				return nil
			}
		})
		h.start(t.Context())
		h.put(records("a", "b", "c")...)
		err := <-h.done
		if !errors.Is(err, notAny) || !strings.HasPrefix(err.Error(), "3 records unsent: not any more") {
			t.Errorf("Run returns %v, want that 3 records are unsent, and why", err)
		}
		expect(t, "requests", len(d.got()), 1)
		_, err = h.Put(t.Context(), newRecord(4, "d"), nil)
		expect(t, "Put afterwards", err, ErrClosed)
	})
}

// refusing answers with the status to each request that has a series whose name
// begins with bad.
func refusing(status int) answerer {
	return func(n int, r request, req *http.Request) (*http.Response, error) {
		isBad := func(name string) bool { return strings.HasPrefix(name, "bad") }
		if slices.ContainsFunc(r.names(), isBad) {
			return respond(status, "label \"x\"\x1b[31m"), nil
		}
		return codes(200)(n, r, req)
	}
}

// numbered are so many records, those chosen bad.
func numbered(n uint64, isBad func(uint64) bool) []*record.Record {
	var all []*record.Record
	for key := range n {
		metric := "good"
		if isBad(key) {
			metric = "bad"
		}
		rec := &record.Record{Kind: pods, Key: key, Count: 1}
		rec.Series = record.AppendCount(rec.Series, 3)
		rec.Series = record.AppendLabel(rec.Series, "__name__", metric)
		rec.Series = record.AppendLabel(rec.Series, "namespace", "team\n1")
		rec.Series = record.AppendLabel(rec.Series, "pod", fmt.Sprint("p", key))
		all = append(all, rec)
	}
	return all
}

// Three bad records among 5,000 cost no other, wherever they are, and no more
// than 64 requests of a batch.
func TestBadRecords(t *testing.T) {
	for _, c := range []struct {
		name     string
		bad      []uint64
		requests int
	}{
		// A batch of 500 with one takes 1 + 2*9 requests.
		{"in three batches", []uint64{0, 1777, 4999}, 7 + 3*19 - 2},
		{"in one batch", []uint64{2000, 2250, 2499}, 9 + 45},
		{"next to each other", []uint64{2001, 2002, 2003}, 9 + 23},
	} {
		bubble(t, c.name, func(t *testing.T) {
			d := newDestination(refusing(400))
			h := newHarness(t, d, batchSize(500))
			h.deliver(numbered(5000, func(key uint64) bool { return slices.Contains(c.bad, key) })...)
			expect(t, "totals", h.Totals(), map[string]Totals{"pods": {Accepted: 4997, Refused: 3}})
			expect(t, "stored", len(d.stored()), 4997)
			expect(t, "requests", len(d.got()), c.requests)
			var lines []string
			for _, key := range c.bad {
				lines = append(lines, fmt.Sprintf("error: The destination refused a record kind=pods namespace=team\n1 name=p%d reason=bad_request "+
					`error=send to http://destination/write: status 400 Bad Request, receiver says "label \"x\"\x1b[31m"`, key))
			}
			expect(t, "log", h.lines(), lines)
		})
	}
}

// A batch with more bad records than 64 requests can find costs some good ones
// that are near to them, and it is said so. Where the version is not known, each
// part takes two requests.
func TestTooManyBadRecords(t *testing.T) {
	for _, c := range []struct {
		protocol                        config.Protocol
		isBad                           func(uint64) bool
		probes, requests, named, stored int
	}{
		// Eight bad records are found in the first 32; of the next four two are
		// left, and then parts of 4, 8, 16, 64 and 128, with four probes among them.
		{config.Protocol1, func(key uint64) bool { return key < 256 && key%4 == 0 }, 4, 63, 8, 24 + 2 + 256},
		{config.ProtocolAuto, func(uint64) bool { return true }, 0, 62, 8, 0},
	} {
		bubble(t, string(c.protocol), func(t *testing.T) {
			d := newDestination(refusing(422))
			h := newHarness(t, d, speaking(c.protocol), batchSize(512))
			h.senders[0].refusedInRow = -512 // so many are not enough for a probe
			h.deliver(numbered(512, c.isBad)...)
			refused := func(reason string) int {
				return int(testutil.ToFloat64(h.stats.recordsRefused.WithLabelValues("pods", reason)))
			}
			expect(t, "requests", len(d.got()), c.probes+c.requests)
			expect(t, "stored", len(d.stored()), c.probes+c.stored)
			expect(t, "refused by themselves", refused(reasonUnprocessable), c.named)
			expect(t, "refused with others", refused(reasonUndecided), 512-c.stored-c.named)
			expect(t, "log", strings.Contains(strings.Join(h.lines(), "\n"), "error: The destination refused records reason=undecided records="), true)
		})
	}
}

func TestOnRefusedDrop(t *testing.T) {
	d := newDestination(refusing(400))
	h := newHarness(t, d, batchSize(4), func(c *config.Delivery, _ *Options) { c.OnRefused = config.OnRefusedDrop })
	h.deliver(numbered(12, func(key uint64) bool { return key == 5 })...)
	expect(t, "requests", len(d.got()), 3)
	expect(t, "totals", h.Totals(), map[string]Totals{"pods": {Accepted: 8, Refused: 4}})
}

// What is left over when the rest of a part is accepted, and meets the same server
// error again and again, is bad. All else is an outage.
func TestServerErrors(t *testing.T) {
	rec := newRecord
	withRetryAfter := func(n int, r request, req *http.Request) (*http.Response, error) {
		resp, err := refusing(503)(n, r, req)
		resp.Header.Set("Retry-After", "1")
		return resp, err
	}
	interrupted := func(n int, r request, req *http.Request) (*http.Response, error) {
		if n%5 == 4 {
			return nil, io.ErrUnexpectedEOF
		}
		return refusing(500)(n, r, req)
	}
	changing := func(n int, r request, req *http.Request) (*http.Response, error) { return refusing(500+n%2)(n, r, req) }
	outage := func(n int, r request, req *http.Request) (*http.Response, error) {
		if n >= 7 && n < 20 {
			return respond(500, ""), nil
		}
		return refusing(500)(n, r, req)
	}
	isDropping := func(c *config.Delivery, _ *Options) { c.OnRefused = config.OnRefusedDrop }
	for _, c := range []struct {
		name    string
		answer  answerer
		changes changed
		records []*record.Record
		// want are the requests, without those that repeat the one before. Where
		// none is refused, all are accepted after a minute.
		want    [][]string
		refused int64
	}{
		{"one is bad", refusing(500), nil, []*record.Record{rec(1, "a"), rec(2, "b"), rec(3, "bad"), rec(4, "c")},
			[][]string{{"a", "b", "bad", "c"}, {"a"}, {"b", "bad", "c"}, {"b"}, {"bad", "c"}, {"bad"}, {"c"}, {"bad"}}, 1},
		{"several are bad", refusing(500), nil, []*record.Record{rec(1, "a"), rec(2, "bad"), rec(3, "bad2")},
			[][]string{{"a", "bad", "bad2"}, {"a"}, {"bad", "bad2"}, {"bad"}, {"bad2"}, {"a"}, {"bad"}, {"bad2"}}, 2},
		{"an object's records stay in their order", refusing(502), nil, []*record.Record{rec(3, "a1"), rec(1, "bad"), rec(2, "b"), rec(3, "a2")},
			[][]string{{"a1", "bad", "b", "a2"}, {"bad"}, {"b"}, {"bad", "a1", "a2"}, {"bad"}, {"a1", "a2"}, {"bad"}}, 1},
		{"some of an object's are bad", refusing(500), nil, []*record.Record{rec(2, "bad"), rec(1, "b"), rec(2, "a"), rec(2, "bad2")},
			[][]string{{"bad", "b", "a", "bad2"}, {"b"}, {"bad", "a", "bad2"}, {"bad"}, {"a", "bad2"}, {"a"}, {"bad2"}}, 2},
		{"all are bad", refusing(500), nil, []*record.Record{rec(1, "bad"), rec(2, "bad2")},
			[][]string{{"bad", "bad2"}, {"bad"}, {"bad2"}, {"bad", "bad2"}, {"bad"}, {"bad2"}, {"bad", "bad2"}}, 0},
		{"an outage in the middle", outage, nil, []*record.Record{rec(1, "a"), rec(2, "bad"), rec(3, "b")}, [][]string{
			{"a", "bad", "b"}, {"a"}, {"bad", "b"}, {"bad"}, {"b"}, {"a"}, {"bad", "b"}, {"bad"}, {"b"}, {"a"}, {"bad", "b"}, {"bad"}, {"b"}, {"bad"},
		}, 1},
		{"with Retry-After", withRetryAfter, nil, []*record.Record{rec(1, "a"), rec(2, "bad")}, [][]string{{"a", "bad"}}, 0},
		{"too many requests", refusing(429), nil, []*record.Record{rec(1, "a"), rec(2, "bad")}, [][]string{{"a", "bad"}}, 0},
		{"no answers between", interrupted, nil, []*record.Record{rec(1, "a"), rec(2, "bad")}, [][]string{{"a", "bad"}}, 0},
		{"not the same", changing, nil, []*record.Record{rec(1, "a"), rec(2, "bad")}, [][]string{{"a", "bad"}}, 0},
		{"by the letter", refusing(500), isDropping, []*record.Record{rec(1, "a"), rec(2, "bad")}, [][]string{{"a", "bad"}}, 0},
	} {
		bubble(t, c.name, func(t *testing.T) {
			mended := time.Now().Add(time.Minute)
			d := newDestination(func(n int, r request, req *http.Request) (*http.Response, error) {
				if c.refused == 0 && time.Now().After(mended) {
					return respond(200, ""), nil
				}
				return c.answer(n, r, req)
			})
			h := newHarness(t, d, batchSize(len(c.records)), func(s *config.Delivery, o *Options) {
				if c.changes != nil {
					c.changes(s, o)
				}
			})
			h.deliver(c.records...)
			expect(t, "requests", slices.CompactFunc(d.names(), slices.Equal), c.want)
			expect(t, "totals", h.Totals(), map[string]Totals{"pods": {Accepted: int64(len(c.records)) - c.refused, Refused: c.refused}})
		})
	}
}

// Bad records among 5,000 cost no other, and each no more than the five attempts.
func TestServerErrorOfMany(t *testing.T) {
	var forty []uint64
	for key := range uint64(40) {
		forty = append(forty, 2000+key)
	}
	for _, c := range []struct {
		size     int
		bad      []uint64
		requests int
		// found is when the first piece is accepted, took when all is done.
		found, took time.Duration
	}{
		{5000, []uint64{4321}, 40, 1500 * ms, 3 * time.Second},
		{500, []uint64{4321}, 44, 1500 * ms, 3 * time.Second},
		{500, []uint64{2001, 2260, 2261, 2499}, 96, 1500 * ms, 7500 * ms},
		{500, forty, 422, 1500 * ms, 61500 * ms},
		// One in each quarter: it takes the next round.
		{500, []uint64{2000, 2125, 2250, 2375}, 134, 51100 * ms, 57100 * ms},
	} {
		bubble(t, fmt.Sprint(c.size, c.bad), func(t *testing.T) {
			d := newDestination(refusing(500))
			h := newHarness(t, d, batchSize(c.size))
			h.deliver(numbered(5000, func(key uint64) bool { return slices.Contains(c.bad, key) })...)
			expect(t, "time", time.Since(d.start), c.took)
			expect(t, "requests", len(d.got()), c.requests)
			expect(t, "totals", h.Totals(), map[string]Totals{"pods": {Accepted: 5000 - int64(len(c.bad)), Refused: int64(len(c.bad))}})
			const text = `send to http://destination/write: status 500 Internal Server Error, receiver says "label \"x\"\x1b[31m"`
			want := []string{"warning: Cannot send error=" + text, fmt.Sprint("info: Sending again after=", c.found)}
			for _, key := range c.bad {
				want = append(want, fmt.Sprintf("error: The destination refused a record kind=pods namespace=team\n1 name=p%d reason=server_error error=%s", key, text))
			}
			if len(c.bad) < len(forty) { // Of forty, the failure is told again after a minute.
				expect(t, "log", h.lines(), want)
			}
		})
	}
}

// The pieces that are tried in an outage stay few.
func TestServerErrorsInOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDestination(upAfter(time.Hour))
		h := newHarness(t, d, batchSize(500))
		h.deliver(numbered(500, func(uint64) bool { return false })...)
		pieces := len(slices.DeleteFunc(d.got(), func(r request) bool { return len(r.Samples) == 500 }))
		expect(t, "requests", []int{len(d.got()), pieces}, []int{349, 220})
		expect(t, "totals", h.Totals(), map[string]Totals{"pods": {Accepted: 500}})
	})
}

// A destination that refuses ten records in a row with none accepted between them
// gets one record a minute from then on, and no record is lost by that.
func TestRefusesEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mended := time.Now().Add(90 * time.Second)
		d := newDestination(func(int, request, *http.Request) (*http.Response, error) {
			if time.Now().Before(mended) {
				return respond(400, "no"), nil
			}
			return respond(200, ""), nil
		})
		h := newHarness(t, d, batchSize(8))
		h.deliver(numbered(40, func(uint64) bool { return false })...)
		expect(t, "times", slices.Compact(d.times()), []time.Duration{0, time.Minute, 2 * time.Minute})
		// All of the first batch in 15 requests, of the second one of the quarters in
		// five; after the probes what is left of it, and three batches.
		expect(t, "requests", len(d.got()), 15+5+3+2+3)
		expect(t, "totals", h.Totals(), map[string]Totals{"pods": {Accepted: 30, Refused: 10}})
		lines := h.lines()
		const said = "error: The destination refuses every record error=10 records in a row were refused, the last: " +
			`send to http://destination/write: status 400 Bad Request, receiver says "no"`
		expect(t, "said", slices.Contains(lines, said), true)
		expect(t, "at last", lines[len(lines)-1], "info: Sending again after=2m0s")
	})
}

// After ten refusals in a row, a record that was accepted tells bad records from a
// destination that refuses everything. It is the newest of its object, which is there.
func TestProbe(t *testing.T) {
	rec := newRecord
	for _, c := range []struct {
		name string
		// before are the batches that were accepted, after is the one that meets the
		// probes.
		before  [][]*record.Record
		down    time.Duration
		after   []*record.Record
		refused int64
		want    [][]string
	}{
		{"the records are bad", [][]*record.Record{{rec(1, "a"), rec(2, "b")}}, 0,
			[]*record.Record{rec(3, "bad"), rec(4, "bad")}, 12, [][]string{{"b"}, {"bad", "bad"}, {"bad"}, {"bad"}}},
		{"the destination refuses everything for a while", [][]*record.Record{{rec(1, "a"), rec(2, "b")}}, 90 * time.Second,
			[]*record.Record{rec(3, "c")}, 10, [][]string{{"b"}, {"c"}, {"b"}, {"c"}, {"b"}, {"c"}}},
		{"the newest", [][]*record.Record{{rec(1, "a")}, {rec(1, "a2")}}, 0, []*record.Record{rec(3, "c")}, 10, [][]string{{"a2"}, {"c"}}},
		{"others were deleted", [][]*record.Record{{rec(1, "a"), deleted(rec(2, "b"))}, {deleted(rec(3, "c"))}}, 0,
			[]*record.Record{rec(3, "c")}, 10, [][]string{{"a"}, {"c"}}},
		{"deleted at once", [][]*record.Record{{rec(1, "a"), deleted(rec(1, "a"))}}, 0, []*record.Record{rec(3, "c")}, 10, [][]string{{"c"}, {"c"}}},
		{"deleted later", [][]*record.Record{{rec(1, "a")}, {deleted(rec(1, "a"))}}, 0, []*record.Record{rec(3, "c")}, 10, [][]string{{"c"}, {"c"}}},
		{"perhaps not accepted", [][]*record.Record{{rec(1, "a")}, {rec(1, "a2"), rec(2, "partial")}}, 0, []*record.Record{rec(3, "c")}, 11, [][]string{{"c"}, {"c"}}},
	} {
		bubble(t, c.name, func(t *testing.T) {
			up := time.Time{}
			d := newDestination(func(n int, r request, req *http.Request) (*http.Response, error) {
				if time.Now().Before(up) {
					return respond(400, ""), nil
				}
				resp, err := refusing(400)(n, r, req)
				if slices.Contains(r.names(), "partial") {
					resp.Header.Set(samplesWritten, "1")
				}
				return resp, err
			})
			h := newHarness(t, d, speaking(config.Protocol2))
			h.start(t.Context())
			put := func(records ...*record.Record) (requests int) {
				h.put(records...)
				time.Sleep(11 * time.Second) // the batch was due
				return len(d.got())
			}
			for _, records := range c.before {
				put(records...)
			}
			before := put(numbered(10, func(uint64) bool { return true })...)
			up = time.Now().Add(c.down)
			put(c.after...)
			h.finish()
			expect(t, "requests", d.names()[before:], c.want)
			expect(t, "refused", h.Totals()["pods"].Refused, c.refused)
		})
	}
}

// Two batches that are refused whole are no reason to slow down, nor ten records
// with one among them that is accepted.
func TestRefusalsApart(t *testing.T) {
	d := newDestination(refusing(400))
	h := newHarness(t, d, probing(1000*time.Hour, 0))
	h.deliver(numbered(30, func(key uint64) bool { return key%10 != 9 })...)
	expect(t, "totals", h.Totals(), map[string]Totals{"pods": {Accepted: 3, Refused: 27}})
}

// A receiver that takes 16 KB at once gets all that fits by itself, though bad
// records are searched for in the same batches; batches are smaller for an hour.
func TestTooLarge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDestination(func(n int, r request, req *http.Request) (*http.Response, error) {
			if r.Size > 16_000 {
				return respond(413, ""), nil
			}
			return refusing(400)(n, r, req)
		})
		h := newHarness(t, d, batchSize(500))
		h.start(t.Context())
		put := func(n int) (requests int) {
			before := len(d.got())
			for key := range n {
				if key == 0 || key == 497 {
					h.put(newRecord(100, "bad"))
				} else {
					h.put(sized(uint64(key%20), 2000))
				}
			}
			h.put(sized(1, 20_000), newRecord(2, "a"))
			time.Sleep(time.Minute)
			return len(d.got()) - before
		}
		// Seven sizes from 1 MB to 16 KB; parts of seven records; then what is too
		// large by itself, and two searches.
		if n := put(2000); n > 7+2000/7+50 {
			t.Errorf("%d requests for 2000 records", n)
		}
		expect(t, "totals", h.Totals(), map[string]Totals{"pods": {Accepted: 1999, Refused: 3}})
		tooLarge := func() int {
			return len(slices.DeleteFunc(d.got(), func(r request) bool { return r.Status != 413 }))
		}
		before := tooLarge()
		put(500)
		expect(t, "answers that it is too large, later", tooLarge()-before, 1)
		time.Sleep(lowerFor)
		put(500)
		if n := tooLarge() - before; n < 6 {
			t.Errorf("an hour later %d answers that it is too large, want that large batches are tried", n)
		}
		h.finish()
		expect(t, "totals", h.Totals(), map[string]Totals{"pods": {Accepted: 2997, Refused: 9}})
	})
}

// So many refused records are named in a minute, and each reason without names once.
func TestNamesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, newDestination(codes(200)))
		log := h.refusals
		for range 2*maxNamed + 50 {
			log.add(reasonBadRequest, io.EOF, 1, logrus.Fields{})
		}
		log.add(reasonUndecided, io.EOF, 5, nil)
		log.add(reasonUndecided, io.EOF, 5, nil)
		expect(t, "lines", len(h.lines()), maxNamed+1)
		time.Sleep(time.Minute)
		log.add(reasonBadRequest, io.EOF, 1, logrus.Fields{"name": "late"})
		expect(t, "a minute later", h.lines()[maxNamed+1:], []string{
			"error: The destination refused a record name=late reason=bad_request error=EOF",
		})
	})
}

// The last refusals are kept, the newest first, and the failure of the sender that
// has failed for longest.
func TestStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, newDestination(codes(200)), speaking(config.ProtocolAuto), func(c *config.Delivery, _ *Options) { c.Senders = 2 })
		start := time.Now()
		want := &Status{URL: "http://destination/write", Protocol: "unknown", QueueCapacity: 16, Refused: []Refusal{}}
		expect(t, "at the start", h.Status(), want)
		h.senders[0].protocol.inUse.Store(int32(v2))
		h.senders[1].outage.Fail("a", io.EOF)
		for range maxRecent {
			h.refusals.add(reasonUndecided, io.EOF, 5, nil)
		}
		time.Sleep(time.Second)
		h.senders[0].outage.Fail("b", io.ErrUnexpectedEOF)
		h.refusals.add(reasonBadRequest, errors.New(strings.Repeat("ä", 200)), 1, logrus.Fields{"kind": "pods", "namespace": "shop", "name": "a", "hint": "h"})
		h.put(newRecord(1, "a"))
		time.Sleep(time.Second)
		want.Protocol, want.Err, want.Error, want.FailingSince, want.QueueLength, want.OldestAgeSeconds = "unknown, 2.0", io.EOF, "EOF", start, 1, 1
		want.Refused = []Refusal{{
			Time: start.Add(time.Second), Resource: "pods", Namespace: "shop", Name: "a", Records: 1, Reason: "bad_request",
			Error: strings.Repeat("ä", maxShown/2) + "…", Hint: "h",
		}}
		for range maxRecent - 1 {
			want.Refused = append(want.Refused, Refusal{Time: start, Records: 5, Reason: "undecided", Error: "EOF"})
		}
		expect(t, "later", h.Status(), want)
	})
}

// Whatever fails, and whatever the clock does, an object's samples arrive in their
// order, by the same sender.
func TestOrderUnderRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const objects, updates = 200, 50
		var mu sync.Mutex
		random := rand.New(rand.NewPCG(3, 4))
		last := map[string]sample{}
		d := newDestination(func(n int, r request, _ *http.Request) (*http.Response, error) {
			mu.Lock()
			chance, wait := random.IntN(12), time.Duration(random.IntN(3000))*ms
			mu.Unlock()
			time.Sleep(wait)
			if failures := []int{500, 502, 503, 429, 408, 401}; chance < len(failures) {
				return respond(failures[chance], "", "Retry-After", strconv.Itoa(chance)), nil
			}
			mu.Lock()
			defer mu.Unlock()
			for _, s := range r.Samples {
				object, update, _ := strings.Cut(s.Name, "/")
				if before := last[object]; s.At <= before.At || update <= before.Name {
					t.Errorf("%v of %s after %v", s, object, before)
				}
				last[object] = sample{Name: update, At: s.At}
			}
			return respond(200, "", samplesWritten, "9999"), nil
		})
		// A clock that jumps back by half a minute now and then.
		clock := func() time.Time { return time.Now().Add(-time.Duration(time.Now().Unix()%3) * 10 * time.Second) }
		h := newHarness(t, d, batchSize(100), speaking(config.ProtocolAuto), probing(time.Second, 0),
			func(c *config.Delivery, _ *Options) { c.Senders = 8 })
		for _, s := range h.senders {
			s.jitter, s.clock.now = upperHalf, clock
		}
		h.start(t.Context())
		for update := range updates {
			for key := range uint64(objects) {
				h.put(newRecord(key, fmt.Sprintf("%d/%03d", key, update)))
			}
			time.Sleep(ms)
		}
		h.finish()
		expect(t, "objects", len(last), objects)
		expect(t, "stored", len(d.stored()), objects*updates)
		expect(t, "totals", h.Totals(), map[string]Totals{"pods": {Accepted: objects * updates}})
	})
}
