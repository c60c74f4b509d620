// SPDX-License-Identifier: Apache-2.0

package synthetic

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	jsonserializer "k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	acceptProtobuf = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
	acceptJSON     = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
)

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

// resourceOf is a server's resource, read by client-go's metadata client.
func resourceOf(t *testing.T, server *httptest.Server, group, resource string) metadata.Getter {
	t.Helper()
	client, err := metadata.NewForConfigAndClient(&rest.Config{Host: server.URL, QPS: -1}, server.Client())
	if err != nil {
		t.Fatal(err)
	}
	return client.Resource(schema.GroupVersionResource{Group: group, Version: "v1", Resource: resource})
}

// request sends one, and checks the status of the answer.
func request(t *testing.T, server *httptest.Server, method, path, accept string, want int) (contentType string, body []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", accept)
	response, err := server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if body, err = io.ReadAll(response.Body); err != nil || response.StatusCode != want {
		t.Fatalf("%s: status %d, want %d: %s, %v", path, response.StatusCode, want, body, err)
	}
	return response.Header.Get("Content-Type"), body
}

// listAll reads all pages, of limit objects each.
func listAll(t *testing.T, resource metadata.Getter, limit int64) (all []metav1.ObjectMeta) {
	t.Helper()
	options := metav1.ListOptions{Limit: limit}
	for {
		page, err := resource.List(t.Context(), options)
		if err != nil {
			t.Fatal(err)
		}
		if n := int64(len(page.Items)); n > limit || page.Continue != "" && n != limit {
			t.Fatalf("a page has %d objects, the limit is %d", n, limit)
		}
		for _, item := range page.Items {
			all = append(all, item.ObjectMeta)
		}
		if options.Continue = page.Continue; options.Continue == "" {
			return all
		}
	}
}

// podsOf gives the metadata of the i-th pod of a server with these options.
func podsOf(options Options) func(i int) metav1.ObjectMeta {
	kind := newKinds(options)[0]
	return func(i int) metav1.ObjectMeta {
		var v values
		kind.objects.fill(i, &v)
		return kind.shapes[kind.objects.shape(i)](&v)
	}
}

// TestMetadataClientReadsAllPages wants each object once, in order. What it looks
// like is TestBytesAreApimachinerys' business.
func TestMetadataClientReadsAllPages(t *testing.T) {
	const count = 1200
	for _, test := range []struct {
		options         Options
		group, resource string
	}{
		{Options{Pods: count}, "", "pods"},
		{Options{Pods: count, Profile: Mixed, Keys: 70}, "", "pods"},
		{Options{Pods: count, Profile: Mixed, JSONOnly: true}, "", "pods"},
		{Options{Pods: 5, Deployments: count}, "apps", "deployments"},
	} {
		resource := resourceOf(t, start(t, test.options), test.group, test.resource)
		pod := podsOf(Options{Pods: count, Profile: test.options.Profile, Keys: test.options.Keys})
		for _, limit := range []int64{400, 500, 7000} {
			got := listAll(t, resource, limit)
			if len(got) != count {
				t.Fatalf("%+v, limit %d: %d objects, want %d", test, limit, len(got), count)
			}
			for i := range got {
				if want := pod(i); got[i].Name != want.Name || got[i].UID != want.UID {
					t.Fatalf("%+v, limit %d: object %d is %s, want %s", test, limit, i, got[i].Name, want.Name)
				}
			}
		}
	}
}

