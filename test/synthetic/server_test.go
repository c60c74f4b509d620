package synthetic

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"reflect"
	"strconv"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
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

func podAt(p pods, i int) (int, *values) {
	var v values
	p.fill(i, &v)
	return p.shape(i), &v
}

func TestMetadataClientReadsAllPages(t *testing.T) {
	const count = 1200
	p := pods{count: count, namespaces: 300}
	for _, jsonOnly := range []bool{false, true} {
		for _, limit := range []int64{400, 500, 7000} {
			server := start(t, Options{Pods: count, JSONOnly: jsonOnly})
			got := listAll(t.Context(), t, metadataClient(t, server).Resource(podResource), limit)
			if len(got) != count {
				t.Fatalf("JSON %v, limit %d: %d pods, want %d", jsonOnly, limit, len(got), count)
			}
			for i := range got {
				w, v := podAt(p, i)
				// Only for a difference: cmp is a hundred times slower.
				if want, got := podMeta(w, v, 0), local(got[i].ObjectMeta); !reflect.DeepEqual(want, got) {
					t.Fatalf("JSON %v, limit %d: pod %d (-want +got):\n%s", jsonOnly, limit, i, cmp.Diff(want, got))
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
	const count, annotationBytes = 700, 1000
	p := pods{count: count, namespaces: 300}
	server := start(t, Options{Pods: count, AnnotationBytes: annotationBytes})
	remaining := int64(count - 600)
	meta := metav1.ListMeta{ResourceVersion: strconv.Itoa(listVersion), Continue: encodeContinue(600, listVersion), RemainingItemCount: &remaining}
	whole := &corev1.PodList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PodList"}, ListMeta: meta}
	metas := &metav1.PartialObjectMetadataList{TypeMeta: metav1.TypeMeta{APIVersion: "meta.k8s.io/v1", Kind: "PartialObjectMetadataList"}, ListMeta: meta}
	for i := 100; i < 600; i++ {
		w, v := podAt(p, i)
		whole.Items = append(whole.Items, *pod(w, v, annotationBytes))
		metas.Items = append(metas.Items, *partial(podMeta(w, v, annotationBytes)))
	}
	inProtobuf := protobuf.NewSerializerWithOptions(nil, nil, protobuf.SerializerOptions{StreamingCollectionsEncoding: true})
	inJSON := jsonserializer.NewSerializerWithOptions(jsonserializer.DefaultMetaFactory, nil, nil, jsonserializer.SerializerOptions{StreamingCollectionsEncoding: true})
	for _, test := range []struct {
		accept, contentType string
		list                runtime.Object
		encoder             runtime.Encoder
	}{
		{acceptPartialProtobuf, "application/vnd.kubernetes.protobuf", metas, inProtobuf},
		{acceptPartialProtobuf, "application/vnd.kubernetes.protobuf", metas, protobuf.NewSerializer(nil, nil)},
		{acceptPartialJSON, "application/json", metas, inJSON},
		{"application/vnd.kubernetes.protobuf", "application/vnd.kubernetes.protobuf", whole, inProtobuf},
		{"application/json", "application/json", whole, inJSON},
	} {
		var want bytes.Buffer
		if err := test.encoder.Encode(test.list, &want); err != nil {
			t.Fatal(err)
		}
		response, got := get(t, server, "/api/v1/pods?limit=500&continue="+encodeContinue(100, listVersion), test.accept, http.StatusOK)
		if contentType := response.Header.Get("Content-Type"); contentType != test.contentType {
			t.Errorf("%s: content type %q, want %q", test.accept, contentType, test.contentType)
		}
		if !bytes.Equal(got, want.Bytes()) {
			t.Errorf("%s: the bytes differ from those of %T (-want +got):\n%s", test.accept, test.encoder, cmp.Diff(want.Bytes(), got))
		}
	}
}

func TestEmptyListBytes(t *testing.T) {
	server := start(t, Options{})
	for _, test := range []struct{ path, want string }{
		{"/api/v1/pods", `{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"2000000000"},"items":[]}` + "\n"},
		{"/apis/apps/v1/deployments", `{"kind":"DeploymentList","apiVersion":"apps/v1","metadata":{"resourceVersion":"2000000000"},"items":[]}` + "\n"},
	} {
		if _, got := get(t, server, test.path, "", http.StatusOK); string(got) != test.want {
			t.Errorf("%s: %q, want %q", test.path, got, test.want)
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
		want     form
		refused  bool
	}{
		{"", false, form{json: true, full: true}, false},
		{"*/*", false, form{json: true, full: true}, false},
		{acceptPartialProtobuf + "," + acceptPartialJSON + ",application/json", false, form{}, false},
		{acceptPartialProtobuf + "," + acceptPartialJSON + ",application/json", true, form{json: true}, false},
		{"application/vnd.kubernetes.protobuf,application/json", false, form{full: true}, false},
		{"application/json;as=Table;g=meta.k8s.io;v=v1,application/json", false, form{json: true, full: true}, false},
		{"application/cbor," + acceptPartialJSON, false, form{json: true}, false},
		{"application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1beta1", false, form{}, true},
		{acceptPartialProtobuf, true, form{}, true},
		{"application/;", false, form{}, true},
	} {
		got, err := negotiate(test.accept, test.jsonOnly)
		if (err != nil) != test.refused || err == nil && got != test.want {
			t.Errorf("negotiate(%q, %v): %+v, %v", test.accept, test.jsonOnly, got, err)
		}
	}
	server := start(t, Options{JSONOnly: true})
	get(t, server, "/api/v1/pods", acceptPartialProtobuf, http.StatusNotAcceptable)
}

func TestNothingIsCompressedUnasked(t *testing.T) {
	server := start(t, Options{Pods: 1000})
	response, _ := get(t, server, "/api/v1/pods", acceptPartialProtobuf, http.StatusOK)
	if encoding := response.Header.Get("Content-Encoding"); encoding != "" || response.Uncompressed {
		t.Errorf("the answer is encoded: %q", encoding)
	}
}

func TestFaultsReachTheMetadataClient(t *testing.T) {
	for _, jsonOnly := range []bool{false, true} {
		list := func(options Options, continued string) error {
			options.JSONOnly = jsonOnly
			_, err := metadataClient(t, start(t, options)).Resource(podResource).List(t.Context(), metav1.ListOptions{Limit: 10, Continue: continued})
			return err
		}
		if err := list(Options{Forbidden: []string{"pods"}}, ""); !apierrors.IsForbidden(err) {
			t.Errorf("forbidden: %v", err)
		}
		if err := list(Options{Pods: 100}, "no token"); !apierrors.IsBadRequest(err) {
			t.Errorf("bad token: %v", err)
		}
		err := list(Options{Pods: 100, ExpireEvery: 1}, encodeContinue(40, listVersion))
		var status *apierrors.StatusError
		if !errors.As(err, &status) || !apierrors.IsResourceExpired(err) {
			t.Fatalf("expired: %v", err)
		}
		if got, want := status.ErrStatus.Continue, encodeContinue(40, inconsistent); got != want {
			t.Errorf("expired: token %q, want %q", got, want)
		}
		if err := list(Options{Pods: 100, ExpireEvery: 1}, status.ErrStatus.Continue); err != nil {
			t.Errorf("the token of an expired list: %v", err)
		}
	}
}

func TestThrottling(t *testing.T) {
	server := start(t, Options{Pods: 10, ThrottleEvery: 2})
	get(t, server, "/api/v1/pods", "", http.StatusOK)
	response, body := get(t, server, "/api/v1/pods", "", http.StatusTooManyRequests)
	if after := response.Header.Get("Retry-After"); after != "1" {
		t.Errorf("Retry-After %q, want 1", after)
	}
	var status metav1.Status
	if err := json.Unmarshal(body, &status); err != nil || status.Kind != "Status" || status.Details.RetryAfterSeconds != 1 {
		t.Errorf("%s: %v", body, err)
	}
	get(t, server, "/api/v1/pods", "", http.StatusOK)
}

func TestUnknownPathsAre404(t *testing.T) {
	server := start(t, Options{})
	for _, path := range []string{"/", "/api/v2", "/api/v1/secrets", "/apis/batch/v1", "/api/v1/namespaces/a/namespaces"} {
		var status metav1.Status
		if _, body := get(t, server, path, "", http.StatusNotFound); json.Unmarshal(body, &status) != nil || status.Reason != metav1.StatusReasonNotFound {
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
	want := map[string][]string{"v1": {"namespaces:false", "pods:true"}, "apps/v1": {"deployments:true"}}
	for _, legacy := range []bool{false, true} {
		client.UseLegacyDiscovery = legacy
		_, lists, err := client.ServerGroupsAndResources()
		if err != nil {
			t.Fatalf("legacy %v: %v", legacy, err)
		}
		got := map[string][]string{}
		for _, list := range lists {
			for _, resource := range list.APIResources {
				got[list.GroupVersion] = append(got[list.GroupVersion], resource.Name+":"+strconv.FormatBool(resource.Namespaced))
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("legacy %v (-want +got):\n%s", legacy, diff)
		}
	}
	if _, err := client.ServerVersion(); err != nil {
		t.Error(err)
	}
	response, _ := get(t, server, "/apis", discovery.AcceptV2+","+discovery.AcceptV1, http.StatusOK)
	if got := response.Header.Get("Content-Type"); got != aggregatedType {
		t.Errorf("aggregated discovery is %q", got)
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

func TestWatchOfTheMetadataClient(t *testing.T) {
	for _, jsonOnly := range []bool{false, true} {
		client := metadataClient(t, start(t, Options{Pods: 10, JSONOnly: jsonOnly, Forbidden: []string{"namespaces"}}))
		watch, err := client.Resource(podResource).Watch(t.Context(), metav1.ListOptions{ResourceVersion: "2000000000"})
		if err != nil {
			t.Fatal(err)
		}
		watch.Stop()
		if _, err := client.Resource(namespaceResource).Watch(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
			t.Errorf("forbidden: %v", err)
		}
		yes := true
		_, err = client.Resource(podResource).Watch(t.Context(), metav1.ListOptions{SendInitialEvents: &yes, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan})
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
	for _, accept := range []string{acceptPartialProtobuf, acceptPartialJSON} {
		b.Run(url.QueryEscape(accept), func(b *testing.B) {
			handler, err := New(Options{Pods: 1_000_000})
			if err != nil {
				b.Fatal(err)
			}
			request := httptest.NewRequest(http.MethodGet, "/api/v1/pods?limit=500&continue="+encodeContinue(400_000, listVersion), nil)
			request.Header.Set("Accept", accept)
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
