package emitter

import (
	"fmt"
	"net/http"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"labelstream/config"
)

// took is what came of one record: the requests of each version, and its
// outcome.
type took struct {
	V1, V2  int
	Outcome Outcome
}

// Every status, said to all requests for 40 s by a receiver that speaks both
// versions afterwards.
func TestStatusMatrix(t *testing.T) {
	// How it is: each version's setting, in a one-shot run that gives up after
	// 30 s with an attempt every 5 s, and in a long run.
	type row struct{ v1, v1Long, v2, v2Long, auto, autoLong took }
	same := func(v1, v2, auto took) row { return row{v1, v1, v2, v2, auto, auto} }
	var (
		ok = row{
			took{1, 0, Accepted}, took{1, 0, Accepted},
			// 2.0 without a word on what was written is no 2.0.
			took{0, 6, Lost}, took{0, 2, Accepted},
			took{1, 1, Accepted}, took{1, 1, Accepted},
		}
		conflicts = same(took{1, 0, Accepted}, took{0, 1, Accepted}, took{1, 1, Accepted})
		refuses   = same(took{1, 0, Refused}, took{0, 1, Refused}, took{1, 1, Refused})
		fails     = same(took{10, 0, Accepted}, took{0, 10, Accepted}, took{9, 10, Accepted})
		waits     = same(took{10, 0, Accepted}, took{0, 10, Accepted}, took{0, 10, Accepted})
		denies    = row{
			took{6, 0, Lost}, took{2, 0, Accepted}, took{0, 6, Lost}, took{0, 2, Accepted},
			took{0, 6, Lost}, took{0, 2, Accepted},
		}
		rejects = row{
			took{6, 0, Lost}, took{2, 0, Accepted}, took{0, 6, Lost}, took{0, 2, Accepted},
			took{6, 6, Lost}, took{1, 2, Accepted},
		}
	)
	for status, want := range map[int]row{
		200: ok, 202: ok, 204: ok, 409: conflicts, 400: refuses, 413: refuses, 422: refuses,
		500: fails, 502: fails, 504: fails, 599: fails, 503: waits, 408: waits, 429: waits,
		401: denies, 403: denies,
		301: rejects, 302: rejects, 304: rejects, 307: rejects, 308: rejects,
		404: rejects, 405: rejects, 415: rejects, 451: rejects,
	} {
		for _, c := range []struct {
			protocol config.Protocol
			long     bool
			want     took
		}{
			{config.Protocol1, false, want.v1}, {config.Protocol1, true, want.v1Long},
			{config.Protocol2, false, want.v2}, {config.Protocol2, true, want.v2Long},
			{config.ProtocolAuto, false, want.auto}, {config.ProtocolAuto, true, want.autoLong},
		} {
			t.Run(fmt.Sprint(status, c.protocol, c.long), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					expect(t, "what it took", deliverOne(t, status, c.protocol, c.long), c.want)
				})
			})
		}
	}
}

func deliverOne(t *testing.T, status int, protocol config.Protocol, long bool) took {
	up := time.Now().Add(40 * time.Second)
	d := newDestination(func(_ int, req *http.Request) (*http.Response, error) {
		if time.Now().Before(up) {
			return respond(status, "", "Location", "http://elsewhere/"), nil
		}
		return respond(200, "", samplesWritten, "2"), nil
	})
	cfg := testConfig(t, "http://destination/write")
	cfg.Protocol = protocol
	opts := Options{Transport: d, ProbeInterval: 5 * time.Second, GiveUpAfter: 30 * time.Second}
	if long {
		opts.ProbeInterval, opts.GiveUpAfter = 0, 0
	}
	h := newHarness(cfg, opts, 1)
	h.put(t, newRecord(1, "a", "b"))
	h.Close()
	err := h.Run(t.Context())
	got := took{Outcome: onlyOutcome(t, h)}
	if (err != nil) != (got.Outcome == Lost) {
		t.Errorf("Run: %v, and the record is %v", err, got.Outcome)
	}
	for _, r := range d.got() {
		expect(t, "series", r.Series, d.got()[0].Series)
		if r.Version == v1 {
			got.V1++
		} else {
			got.V2++
		}
	}
	return got
}

