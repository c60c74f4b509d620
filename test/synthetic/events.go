package synthetic

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/watch"
)

// Await blocks until there is a watch of pods that has not expired: the client
// has read its list, then. The error is the context's.
func (s *Server) Await(ctx context.Context) error {
	if _, err := s.history.awaitWatch(ctx); err != nil {
		return fmt.Errorf("wait for a watch: %w", err)
	}
	return nil
}

// Replace puts other pods in the place of all that there are, and expires the
// watches. It blocks until there is one; the error is the context's.
func (s *Server) Replace(ctx context.Context) error { return s.expire(ctx, true) }

// Expire ends the watches of pods with 410, as a server does that has forgotten
// their version. It blocks until there is one; the error is the context's.
func (s *Server) Expire(ctx context.Context) error { return s.expire(ctx, false) }

func (s *Server) expire(ctx context.Context, replace bool) error {
	open, err := s.history.awaitWatch(ctx)
	if err != nil {
		return fmt.Errorf("wait for a watch to expire: %w", err)
	}
	s.history.forget(replace)
	return tell(ctx, open, events{expired: true})
}

// Tell tells the watches of pods of n events. MODIFIED are of pods as they are:
// only their version has changed. ADDED are of pods that no list knows of. It
// blocks until there is a watch; the error is the context's, or says that there
// are not so many pods, or no such events.
func (s *Server) Tell(ctx context.Context, of watch.EventType, n int) error {
	present, _ := s.history.at(s.pods.collection)
	e := events{of: of, pods: present.(pods), count: n}
	switch of {
	case watch.Modified:
	case watch.Added:
		// A generation that Replace does not come to.
		e.pods.generation += 1 << 8
	default:
		return fmt.Errorf("tell of events %q: there are ADDED and MODIFIED", of)
	}
	if n < 0 || n > s.options.Pods {
		return fmt.Errorf("tell of %d events: there are %d pods", n, s.options.Pods)
	}
	open, err := s.history.awaitWatch(ctx)
	if err != nil {
		return fmt.Errorf("wait for a watch to tell of events: %w", err)
	}
	e.first = s.history.happen(n)
	return tell(ctx, open, e)
}

// tell hands events to the watches that do not end meanwhile.
func tell(ctx context.Context, open []*subscription, e events) error {
	for _, watch := range open {
		select {
		case watch.events <- e:
		case <-watch.ended:
		case <-ctx.Done():
			return fmt.Errorf("tell a watch of events: %w", context.Cause(ctx))
		}
	}
	return nil
}

// addEvents registers what makes things happen.
func (s *Server) addEvents() {
	do := func(path string, act func(*http.Request) error) {
		s.mux.HandleFunc("POST /synthetic/"+path, func(w http.ResponseWriter, r *http.Request) {
			if err := act(r); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
			}
		})
	}
	do("await", func(r *http.Request) error { return s.Await(r.Context()) })
	do("replace", func(r *http.Request) error { return s.Replace(r.Context()) })
	do("expire", func(r *http.Request) error { return s.Expire(r.Context()) })
	do("events", func(r *http.Request) error {
		n, err := strconv.Atoi(r.URL.Query().Get("count"))
		if err != nil {
			return fmt.Errorf("read the count of events: %w", err)
		}
		return s.Tell(r.Context(), watch.EventType(r.URL.Query().Get("type")), n)
	})
}

// watch tells what happens until the client leaves. A list that is to come as
// events is refused, as by a server that does not have it.
func (s *Server) watch(w http.ResponseWriter, r *http.Request, form encoding, kind *resourceKind) {
	query := r.URL.Query()
	if query.Get("sendInitialEvents") != "" {
		s.fail(w, r, apierrors.NewInvalid(schema.GroupKind{Group: "meta.k8s.io", Kind: "ListOptions"}, "", nil))
		return
	}
	var told <-chan events
	if kind == s.pods {
		subscription := s.subscribe(query.Get("resourceVersion"))
		if subscription == nil {
			s.fail(w, r, expiredWatch())
			return
		}
		defer s.history.close(subscription)
		told = subscription.events
	}
	w.Header().Set("Content-Type", form.watchContentType())
	w.WriteHeader(http.StatusOK)
	out := &eventWriter{out: w, form: form, flush: http.NewResponseController(w).Flush, shapes: kind.shapes}
	if out.flush() != nil {
		return
	}
	for {
		select {
		case e := <-told:
			// A client that left is not told; an expired watch has ended.
			if out.write(e) != nil || e.expired {
				return
			}
		case <-r.Context().Done():
			return
		}
	}
}

// subscribe opens a watch from a version on, or from now on without one.
func (s *Server) subscribe(text string) *subscription {
	version, err := strconv.ParseInt(text, 10, 64)
	if err != nil || version == 0 {
		_, version = s.history.at(nil)
	}
	return s.history.open(version)
}

func expiredWatch() *apierrors.StatusError {
	return apierrors.NewResourceExpired("too old resource version")
}

// eventWriter writes the events of one watch.
type eventWriter struct {
	out    io.Writer
	form   encoding
	flush  func() error
	shapes []shape
}

// write writes events, and does not leave them in a buffer.
func (w *eventWriter) write(e events) error {
	for i := range e.count {
		var v values
		e.pods.fill(i, &v)
		putDecimal(v.get(fieldVersion), int(e.first)+i)
		if err := w.event(e.of, partial(w.shapes[e.pods.shape(i)](&v))); err != nil {
			return err
		}
	}
	if e.expired {
		status := expiredWatch().Status()
		status.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
		if err := w.event(watch.Error, &status); err != nil {
			return err
		}
	}
	return w.flush()
}

// event writes one, as apimachinery's serializers do.
func (w *eventWriter) event(of watch.EventType, object runtime.Object) error {
	if w.form == inJSON {
		raw, err := json.Marshal(object)
		if err != nil {
			return fmt.Errorf("encode an event's object: %w", err)
		}
		return json.NewEncoder(w.out).Encode(metav1.WatchEvent{Type: string(of), Object: runtime.RawExtension{Raw: raw}})
	}
	var raw bytes.Buffer
	if err := protobuf.NewSerializer(nil, nil).Encode(object, &raw); err != nil {
		return fmt.Errorf("encode an event's object: %w", err)
	}
	event := &metav1.WatchEvent{Type: string(of), Object: runtime.RawExtension{Raw: raw.Bytes()}}
	frames := protobuf.LengthDelimitedFramer.NewFrameWriter(w.out)
	return protobuf.NewRawSerializer(nil, nil).Encode(event, frames)
}
