package synthetic

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	jsonserializer "k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"labelstream/test/selfsigned"
)

const (
	acceptPartialProtobuf = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
	acceptPartialJSON     = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
)

// podsOf gives the metadata of the i-th pod of a server with these options.
func podsOf(options Options) func(i int) metav1.ObjectMeta {
	options.Namespaces = 300
	kind := newKinds(options)[1]
	return func(i int) metav1.ObjectMeta {
		var v values
		kind.collection.fill(i, &v)
		return kind.shapes[kind.collection.shape(i)](&v)
	}
}

func TestMetadataClientReadsAllPages(t *testing.T) {
	const count = 1200
	for _, options := range []Options{{Pods: count, Profile: Alike}, {Pods: count, Profile: Mixed}, {Pods: count, Profile: Mixed, JSONOnly: true}} {
		pod := podsOf(options)
		for _, limit := range []int64{400, 500, 7000} {
			got := listAll(t.Context(), t, metadataClient(t, start(t, options)).Resource(podResource), limit)
			if len(got) != count {
				t.Fatalf("%+v, limit %d: %d pods, want %d", options, limit, len(got), count)
			}
			for i := 0; i < len(got); i++ {
				// Only for a difference: cmp is a hundred times slower.
				if want, got := pod(i), local(got[i].ObjectMeta); !reflect.DeepEqual(want, got) {
					t.Fatalf("%+v, limit %d: pod %d (-want +got):\n%s", options, limit, i, cmp.Diff(want, got))
				}
			}
		}
	}
}

// local brings times to the location in which they were made: decoders choose
// the machine's.
func local(meta metav1.ObjectMeta) metav1.ObjectMeta {
	meta.CreationTimestamp = metav1.NewTime(meta.CreationTimestamp.UTC())
	for i, entry := range meta.ManagedFields {
		at := metav1.NewTime(entry.Time.UTC())
		meta.ManagedFields[i].Time = &at
	}
	return meta
}

// TestBytesAreApimachinerys compares answers with what apimachinery's own
// serializers, those of a real server, make of the same objects.
func TestBytesAreApimachinerys(t *testing.T) {
	remaining := int64(100)
	for _, options := range []Options{{Pods: 700, AnnotationBytes: 1000}, {Pods: 700, Profile: Mixed}} {
		server, pod := start(t, options), podsOf(options)
		list := &metav1.PartialObjectMetadataList{
			TypeMeta: metav1.TypeMeta{APIVersion: "meta.k8s.io/v1", Kind: "PartialObjectMetadataList"},
			ListMeta: metav1.ListMeta{ResourceVersion: strconv.Itoa(listVersion), Continue: encodeContinue(600, listVersion), RemainingItemCount: &remaining},
		}
		for i := 100; i < 600; i++ {
			list.Items = append(list.Items, *partial(pod(i)))
		}
		for accept, encoder := range map[string]runtime.Encoder{
			acceptPartialProtobuf: protobuf.NewSerializerWithOptions(nil, nil, protobuf.SerializerOptions{StreamingCollectionsEncoding: true}),
			acceptPartialJSON: jsonserializer.NewSerializerWithOptions(jsonserializer.DefaultMetaFactory, nil, nil,
				jsonserializer.SerializerOptions{StreamingCollectionsEncoding: true}),
		} {
			var want bytes.Buffer
			if err := encoder.Encode(list, &want); err != nil {
				t.Fatal(err)
			}
			response, got := get(t, server, "/api/v1/pods?limit=500&continue="+encodeContinue(100, listVersion), accept, http.StatusOK)
			if contentType, _, _ := strings.Cut(accept, ";"); response.Header.Get("Content-Type") != contentType || response.Header.Get("Content-Encoding") != "" {
				t.Errorf("%s: headers %v", accept, response.Header)
			}
			if !bytes.Equal(got, want.Bytes()) {
				t.Errorf("%+v, %s: the bytes differ from those of %T (-want +got):\n%s", options, accept, encoder, cmp.Diff(want.Bytes(), got))
			}
		}
	}
}

