package synthetic

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"go.uber.org/goleak"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start serves a server of these options until the test ends.
func start(t *testing.T, options Options) *httptest.Server {
	t.Helper()
	handler, err := New(options)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server
}

func metadataClient(t *testing.T, server *httptest.Server) metadata.Interface {
	t.Helper()
	client, err := metadata.NewForConfigAndClient(&rest.Config{Host: server.URL, QPS: -1}, server.Client())
	if err != nil {
		t.Fatal(err)
	}
	return client
}

var (
	podResource       = schema.GroupVersionResource{Version: "v1", Resource: "pods"}
	namespaceResource = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
)

// listAll reads all pages, of limit objects each.
func listAll(ctx context.Context, t *testing.T, resource metadata.ResourceInterface, limit int64) []metav1.PartialObjectMetadata {
	t.Helper()
	var all []metav1.PartialObjectMetadata
	options := metav1.ListOptions{Limit: limit}
	for {
		page, err := resource.List(ctx, options)
		if err != nil {
			t.Fatal(err)
		}
		if n := int64(len(page.Items)); n > limit || page.Continue != "" && n != limit {
			t.Fatalf("a page has %d objects, the limit is %d", n, limit)
		}
		all = append(all, page.Items...)
		if options.Continue = page.Continue; options.Continue == "" {
			return all
		}
	}
}

// get reads url in the form accepted, with its status checked.
func get(t *testing.T, server *httptest.Server, path, accept string, want int) (*http.Response, []byte) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if accept != "" {
		request.Header.Set("Accept", accept)
	}
	response, err := server.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	return response, readAll(t, response, want)
}

func readAll(t *testing.T, response *http.Response, want int) []byte {
	t.Helper()
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != want {
		t.Fatalf("status %d, want %d: %s", response.StatusCode, want, body)
	}
	return body
}
