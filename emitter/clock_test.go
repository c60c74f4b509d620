// SPDX-License-Identifier: Apache-2.0

package emitter

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"labelstream/config"
)

// A batch has one time, that of the attempt. An object that comes again is a tick
// later, and what comes after it too.
func TestStampedWhenSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDestination(codes(503, 503, 200))
		h := newHarness(t, d, batchSize(6))
		h.put(newRecord(1, "a1", "a2"), newRecord(2, "b"))
		time.Sleep(time.Hour)
		now := time.Now().UnixMilli()
		h.put(newRecord(1, "a3"), newRecord(3, "c"), newRecord(3, "c2"), newRecord(2, "b2"))
		h.deliver()
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
		h := newHarness(t, d)
		h.senders[0].clock.now = func() time.Time { return time.UnixMilli(now) }
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

// A marker ends each series of an object that is gone, and those that an object no
// longer has. What follows of the object is later than its marker.
func TestStaleMarkers(t *testing.T) {
	for _, c := range []struct {
		protocol config.Protocol
		markers  bool
		want     [][]sample
	}{
		{config.Protocol1, false, [][]sample{{{"a", -2}, {"b", -2}, {"a2", -1}, {"a2", 0}, {"c", 0}}, {{"a", 1}, {"c", 1}}}},
		{config.Protocol1, true, [][]sample{
			{{"a", -3}, {"b", -3}, {"a2", -2}, {"a†", -2}, {"a0†", -2}, {"a2", -1}, {"a2†", 0}, {"c", -1}, {"c†", 0}},
			{{"a", 1}, {"c", 1}, {"c†", 2}},
		}},
		{config.Protocol2, true, [][]sample{
			{{"a", -3}, {"b", -3}, {"a2", -2}, {"a†", -2}, {"a0†", -2}, {"a2", -1}, {"a2†", 0}, {"c", -1}, {"c†", 0}},
			{{"a", 1}, {"c", 1}, {"c†", 2}},
		}},
	} {
		bubble(t, fmt.Sprint(c.protocol, c.markers), func(t *testing.T) {
			d := newDestination(codes(200))
			h := newHarness(t, d, batchSize(5), speaking(c.protocol), func(s *config.Delivery, _ *Options) { s.StaleMarkers = c.markers })
			relabelled := ended(newRecord(1, "a2"), "a", "a0")
			expect(t, "hash", relabelled.Hash(), newRecord(1, "a2").Hash())
			h.put(newRecord(1, "a"), newRecord(2, "b"), relabelled, deleted(newRecord(1, "a2")), deleted(newRecord(3, "c")))
			h.deliver(newRecord(1, "a"), deleted(newRecord(3, "c")))
			for _, r := range c.want {
				for i := range r {
					r[i].At += time.Now().UnixMilli()
				}
			}
			expect(t, "samples", each(d, func(r request) []sample { return r.Samples }), c.want)
			expect(t, "samples accepted", testutil.ToFloat64(h.stats.samplesSent), float64(len(c.want[0])+len(c.want[1])))
			expect(t, "totals", h.Totals(), map[string]Totals{"pods": {Accepted: 7}})
		})
	}
}

// Deletions that have waited for over five minutes are not sent, and counted;
// whatever else waited is.
func TestOldDeletionsAreDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDestination(upAfter(40 * time.Minute))
		h := newHarness(t, d)
		h.start(t.Context())
		h.put(newRecord(1, "a"), deleted(newRecord(2, "b")), deleted(newRecord(3, "c")), deleted(newRecord(4, "d")))
		time.Sleep(37 * time.Minute)
		h.put(deleted(newRecord(5, "e")), newRecord(6, "f"))
		h.finish()
		expect(t, "stored", d.stored(), []string{"a", "e", "f"})
		for _, r := range d.got() {
			if len(r.Samples) == 2 && r.Samples[1].Name == "b" && r.After > maxDeletionAge {
				t.Errorf("a deletion was sent after %v", r.After)
			}
			// Of several attempts in a millisecond, each is one later.
			if at := d.start.Add(r.After).UnixMilli(); r.Samples[0].At < at || r.Samples[0].At > at+2 {
				t.Errorf("a sample sent at %d has the time %d", at, r.Samples[0].At)
			}
		}
		expect(t, "totals", h.Totals(), map[string]Totals{"pods": {Accepted: 3}})
		expect(t, "unsent", h.Unsent(), 0)
		expect(t, "dropped", testutil.ToFloat64(h.stats.deletionsDropped.WithLabelValues("pods")), 3)
		expect(t, "batches accepted, without the one that is empty", testutil.ToFloat64(h.stats.batches.WithLabelValues("accepted")), 2)
	})
}

// Nothing is lost while a destination is away, and an attempt at least every half
// minute shows that the emitter is alive.
func TestAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDestination(upAfter(2 * time.Hour))
		h := newHarness(t, d, func(c *config.Delivery, _ *Options) { c.SendInterval = 10 * time.Minute })
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