// onlyOutcome is that of the one record.
func onlyOutcome(t *testing.T, h *harness) Outcome {
	t.Helper()
	if len(h.outcomes) != 1 {
		t.Fatalf("outcomes %v, want one", h.outcomes)
	}
	for outcome, items := range h.outcomes {
		expect(t, "items", items, []Item{{Kind: pods, Key: 1, Series: 2}})
		return outcome
	}
	return -1
}

// Answers of a 2.0 receiver that says what it has of six samples, in three
// records.
func TestWritten(t *testing.T) {
	const badPods = `invalid {__name__="b", pod="p2"}` + "\n" + `invalid {__name__="b2", pod="p2"}`
	for _, c := range []struct {
		name     string
		protocol config.Protocol
		status   int
		header   string
		written  int
		words    string
		accepted []uint64
		refused  []uint64
		versions []version
		samples  string
	}{
		{"all", config.Protocol2, 204, samplesWritten, 6, "", []uint64{1, 2, 3}, nil, []version{v2}, "6"},
		{"all in the other spelling", config.ProtocolAuto, 200, writtenSamples, 6, "", []uint64{1, 2, 3}, nil, []version{v2}, "6"},
		{"more than there are", config.Protocol2, 200, writtenSamples, 60, "", []uint64{1, 2, 3}, nil, []version{v2}, "6"},
		{"some of a success", config.ProtocolAuto, 200, samplesWritten, 4, "", []uint64{1, 2}, []uint64{3}, []version{v2}, "4"},
		{"some of a refusal, named", config.Protocol2, 400, samplesWritten, 4, badPods, []uint64{1, 3}, []uint64{2}, []version{v2}, "4"},
		{"one series of a record", config.Protocol2, 400, samplesWritten, 5, badPods, []uint64{1, 3}, []uint64{2}, []version{v2}, "5"},
		{"more than are named", config.Protocol2, 422, samplesWritten, 3, badPods, []uint64{1}, []uint64{2, 3}, []version{v2}, "3"},
		{"more than are named, which are named again", config.Protocol2, 422, samplesWritten, 3, badPods + "\n" + badPods,
			[]uint64{1}, []uint64{2, 3}, []version{v2}, "3"},
		{"less than none", config.Protocol2, 400, samplesWritten, -5, "", nil, []uint64{1, 2, 3}, []version{v2}, "0"},
		{"none of a refusal", config.Protocol2, 413, samplesWritten, 0, "", nil, []uint64{1, 2, 3}, []version{v2}, "0"},
		{"none of a success", config.Protocol2, 200, samplesWritten, 0, "", nil, []uint64{1, 2, 3}, []version{v2}, "0"},
		{"all, and a conflict", config.Protocol2, 409, samplesWritten, 6, "", []uint64{1, 2, 3}, nil, []version{v2}, "6"},
		{"some, with 1.0 to be asked first", config.ProtocolAuto, 400, samplesWritten, 4, "", []uint64{1, 2, 3}, nil, []version{v2, v1}, "6"},
		{"none, with 1.0 to be asked first", config.ProtocolAuto, 200, samplesWritten, 0, "", []uint64{1, 2, 3}, nil, []version{v2, v1}, "6"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDestination(func(_ int, req *http.Request) (*http.Response, error) {
				if req.Header.Get("X-Prometheus-Remote-Write-Version") == "0.1.0" {
					return respond(200, ""), nil
				}
				return respond(c.status, c.words, c.header, strconv.Itoa(c.written)), nil
			})
			cfg := testConfig(t, "http://destination/write")
			cfg.Protocol, cfg.BatchSize = c.protocol, 3
			h := newHarness(cfg, Options{Transport: d}, 1)
			h.put(t, newRecord(1, "a", "a2"), newRecord(2, "b", "b2"), newRecord(3, "c", "c2"))
			h.Close()
			expect(t, "Run", h.Run(t.Context()), nil)
			expect(t, "versions", d.versions(), c.versions)
			expect(t, "accepted", h.keys(Accepted), c.accepted)
			expect(t, "refused", h.keys(Refused), c.refused)
			gather(t, h.reg, fmt.Sprintf(`
				# HELP labelstream_samples_sent_total Samples that the destination accepted.
				# TYPE labelstream_samples_sent_total counter
				labelstream_samples_sent_total %s
			`, c.samples), "labelstream_samples_sent_total")
		})
	}
}
