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
			Metadata struct{ Name, Namespace string }
		}
	}
}

// newClient is one of a server that answers reviews with a format that is given the
// uid, and tells what has come.
func newClient(t *testing.T, status int, format string, echoesUID bool) (*Client, *sync.Map) {
	seen := &sync.Map{} // reviews by uid
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var got review
		if err != nil || json.Unmarshal(body, &got) != nil ||
			r.Method+r.URL.String()+r.Header.Get("Content-Type")+r.Proto != "POST/validate?timeout=1sapplication/jsonHTTP/1.1" {
			http.Error(w, "not as kube-apiserver sends it", http.StatusBadRequest)
			return
		}
		seen.Store(got.Request.UID, got)
		w.WriteHeader(status)
		fmt.Fprintf(w, format, got.Request.UID)
	}))
	// Clients leave in the middle of handshakes.
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	if status == 0 {
		server.Close()
	}
	trusted := x509.NewCertPool()
	trusted.AddCert(server.Certificate())
	client := New(server.Listener.Addr().String(), trusted, echoesUID)
	t.Cleanup(client.Close)
	return client, seen
}

const allowed = `{"response":{"uid":%q,"allowed":true}}`

// TestReviews counts what is sent, and what has come by its uid.
func TestReviews(t *testing.T) {
	client, seen := newClient(t, http.StatusOK, allowed, true)
	if err := client.Saturate(t.Context(), 50*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	saturated := client.Sent()
	took, err := client.Pace(t.Context(), 200, 100*time.Microsecond)
	if err != nil || len(took) != 200 || slices.Min(took) <= 0 {
		t.Errorf("%d times, error %v", len(took), err)
	}
	for number := range client.Sent() {
		if _, ok := seen.Load(fmt.Sprintf("705ab4f5-6393-4e8a-b7cc-%012d", number+1)); !ok {
			t.Fatalf("review %d of %d has not come", number+1, client.Sent())
		}
	}
	if saturated == 0 || client.Sent() != saturated+200 {
		t.Errorf("%d reviews were sent after %d and 200", client.Sent(), saturated)
	}
	var want review
	want.Kind, want.APIVersion = "AdmissionReview", "admission.k8s.io/v1"
	want.Request.UID, want.Request.Operation = "705ab4f5-6393-4e8a-b7cc-000000000001", "CREATE"
	want.Request.Namespace, want.Request.Name = "shop", "web-7d4b9c6f58-00001"
	want.Request.Object.Metadata.Namespace, want.Request.Object.Metadata.Name = "shop", "web-7d4b9c6f58-00001"
	got, _ := seen.Load(want.Request.UID)
	if diff := cmp.Diff(want, got); diff != "" {
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
		client, _ := newClient(t, test.status, test.format, true)
		_, paced := client.Pace(t.Context(), 100, time.Microsecond)
		for _, err := range []error{paced, client.Saturate(t.Context(), time.Second)} {
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s: error %v, want one with %q", name, err, test.want)
			}
		}
	}
	constant, _ := newClient(t, http.StatusOK, `{"response":{"uid":"0%.0s","allowed":true}}`, false)
	if err := constant.Saturate(t.Context(), 10*time.Millisecond); err != nil {
		t.Errorf("a server that need not know the uid: %v", err)
	}
}
