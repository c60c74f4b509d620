package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"labelstream/test/receiver"
	"labelstream/test/synthetic"
)

// receiverFault is what a receiver does with the first requests, or with all.
type receiverFault struct {
	name     string
	faults   []receiver.Fault
	always   receiver.Fault
	settings settings
}

// receiverFaults end by themselves.
func receiverFaults() []receiverFault {
	inOneSecond := receiver.Status(503, http.Header{"Retry-After": {"1"}})
	never := make(chan struct{})
	return []receiverFault{
		{name: "503 for 20 requests",
			// The last ones with a Retry-After, without which the backoff of 20
			// failures in a row would take minutes.
			faults: append(slices.Repeat([]receiver.Fault{receiver.Status(503, nil)}, 4),
				slices.Repeat([]receiver.Fault{inOneSecond}, 16)...)},
		{name: "429 with seconds", faults: []receiver.Fault{nil, receiver.Status(429, http.Header{"Retry-After": {"2"}})}},
		{name: "429 with a date", faults: []receiver.Fault{receiver.Status(429,
			http.Header{"Retry-After": {time.Now().Add(3 * time.Second).UTC().Format(http.TimeFormat)}})}},
		{name: "500 and 408", faults: []receiver.Fault{receiver.Status(500, nil), receiver.Status(408, nil)}},
		{name: "hang", faults: []receiver.Fault{nil, receiver.Hang(never), receiver.Hang(never)}, settings: settings{"SEND_TIMEOUT": "1s"}},
		{name: "reset", faults: []receiver.Fault{receiver.Reset(), nil, receiver.Reset(), receiver.Reset()}},
		{name: "slow", always: receiver.Delay(200 * time.Millisecond)},
	}
}

// TestReceiverFaults sends a few batches to receivers that fail in one way each,
// and recover.
func TestReceiverFaults(t *testing.T) {
	t.Parallel()
	const (
		namespace = "faulty"
		count     = 300
	)
	p := shared.plane
	p.numbered(t, namespace, count)
	want := podSeries(namespace, count)
	inv := invocation{user: p.reader(t, namespace, "pods"), settings: settings{
		"LABELS_RESOURCES": "pods", "NAMESPACES": namespace, "BATCH_SIZE": "20",
	}}
	for _, test := range receiverFaults() {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			j := newJournal(t)
			j.Next(test.faults...)
			j.Always(test.always)
			r := once(t, inv.with(test.settings).with(settings{"DESTINATION": j.URL()}))
			r.mustSucceed(t)
			compareSeries(t, j.All(), want)
			failures := len(slices.DeleteFunc(slices.Clone(test.faults), func(f receiver.Fault) bool { return f == nil }))
			if failed := j.Requests() - j.Accepted(); failed != failures {
				t.Errorf("%d requests failed, want %d", failed, failures)
			}
			r.mustHaveSent(t, "pods", count)
		})
	}
	t.Run("down at the start", func(t *testing.T) {
		t.Parallel()
		j := newJournal(t)
		j.Down()
		run := launchOnce(t, inv.with(settings{"DESTINATION": j.URL()}))
		run.awaitLog(t, "connection refused")
		if err := j.Up(); err != nil {
			t.Fatal(err)
		}
		run.wait(t).mustSucceed(t)
		j.mustHave(t, want)
	})
}

// podSeries are the series of numbered pods.
func podSeries(namespace string, n int) []string {
	series := make([]string, n)
	for i := range n {
		series[i] = fmt.Sprintf(`cloudzero_pod_labels{label_step="1",namespace=%q,pod=%q,resource_type="pod"}`, namespace, numberedPod(i))
	}
	return series
}

// TestWrongDestination sends to what a setting is wrong about: a one-shot run
// gives up after half a minute, and says which setting.
func TestWrongDestination(t *testing.T) {
	t.Parallel()
	cluster := syntheticCluster(t, 100)
	loginPage := func(w http.ResponseWriter, _ *http.Request, _ *receiver.Request) bool {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, err := w.Write([]byte("<html>Log in"))
		return err == nil
	}
	for _, test := range []struct {
		name  string
		fault receiver.Fault
		want  []string
	}{
		{"401", receiver.Status(401, nil), []string{"401", "check the credentials"}},
		{"404", receiver.Status(404, nil), []string{"404", "check the path of LABELSTREAM_DESTINATION"}},
		{"redirect", receiver.Status(301, http.Header{"Location": {"http://elsewhere.example/write?key=secret"}}),
			[]string{"301", "the final URL (http://elsewhere.example/write)"}},
		{"login page", loginPage, []string{"html", "LABELSTREAM_DESTINATION"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			j := newJournal(t)
			j.Always(test.fault)
			r := once(t, invocation{kubeconfig: cluster, settings: settings{"DESTINATION": j.URL(), "LABELS_RESOURCES": "pods"}})
			r.mustFail(t)
			j.mustHave(t, nil)
			r.mustSayOnce(t, append(test.want, "gave up after 30s", j.URL())...)
		})
	}
}

