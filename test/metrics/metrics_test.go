package metrics

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const text = `# TYPE requests_total counter
requests_total{code="200",verb="LIST"} 3
requests_total{code="200",verb="GET"} 4
requests_total{code="410",verb="LIST"} 5
# TYPE queue gauge
queue 6
`

func TestSum(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/metrics" {
			http.NotFound(w, r)
			return
		}
		_, _ = io.WriteString(w, text)
	}))
	defer server.Close()
	families, err := Get(t.Context(), server.Client(), server.URL+"/metrics")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		labels map[string]string
		want   float64
	}{
		{"requests_total", nil, 12},
		{"requests_total", map[string]string{"code": "200"}, 7},
		{"requests_total", map[string]string{"code": "200", "verb": "LIST"}, 3},
		{"requests_total", map[string]string{"resource": "pods"}, 0},
		{"queue", nil, 6},
		{"missing", nil, 0},
	} {
		if got := families.Sum(test.name, test.labels); got != test.want {
			t.Errorf("the sum of %s%v is %v, want %v", test.name, test.labels, got, test.want)
		}
	}
	if _, err := Get(t.Context(), server.Client(), server.URL+"/elsewhere"); err == nil {
		t.Error("an answer of 404 is no error")
	}
}