// TestBytesAreApimachinerys compares answers with what apimachinery's own
// serializers, those of a real server, make of the same objects.
func TestBytesAreApimachinerys(t *testing.T) {
	remaining := int64(100)
	for _, options := range []Options{{Pods: 700, AnnotationBytes: 1000}, {Pods: 700, Profile: Mixed}, {Pods: 700, Profile: Mixed, Keys: 70}} {
		server, pod := start(t, options), podsOf(options)
		list := &metav1.PartialObjectMetadataList{
			TypeMeta: metav1.TypeMeta{APIVersion: "meta.k8s.io/v1", Kind: "PartialObjectMetadataList"},
			ListMeta: metav1.ListMeta{ResourceVersion: "2000000000", Continue: "2000000000.600", RemainingItemCount: &remaining},
		}
		for i := 100; i < 600; i++ {
			list.Items = append(list.Items, *partial(pod(i)))
		}
		for accept, encoder := range map[string]runtime.Encoder{
			acceptProtobuf: protobuf.NewSerializerWithOptions(nil, nil, protobuf.SerializerOptions{StreamingCollectionsEncoding: true}),
			acceptJSON: jsonserializer.NewSerializerWithOptions(jsonserializer.DefaultMetaFactory, nil, nil,
				jsonserializer.SerializerOptions{StreamingCollectionsEncoding: true}),
		} {
			var want bytes.Buffer
			if err := encoder.Encode(list, &want); err != nil {
				t.Fatal(err)
			}
			contentType, got := request(t, server, http.MethodGet, "/api/v1/pods?limit=500&continue=2000000000.100", accept, http.StatusOK)
			if !strings.HasPrefix(accept, contentType+";") || !bytes.Equal(got, want.Bytes()) {
				t.Errorf("%+v, %s: the bytes of %s differ from those of %T (-want +got):\n%s", options, accept, contentType, encoder, cmp.Diff(want.Bytes(), got))
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	for _, jsonOnly := range []bool{false, true} {
		server := start(t, Options{Pods: 100, JSONOnly: jsonOnly})
		for query, want := range map[string]int{
			"limit=-1": 400, "limit=x": 400, "continue=x": 400, "continue=2000000000.101": 400, "continue=1999999999.5": 410,
			"labelSelector=a": 400, "resourceVersion=0": 400, "watch=1&resourceVersion=2000000000": 405,
		} {
			request(t, server, http.MethodGet, "/api/v1/pods?"+query, acceptJSON, want)
		}
		request(t, server, http.MethodGet, "/api/v1/pods", acceptProtobuf, map[bool]int{false: 200, true: 406}[jsonOnly])
		request(t, server, http.MethodGet, "/api/v1/pods", "application/json", 406)
		for _, query := range []string{"", "?count=x", "?count=101&type=ADDED", "?count=-1&type=ADDED", "?count=1&type=BOOKMARK"} {
			request(t, server, http.MethodPost, "/synthetic/events"+query, "", 400)
		}
	}
}

// TestEvents tells of the first two of three pods as they are and of two new ones,
// lets the watch expire, and then replaces the pods.
func TestEvents(t *testing.T) {
	for _, profile := range []Profile{Alike, Mixed} {
		server := start(t, Options{Pods: 3, Profile: profile})
		resource := resourceOf(t, server, "", "pods")
		act := func(what string) { request(t, server, http.MethodPost, "/synthetic/"+what, "", http.StatusOK) }
		watchFrom := func(version int) watch.Interface {
			w, err := resource.Watch(t.Context(), metav1.ListOptions{ResourceVersion: strconv.Itoa(version)})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(w.Stop)
			return w
		}
		present := listAll(t, resource, 2)
		w := watchFrom(listVersion)
		act("await")
		act("events?type=MODIFIED&count=2")
		act("events?type=ADDED&count=2")
		var names, got []string
		for _, pod := range present {
			names = append(names, pod.Name)
		}
		for i := range 4 {
			event := <-w.ResultChan()
			meta := event.Object.(*metav1.PartialObjectMetadata).ObjectMeta
			got = append(got, fmt.Sprintf("%s %s %d", event.Type, meta.ResourceVersion, slices.Index(names, meta.Name)))
			if i < 2 {
				present[i].ResourceVersion = meta.ResourceVersion
				if diff := cmp.Diff(present[i], meta); diff != "" {
					t.Errorf("pod %d changed (-want +got):\n%s", i, diff)
				}
			}
		}
		want := []string{"MODIFIED 2000000001 0", "MODIFIED 2000000002 1", "ADDED 2000000003 -1", "ADDED 2000000004 -1"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
		for i, what := range []string{"expire", "replace"} {
			act(what)
			if event := <-w.ResultChan(); event.Type != watch.Error || !apierrors.IsResourceExpired(apierrors.FromObject(event.Object)) {
				t.Errorf("%s: the watch goes on with %v, want an error of 410", what, event)
			}
			if event, more := <-w.ResultChan(); more {
				t.Errorf("%s: the watch goes on with %v", what, event)
			}
			if _, err := resource.Watch(t.Context(), metav1.ListOptions{ResourceVersion: strconv.Itoa(listVersion + 4 + i)}); !apierrors.IsResourceExpired(err) {
				t.Errorf("%s: a watch from before: %v, want 410", what, err)
			}
			kept := 0
			for _, pod := range listAll(t, resource, 2) {
				if slices.Contains(names, pod.Name) {
					kept++
				}
			}
			if want := map[string]int{"expire": 3, "replace": 0}[what]; kept != want {
				t.Errorf("%s: %d of 3 pods are still there, want %d", what, kept, want)
			}
			w = watchFrom(listVersion + 5 + i)
		}
	}
}
