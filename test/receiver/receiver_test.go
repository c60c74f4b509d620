package receiver

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
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

func encode(t *testing.T, m message) []byte {
	t.Helper()
	plain, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return snappy.Encode(nil, plain)
}

// answer is what a sender sees of a response.
type answer struct {
	Status  int
	Header  string
	Written string
}

func post(ctx context.Context, url string, header http.Header, body []byte) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	req.Header = header
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return answer{}, err
	}
	return answer{
		Status:  resp.StatusCode,
		Header:  resp.Header.Get("Retry-After"),
		Written: resp.Header.Get("X-Prometheus-Remote-Write-Samples-Written"),
	}, nil
}

func start(t *testing.T, opts Options) *Server {
	t.Helper()
	opts.Now = func() time.Time { return noon }
	s, err := Start(New(opts))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Down)
	return s
}

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
	for _, test := range []struct {
		version string
		body    message
		want    answer
	}{
		{"1.0", v1(pod, node), answer{Status: 204}},
		{"2.0", both, answer{Status: 204, Written: "2"}},
	} {
		t.Run(test.version, func(t *testing.T) {
			s := start(t, Options{})
			got, err := post(t.Context(), s.URL(), header(test.version), encode(t, test.body))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([]string(nil), violations(s.Receiver)); diff != "" {
				t.Errorf("violations (-want +got):\n%s", diff)
			}
			var printed strings.Builder
			if err := s.Print(&printed); err != nil {
				t.Fatal(err)
			}
			want := `node_labels{node="n1"} 1 2026-07-01T12:00:00.000Z
pod_labels{"app.kubernetes.io/name"="a \"b\"",pod="web-1"} 1 2026-07-01T12:00:00.000Z
`
			if diff := cmp.Diff(want, printed.String()); diff != "" {
				t.Errorf("series (-want +got):\n%s", diff)
			}
		})
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
		t.Run(test.name, func(t *testing.T) {
			s := start(t, Options{})
			if _, err := post(t.Context(), s.URL(), test.header, encode(t, test.body)); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{test.want}, violations(s.Receiver)); diff != "" {
				t.Errorf("violations (-want +got):\n%s", diff)
			}
		})
	}
}

func TestOrder(t *testing.T) {
	s := start(t, Options{})
	for _, when := range []time.Time{noon, noon, noon.Add(-time.Second)} {
		body := encode(t, at(v1([]string{"__name__", "up"}), when))
		if _, err := post(t.Context(), s.URL(), header("1.0"), body); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"request 3: series up{}: out of order: sample of 1782907199000 after one of 1782907200000"}
	if diff := cmp.Diff(want, violations(s.Receiver)); diff != "" {
		t.Errorf("violations (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(2, len(s.All()[0].Samples)); diff != "" {
		t.Errorf("samples (-want +got):\n%s", diff)
	}
}

func TestCountOnly(t *testing.T) {
	s := start(t, Options{CountOnly: true})
	body := encode(t, v1([]string{"__name__", "up"}, []string{"__name__", "down"}))
	if _, err := post(t.Context(), s.URL(), header("1.0"), body); err != nil {
		t.Fatal(err)
	}
	if got := s.Samples(); got != 2 {
		t.Errorf("Samples() = %d, want 2", got)
	}
	if diff := cmp.Diff([]string{}, s.Series()); diff != "" {
		t.Errorf("series (-want +got):\n%s", diff)
	}
}

func TestFaultsThatAnswer(t *testing.T) {
	s := start(t, Options{})
	big := func(req *Request) bool { return len(req.Series) > 1 }
	s.Next(Status(503, nil), Status(429, http.Header{"Retry-After": {"7"}}), nil)
	s.Always(RefuseIf(big, 413))
	one := encode(t, v1([]string{"__name__", "up"}))
	two := encode(t, v1([]string{"__name__", "up"}, []string{"__name__", "down"}))
	var got []answer
	for _, body := range [][]byte{one, one, two, two, one} {
		a, err := post(t.Context(), s.URL(), header("1.0"), body)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, a)
	}
	want := []answer{{Status: 503}, {Status: 429, Header: "7"}, {Status: 204}, {Status: 413}, {Status: 204}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("answers (-want +got):\n%s", diff)
	}
	if requests, accepted := s.Requests(), s.Accepted(); requests != 5 || accepted != 2 {
		t.Errorf("%d requests, %d accepted, want 5 and 2", requests, accepted)
	}
}

func TestHang(t *testing.T) {
	s := start(t, Options{})
	until := make(chan struct{})
	s.Always(Hang(until))
	body := encode(t, v1([]string{"__name__", "up"}))

	leaving, leave := context.WithCancel(t.Context())
	left := make(chan error)
	go func() {
		_, err := post(leaving, s.URL(), header("1.0"), body)
		left <- err
	}()
	if err := s.WaitFor(t.Context(), func() bool { return s.Requests() == 1 }); err != nil {
		t.Fatal(err)
	}
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("the sender that left got %v", err)
	}

	staying := make(chan answer)
	go func() {
		a, _ := post(t.Context(), s.URL(), header("1.0"), body)
		staying <- a
	}()
	if err := s.WaitFor(t.Context(), func() bool { return s.Requests() == 2 }); err != nil {
		t.Fatal(err)
	}
	close(until)
	if a := <-staying; a.Status != 204 {
		t.Errorf("the sender that stayed got %d, want 204", a.Status)
	}
}

func TestDelay(t *testing.T) {
	s := start(t, Options{})
	s.Always(Delay(time.Millisecond))
	a, err := post(t.Context(), s.URL(), header("1.0"), encode(t, v1([]string{"__name__", "up"})))
	if err != nil || a.Status != 204 {
		t.Errorf("answer %d, error %v, want 204", a.Status, err)
	}
}

func TestReset(t *testing.T) {
	s := start(t, Options{})
	s.Next(Reset())
	_, err := post(t.Context(), s.URL(), header("1.0"), encode(t, v1([]string{"__name__", "up"})))
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, want a connection reset", err)
	}
	if got := s.Samples(); got != 0 {
		t.Errorf("Samples() = %d, want 0", got)
	}
}

func TestDownAndUp(t *testing.T) {
	s := start(t, Options{})
	url := s.URL()
	body := encode(t, v1([]string{"__name__", "up"}))
	s.Down()
	if _, err := post(t.Context(), url, header("1.0"), body); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("while down got %v, want a refused connection", err)
	}
	if err := s.Up(); err != nil {
		t.Fatal(err)
	}
	if _, err := post(t.Context(), url, header("1.0"), body); err != nil {
		t.Errorf("after Up on the same address: %v", err)
	}
}

func TestDownEndsWhatHangs(t *testing.T) {
	s := start(t, Options{})
	s.Always(Hang(nil))
	left := make(chan error)
	go func() {
		_, err := post(t.Context(), s.URL(), header("1.0"), encode(t, v1([]string{"__name__", "up"})))
		left <- err
	}()
	if err := s.WaitFor(t.Context(), func() bool { return s.Requests() == 1 }); err != nil {
		t.Fatal(err)
	}
	s.Down()
	if err := <-left; err == nil {
		t.Error("the sender got an answer from a receiver that is down")
	}
}

func TestWaitForEndsWithItsContext(t *testing.T) {
	r := New(Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := r.WaitFor(ctx, func() bool { return false })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
}
