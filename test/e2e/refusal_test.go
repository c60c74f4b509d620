package e2e

import (
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"labelstream/test/receiver"
	"labelstream/test/synthetic"
)

const (
	// manyRecords are ten batches of the default size.
	manyRecords = 5000
	// maxRequests is how many a batch may take, and maxRefusals how many
	// batches may be refused whole before sending stops.
	maxRequests = 64
	maxRefusals = 2
	// defaultSenders work at the same time.
	defaultSenders = 2
)

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

// TestRefusals sends 5,000 records to receivers that do not want some of them,
// or any.
func TestRefusals(t *testing.T) {
	t.Parallel()
	cluster := syntheticCluster(t, manyRecords)
	s := newReceiver(t)
	once(t, invocation{kubeconfig: cluster, settings: settings{"DESTINATION": s.URL(), "LABELS_RESOURCES": "pods"}}).mustSucceed(t)
	all := s.All()
	if len(all) != manyRecords {
		t.Fatalf("%d series, want %d", len(all), manyRecords)
	}
	for _, protocol := range []string{"1.0", "2.0", "auto"} {
		base := settings{"LABELS_RESOURCES": "pods", "PROTOCOL": protocol}
		t.Run("three poisoned, "+protocol, func(t *testing.T) {
			t.Parallel()
			testPoisoned(t, invocation{kubeconfig: cluster, settings: base}, all)
		})
		t.Run("everything, "+protocol, func(t *testing.T) {
			t.Parallel()
			testRefusesAll(t, invocation{kubeconfig: cluster, settings: base})
		})
	}
}

// object names the object of a series.
func object(s receiver.Series) string { return s.Get("namespace") + "/" + s.Get("pod") }

// testPoisoned has a receiver that refuses each batch that holds one of three
// records.
func testPoisoned(t *testing.T, inv invocation, all []receiver.Series) {
	poisoned := []string{object(all[7]), object(all[2500]), object(all[4990])}
	slices.Sort(poisoned)
	var want []string
	for _, series := range all {
		if !slices.Contains(poisoned, object(series)) {
			want = append(want, series.String())
		}
	}
	s := newReceiver(t)
	s.Always(receiver.RefuseIf(func(req *receiver.Request) bool {
		return slices.ContainsFunc(req.Series, func(series receiver.Series) bool { return slices.Contains(poisoned, object(series)) })
	}, 400))
	inv.settings = inv.settings.and(settings{"DESTINATION": s.URL()})
	r := once(t, inv)
	r.mustFail(t)
	compareSeries(t, s.All(), want)
	if n := s.Samples(); n != len(want) {
		t.Errorf("%d samples were taken of %d records, some twice", n, len(want))
	}
	var named []string
	for _, e := range r.log(t) {
		if e.Message == "The destination refused a record, it is dropped" {
			named = append(named, e.Namespace+"/"+e.Name)
		}
	}
	slices.Sort(named)
	compare(t, poisoned, named)
	if message := "send pods: records that the destination refused: 3"; !slices.Contains(r.errors(t), message) {
		t.Errorf("the errors are without %q:\n%s", message, r.stderr)
	}
	if sent := r.summary(t, "pods").Sent; sent != len(want) {
		t.Errorf("the summary says that %d pods were sent, want %d", sent, len(want))
	}
	// The batches without a poisoned record, and those that were searched.
	if n, most := s.Requests(), manyRecords/500+defaultSenders+len(poisoned)*maxRequests; n > most {
		t.Errorf("%d requests, want at most %d", n, most)
	}
}

// testRefusesAll has a receiver that refuses every batch, for which the
// records are not to blame.
func testRefusesAll(t *testing.T, inv invocation) {
	s := newReceiver(t)
	s.Always(receiver.Status(400, nil))
	inv.settings = inv.settings.and(settings{"DESTINATION": s.URL()})
	r := once(t, inv)
	r.mustFail(t)
	compareSeries(t, s.All(), nil)
	var stopped, gaveUp int
	for _, e := range r.log(t) {
		if strings.HasPrefix(e.Message, "The destination refuses whatever it is sent") {
			stopped++
		}
		if containsAll(e.Message, []string{"gave up after 30s", "batches in a row were refused whole", s.URL()}) {
			gaveUp++
		}
	}
	if stopped != 1 || gaveUp != 1 {
		t.Errorf("%d lines say that sending stops and %d that the run gave up, want 1 of each:\n%s", stopped, gaveUp, r.stderr)
	}
	// Each sender may be in the middle of a batch when the others have had
	// theirs refused. What comes afterwards is an attempt in 5 s for 30 s, that
	// takes two requests while the version is being found out.
	const probes = 2 * 30 / 5
	if n, most := s.Requests(), (maxRefusals+defaultSenders-1)*maxRequests+probes; n > most {
		t.Errorf("%d requests, want at most %d", n, most)
	}
}