func TestEmptyListBytes(t *testing.T) {
	const want = `{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","metadata":{"resourceVersion":"2000000000"},"items":[]}` + "\n"
	for _, path := range []string{"/api/v1/pods", "/apis/apps/v1/deployments"} {
		if _, got := get(t, start(t, Options{}), path, acceptPartialJSON, http.StatusOK); string(got) != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}

// TestDeploymentsOfTheMetadataClient has Deployments look like as many pods.
func TestDeploymentsOfTheMetadataClient(t *testing.T) {
	client := metadataClient(t, start(t, Options{Pods: 40, Deployments: 300}))
	same := metadataClient(t, start(t, Options{Pods: 300}))
	var want, got []metav1.ObjectMeta
	for _, o := range listAll(t.Context(), t, same.Resource(podResource), 70) {
		want = append(want, o.ObjectMeta)
	}
	deployments := schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
	for _, o := range listAll(t.Context(), t, client.Resource(deployments), 70) {
		got = append(got, o.ObjectMeta)
	}
	if diff := cmp.Diff(want, got); diff != "" || len(got) != 300 {
		t.Errorf("%d Deployments, want 300 (-want +got):\n%.2000s", len(got), diff)
	}
}

func TestNamespacesOfTheMetadataClient(t *testing.T) {
	client := metadataClient(t, start(t, Options{Pods: 1000, Namespaces: 30}))
	all := listAll(t.Context(), t, client.Resource(namespaceResource), 7)
	if len(all) != 30 {
		t.Fatalf("%d namespaces, want 30", len(all))
	}
	var v values
	read := 0
	for i, namespace := range all {
		namespaces(30).fill(i, &v)
		if diff := cmp.Diff(namespaceMeta(&v), local(namespace.ObjectMeta)); diff != "" {
			t.Fatalf("namespace %d (-want +got):\n%s", i, diff)
		}
		for _, pod := range listAll(t.Context(), t, client.Resource(podResource).Namespace(namespace.Name), 5) {
			if pod.Namespace != namespace.Name {
				t.Fatalf("a pod of %q among those of %q", pod.Namespace, namespace.Name)
			}
			read++
		}
	}
	if read != 1000 {
		t.Errorf("the namespaces have %d pods, want 1000", read)
	}
}

func TestListQueries(t *testing.T) {
	server := start(t, Options{Pods: 100, Namespaces: 2})
	token, bad := encodeContinue(30, listVersion), "bm90IGpzb24"
	for _, test := range []struct {
		query     string
		status    int
		items     int
		remaining int64
		next      string
	}{
		{"", 200, 100, 0, ""},
		{"limit=0", 200, 100, 0, ""},
		{"limit=30", 200, 30, 70, token},
		{"limit=100", 200, 100, 0, ""},
		{"limit=30&resourceVersion=0", 200, 100, 0, ""},
		{"limit=30&resourceVersion=5", 200, 100, 0, ""},
		{"limit=30&resourceVersion=5&resourceVersionMatch=NotOlderThan", 200, 100, 0, ""},
		{"limit=30&resourceVersion=5&resourceVersionMatch=Exact", 200, 30, 70, token},
		{"limit=60&continue=" + token, 200, 60, 10, encodeContinue(90, listVersion)},
		{"limit=60&resourceVersion=0&continue=" + token, 200, 60, 10, encodeContinue(90, listVersion)},
		{"continue=" + token, 200, 70, 0, ""},
		{"continue=" + encodeContinue(30, inconsistent), 200, 70, 0, ""},
		{"limit=-1", 400, 0, 0, ""},
		{"limit=x", 400, 0, 0, ""},
		{"resourceVersion=5&continue=" + token, 400, 0, 0, ""},
		{"resourceVersionMatch=Exact", 400, 0, 0, ""},
		{"continue=%21", 400, 0, 0, ""},
		{"continue=" + bad, 400, 0, 0, ""},
		{"continue=" + encodeContinue(30, 17), 400, 0, 0, ""},
		{"continue=" + encodeContinue(101, listVersion), 400, 0, 0, ""},
		{"labelSelector=a", 400, 0, 0, ""},
		{"fieldSelector=a", 400, 0, 0, ""},
	} {
		_, body := get(t, server, "/api/v1/pods?"+test.query, acceptPartialJSON, test.status)
		if test.status != http.StatusOK {
			continue
		}
		var list metav1.PartialObjectMetadataList
		if err := json.Unmarshal(body, &list); err != nil {
			t.Fatalf("%s: %v", test.query, err)
		}
		var remaining int64
		if list.RemainingItemCount != nil {
			remaining = *list.RemainingItemCount
		}
		if len(list.Items) != test.items || remaining != test.remaining || list.Continue != test.next || list.ResourceVersion != "2000000000" {
			t.Errorf("%s: %d items, %d remaining, token %q, version %q", test.query, len(list.Items), remaining, list.Continue, list.ResourceVersion)
		}
	}
}

func TestNegotiation(t *testing.T) {
	for _, test := range []struct {
		accept   string
		jsonOnly bool
		want     encoding
		refused  bool
	}{
		{acceptPartialProtobuf + "," + acceptPartialJSON + ",application/json", false, inProtobuf, false},
		{acceptPartialProtobuf + "," + acceptPartialJSON + ",application/json", true, inJSON, false},
		{"application/cbor," + acceptPartialJSON, false, inJSON, false},
		{"", false, inJSON, true},
		{"application/json", false, inJSON, true},
		{"application/json;as=Table;g=meta.k8s.io;v=v1", false, inJSON, true},
		{"application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1beta1", false, inJSON, true},
		{acceptPartialProtobuf, true, inJSON, true},
		{"application/;", false, inJSON, true},
	} {
		got, err := negotiate(test.accept, test.jsonOnly)
		if (err != nil) != test.refused || got != test.want {
			t.Errorf("negotiate(%q, %v): %s, %v", test.accept, test.jsonOnly, got, err)
		}
	}
	get(t, start(t, Options{JSONOnly: true}), "/api/v1/pods", acceptPartialProtobuf, http.StatusNotAcceptable)
}

// TestExpiredTokens lists on with a token from before all was replaced, and then
// with the one of the refusal, which never expires.
func TestExpiredTokens(t *testing.T) {
	server := start(t, Options{Pods: 100})
	resource := metadataClient(t, server).Resource(podResource)
	watchFrom(t, metadataClient(t, server), strconv.Itoa(listVersion))
	happen(t, server.URL, "replace", http.StatusOK)
	_, err := resource.List(t.Context(), metav1.ListOptions{Limit: 10, Continue: encodeContinue(40, listVersion)})
	var status *apierrors.StatusError
	if !errors.As(err, &status) || !apierrors.IsResourceExpired(err) {
		t.Fatalf("expired: %v", err)
	}
	if got, want := status.ErrStatus.Continue, encodeContinue(40, inconsistent); got != want {
		t.Errorf("expired: token %q, want %q", got, want)
	}
	if _, err := resource.List(t.Context(), metav1.ListOptions{Limit: 10, Continue: status.ErrStatus.Continue}); err != nil {
		t.Errorf("the token of an expired list: %v", err)
	}
}

func TestUnknownPathsAre404(t *testing.T) {
	server := start(t, Options{})
	for _, path := range []string{"/", "/api/v2", "/api/v1/secrets", "/apis/batch/v1", "/api/v1/namespaces/a/namespaces"} {
		var status metav1.Status
		if _, body := get(t, server, path, acceptPartialJSON, http.StatusNotFound); json.Unmarshal(body, &status) != nil || status.Reason != metav1.StatusReasonNotFound {
			t.Errorf("%s: %s", path, body)
		}
	}
}

func TestDiscovery(t *testing.T) {
	server := start(t, Options{})
	client, err := discovery.NewDiscoveryClientForConfigAndClient(&rest.Config{Host: server.URL}, server.Client())
	if err != nil {
		t.Fatal(err)
	}
	_, lists, err := client.ServerGroupsAndResources()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][]string{}
	for _, list := range lists {
		for _, resource := range list.APIResources {
			got[list.GroupVersion] = append(got[list.GroupVersion], resource.Name+":"+strconv.FormatBool(resource.Namespaced))
		}
	}
	want := map[string][]string{"v1": {"namespaces:false", "pods:true"}, "apps/v1": {"deployments:true"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("resources (-want +got):\n%s", diff)
	}
	if _, err := client.ServerVersion(); err != nil {
		t.Error(err)
	}
}

func TestWatchStaysOpenUntilTheClientLeaves(t *testing.T) {
	handler, err := New(Options{Pods: 10})
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		request := httptest.NewRequestWithContext(ctx, http.MethodGet, "/api/v1/pods?watch=true", nil)
		request.Header.Set("Accept", acceptPartialProtobuf)
		response, ended := httptest.NewRecorder(), false
		go func() {
			handler.ServeHTTP(response, request)
			ended = true
		}()
		synctest.Wait()
		if ended || !response.Flushed || response.Body.Len() != 0 {
			t.Errorf("ended: %v, headers sent: %v, body %q", ended, response.Flushed, response.Body)
		}
		cancel()
		synctest.Wait()
		if !ended {
			t.Error("the watch outlives its client")
		}
	})
}

