// SPDX-License-Identifier: Apache-2.0

package emitter

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	logtest "github.com/sirupsen/logrus/hooks/test"

	"labelstream/config"
	"labelstream/record"
)

func TestSizeQueue(t *testing.T) {
	for senders, want := range map[int]queueSize{
		1:  {batches: 4, records: 500, bytes: 1 << 20},
		2:  {batches: 4, records: 500, bytes: 1 << 20},
		3:  {batches: 2, records: 500, bytes: 1 << 20},
		64: {batches: 2, records: 500, bytes: 64 << 10},
	} {
		got := sizeQueue(&config.Delivery{BatchSize: 500, Senders: senders})
		if total := senders * got.batches * got.bytes; got != want || total > queueBytes {
			t.Errorf("%d senders: %+v, %d bytes in all, want %+v", senders, got, total, want)
		}
	}
}

func TestBatchCloses(t *testing.T) {
	for _, tc := range []struct {
		name    string
		records int
		sizes   []int
		want    []int
	}{
		{"at its records", 2, []int{100, 100, 100, 100, 100}, []int{2, 2, 1}},
		{"at its bytes, to the byte", 100, []int{500, 500, 500, 501, 499}, []int{2, 1, 2}},
		{"around what is larger than itself", 100, []int{100, 5000, 100, 200}, []int{1, 1, 2}},
		{"with what is larger than itself first", 100, []int{5000, 5000, 1000, 100}, []int{1, 1, 1, 1}},
	} {
		bubble(t, tc.name, func(t *testing.T) {
			d := newDestination(codes(200))
			h := newHarness(t, d, batchSize(tc.records))
			q := h.senders[0].queue
			q.size.bytes = 1000
			h.start(t.Context())
			for i, size := range tc.sizes {
				h.put(sized(uint64(i), size))
			}
			h.finish()
			expect(t, "records of each request", each(d, func(r request) int { return len(r.Samples) }), tc.want)
			for _, b := range q.batches {
				if cap(b.arena) > 1000 {
					t.Errorf("a batch keeps a buffer of %d bytes", cap(b.arena))
				}
			}
		})
	}
}

// A buffer grows to what it may keep, no further, and is kept.
func TestBatchBuffer(t *testing.T) {
	const limit = minArena + minArena/2
	b, rec := &batch{}, benchRecord(1)
	var capacities []int
	for len(b.arena)+len(rec.Series) <= limit {
		b.add(rec, newEntry(rec, false), 1, limit)
		if n := len(capacities); n == 0 || capacities[n-1] != cap(b.arena) {
			capacities = append(capacities, cap(b.arena))
		}
	}
	expect(t, "capacities", capacities, []int{minArena, limit})
	b.reset(limit)
	expect(t, "capacity kept", cap(b.arena), limit)
	rec = ended(newRecord(1, "a"), "b")
	b.add(rec, newEntry(rec, false), 1, limit)
	expect(t, "bytes without markers", len(b.arena), len(rec.Series))
}

// A batch is due an interval after its first record; while another one is being
// sent it goes on filling.
func TestIntervalClosesBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDestination(func(n int, _ request, _ *http.Request) (*http.Response, error) {
			time.Sleep(time.Duration(n/3) * 25 * time.Second)
			return respond(200, ""), nil
		})
		h := newHarness(t, d)
		h.start(t.Context())
		time.Sleep(4 * time.Second)
		h.put(newRecord(1, "a")) // due at 14 s
		time.Sleep(6 * time.Second)
		h.put(newRecord(2, "b"), newRecord(3, "c")) // full at 10 s, c due at 20 s
		time.Sleep(time.Minute)
		h.put(newRecord(4, "d")) // due at 80 s
		time.Sleep(time.Minute)
		h.put(records("e", "f", "g")...)
		time.Sleep(20 * time.Second)
		h.put(newRecord(4, "h"))
		h.finish()
		expect(t, "times", d.times(), []time.Duration{10 * time.Second, 20 * time.Second, 80 * time.Second, 130 * time.Second, 155 * time.Second})
		expect(t, "requests", d.names(), [][]string{{"a", "b"}, {"c"}, {"d"}, {"e", "f"}, {"g", "h"}})
	})
}

