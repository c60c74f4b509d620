package informer

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestByKind adds up namespaces: a kind is no better than the worst of them.
func TestByKind(t *testing.T) {
	early, late := time.Unix(100, 0), time.Unix(200, 0)
	got := ByKind([]Status{
		{Resource: "pods", Namespace: "a", Synced: true, Watching: true, Current: early, Listed: late, Sent: 1, SentBytes: 10, Changes: 3},
		{Resource: "pods", Namespace: "b", Synced: true, Current: late, Listed: early, Sent: 2, SentBytes: 20, Changes: 4},
		{Resource: "nodes", Synced: true, Watching: true, Current: late, Listed: late, Sent: 4, SentBytes: 40, Changes: 5},
	})
	want := []Status{
		{Resource: "pods", Namespace: "a", Synced: true, Current: early, Listed: early, Sent: 3, SentBytes: 30, Changes: 7},
		{Resource: "nodes", Synced: true, Watching: true, Current: late, Listed: late, Sent: 4, SentBytes: 40, Changes: 5},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("kinds (-want +got):\n%s", diff)
	}
}
