package receiver

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// noon is the receiver's clock in these tests.
var noon = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

type message interface{ Marshal() ([]byte, error) }

// v1 is a request of one series with one sample of 1 at noon for each list of
// names and values.
func v1(lists ...[]string) *prompb.WriteRequest {
	req := &prompb.WriteRequest{}
	for _, list := range lists {
		ts := prompb.TimeSeries{Samples: []prompb.Sample{{Value: 1, Timestamp: noon.UnixMilli()}}}
		for i := 0; i < len(list); i += 2 {
			ts.Labels = append(ts.Labels, prompb.Label{Name: list[i], Value: list[i+1]})
		}
		req.Timeseries = append(req.Timeseries, ts)
	}
	return req
}

func at(req *prompb.WriteRequest, times ...time.Time) *prompb.WriteRequest {
	for i := range req.Timeseries {
		req.Timeseries[i].Samples = nil
		for _, t := range times {
			req.Timeseries[i].Samples = append(req.Timeseries[i].Samples, prompb.Sample{Value: 1, Timestamp: t.UnixMilli()})
		}
	}
	return req
}

func header(version string) http.Header {
	contentType := "application/x-protobuf"
	if version == "2.0" {
		contentType += ";proto=io.prometheus.write.v2.Request"
	}
	return http.Header{
		"Content-Type":                      {contentType},
		"Content-Encoding":                  {"snappy"},
		"X-Prometheus-Remote-Write-Version": {versions[version]},
		"User-Agent":                        {"sender/1"},
	}
}

// post sends a request to a receiver whose clock stands at noon.
func post(t *testing.T, r *Receiver, header http.Header, m message) *httptest.ResponseRecorder {
	t.Helper()
	plain, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	request := httptest.NewRequest(http.MethodPost, "/api/v1/write", bytes.NewReader(snappy.Encode(nil, plain)))
	request.Header = header
	response := httptest.NewRecorder()
	r.ServeHTTP(response, request)
	return response
}

func newReceiver() *Receiver { return New(Options{Now: func() time.Time { return noon }}) }

func violations(r *Receiver) []string {
	var texts []string
	for _, err := range r.Violations() {
		texts = append(texts, err.Error())
	}
	return texts
}

func TestAccepts(t *testing.T) {
	pod := []string{"__name__", "pod_labels", "app.kubernetes.io/name", `a "b"`, "pod", "web-1"}
	node := []string{"__name__", "node_labels", "node", "n1"}
	both := &writev2.Request{
		Symbols: []string{"", "__name__", "node_labels", "node", "n1", "pod_labels", "app.kubernetes.io/name", `a "b"`, "pod", "web-1"},
		Timeseries: []writev2.TimeSeries{
			{LabelsRefs: []uint32{1, 5, 6, 7, 8, 9}, Samples: []writev2.Sample{{Value: 1, Timestamp: noon.UnixMilli()}}},
			{LabelsRefs: []uint32{1, 2, 3, 4}, Samples: []writev2.Sample{{Value: 1, Timestamp: noon.UnixMilli()}}},
		},
	}
	for version, body := range map[string]message{"1.0": v1(pod, node), "2.0": both} {
		r := newReceiver()
		response := post(t, r, header(version), body)
		written := map[string]string{"2.0": "2"}[version]
		if got := response.Header().Get("X-Prometheus-Remote-Write-Samples-Written"); response.Code != http.StatusNoContent || got != written {
			t.Errorf("%s: answered %d, %q samples written", version, response.Code, got)
		}
		if diff := cmp.Diff([]string(nil), violations(r)); diff != "" {
			t.Errorf("%s: violations (-want +got):\n%s", version, diff)
		}
		var printed strings.Builder
		if err := r.Print(&printed); err != nil {
			t.Fatal(err)
		}
		want := `node_labels{node="n1"} 1 2026-07-01T12:00:00.000Z
pod_labels{"app.kubernetes.io/name"="a \"b\"",pod="web-1"} 1 2026-07-01T12:00:00.000Z
`
		if diff := cmp.Diff(want, printed.String()); diff != "" {
			t.Errorf("%s: series (-want +got):\n%s", version, diff)
		}
	}
}