// Put waits for room, and asks want when there is some: not before, and not where
// the record is not put.
func TestPutWaitsForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := make(chan struct{})
		d := newDestination(func(int, request, *http.Request) (*http.Response, error) {
			<-answer
			return respond(200, ""), nil
		})
		h := newHarness(t, d)
		h.start(t.Context())
		// Four batches of two, the first of them in flight.
		for key := range uint64(8) {
			h.put(newRecord(key, fmt.Sprint(key)))
		}
		asked := 0
		want := func(rec *record.Record) bool {
			asked++
			return rec.Key != 9
		}
		results := make(chan error)
		put := func(ctx context.Context, key uint64) {
			sent, err := h.Put(ctx, newRecord(key, fmt.Sprint(key)), want)
			if err == nil && sent == (key == 9) {
				err = fmt.Errorf("record %d: sent is %v", key, sent)
			}
			results <- err
		}
		tryPut := func(key uint64, wantSent, wantRoom bool) {
			t.Helper()
			sent, room := h.TryPut(newRecord(key, fmt.Sprint(key)), want)
			expect(t, "TryPut", []bool{sent, room}, []bool{wantSent, wantRoom})
		}
		expect(t, "full", h.Full(), false)
		ctx, cancel := context.WithCancelCause(t.Context())
		go put(ctx, 8)
		synctest.Wait()
		expect(t, "full", h.Full(), true)
		reason := errors.New("the source stops")
		cancel(reason)
		if err := <-results; !errors.Is(err, reason) {
			t.Errorf("Put returns %v, want the context's cause", err)
		}
		expect(t, "full", h.Full(), false)
		tryPut(8, false, false)
		expect(t, "unsent", h.Unsent(), 8)

		go put(t.Context(), 9)
		go put(t.Context(), 10)
		synctest.Wait()
		expect(t, "times that want was asked", asked, 0)
		close(answer)
		expect(t, "Put", <-results, nil)
		expect(t, "Put", <-results, nil)
		tryPut(9, false, true)
		tryPut(11, true, true)
		expect(t, "times that want was asked", asked, 4)
		h.finish()
		expect(t, "requests", d.names(), [][]string{{"0", "1"}, {"2", "3"}, {"4", "5"}, {"6", "7"}, {"10", "11"}})
	})
}

// Many that wait for room get it one after the other, and fill each batch.
func TestPutsWaitTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDestination(func(int, request, *http.Request) (*http.Response, error) {
			time.Sleep(time.Second)
			return respond(200, ""), nil
		})
		h := newHarness(t, d)
		h.start(t.Context())
		var all sync.WaitGroup
		for key := range uint64(50) {
			all.Go(func() { h.put(newRecord(key, "a")) })
		}
		all.Wait()
		h.finish()
		expect(t, "requests", len(d.got()), 25)
	})
}

func TestPutAfterTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, newDestination(hang))
		for key := range uint64(8) {
			h.put(newRecord(key, "a"))
		}
		put := make(chan error)
		go func() {
			_, err := h.Put(t.Context(), newRecord(8, "b"), nil)
			put <- err
		}()
		synctest.Wait()
		h.Close()
		h.Close()
		expect(t, "a Put that waited", <-put, ErrClosed)
		sent, room := h.TryPut(newRecord(1, "a"), nil)
		expect(t, "TryPut", []bool{sent, room}, []bool{false, false})
	})
}

// What Put copies it does not allocate for, once the buffers have grown.
func TestPutDoesNotAllocate(t *testing.T) {
	h := newHarness(t, newDestination(codes(200)), batchSize(4000))
	q, rec := h.senders[0].queue, benchRecord(1)
	fill := func() {
		for q.open == nil || len(q.open.entries) < 1000 {
			h.put(rec)
		}
	}
	fill()
	allocations := testing.AllocsPerRun(10, func() {
		q.open.reset(q.size.bytes)
		fill()
	})
	expect(t, "allocations for a thousand records", allocations, 0)
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// BenchmarkPut measures the queue with a destination that takes no time. The
// allocations are those of the requests, one in 500 records.
func BenchmarkPut(b *testing.B) {
	transport := roundTripper(func(req *http.Request) (*http.Response, error) {
		req.Body.Close()
		return respond(200, ""), nil
	})
	logger, _ := logtest.NewNullLogger()
	e := newEmitter(b, transport, logger, batchSize(500))
	done := make(chan error, 1)
	go func() { done <- e.Run(b.Context()) }()
	rec := benchRecord(1)
	b.SetBytes(int64(len(rec.Series)))
	b.ReportAllocs()
	for b.Loop() {
		rec.Key++
		if _, err := e.Put(b.Context(), rec, nil); err != nil {
			b.Fatal(err)
		}
	}
	e.Close()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}
