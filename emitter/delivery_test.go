package emitter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"
)

const ms = time.Millisecond

func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDestination(codes(503, 500, 502, 503, 503, 503, 503, 503, 503, 503, 503, 200))
		h := newTestEmitter(t, d, Options{})
		h.start(t.Context())
		h.put(t, newRecord(1, "a"), newRecord(2, "b"))
		h.Close()
		expect(t, "Run", <-h.done, nil)
		expect(t, "times", d.times(), []time.Duration{
			0, 100 * ms, 300 * ms, 700 * ms, 1500 * ms, 3100 * ms, 6300 * ms, 12700 * ms, 25500 * ms, 51100 * ms,
			81100 * ms, 111100 * ms,
		})
		for _, r := range d.got() {
			expect(t, "what is sent again", r.Series, d.got()[0].Series)
		}
		expect(t, "accepted", h.keys(Accepted), []uint64{1, 2})
	})
}

func TestFullJitter(t *testing.T) {
	low, high := maxBackoff, time.Duration(0)
	for range 10_000 {
		d := fullJitter(maxBackoff)
		low, high = min(low, d), max(high, d)
	}
	// The chance that none of so many falls into either tenth is below 1e-400.
	if low <= 0 || low > maxBackoff/10 || high > maxBackoff || high < maxBackoff*9/10 {
		t.Errorf("jitter is between %v and %v, want all of 0 to %v", low, high, maxBackoff)
	}
}

func TestRetryAfterIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDestination(func(n int, _ *http.Request) (*http.Response, error) {
			switch n {
			case 0:
				return respond(429, "", "Retry-After", "7"), nil
			case 1:
				date := time.Now().Add(20 * time.Second).UTC().Format(http.TimeFormat)
				return respond(503, "", "Retry-After", date), nil
			case 2:
				return respond(503, "", "Retry-After", "86400"), nil
			case 3:
				return respond(408, "", "Retry-After", "0"), nil
			case 4:
				return respond(500, "", "Retry-After", "soon"), nil
			}
			return respond(200, ""), nil
		})
		h := newTestEmitter(t, d, Options{})
		h.start(t.Context())
		h.put(t, newRecord(1, "a"))
		h.Close()
		expect(t, "Run", <-h.done, nil)
		// Without one the backoff doubled at each attempt: the fourth is 0.8 s,
		// the fifth 1.6 s.
		expect(t, "times", d.times(), []time.Duration{
			0, 7 * time.Second, 27 * time.Second, 327 * time.Second, 327800 * ms, 329400 * ms,
		})
	})
}

func TestTimeoutAndConnectionErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDestination(func(n int, req *http.Request) (*http.Response, error) {
			switch n {
			case 0:
				return hang(n, req)
			case 1:
				return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
			case 2:
				return nil, io.ErrUnexpectedEOF
			}
			return respond(200, ""), nil
		})
		h := newTestEmitter(t, d, Options{})
		h.start(t.Context())
		h.put(t, newRecord(1, "a"))
		h.Close()
		expect(t, "Run", <-h.done, nil)
		expect(t, "times", d.times(), []time.Duration{0, 30100 * ms, 30300 * ms, 30700 * ms})
		expect(t, "log", h.lines(), []string{
			"warning: Sending fails, trying again: send to http://destination/write: no answer within 30s: context deadline exceeded",
			"warning: Sending fails, trying again: send to http://destination/write: dial tcp: connection refused",
			"warning: Sending fails, trying again: send to http://destination/write: unexpected EOF",
			"info: Sending works again after 700ms",
		})
	})
}

func TestTooOldIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := time.Now().Add(32 * time.Minute)
		d := newDestination(func(int, *http.Request) (*http.Response, error) {
			if time.Now().Before(up) {
				return respond(503, ""), nil
			}
			return respond(200, ""), nil
		})
		h := newTestEmitter(t, d, Options{})
		h.start(t.Context())
		h.put(t, newRecord(1, "a"), newRecord(2, "b"))
		time.Sleep(10 * time.Minute)
		h.put(t, newRecord(3, "c"), newRecord(4, "d"))
		h.Close()
		expect(t, "Run", <-h.done, nil)
		expect(t, "lost", h.keys(Lost), []uint64{1, 2})
		expect(t, "accepted", h.keys(Accepted), []uint64{3, 4})
		names := d.names()
		expect(t, "last request", names[len(names)-1], []string{"c", "d"})
		for _, r := range d.got() {
			if r.Series[0].Name == "a" && r.After > maxAge {
				t.Errorf("a batch was sent when it was %v old", r.After)
			}
		}
		lines := h.lines()
		expect(t, "first and second line", lines[:2], []string{
			"warning: Sending fails, trying again: send to http://destination/write: status 503 Service Unavailable",
			"error: Records could not be delivered in time, they are lost: older than 30m0s (2 records)",
		})
		expect(t, "lines", len(lines), 3)
	})
}

