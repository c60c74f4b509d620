// SPDX-License-Identifier: Apache-2.0

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
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newClient is one of a server that answers reviews with a format that is given the
// uid, if there is a status to answer.
func newClient(t *testing.T, status int, format string, echoesUID bool) *Client {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var review struct {
			Kind, APIVersion string
			Request          struct{ UID string }
		}
		if json.NewDecoder(r.Body).Decode(&review) != nil || review.Kind != "AdmissionReview" || review.APIVersion != "admission.k8s.io/v1" ||
			r.Method+r.URL.String()+r.Header.Get("Content-Type")+r.Proto != "POST/validate?timeout=1sapplication/jsonHTTP/1.1" {
			http.Error(w, "not as kube-apiserver sends it", http.StatusBadRequest)
			return
		}
		w.WriteHeader(status)
		fmt.Fprintf(w, format, review.Request.UID)
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
	return client
}

const allowed = `{"response":{"uid":%q,"allowed":true}}`

// TestReviews counts what is sent. That no two reviews are alike shows in what the
// benchmark demands: each becomes a sample.
func TestReviews(t *testing.T) {
	for _, client := range []*Client{
		newClient(t, http.StatusOK, allowed, true),
		newClient(t, http.StatusOK, `{"response":{"uid":"0%.0s","allowed":true}}`, false),
	} {
		if err := client.Saturate(t.Context(), 50*time.Millisecond); err != nil {
			t.Fatal(err)
		}
		saturated := client.Sent()
		took, err := client.Pace(t.Context(), 200, 100*time.Microsecond)
		if err != nil || len(took) != 200 || slices.Min(took) <= 0 {
			t.Errorf("%d times, error %v", len(took), err)
		}
		if saturated == 0 || client.Sent() != saturated+200 {
			t.Errorf("%d reviews were sent after %d and 200", client.Sent(), saturated)
		}
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
		client := newClient(t, test.status, test.format, true)
		_, paced := client.Pace(t.Context(), 100, time.Microsecond)
		for _, err := range []error{paced, client.Saturate(t.Context(), time.Second)} {
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s: error %v, want one with %q", name, err, test.want)
			}
		}
	}
}
