package emitter

import (
	"bytes"
	"encoding/hex"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang/snappy"

	"labelstream/config"
	"labelstream/record"
)

// A batch has one time, that of the attempt. An object that comes again is a tick
// later, and what comes after it too.
func TestStampedWhenSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDestination(codes(503, 503, 200))
		h := newTestEmitter(t, d, batchSize(6))
		h.put(newRecord(1, "a1", "a2"), newRecord(2, "b"))
		time.Sleep(time.Hour)
		now := time.Now().UnixMilli()
		h.deliver(newRecord(1, "a3"), newRecord(3, "c"), newRecord(3, "c2"), newRecord(2, "b2"))
		at := func(now int64) []sample {
			return []sample{{"a1", now - 2}, {"a2", now - 2}, {"b", now - 2}, {"a3", now - 1}, {"c", now - 1}, {"c2", now}, {"b2", now}}
		}
		expect(t, "samples", each(d, func(r request) []sample { return r.Samples }), [][]sample{at(now), at(now + 100), at(now + 300)})
	})
}

// The times of a sender's samples rise by themselves where the clock stands still,
// and follow a clock that was set back for good.
func TestTimesRise(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		minute := time.Minute.Milliseconds()
		now := int64(1700000000000)
		d := newDestination(codes(200))
		cfg := testConfig(t, "http://destination/write")
		h := newHarness(t, cfg, Options{Transport: d, Now: func() time.Time { return time.UnixMilli(now) }})
		h.start(t.Context())
		for _, step := range []int64{0, 0, -minute + 2, 5, -2 * minute, 0, 3 * minute} {
			now += step
			h.put(newRecord(1, "a"), newRecord(1, "b"))
			synctest.Wait()
		}
		h.finish()
		var times []int64
		for _, r := range d.got() {
			times = append(times, r.Samples[0].At-1700000000000, r.Samples[1].At-1700000000000)
		}
		back := int64(-minute + 2 + 5 - 2*minute)
		expect(t, "times", times, []int64{-1, 0, 1, 2, 3, 4, 5, 6, back - 1, back, back + 1, back + 2, 6, 7})
		expect(t, "log", h.lines(), []string{"warning: The clock was set back, samples follow it by=3m0s"})
	})
}

// The exact bytes of an attempt, and of the one after it.
func TestBytesOfAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var bodies []string
		transport := roundTripper(func(req *http.Request) (*http.Response, error) {
			body, _ := io.ReadAll(req.Body)
			plain, err := snappy.Decode(nil, body)
			if err != nil {
				return nil, err
			}
			bodies = append(bodies, hex.EncodeToString(plain))
			return respond([]int{500, 200}[len(bodies)-1], ""), nil
		})
		h := newTestEmitter(t, transport)
		h.deliver(newRecord(1, "up"))
		// It is midnight of 1 January 2000, and 100 ms later.
		const series = "0a2d" + "0a0e" + "0a085f5f6e616d655f5f" + "12027570" + "0a09" + "0a03706f64" + "12027031" + "1210" + "09000000000000f03f"
		expect(t, "bodies", bodies, []string{series + "1080d8bed6c61b", series + "10e4d8bed6c61b"})
	})
}

// Deletions that have waited for over five minutes are not sent, and counted;
// whatever else waited is.
func TestOldDeletionsAreDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		deleted := func(key uint64, name string) *record.Record {
			rec := newRecord(key, name)
			rec.Deleted = true
			return rec
		}
		up := time.Now().Add(40 * time.Minute)
		d := newDestination(func(n int, r request, req *http.Request) (*http.Response, error) {
			if time.Now().Before(up) {
				return respond(503, ""), nil
			}
			return codes(200)(n, r, req)
		})
		h := newTestEmitter(t, d)
		h.start(t.Context())
		h.put(newRecord(1, "a"), deleted(2, "b"), deleted(3, "c"), deleted(4, "d"))
		time.Sleep(37 * time.Minute)
		h.put(deleted(5, "e"), newRecord(6, "f"))
		h.finish()
		expect(t, "stored", d.stored(), []string{"a", "e", "f"})
		for _, r := range d.got() {
			if len(r.Samples) == 2 && r.Samples[1].Name == "b" && r.After > maxDeletionAge {
				t.Errorf("a deletion was sent after %v", r.After)
			}
			// Of two attempts in a millisecond, the second is one later.
			if at := d.start.Add(r.After).UnixMilli(); r.Samples[0].At < at || r.Samples[0].At > at+1 {
				t.Errorf("a sample sent at %d has the time %d", at, r.Samples[0].At)
			}
		}
		expect(t, "totals", h.Totals(), map[string]Totals{"pods": {Accepted: 3}})
		expect(t, "unsent", h.Unsent(), 0)
		h.expectMetrics(`
			# HELP labelstream_deletions_dropped_total Last records of deleted objects that waited for more than five minutes and were not sent, by resource.
			# TYPE labelstream_deletions_dropped_total counter
			labelstream_deletions_dropped_total{resource="pods"} 3
			# HELP labelstream_batches_total Batches by result: accepted, conflict (the destination has newer samples), partial (some records were refused), or refused.
			# TYPE labelstream_batches_total counter
			labelstream_batches_total{result="accepted"} 2
			labelstream_batches_total{result="conflict"} 0
			labelstream_batches_total{result="partial"} 0
			labelstream_batches_total{result="refused"} 0
		`, "labelstream_deletions_dropped_total", "labelstream_batches_total")
	})
}

// What was dropped is left out of both versions' messages.
func TestEncodeWithoutDropped(t *testing.T) {
	all := []*record.Record{newRecord(1, "a"), newRecord(2, "b"), newRecord(3, "c")}
	b := batchOf(all)
	b.entries[1].dropped = true
	for _, v := range versions {
		body := newEncoder(1<<20).encode(b, b.all(), v, at)
		rest := batchOf([]*record.Record{all[0], all[2]})
		if !bytes.Equal(body, newEncoder(1<<20).encode(rest, rest.all(), v, at)) {
			t.Errorf("%v: the message differs from that of the others", v)
		}
	}
}

// Nothing is lost while a destination is away, and an attempt at least every half
// minute shows that the emitter is alive.
func TestAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := time.Now().Add(2 * time.Hour)
		d := newDestination(func(n int, r request, req *http.Request) (*http.Response, error) {
			if time.Now().Before(up) {
				return respond(503, ""), nil
			}
			return codes(200)(n, r, req)
		})
		h := newTestEmitter(t, d, func(c *config.Delivery) { c.SendInterval = 10 * time.Minute })
		expect(t, "with nothing to send", h.Alive(time.Now().Add(time.Hour)), nil)
		h.put(newRecord(1, "a"))
		expect(t, "while records may wait", h.Alive(time.Now().Add(maxIdle)), nil)
		if err := h.Alive(time.Now().Add(maxIdle + time.Second)); err == nil ||
			err.Error() != "records wait, and nothing has been attempted for 30m1s" {
			t.Errorf("without an attempt: %v", err)
		}
		h.start(t.Context())
		for range 8 {
			time.Sleep(14 * time.Minute)
			expect(t, "while attempts fail", h.Alive(time.Now()), nil)
		}
		h.finish()
		expect(t, "stored", d.stored(), []string{"a"})
		expect(t, "afterwards", h.Alive(time.Now().Add(time.Hour)), nil)
	})
}