func TestCircuit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDestination(codes(401, 401, 403, 401, 200))
		h := newTestEmitter(t, d, Options{})
		h.start(t.Context())
		h.put(t, newRecord(1, "a"), newRecord(2, "b"), newRecord(3, "c"))
		start := time.Now()
		time.Sleep(90 * time.Second)
		since, err := h.SettingError()
		expect(t, "since", since, start)
		const want = "send to http://destination/write: status 401 Unauthorized: check the credentials for LABELSTREAM_DESTINATION"
		if err == nil || err.Error() != want {
			t.Errorf("setting error %v, want %v", err, want)
		}
		h.Close()
		expect(t, "Run", <-h.done, nil)
		since, err = h.SettingError()
		if !since.IsZero() || err != nil {
			t.Errorf("setting error after recovery: %v since %v", err, since)
		}
		expect(t, "times", d.times(), []time.Duration{
			0, time.Minute, 2 * time.Minute, 3 * time.Minute, 4 * time.Minute, 4 * time.Minute,
		})
		expect(t, "accepted", h.keys(Accepted), []uint64{1, 2, 3})
		expect(t, "log", h.lines(), []string{
			"error: The destination rejects the settings, sending stops but for a batch now and then: " + want,
			"error: The destination rejects the settings, sending stops but for a batch now and then: " +
				strings.Replace(want, "401 Unauthorized", "403 Forbidden", 1),
			"info: Sending works again after 4m0s",
		})
	})
}

// All senders together make one attempt in an interval, and all go on at once
// when one of them gets through.
func TestCircuitIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := time.Now().Add(150 * time.Second)
		d := newDestination(func(int, *http.Request) (*http.Response, error) {
			time.Sleep(ms)
			if time.Now().Before(up) {
				return respond(404, ""), nil
			}
			return respond(200, ""), nil
		})
		h := newHarness(testConfig(t, "http://destination/write"), Options{Transport: d}, 4)
		h.start(t.Context())
		h.put(t, newRecord(0, "a"), newRecord(4, "a"))
		time.Sleep(2 * ms)
		for key := uint64(1); key < 4; key++ {
			h.put(t, newRecord(key, "b"), newRecord(key+4, "b"))
		}
		h.Close()
		expect(t, "Run", <-h.done, nil)
		expect(t, "times", d.times(), []time.Duration{
			0, 60001 * ms, 120001 * ms, 180001 * ms, 180002 * ms, 180002 * ms, 180002 * ms,
		})
		expect(t, "accepted", len(h.keys(Accepted)), 8)
	})
}

// A destination that is down says nothing about the settings: the batch goes
// on as after any failure.
func TestFailureClosesCircuit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDestination(codes(404, 503, 503, 404, 200))
		h := newTestEmitter(t, d, Options{GiveUpAfter: 70 * time.Second})
		h.start(t.Context())
		h.put(t, newRecord(1, "a"))
		h.Close()
		expect(t, "Run", <-h.done, nil)
		expect(t, "times", d.times(), []time.Duration{0, 60 * time.Second, 60100 * ms, 60300 * ms, 120300 * ms})
		expect(t, "accepted", h.keys(Accepted), []uint64{1})
	})
}

func TestGiveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDestination(func(int, *http.Request) (*http.Response, error) {
			time.Sleep(ms) // so that the first of both senders are under way together
			return respond(401, ""), nil
		})
		opts := Options{Transport: d, ProbeInterval: 8 * time.Second, GiveUpAfter: 30 * time.Second}
		h := newHarness(testConfig(t, "http://destination/write"), opts, 2)
		for key := range uint64(9) {
			h.put(t, newRecord(key, "a"))
		}
		start := time.Now()
		h.start(t.Context())
		err := <-h.done
		expect(t, "time", time.Since(start), 30*time.Second+ms)
		const want = "9 records unsent: gave up after 30s: send to http://destination/write: status 401 Unauthorized: " +
			"check the credentials for LABELSTREAM_DESTINATION"
		if err == nil || err.Error() != want {
			t.Errorf("Run: %v, want %v", err, want)
		}
		lost := h.keys(Lost)
		slices.Sort(lost)
		expect(t, "lost", lost, []uint64{0, 1, 2, 3, 4, 5, 6, 7, 8})
		// Both senders' first, then one for both.
		expect(t, "times", d.times(), []time.Duration{0, 0, 8001 * ms, 16001 * ms, 24001 * ms})
		if err := h.Put(t.Context(), newRecord(1, "b")); !errors.Is(err, ErrClosed) {
			t.Errorf("Put after giving up: %v", err)
		}
	})
}

// Whatever the senders are at, the end of the context ends Run at once and
// leaves no record without an outcome.
func TestShutdown(t *testing.T) {
	slow := func(_ int, req *http.Request) (*http.Response, error) {
		select {
		case <-time.After(time.Second):
			return respond(200, ""), nil
		case <-req.Context().Done():
			return nil, req.Context().Err()
		}
	}
	retryAfter := func(int, *http.Request) (*http.Response, error) {
		return respond(429, "", "Retry-After", "300"), nil
	}
	for _, tc := range []struct {
		name     string
		answer   func(int, *http.Request) (*http.Response, error)
		took     time.Duration
		accepted int
		err      string
	}{
		{"answers", always(200), 0, 7, ""},
		{"is slow", slow, 4 * time.Second, 7, ""},
		{"hangs", hang, 20 * time.Second, 0, "7 records unsent: no time left"},
		{"fails", always(503), 20 * time.Second, 0, "7 records unsent: no time left; before that: " +
			"send to http://destination/write: status 503 Service Unavailable"},
		{"asks to wait", retryAfter, 20 * time.Second, 0, "7 records unsent: no time left; before that: " +
			"send to http://destination/write: status 429 Too Many Requests"},
		{"rejects", always(404), 20 * time.Second, 0, "7 records unsent: no time left; before that: " +
			"send to http://destination/write: status 404 Not Found: check the path of LABELSTREAM_DESTINATION"},
	} {
		t.Run("destination "+tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newTestEmitter(t, newDestination(tc.answer), Options{})
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				h.start(ctx)
				for key := range uint64(7) {
					h.put(t, newRecord(key, "a"))
				}
				start := time.Now()
				h.Close()
				deadline := errors.New("no time left")
				timer := time.AfterFunc(20*time.Second, func() { cancel(deadline) })
				defer timer.Stop()
				err := <-h.done
				expect(t, "time", time.Since(start), tc.took)
				expect(t, "accepted", len(h.keys(Accepted)), tc.accepted)
				expect(t, "lost", len(h.keys(Lost)), 7-tc.accepted)
				if tc.name == "hangs" {
					// What we end ourselves is no failure of the destination.
					expect(t, "log", h.lines(), nil)
				}
				if tc.accepted == 7 {
					expect(t, "Run", err, nil)
				} else if !errors.Is(err, deadline) || err.Error() != tc.err {
					t.Errorf("Run: %v, want %s", err, tc.err)
				}
			})
		})
	}
}

// When the process is about to end, a neighbour that is gone is not waited for,
// even in the middle of a backoff. What answers, or is elsewhere, is.
func TestHurry(t *testing.T) {
	nobody := func(int, *http.Request) (*http.Response, error) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	for _, tc := range []struct {
		name, url string
		answer    func(int, *http.Request) (*http.Response, error)
		took      time.Duration
		err       string
	}{
		{"gone", "http://localhost:9090/write", nobody, 0, "%s: dial tcp: connection refused"},
		{"gone from an address", "http://[::1]:9090/write", nobody, 0, "%s: dial tcp: connection refused"},
		{"fails", "http://127.0.0.1/write", always(503), 20 * time.Second, "no time left; before that: %s: status 503 Service Unavailable"},
		{"away", "http://destination/write", nobody, 20 * time.Second, "no time left; before that: %s: dial tcp: connection refused"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHarness(testConfig(t, tc.url), Options{Transport: newDestination(tc.answer)}, 1)
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				h.start(ctx)
				h.put(t, newRecord(1, "a"))
				h.Close()
				time.Sleep(time.Minute)
				synctest.Wait()
				expect(t, "lost before", h.keys(Lost), nil)
				start := time.Now()
				h.Hurry()
				h.Hurry()
				timer := time.AfterFunc(20*time.Second, func() { cancel(errors.New("no time left")) })
				defer timer.Stop()
				want := "1 records unsent: " + strings.ReplaceAll(tc.err, "%s", "send to "+tc.url)
				if err := <-h.done; err == nil || err.Error() != want {
					t.Errorf("Run: %v, want %s", err, want)
				}
				expect(t, "time", time.Since(start), tc.took)
				expect(t, "lost", h.keys(Lost), []uint64{1})
			})
		})
	}
}

