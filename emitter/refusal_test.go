package emitter

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"labelstream/config"
	"labelstream/record"
)

// refuses answers with the status to each request that has a series whose name
// begins with bad.
func refuses(d *destination, status int) {
	d.answer = func(n int, _ *http.Request) (*http.Response, error) {
		isBad := func(s sent) bool { return strings.HasPrefix(s.Name, "bad") }
		d.mu.Lock()
		defer d.mu.Unlock()
		if slices.ContainsFunc(d.requests[n].Series, isBad) {
			return respond(status, "label \"x\"\x1b[31m"), nil
		}
		return respond(200, ""), nil
	}
}

// namespaced is a record of one series with a namespace.
func namespaced(key uint64, metric string) *record.Record {
	rec := &record.Record{Kind: pods, Key: key, Count: 1}
	rec.Series = record.AppendCount(rec.Series, 3)
	rec.Series = record.AppendLabel(rec.Series, "__name__", metric)
	rec.Series = record.AppendLabel(rec.Series, "namespace", "team\n1")
	rec.Series = record.AppendLabel(rec.Series, "pod", fmt.Sprint("p", key))
	return rec
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
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDestination(nil)
				refuses(d, 400)
				cfg := testConfig(t, "http://destination/write")
				cfg.BatchSize = 500
				h := newHarness(cfg, Options{Transport: d}, 1)
				h.start(t.Context())
				for key := range uint64(5000) {
					metric := "good"
					if slices.Contains(c.bad, key) {
						metric = "bad"
					}
					h.put(t, namespaced(key, metric))
				}
				h.Close()
				expect(t, "Run", <-h.done, nil)
				expect(t, "refused", h.keys(Refused), c.bad)
				expect(t, "accepted", len(h.keys(Accepted)), 4997)
				expect(t, "requests", len(d.got()), c.requests)
				var lines []string
				for _, key := range c.bad {
					lines = append(lines, fmt.Sprintf(`error: The destination refused a record, it is dropped: send to http://destination/write: `+
						`status 400 Bad Request, receiver says "label \"x\"\x1b[31m" [pods team`+"\n"+`1/p%d]`, key))
				}
				expect(t, "log", h.lines(), lines)
			})
		})
	}
}

// A batch with more bad records than 64 requests can find costs some good ones
// that are near to them, and it is said so.
func TestTooManyBadRecords(t *testing.T) {
	d := newDestination(nil)
	refuses(d, 422)
	cfg := testConfig(t, "http://destination/write")
	cfg.BatchSize = 512
	h := newHarness(cfg, Options{Transport: d}, 1)
	for key := range uint64(512) {
		metric := "good"
		if key < 256 && key%4 == 0 {
			metric = "bad"
		}
		h.put(t, newRecord(key, metric))
	}
	h.Close()
	expect(t, "Run", h.Run(t.Context()), nil)
	expect(t, "requests", len(d.got()), maxRequests-1)
	// Eight bad records are found in the first 32; of the next four two are
	// left, and then parts of 4, 8, 16, 64 and 128.
	accepted := h.keys(Accepted)
	expect(t, "accepted", len(accepted), 24+2+256)
	expect(t, "accepted at the end", accepted[26:], keysFrom(256, 512))
	lines := h.lines()
	expect(t, "named", len(lines)-2, 8)
	const left = "error: The destination refused batches with too many bad records to find each, some are dropped with their neighbours: " +
		`send to http://destination/write: status 422 Unprocessable Entity, receiver says "label \"x\"\x1b[31m" `
	expect(t, "log", lines[8:], []string{left + "(2 records)", left + "(220 records)"})
}

func keysFrom(from, to uint64) []uint64 {
	var keys []uint64
	for key := from; key < to; key++ {
		keys = append(keys, key)
	}
	return keys
}