func TestListsAsEventsAreRefused(t *testing.T) {
	for _, jsonOnly := range []bool{false, true} {
		client := metadataClient(t, start(t, Options{Pods: 10, JSONOnly: jsonOnly}))
		yes := true
		_, err := client.Resource(podResource).Watch(t.Context(), metav1.ListOptions{SendInitialEvents: &yes, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan})
		if !apierrors.IsInvalid(err) {
			t.Errorf("a list in events: %v", err)
		}
	}
}

func TestTLSIsHTTP2AndTheKubeconfigReachesIt(t *testing.T) {
	handler, err := New(Options{Pods: 20})
	if err != nil {
		t.Fatal(err)
	}
	protocols := make(chan string, 10)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		protocols <- r.Proto
		handler.ServeHTTP(w, r)
	}))
	certificate, trusted, err := selfsigned.Certificate()
	if err != nil {
		t.Fatal(err)
	}
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	file := filepath.Join(t.TempDir(), "kubeconfig")
	if err := WriteKubeconfig(file, server.URL, trusted); err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", file)
	if err != nil {
		t.Fatal(err)
	}
	httpClient, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(httpClient.CloseIdleConnections)
	client, err := metadata.NewForConfigAndClient(config, httpClient)
	if err != nil {
		t.Fatal(err)
	}
	if got := len(listAll(t.Context(), t, client.Resource(podResource), 20)); got != 20 {
		t.Errorf("%d pods, want 20", got)
	}
	if protocol := <-protocols; protocol != "HTTP/2.0" {
		t.Errorf("TLS speaks %s", protocol)
	}
}

func BenchmarkPage(b *testing.B) {
	for _, profile := range []Profile{Alike, Mixed} {
		b.Run(string(profile), func(b *testing.B) {
			handler, err := New(Options{Pods: 1_000_000, Profile: profile})
			if err != nil {
				b.Fatal(err)
			}
			request := httptest.NewRequest(http.MethodGet, "/api/v1/pods?limit=500&continue="+encodeContinue(400_000, listVersion), nil)
			request.Header.Set("Accept", acceptPartialProtobuf)
			for b.Loop() {
				handler.ServeHTTP(discard{http.Header{}}, request)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/500, "ns/object")
		})
	}
}

// discard is an answer that nobody reads.
type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(p []byte) (int, error) { return len(p), nil }
func (d discard) WriteHeader(int)             {}
