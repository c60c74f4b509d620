package emitter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"labelstream/config"
	"labelstream/record"
)

func TestSizeQueue(t *testing.T) {
	for _, tc := range []struct {
		bytes, senders int
		want           queueSize
	}{
		{1 << 20, 2, queueSize{batches: 4, records: 500, bytes: 1 << 20}},
		{1 << 20, 1, queueSize{batches: 4, records: 500, bytes: 1 << 20}},
		{64 << 10, 2, queueSize{batches: 4, records: 500, bytes: 64 << 10}},
		{3 << 20, 2, queueSize{batches: 2, records: 500, bytes: 2 << 20}},
		{1 << 30, 2, queueSize{batches: 2, records: 500, bytes: 2 << 20}},
		{1 << 20, 64, queueSize{batches: 2, records: 500, bytes: 64 << 10}},
	} {
		cfg := &config.Delivery{BatchSize: 500, MaxBytesPerSend: config.Bytes(tc.bytes), Senders: tc.senders}
		got := sizeQueue(cfg)
		if got != tc.want {
			t.Errorf("%v: got %v", tc, got)
		}
		if total := tc.senders * got.batches * got.bytes; total > queueBytes {
			t.Errorf("%v: the queue holds %d bytes, more than %d", tc, total, queueBytes)
		}
	}
}

// fat is a record of one series whose encoded size is size.
func fat(t *testing.T, key uint64, size int) *record.Record {
	t.Helper()
	named := func(n int) *record.Record {
		rec := &record.Record{Kind: pods, Key: key, Count: 1}
		rec.Series = record.AppendCount(rec.Series, 1)
		rec.Series = record.AppendLabel(rec.Series, "__name__", bytes.Repeat([]byte{byte('a' + key)}, n))
		return rec
	}
	for n := size; n > 0; n-- {
		if rec := named(n); recordSize(rec, time.Now().UnixMilli()) == size {
			return rec
		}
	}
	t.Fatalf("no record of %d bytes", size)
	return nil
}

// sizes runs records of the given encoded sizes through an emitter, and
// returns how many each request carried.
func sizes(t *testing.T, records, limit int, of ...int) []int {
	var carried []int
	synctest.Test(t, func(t *testing.T) {
		d := newDestination(always(200))
		cfg := testConfig(t, "http://destination/write")
		cfg.BatchSize, cfg.MaxBytesPerSend = records, config.Bytes(limit)
		h := newHarness(cfg, Options{Transport: d}, 1)
		h.start(t.Context())
		for i, size := range of {
			h.put(t, fat(t, uint64(i), size))
		}
		h.Close()
		expect(t, "Run", <-h.done, nil)
		for _, r := range d.got() {
			carried = append(carried, len(r.Series))
		}
		for _, b := range h.senders[0].batches {
			if cap(b.arena) > limit {
				t.Errorf("a batch keeps a buffer of %d bytes, more than %d", cap(b.arena), limit)
			}
		}
	})
	return carried
}

func TestBatchCloses(t *testing.T) {
	for _, tc := range []struct {
		name           string
		records, limit int
		of             []int
		want           []int
	}{
		{"at its records", 2, 1 << 20, []int{100, 100, 100, 100, 100}, []int{2, 2, 1}},
		{"at its bytes, to the byte", 100, 1000, []int{500, 500, 500, 501, 499}, []int{2, 1, 2}},
		{"around what is larger than itself", 100, 1000, []int{100, 5000, 100, 200}, []int{1, 1, 2}},
		{"with what is larger than itself first", 100, 1000, []int{5000, 5000, 1000, 100}, []int{1, 1, 1, 1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			expect(t, "records of each request", sizes(t, tc.records, tc.limit, tc.of...), tc.want)
		})
	}
}

