package informer

import (
	"net/http"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const wantAcceptWatch = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1," +
	"application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"

func (f *fakeAPI) serveWatch(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	if r.Method != http.MethodGet || r.Header.Get("Accept") != wantAcceptWatch || r.Header.Get("Accept-Encoding") != "identity" ||
		query.Get("watch") != "true" || query.Get("allowWatchBookmarks") != "true" || query.Get("timeoutSeconds") == "" {
		f.t.Errorf("%s %s with headers %v, want a watch of metadata, uncompressed", r.Method, r.URL, r.Header)
	}
	query.Del("watch")
	query.Del("allowWatchBookmarks")
	query.Del("timeoutSeconds") // it differs each time
	f.mu.Lock()
	f.watched = append(f.watched, r.URL.Path+"?"+query.Encode())
	answer := feed()
	if script := f.watches[r.URL.Path]; len(script) > 0 {
		answer, f.watches[r.URL.Path] = script[0], script[1:]
	}
	f.mu.Unlock()
	answer(w, r, nil)
}

// askedToWatch returns the watches so far.
func (f *fakeAPI) askedToWatch() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.watched)
}

// set replaces the objects of a path.
func (f *fakeAPI) set(path string, objects ...metav1.PartialObjectMetadata) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.objects[path] = objects
}

// feed sends frames and keeps the watch open until the client leaves.
func feed(frames ...[]byte) answer {
	return func(w http.ResponseWriter, r *http.Request, _ []byte) {
		write(w, frames...)
		<-r.Context().Done()
	}
}

// feedAndEnd sends frames and ends the watch.
func feedAndEnd(frames ...[]byte) answer {
	return func(w http.ResponseWriter, _ *http.Request, _ []byte) { write(w, frames...) }
}

// feedAndBreak sends frames and breaks the connection.
func feedAndBreak(frames ...[]byte) answer {
	return func(w http.ResponseWriter, _ *http.Request, _ []byte) {
		write(w, frames...)
		panic(http.ErrAbortHandler)
	}
}

// live sends what comes, until the client leaves or the channel is closed.
func live(frames <-chan []byte) answer {
	return func(w http.ResponseWriter, r *http.Request, _ []byte) {
		write(w)
		for {
			select {
			case frame, ok := <-frames:
				if !ok {
					return
				}
				write(w, frame)
			case <-r.Context().Done():
				return
			}
		}
	}
}

func write(w http.ResponseWriter, frames ...[]byte) {
	w.WriteHeader(http.StatusOK)
	w.(http.Flusher).Flush()
	for _, frame := range frames {
		_, _ = w.Write(frame)
		w.(http.Flusher).Flush()
	}
}