func TestViolations(t *testing.T) {
	good := []string{"__name__", "up", "a", "1"}
	without := func(version, name string, instead ...string) http.Header {
		h := header(version)
		h[name] = instead
		return h
	}
	for _, test := range []struct {
		name   string
		header http.Header
		body   message
		want   string
	}{
		{"content type", without("1.0", "Content-Type", "text/plain"), v1(good), `request 1: header Content-Type is "text/plain" instead of application/x-protobuf`},
		{"message", without("1.0", "Content-Type", "application/x-protobuf;proto=x"), v1(good), `request 1: header Content-Type names an unknown message: "application/x-protobuf;proto=x"`},
		{"encoding", without("1.0", "Content-Encoding"), v1(good), `request 1: header Content-Encoding is "" instead of "snappy"`},
		{"version", without("1.0", "X-Prometheus-Remote-Write-Version", "2.0.0"), v1(good), `request 1: header X-Prometheus-Remote-Write-Version is "2.0.0" instead of "0.1.0"`},
		{"agent", without("1.0", "User-Agent", ""), v1(good), `request 1: header User-Agent is missing`},
		{"nameless series", header("1.0"), v1([]string{"a", "1"}), `request 1: series {a="1"}: no __name__`},
		{"empty value", header("1.0"), v1([]string{"__name__", "up", "a", ""}), `request 1: series up{a=""}: label "a" has no value`},
		{"empty name", header("1.0"), v1([]string{"", "1", "__name__", "up"}), `request 1: series up{""="1"}: label 0 has no name`},
		{"unsorted", header("1.0"), v1([]string{"__name__", "up", "b", "1", "a", "2"}), `request 1: series up{b="1",a="2"}: label "a" comes after "b"`},
		{"twice", header("1.0"), v1([]string{"__name__", "up", "a", "1", "a", "2"}), `request 1: series up{a="1",a="2"}: label "a" is there twice`},
		{"not UTF-8", header("1.0"), v1([]string{"__name__", "up", "a", "\xff"}), `request 1: series up{a="\xff"}: label "a"="\xff" is not UTF-8`},
		{"no samples", header("1.0"), at(v1(good)), `request 1: series up{a="1"}: no samples`},
		{"time zero", header("1.0"), at(v1(good), time.UnixMilli(noon.Add(-time.Hour).UnixMilli())), `request 1: series up{a="1"}: timestamp 1782903600000 is -1h0m0s from now`},
		{"future", header("1.0"), at(v1(good), noon.Add(time.Minute)), `request 1: series up{a="1"}: timestamp 1782907260000 is 1m0s from now`},
		{"reference", header("2.0"), &writev2.Request{Symbols: []string{""}, Timeseries: []writev2.TimeSeries{{LabelsRefs: []uint32{0, 1}}}}, `request 1: series 0: reference 1 to one of 1 symbols`},
		{"odd references", header("2.0"), &writev2.Request{Symbols: []string{""}, Timeseries: []writev2.TimeSeries{{LabelsRefs: []uint32{0}}}}, `request 1: series 0: 1 references do not make pairs`},
		{"symbols", header("2.0"), &writev2.Request{Symbols: []string{"a"}}, `request 1: the symbols do not begin with an empty one`},
	} {
		r := newReceiver()
		post(t, r, test.header, test.body)
		if diff := cmp.Diff([]string{test.want}, violations(r)); diff != "" {
			t.Errorf("%s: violations (-want +got):\n%s", test.name, diff)
		}
	}
}

func TestOrder(t *testing.T) {
	r := newReceiver()
	for _, when := range []time.Time{noon, noon, noon.Add(-time.Second)} {
		post(t, r, header("1.0"), at(v1([]string{"__name__", "up"}), when))
	}
	want := []string{"request 3: series up{}: out of order: sample of 1782907199000 after one of 1782907200000"}
	if diff := cmp.Diff(want, violations(r)); diff != "" {
		t.Errorf("violations (-want +got):\n%s", diff)
	}
	if all := r.All(); len(all) != 1 || len(all[0].Samples) != 2 || r.Samples() != 3 {
		t.Errorf("kept %v of %d samples", all, r.Samples())
	}
}

func TestFaults(t *testing.T) {
	r := newReceiver()
	r.Next(Status(503, http.Header{"Retry-After": {"7"}}), nil)
	r.Always(RefuseIf(func(req *Request) bool { return len(req.Series) > 1 }, 413))
	one, two := v1([]string{"__name__", "up"}), v1([]string{"__name__", "up"}, []string{"__name__", "down"})
	var got []int
	for _, body := range []message{one, two, two, one} {
		got = append(got, post(t, r, header("1.0"), body).Code)
	}
	if diff := cmp.Diff([]int{503, 204, 413, 204}, got); diff != "" {
		t.Errorf("answers (-want +got):\n%s", diff)
	}
	if requests, accepted := r.Requests(), r.Accepted(); requests != 4 || accepted != 2 {
		t.Errorf("%d requests, %d accepted, want 4 and 2", requests, accepted)
	}
}

// TestDown ends a request that hangs, and refuses connections until the receiver
// is up again.
func TestDown(t *testing.T) {
	s, err := Start(newReceiver())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Down)
	send := func() error {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL(), bytes.NewReader(snappy.Encode(nil, nil)))
		if err != nil {
			return err
		}
		response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
		if err != nil {
			return err
		}
		return response.Body.Close()
	}
	hangs, left := make(chan struct{}), make(chan error)
	s.Always(func(w http.ResponseWriter, hr *http.Request, req *Request) bool {
		close(hangs)
		return Hang(nil)(w, hr, req)
	})
	go func() { left <- send() }()
	<-hangs
	s.Down()
	if err := <-left; err == nil {
		t.Error("the sender got an answer from a receiver that is down")
	}
	if err := send(); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("while down got %v, want a refused connection", err)
	}
	s.Always(nil)
	if err := s.Up(); err != nil {
		t.Fatal(err)
	}
	if err := send(); err != nil {
		t.Errorf("after Up on the same address: %v", err)
	}
}