// A buffer grows to what it may keep, no further, and is kept.
func TestBatchBuffer(t *testing.T) {
	limit := queueSize{records: 1000, bytes: minArena + minArena/2}
	b := &batch{}
	rec := benchRecord(1)
	size := recordSize(rec, 1)
	var capacities []int
	for b.fits(size, limit.records, limit.bytes) {
		b.add(rec, 1, size, limit)
		if n := len(capacities); n == 0 || capacities[n-1] != cap(b.arena) {
			capacities = append(capacities, cap(b.arena))
		}
	}
	expect(t, "capacities", capacities, []int{minArena, limit.bytes})
	b.reset(limit)
	expect(t, "capacity kept", cap(b.arena), limit.bytes)
}

func TestIntervalClosesBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDestination(always(200))
		h := newTestEmitter(t, d, Options{})
		h.start(t.Context())
		time.Sleep(4 * time.Second)
		h.put(t, newRecord(1, "a")) // due at 14 s
		time.Sleep(6 * time.Second)
		h.put(t, newRecord(2, "b"), newRecord(3, "c")) // full at 10 s, c due at 20 s
		time.Sleep(time.Minute)
		h.put(t, newRecord(4, "d")) // due at 80 s
		time.Sleep(time.Minute)
		expect(t, "times", d.times(), []time.Duration{10 * time.Second, 20 * time.Second, 80 * time.Second})
		expect(t, "requests", d.names(), [][]string{{"a", "b"}, {"c"}, {"d"}})
		h.Close()
		expect(t, "Run", <-h.done, nil)
	})
}

// A batch that is due while another one is being sent goes on filling.
func TestIntervalWhileSending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDestination(func(int, *http.Request) (*http.Response, error) {
			time.Sleep(25 * time.Second)
			return respond(200, ""), nil
		})
		h := newTestEmitter(t, d, Options{})
		h.start(t.Context())
		h.put(t, newRecord(1, "a"), newRecord(2, "b"), newRecord(3, "c"))
		time.Sleep(20 * time.Second)
		h.put(t, newRecord(4, "d"))
		time.Sleep(time.Minute)
		expect(t, "times", d.times(), []time.Duration{0, 25 * time.Second})
		expect(t, "requests", d.names(), [][]string{{"a", "b"}, {"c", "d"}})
		h.Close()
		expect(t, "Run", <-h.done, nil)
	})
}

func TestPutBlocksWhileFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := make(chan struct{})
		d := newDestination(func(int, *http.Request) (*http.Response, error) {
			<-answer
			return respond(200, ""), nil
		})
		cfg := testConfig(t, "http://destination/write")
		cfg.SendTimeout = 24 * time.Hour
		h := newHarness(cfg, Options{Transport: d}, 1)
		h.start(t.Context())
		// Four batches of two, the first of them in flight.
		for key := range uint64(8) {
			h.put(t, newRecord(key, fmt.Sprint(key)))
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		reason := errors.New("the source stops")
		put := make(chan error)
		go func() { put <- h.Put(ctx, newRecord(8, "8")) }()
		synctest.Wait()
		expect(t, "records in the queue", h.queued.Load(), 8)
		cancel(reason)
		if err := <-put; !errors.Is(err, reason) {
			t.Errorf("Put ended with %v, want the context's cause", err)
		}

		go func() { put <- h.Put(t.Context(), newRecord(9, "9")) }()
		synctest.Wait()
		select {
		case err := <-put:
			t.Fatalf("Put did not wait for room: %v", err)
		default:
		}
		close(answer)
		expect(t, "Put when there is room", <-put, nil)
		h.Close()
		expect(t, "Run", <-h.done, nil)
		expect(t, "requests", d.names(), [][]string{{"0", "1"}, {"2", "3"}, {"4", "5"}, {"6", "7"}, {"9"}})
	})
}

