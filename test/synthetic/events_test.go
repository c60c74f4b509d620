package synthetic

import (
	"net/http"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/metadata"
)

// happen asks a server to make something happen.
func happen(t *testing.T, url, what string, status int) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/synthetic/"+what, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != status {
		t.Fatalf("%s: %s, want %d", what, response.Status, status)
	}
}

// watchFrom watches pods from a version on.
func watchFrom(t *testing.T, client metadata.Interface, version string) watch.Interface {
	t.Helper()
	w, err := client.Resource(podResource).Watch(t.Context(), metav1.ListOptions{ResourceVersion: version})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	return w
}

// TestEventsReachTheMetadataClient tells of the first two of three pods as they
// are, and of two new ones.
func TestEventsReachTheMetadataClient(t *testing.T) {
	for _, options := range []Options{{Pods: 3}, {Pods: 3, JSONOnly: true}, {Pods: 3, Profile: Mixed}} {
		server := start(t, options)
		client := metadataClient(t, server)
		present := listAll(t.Context(), t, client.Resource(podResource), 2)
		w := watchFrom(t, client, strconv.Itoa(listVersion))
		happen(t, server.URL, "events?type=MODIFIED&count=2", http.StatusOK)
		happen(t, server.URL, "events?type=ADDED&count=2", http.StatusOK)
		var got []metav1.ObjectMeta
		for i, of := range []watch.EventType{"MODIFIED", "MODIFIED", "ADDED", "ADDED"} {
			event := <-w.ResultChan()
			if event.Type != of {
				t.Fatalf("event %d is %s, want %s", i, event.Type, of)
			}
			meta := local(event.Object.(*metav1.PartialObjectMetadata).ObjectMeta)
			if want := strconv.Itoa(listVersion + 1 + i); meta.ResourceVersion != want {
				t.Errorf("event %d has the version %s, want %s", i, meta.ResourceVersion, want)
			}
			got = append(got, meta)
		}
		for i := range 2 {
			want := local(present[i].ObjectMeta)
			want.ResourceVersion = got[i].ResourceVersion
			if diff := cmp.Diff(want, got[i]); diff != "" {
				t.Errorf("pod %d changed (-want +got):\n%s", i, diff)
			}
			if got[2+i].Name == want.Name {
				t.Errorf("pod %s is new and was there", want.Name)
			}
		}
	}
}

func TestExpiredWatchesEnd(t *testing.T) {
	for _, jsonOnly := range []bool{false, true} {
		server := start(t, Options{Pods: 10, JSONOnly: jsonOnly})
		client := metadataClient(t, server)
		before := strconv.Itoa(listVersion)
		w := watchFrom(t, client, before)
		happen(t, server.URL, "await", http.StatusOK)
		happen(t, server.URL, "expire", http.StatusOK)
		event := <-w.ResultChan()
		if event.Type != watch.Error || !apierrors.IsResourceExpired(apierrors.FromObject(event.Object)) {
			t.Errorf("the watch ends with %v, want an error of 410", event)
		}
		if event, more := <-w.ResultChan(); more {
			t.Errorf("the watch goes on with %v", event)
		}
		if _, err := client.Resource(podResource).Watch(t.Context(), metav1.ListOptions{ResourceVersion: before}); !apierrors.IsResourceExpired(err) {
			t.Errorf("a watch from before: %v, want 410", err)
		}
		list, err := client.Resource(podResource).List(t.Context(), metav1.ListOptions{Limit: 5})
		if err != nil {
			t.Fatal(err)
		}
		watchFrom(t, client, list.ResourceVersion)
	}
}

func TestReplacedPodsAreOthers(t *testing.T) {
	const count = 1000
	server := start(t, Options{Pods: count})
	client := metadataClient(t, server)
	names := func() []string {
		var names []string
		for _, pod := range listAll(t.Context(), t, client.Resource(podResource), 300) {
			names = append(names, pod.Namespace+"/"+pod.Name)
		}
		if len(names) != count || !slices.IsSorted(names) {
			t.Fatalf("%d pods, in order: %t", len(names), slices.IsSorted(names))
		}
		return names
	}
	before := names()
	w := watchFrom(t, client, strconv.Itoa(listVersion))
	happen(t, server.URL, "replace", http.StatusOK)
	if event := <-w.ResultChan(); event.Type != watch.Error {
		t.Errorf("the watch goes on with %v", event)
	}
	after := names()
	for _, name := range before {
		if _, found := slices.BinarySearch(after, name); found {
			t.Errorf("pod %s is still there", name)
		}
	}
}

func TestWhatCannotHappen(t *testing.T) {
	server := start(t, Options{Pods: 3})
	for _, what := range []string{"events", "events?count=x", "events?count=4&type=ADDED", "events?count=-1&type=ADDED", "events?count=1&type=BOOKMARK"} {
		happen(t, server.URL, what, http.StatusBadRequest)
	}
}
