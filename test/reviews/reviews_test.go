package reviews

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// review is what the tests read of one.
type review struct {
	Kind, APIVersion string
	Request          struct {
		UID, Name, Namespace, Operation string
		Object                          struct {
			Metadata struct {
				Name, Namespace string
				Labels          map[string]string
			}
		}
	}
}

// server answers reviews with a format that is given the uid.
type server struct {
	*httptest.Server
	client *Client

	mu   sync.Mutex
	seen map[string]review // by uid
}

func newServer(t *testing.T, status int, format string, echoesUID bool) *server {
	s := &server{seen: map[string]review{}}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var got review
		if err != nil || json.Unmarshal(body, &got) != nil ||
			r.Method+r.URL.String()+r.Header.Get("Content-Type")+r.Proto != "POST/validate?timeout=1sapplication/jsonHTTP/1.1" {
			http.Error(w, "not as kube-apiserver sends it", http.StatusBadRequest)
			return
		}
		s.mu.Lock()
		s.seen[got.Request.UID] = got
		s.mu.Unlock()
		w.WriteHeader(status)
		fmt.Fprintf(w, format, got.Request.UID)
	}))
	// Clients leave in the middle of handshakes.
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	trusted := x509.NewCertPool()
	trusted.AddCert(s.Certificate())
	s.client = New(s.Listener.Addr().String(), trusted, echoesUID)
	t.Cleanup(s.client.Close)
	return s
}

const allowed = `{"response":{"uid":%q,"allowed":true}}`

func TestReviewsAreAllDifferent(t *testing.T) {
	s := newServer(t, http.StatusOK, allowed, true)
	if err := s.client.Saturate(t.Context(), 50*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	saturated := s.client.Sent()
	took, err := s.client.Pace(t.Context(), 200, 100*time.Microsecond)
	if err != nil || len(took) != 200 || slices.Min(took) <= 0 {
		t.Errorf("%d times, error %v", len(took), err)
	}
	values := map[string]bool{}
	for _, got := range s.seen {
		values[got.Request.Object.Metadata.Labels["example.com/release"]] = true
	}
	if want := s.client.Sent(); saturated == 0 || want != saturated+200 || len(s.seen) != want || len(values) != want {
		t.Errorf("%d reviews with %d values have come, %d were sent", len(s.seen), len(values), want)
	}
	got := s.seen["705ab4f5-6393-4e8a-b7cc-000000000001"]
	metadata := got.Request.Object.Metadata
	text := []string{got.Kind, got.APIVersion, got.Request.Operation, got.Request.Namespace, got.Request.Name, metadata.Namespace, metadata.Name, metadata.Labels["example.com/release"]}
	want := []string{"AdmissionReview", "admission.k8s.io/v1", "CREATE", "shop", "web-7d4b9c6f58-00001", "shop", "web-7d4b9c6f58-00001", "000000000001"}
	if diff := cmp.Diff(want, text); diff != "" {
		t.Errorf("review (-want +got):\n%s", diff)
	}
}

// TestFailures wants an error of each load for the first answer that is not as it
// should be.
func TestFailures(t *testing.T) {
	for name, test := range map[string]struct {
		status int
		format string
		want   string
	}{
		"denied":         {200, `{"response":{"uid":%q,"allowed":false}}`, "was answered 200 OK"},
		"another uid":    {200, `{"response":{"uid":"x%.3s","allowed":true}}`, "was answered 200 OK"},
		"error":          {503, allowed, "was answered 503 Service Unavailable"},
		"endless answer": {200, allowed + strings.Repeat(" ", 1000), "512 bytes"},
		"gone":           {0, "", "connection refused"},
	} {
		s := newServer(t, test.status, test.format, true)
		if test.status == 0 {
			s.Close()
		}
		_, paced := s.client.Pace(t.Context(), 100, time.Microsecond)
		for _, err := range []error{paced, s.client.Saturate(t.Context(), time.Second)} {
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s: error %v, want one with %q", name, err, test.want)
			}
		}
	}
	constant := newServer(t, http.StatusOK, `{"response":{"uid":"0%.0s","allowed":true}}`, false)
	if err := constant.client.Saturate(t.Context(), 10*time.Millisecond); err != nil {
		t.Errorf("a server that need not know the uid: %v", err)
	}
}