// Many that wait for room get it one after the other, and none is forgotten.
func TestPutsWaitTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDestination(func(int, *http.Request) (*http.Response, error) {
			time.Sleep(time.Second)
			return respond(200, ""), nil
		})
		h := newTestEmitter(t, d, Options{})
		h.start(t.Context())
		const waiting = 50
		put := make(chan error, waiting)
		for key := range uint64(waiting) {
			go func() { put <- h.Put(t.Context(), newRecord(key, fmt.Sprint(key))) }()
		}
		for range waiting {
			expect(t, "Put", <-put, nil)
		}
		h.Close()
		expect(t, "Run", <-h.done, nil)
		expect(t, "requests", len(d.got()), waiting/2)
		expect(t, "accepted", len(h.keys(Accepted)), waiting)
	})
}

func TestCloseWakesPut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestEmitter(t, newDestination(hang), Options{})
		for key := range uint64(8) {
			h.put(t, newRecord(key, "a"))
		}
		put := make(chan error)
		go func() { put <- h.Put(t.Context(), newRecord(8, "b")) }()
		synctest.Wait()
		h.Close()
		if err := <-put; !errors.Is(err, ErrClosed) {
			t.Errorf("Put ended with %v, want %v", err, ErrClosed)
		}
	})
}

func TestTimeNeverDecreases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		readings := []int64{5000, 4000, 6000, 1, 6001}
		step := 0
		clock := func() time.Time {
			step++
			return time.UnixMilli(readings[min(step-1, len(readings)-1)])
		}
		d := newDestination(always(200))
		cfg := testConfig(t, "http://destination/write")
		cfg.BatchSize = 5
		h := newHarness(cfg, Options{Transport: d, Now: clock}, 1)
		for range readings {
			h.put(t, newRecord(1, "a"))
		}
		h.Close()
		expect(t, "Run", h.Run(t.Context()), nil)
		expect(t, "requests", d.got(), []request{
			{Version: v1, Series: []sent{{"a", 5000}, {"a", 5000}, {"a", 6000}, {"a", 6000}, {"a", 6001}}},
		})
	})
}

// What Put copies it does not allocate for, once the buffers have grown.
func TestPutDoesNotAllocate(t *testing.T) {
	cfg := testConfig(t, "http://destination/write")
	cfg.BatchSize = 4000
	h := newHarness(cfg, Options{Transport: newDestination(always(200))}, 1)
	s := h.senders[0]
	rec := benchRecord(1)
	fill := func() {
		for s.open == nil || len(s.open.items) < 1000 {
			if err := h.Put(t.Context(), rec); err != nil {
				t.Fatal(err)
			}
		}
	}
	fill()
	allocations := testing.AllocsPerRun(10, func() {
		s.open.reset(s.size)
		fill()
	})
	expect(t, "allocations for a thousand records", allocations, 0)
}

// The time in which anyone waits for room is counted once, however many wait,
// and while they do.
func TestBlocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestEmitter(t, newDestination(always(200)), Options{})
		expectBlocked := func(seconds int) {
			t.Helper()
			synctest.Wait()
			gather(t, h.reg, fmt.Sprintf(`
				# HELP labelstream_queue_blocked_seconds_total Time in which lists and watches waited for room in the queue.
				# TYPE labelstream_queue_blocked_seconds_total counter
				labelstream_queue_blocked_seconds_total %d
			`, seconds), "labelstream_queue_blocked_seconds_total")
		}
		put := func(ctx context.Context, key uint64) { _ = h.Put(ctx, newRecord(key, "x")) }
		const capacity = 8
		for key := range uint64(capacity) {
			h.put(t, newRecord(key, "x"))
		}
		time.Sleep(time.Second)
		expectBlocked(0)
		leaving, leave := context.WithCancel(t.Context())
		go put(leaving, 100)
		time.Sleep(2 * time.Second)
		expectBlocked(2)
		go put(t.Context(), 101)
		time.Sleep(3 * time.Second)
		expectBlocked(5)
		leave()
		time.Sleep(4 * time.Second)
		expectBlocked(9)
		h.start(t.Context())
		time.Sleep(5 * time.Second)
		expectBlocked(9)
		h.Close()
		expect(t, "Run", <-h.done, nil)
		expectBlocked(9)
	})
}
