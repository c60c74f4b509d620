// SPDX-License-Identifier: Apache-2.0

package synthetic

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/watch"
)

// history is what has happened to the pods.
type history struct {
	mu         sync.Mutex
	generation uint64
	// version is that of the last thing that happened; what followed a version
	// before oldest is forgotten.
	version, oldest int64
	// events are taken by the open watch, in order.
	events chan events
}

// now gives which pods there are, and the versions.
func (h *history) now() (generation uint64, version, oldest int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.generation, h.version, h.oldest
}

// events are of the pods 0 to count of a generation, one of this type each. The
// first has the version first, and the others follow.
type events struct {
	of    watch.EventType
	pods  pods
	count int
	first int64
	// expired ends the watch.
	expired bool
}

// tell hands events to a watch as soon as there is one.
func (h *history) tell(ctx context.Context, e events) error {
	select {
	case h.events <- e:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for a watch: %w", context.Cause(ctx))
	}
}

// expire forgets what has happened, perhaps puts other pods in the place of those
// that there are, and ends the watch, which was open before.
func (h *history) expire(ctx context.Context, replace bool) error {
	if err := h.tell(ctx, events{}); err != nil {
		return err
	}
	h.mu.Lock()
	if replace {
		h.generation++
	}
	h.version++
	h.oldest = h.version
	h.mu.Unlock()
	return h.tell(ctx, events{expired: true})
}

func (s *Server) happen(ctx context.Context, query url.Values) error {
	n, err := strconv.Atoi(query.Get("count"))
	if err != nil || n < 0 || n > s.options.Pods {
		return fmt.Errorf("%q events: give a number up to that of the pods, %d", query.Get("count"), s.options.Pods)
	}
	e := events{of: watch.EventType(query.Get("type")), pods: s.pods.objects, count: n}
	if e.of != watch.Modified && e.of != watch.Added {
		return fmt.Errorf("events of type %q: give ADDED or MODIFIED", e.of)
	}
	h := &s.history
	h.mu.Lock()
	e.pods.generation, e.first = h.generation, h.version+1
	h.version += int64(n)
	h.mu.Unlock()
	if e.of == watch.Added {
		// A generation that is never reached.
		e.pods.generation += 1 << 8
	}
	return h.tell(ctx, e)
}

func (s *Server) addEvents() {
	for path, act := range map[string]func(*http.Request) error{
		"await":   func(r *http.Request) error { return s.history.tell(r.Context(), events{}) },
		"expire":  func(r *http.Request) error { return s.history.expire(r.Context(), false) },
		"replace": func(r *http.Request) error { return s.history.expire(r.Context(), true) },
		"events":  func(r *http.Request) error { return s.happen(r.Context(), r.URL.Query()) },
	} {
		s.mux.HandleFunc("POST /synthetic/"+path, func(w http.ResponseWriter, r *http.Request) {
			if err := act(r); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
			}
		})
	}
}

// watch tells what happens to the pods until the client leaves.
func (s *Server) watch(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	from, err := strconv.ParseInt(query.Get("resourceVersion"), 10, 64)
	if err != nil || query.Has("sendInitialEvents") {
		fail(w, apierrors.NewBadRequest("a watch begins at a resourceVersion here"))
		return
	}
	if _, _, oldest := s.history.now(); from < oldest {
		fail(w, expired())
		return
	}
	w.Header().Set("Content-Type", runtime.ContentTypeProtobuf+";stream=watch")
	flush := http.NewResponseController(w).Flush
	for err := flush(); err == nil; err = flush() {
		select {
		case e := <-s.history.events:
			// A client that left is not told; an expired watch has ended.
			if s.write(w, e) != nil || e.expired {
				return
			}
		case <-r.Context().Done():
			return
		}
	}
}

func expired() *apierrors.StatusError {
	return apierrors.NewResourceExpired("too old resource version")
}

// write writes events as apimachinery's serializers do.
func (s *Server) write(w io.Writer, e events) error {
	for i := range e.count {
		var v values
		e.pods.fill(i, &v)
		putDecimal(v.get(fieldVersion), int(e.first)+i)
		if err := writeEvent(w, e.of, partial(s.pods.shapes[e.pods.shape(i)](&v))); err != nil {
			return err
		}
	}
	if e.expired {
		return writeEvent(w, watch.Error, statusOf(expired()))
	}
	return nil
}

func writeEvent(w io.Writer, of watch.EventType, object runtime.Object) error {
	var raw bytes.Buffer
	if err := protobuf.NewSerializer(nil, nil).Encode(object, &raw); err != nil {
		return fmt.Errorf("encode an event's object: %w", err)
	}
	event := &metav1.WatchEvent{Type: string(of), Object: runtime.RawExtension{Raw: raw.Bytes()}}
	return protobuf.NewRawSerializer(nil, nil).Encode(event, protobuf.LengthDelimitedFramer.NewFrameWriter(w))
}