// A destination that refuses everything gets two batches, then one request a
// minute.
func TestRefusesEverything(t *testing.T) {
	for _, c := range []struct {
		onRefused config.OnRefused
		// first are the requests at once, for two batches of eight records.
		first, refused int
		// probes are those while the circuit is open, the last of which closes
		// it where it is not with the records.
		probes []time.Duration
	}{
		{config.OnRefusedHalve, 2 * 15, 16, []time.Duration{time.Minute, 2 * time.Minute, 3 * time.Minute}},
		{config.OnRefusedDrop, 2, 32, []time.Duration{time.Minute, 2 * time.Minute}},
	} {
		t.Run(string(c.onRefused), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDestination(always(400))
				mended := time.Now().Add(150 * time.Second)
				d.answer = func(int, *http.Request) (*http.Response, error) {
					if time.Now().Before(mended) {
						return respond(400, "no"), nil
					}
					return respond(200, ""), nil
				}
				cfg := testConfig(t, "http://destination/write")
				cfg.BatchSize, cfg.OnRefused = 8, c.onRefused
				h := newHarness(cfg, Options{Transport: d}, 1)
				h.start(t.Context())
				for key := range uint64(32) {
					h.put(t, newRecord(key, "a"))
				}
				h.Close()
				time.Sleep(30 * time.Second)
				expect(t, "requests at once", len(d.got()), c.first)
				_, err := h.SettingError()
				const want = "2 batches in a row were refused whole, the last: " +
					`send to http://destination/write: status 400 Bad Request, receiver says "no"`
				if err == nil || err.Error() != want {
					t.Errorf("setting error %v, want %s", err, want)
				}
				expect(t, "Run", <-h.done, nil)
				expect(t, "requests until it is mended", d.times()[c.first:c.first+len(c.probes)], c.probes)
				expect(t, "the last request", d.times()[len(d.got())-1], c.probes[len(c.probes)-1])
				expect(t, "refused", len(h.keys(Refused)), c.refused)
				expect(t, "accepted", len(h.keys(Accepted)), 32-c.refused)
				lines := h.lines()
				said := slices.IndexFunc(lines, func(line string) bool { return strings.Contains(line, "refuses whatever it is sent") })
				if said < 0 || (c.onRefused == config.OnRefusedHalve) != strings.HasPrefix(lines[len(lines)-1], "info: Sending works again after 3m0s") {
					t.Errorf("log:\n%s", strings.Join(lines, "\n"))
				}
			})
		})
	}
}

// While the protocol is not known, each part takes two requests, and a batch no
// more than 64 all the same.
func TestRequestsOnTrialAreBounded(t *testing.T) {
	d := newDestination(always(400))
	cfg := testConfig(t, "http://destination/write")
	cfg.BatchSize, cfg.Protocol = 500, config.ProtocolAuto
	h := newHarness(cfg, Options{Transport: d}, 1)
	for key := range uint64(500) {
		h.put(t, newRecord(key, "a"))
	}
	h.Close()
	expect(t, "Run", h.Run(t.Context()), nil)
	// The whole and fifteen times two halves, twice.
	expect(t, "requests", len(d.got()), 2*31)
	expect(t, "refused", len(h.keys(Refused)), 500)
}

// Only batches in a row open the circuit.
func TestRefusalsApart(t *testing.T) {
	d := newDestination(codes(400, 400, 400, 200, 400, 400, 400, 200))
	h := newTestEmitter(t, d, Options{ProbeInterval: 1000 * time.Hour})
	h.start(t.Context())
	for key := range uint64(8) {
		h.put(t, newRecord(key, "a"))
	}
	h.Close()
	expect(t, "Run", <-h.done, nil)
	expect(t, "refused", h.keys(Refused), []uint64{0, 1, 4, 5})
	expect(t, "accepted", h.keys(Accepted), []uint64{2, 3, 6, 7})
}

// A one-shot run gives such a destination up, whatever was refused before.
func TestGivesUpOnRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDestination(always(400))
		cfg := testConfig(t, "http://destination/write")
		opts := Options{Transport: d, ProbeInterval: 5 * time.Second, GiveUpAfter: 30 * time.Second}
		h := newHarness(cfg, opts, 1)
		h.start(t.Context())
		go func() {
			for key := range uint64(100) {
				if h.Put(t.Context(), newRecord(key, "a")) != nil {
					return
				}
			}
		}()
		err := <-h.done
		if err == nil || !strings.Contains(err.Error(), "gave up after 30s: ") {
			t.Errorf("Run: %v", err)
		}
		// Two batches of two records, then an attempt every 5 s.
		expect(t, "requests", len(d.got()), 2*3+5)
	})
}