// syntheticCluster serves an API server of so many pods, and returns its
// kubeconfig.
func syntheticCluster(t *testing.T, pods int) string {
	t.Helper()
	handler, err := synthetic.New(synthetic.Options{Pods: pods})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := synthetic.WriteKubeconfig(path, server.URL, nil); err != nil {
		t.Fatal(err)
	}
	return path
}

const (
	// manyRecords are ten batches of the default size.
	manyRecords = 5000
	// maxRequests is how many a batch may take.
	maxRequests = 64
)

// TestRefusals sends 5,000 records to receivers that refuse some of them, or all.
func TestRefusals(t *testing.T) {
	t.Parallel()
	cluster := syntheticCluster(t, manyRecords)
	j := newJournal(t)
	inv := invocation{kubeconfig: cluster, settings: settings{"LABELS_RESOURCES": "pods"}}
	once(t, inv.with(settings{"DESTINATION": j.URL()})).mustSucceed(t)
	all := j.All()
	if len(all) != manyRecords {
		t.Fatalf("%d series, want %d", len(all), manyRecords)
	}
	for _, protocol := range []string{"1.0", "2.0", "auto"} {
		t.Run("three poisoned, "+protocol, func(t *testing.T) {
			t.Parallel()
			testPoisoned(t, inv.with(settings{"PROTOCOL": protocol}), all)
		})
		t.Run("everything, "+protocol, func(t *testing.T) {
			t.Parallel()
			testRefusesAll(t, inv.with(settings{"PROTOCOL": protocol}))
		})
	}
}

// nameOf names the object of a series.
func nameOf(s receiver.Series) string { return s.Get("namespace") + "/" + s.Get("pod") }

// testPoisoned has a receiver that refuses each batch that holds one of three
// records.
func testPoisoned(t *testing.T, inv invocation, all []receiver.Series) {
	poisoned := []string{nameOf(all[7]), nameOf(all[2500]), nameOf(all[4990])}
	var want []string
	for _, series := range all {
		if !slices.Contains(poisoned, nameOf(series)) {
			want = append(want, series.String())
		}
	}
	j := newJournal(t)
	j.Always(receiver.RefuseIf(func(req *receiver.Request) bool {
		return slices.ContainsFunc(req.Series, func(series receiver.Series) bool { return slices.Contains(poisoned, nameOf(series)) })
	}, 400))
	r := once(t, inv.with(settings{"DESTINATION": j.URL()}))
	r.mustFail(t)
	j.mustHave(t, want)
	if n := j.Samples(); n != len(want) {
		t.Errorf("%d samples of %d records were accepted, some twice", n, len(want))
	}
	var named []string
	for _, e := range r.log(t) {
		if strings.HasPrefix(e.Message, "The destination refused a record") {
			named = append(named, e.Namespace+"/"+e.Name)
		}
	}
	compare(t, poisoned, named)
	r.mustSayOnce(t, "send pods: records that the destination refused: 3")
	r.mustHaveSent(t, "pods", len(want))
	// The batches without a poisoned record, and those that were searched.
	if n, limit := j.Requests(), manyRecords/500+1+len(poisoned)*maxRequests; n > limit {
		t.Errorf("%d requests, want at most %d", n, limit)
	}
}

// testRefusesAll has a receiver that refuses every batch, for which the records
// are not to blame.
func testRefusesAll(t *testing.T, inv invocation) {
	j := newJournal(t)
	j.Always(receiver.Status(400, nil))
	r := once(t, inv.with(settings{"DESTINATION": j.URL()}))
	r.mustFail(t)
	j.mustHave(t, nil)
	r.mustSayOnce(t, "gave up after 30s", j.URL())
	if n := strings.Count(r.stderr, "refuses every record"); n != 1 {
		t.Errorf("%d lines say that everything is refused, want 1:\n%s", n, r.stderr)
	}
	// One batch is searched at once, and others every 5 s for 30 s.
	if n, limit := j.Requests(), (1+30/5)*maxRequests; n > limit {
		t.Errorf("%d requests, want at most %d", n, limit)
	}
}