// The end of the context takes the open batch too, without Close.
func TestShutdownIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDestination(always(200))
		h := newTestEmitter(t, d, Options{})
		ctx, cancel := context.WithCancel(t.Context())
		h.start(ctx)
		h.put(t, newRecord(1, "a"))
		synctest.Wait()
		cancel()
		if err := <-h.done; !errors.Is(err, context.Canceled) || err.Error() != "1 records unsent: context canceled" {
			t.Errorf("Run: %v", err)
		}
		expect(t, "lost", h.keys(Lost), []uint64{1})
		expect(t, "requests", d.got(), nil)
	})
}

// A destination that fails every other request for an hour does not fill the
// log, and neither does one that fails for an hour.
func TestFailuresAreLoggedOnce(t *testing.T) {
	for _, tc := range []struct {
		name   string
		answer func(int, *http.Request) (*http.Response, error)
		most   int
	}{
		{"always", always(503), 1},
		{"now and then", func(n int, _ *http.Request) (*http.Response, error) {
			return respond([]int{200, 503}[n%2], ""), nil
		}, 2 * 10},
		{"in two ways", func(n int, _ *http.Request) (*http.Response, error) {
			return respond([]int{500, 503}[n%2], ""), nil
		}, 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newTestEmitter(t, newDestination(tc.answer), Options{})
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
				defer cancel()
				h.start(ctx)
				for key := uint64(0); ctx.Err() == nil; key++ {
					_ = h.Put(ctx, newRecord(key, "a"))
					time.Sleep(500 * ms)
				}
				<-h.done
				if lines := h.lines(); len(lines) == 0 || len(lines) > tc.most {
					t.Errorf("%d lines, want 1 to %d:\n%s", len(lines), tc.most, strings.Join(lines, "\n"))
				}
			})
		})
	}
}

// The failure is over when no sender fails, not when one does not.
func TestFailureOfOneSender(t *testing.T) {
	logger, h := testLogger()
	log := newFailureLog(logger)
	bad := answer{verdict: again, class: "503", err: errors.New("bad")}
	log.failed(0, bad, fails)
	log.ended(1)
	log.failed(1, bad, fails)
	log.ended(1)
	expect(t, "lines while one fails", len(h.AllEntries()), 2)
	log.ended(0)
	var levels []logrus.Level
	for _, entry := range h.AllEntries() {
		levels = append(levels, entry.Level)
	}
	expect(t, "levels", levels, []logrus.Level{logrus.WarnLevel, logrus.DebugLevel, logrus.InfoLevel})
}

func ExampleOutcome() {
	fmt.Println(Accepted, Refused, Lost)
	// Output: accepted refused lost
}

// TestPermitEndsTheSending refuses the second attempt with the first of two
// batches.
func TestPermitEndsTheSending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDestination(always(503))
		notAny, asked := errors.New("not any more"), 0
		h := newTestEmitter(t, d, Options{Permit: func() error {
			if asked++; asked > 1 {
				return notAny
			}
			return nil
		}})
		h.start(t.Context())
		h.put(t, newRecord(1, "a"), newRecord(2, "b"), newRecord(3, "c"))
		err := <-h.done
		if !errors.Is(err, notAny) || !strings.HasPrefix(err.Error(), "3 records unsent: not any more") {
			t.Errorf("Run returns %v, want that 3 records are unsent, and why", err)
		}
		expect(t, "requests", len(d.got()), 1)
		expect(t, "lost", h.keys(Lost), []uint64{1, 2, 3})
		if err := h.Put(t.Context(), newRecord(4, "d")); !errors.Is(err, ErrClosed) {
			t.Errorf("Put returns %v afterwards, want %v", err, ErrClosed)
		}
	})
}