// A batch that is too large is divided, and batches are smaller for an hour.
func TestTooLarge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDestination(nil)
		d.answer = func(n int, _ *http.Request) (*http.Response, error) {
			d.mu.Lock()
			defer d.mu.Unlock()
			if len(d.requests[n].Series) > 10 {
				return respond(413, ""), nil
			}
			return respond(200, ""), nil
		}
		cfg := testConfig(t, "http://destination/write")
		cfg.BatchSize = 32
		h := newHarness(cfg, Options{Transport: d}, 1)
		h.start(t.Context())
		sizes := func() []int {
			for key := range uint64(32) {
				h.put(t, fat(t, key%8, 10_000))
			}
			time.Sleep(time.Minute)
			var of []int
			for _, r := range d.got() {
				of = append(of, len(r.Series))
			}
			d.mu.Lock()
			defer d.mu.Unlock()
			d.requests = nil
			return of
		}
		expect(t, "first", sizes(), []int{32, 16, 8, 8, 16, 8, 8})
		expect(t, "after it", sizes(), []int{8, 8, 8, 8})
		time.Sleep(time.Hour)
		expect(t, "an hour later", sizes(), []int{32, 16, 8, 8, 16, 8, 8})
		h.Close()
		expect(t, "Run", <-h.done, nil)
		expect(t, "accepted", len(h.keys(Accepted)), 96)
		const smaller = "warning: The destination refuses batches as too large, smaller ones are sent for an hour"
		expect(t, "log", h.lines(), []string{smaller, smaller, smaller, smaller})
	})
}

// So many refused records are named, the others are counted.
func TestNamesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		logger, hook := testLogger()
		log := newDropLog(logger)
		for range 2*maxNamed + 50 {
			log.named(reasonBadRequest, fmt.Errorf("bad"), identity{kind: pods})
		}
		log.flush()
		expect(t, "lines", len(hook.AllEntries()), maxNamed+2)
		expect(t, "records in the last", hook.LastEntry().Data["records"], any(maxNamed+49))
		time.Sleep(logEvery)
		log.named(reasonBadRequest, fmt.Errorf("bad"), identity{kind: pods, name: "late"})
		expect(t, "name a minute later", hook.LastEntry().Data["name"], any("late"))
	})
}

// Whatever fails, an object's samples arrive in their order.
func TestOrderUnderRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const objects, updates = 1000, 100
		var mu sync.Mutex
		random := rand.New(rand.NewPCG(3, 4))
		last := map[string]sent{}
		stored := 0
		d := newDestination(nil)
		d.answer = func(n int, req *http.Request) (*http.Response, error) {
			mu.Lock()
			chance, wait := random.IntN(12), time.Duration(random.IntN(3000))*ms
			mu.Unlock()
			time.Sleep(wait)
			if failures := []int{500, 502, 503, 429, 408, 401}; chance < len(failures) {
				return respond(failures[chance], "", "Retry-After", strconv.Itoa(chance)), nil
			}
			mu.Lock()
			defer mu.Unlock()
			for _, s := range d.got()[n].Series {
				object, update, _ := strings.Cut(s.Name, "/")
				before := last[object]
				if s.At < before.At || update <= before.Name {
					t.Errorf("%v of %s after %v", s, object, before)
				}
				last[object] = sent{Name: update, At: s.At}
				stored++
			}
			return respond(200, "", samplesWritten, "9999"), nil
		}
		cfg := testConfig(t, "http://destination/write")
		cfg.BatchSize, cfg.Protocol = 500, config.ProtocolAuto
		h := newHarness(cfg, Options{Transport: d, ProbeInterval: time.Second}, 8)
		h.jitter = fullJitter
		h.start(t.Context())
		for update := range updates {
			for key := range uint64(objects) {
				h.put(t, newRecord(key, fmt.Sprintf("%d/%03d", key, update)))
			}
			time.Sleep(ms)
		}
		h.Close()
		expect(t, "Run", <-h.done, nil)
		expect(t, "objects", len(last), objects)
		expect(t, "samples stored", stored, objects*updates)
		expect(t, "accepted", len(h.keys(Accepted)), objects*updates)
	})
}
