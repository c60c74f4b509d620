package status

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestServeMetrics(t *testing.T) {
	server, err := Listen("127.0.0.1:0", NewRegistry(Build{Version: "1.2.3", Commit: "abc", Date: "2026-01-02"}))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- server.Run(ctx) }()

	code, body := get(t, "http://"+server.Address()+"/metrics")
	if code != http.StatusOK {
		t.Errorf("GET /metrics answers %d", code)
	}
	for _, want := range []string{
		`labelstream_build_info{commit="abc",date="2026-01-02",version="1.2.3"} 1`,
		"process_resident_memory_bytes ",
		"go_goroutines ",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("the metrics lack %q", want)
		}
	}
	if code, _ := get(t, "http://"+server.Address()+"/other"); code != http.StatusNotFound {
		t.Errorf("GET /other answers %d", code)
	}

	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run returns %v", err)
	}
}

func TestListenSaysWhichAddress(t *testing.T) {
	taken, err := Listen("127.0.0.1:0", NewRegistry(Build{}))
	if err != nil {
		t.Fatal(err)
	}
	defer taken.listener.Close()
	_, err = Listen(taken.Address(), NewRegistry(Build{}))
	if err == nil || !strings.Contains(err.Error(), `listen on STATUS_ADDRESS "`+taken.Address()+`"`) {
		t.Errorf("Listen on a taken address returns %v", err)
	}
}
