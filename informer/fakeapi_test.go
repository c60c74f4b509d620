// SPDX-License-Identifier: Apache-2.0

package informer

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// fakeAPI is an API server that lists the objects it is given, by page, and
// answers otherwise where its script says so.
type fakeAPI struct {
	t       *testing.T
	objects map[string][]metav1.PartialObjectMetadata
	// form is the serializer that lists are encoded with.
	form string

	mu sync.Mutex
	// script holds by path the answers to the next lists, watches those to the next
	// watches. Nil, and all that come after the last, serve the page, or a watch that
	// stays open and brings nothing.
	script, watches map[string][]answer
	// requests and watched are the lists and watches so far, times and watchTimes when
	// they came.
	requests, watched []string
	times, watchTimes []time.Time
	// version is the resourceVersion of the last list that began.
	version int
}

// answer answers one request in its own way. body is the page that would have
// been served.
type answer func(w http.ResponseWriter, r *http.Request, body []byte)

func newFakeAPI(t *testing.T) *fakeAPI {
	return &fakeAPI{
		t: t, form: "protobuf", version: 100,
		objects: make(map[string][]metav1.PartialObjectMetadata), script: make(map[string][]answer),
		watches: make(map[string][]answer),
	}
}

// pipes is where a server accepts connections in memory until ctx ends, so that
// time in a synctest bubble passes while one end waits for the other.
type pipes struct {
	ctx   context.Context
	conns chan net.Conn
}

func (p pipes) Addr() net.Addr { return &net.UnixAddr{} }
func (p pipes) Close() error   { return nil }

func (p pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.ctx.Done():
		return nil, net.ErrClosed
	}
}

func (p pipes) dial(context.Context, string, string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.conns <- theirs:
		return ours, nil
	case <-p.ctx.Done():
		return nil, net.ErrClosed
	}
}

// connect serves until the test ends, each request over a connection of its own,
// so that none is sent twice.
func connect(t *testing.T, handler http.Handler) *http.Transport {
	p := pipes{t.Context(), make(chan net.Conn)}
	server := &http.Server{Handler: handler}
	go func() { _ = server.Serve(p) }()
	t.Cleanup(func() { _ = server.Close() })
	return &http.Transport{DisableKeepAlives: true, DialContext: p.dial}
}

const wantAccept = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1," +
	"application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"

func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	accept, take := wantAccept, f.list
	if r.URL.Query().Has("watch") {
		accept, take = strings.ReplaceAll(wantAccept, "MetadataList", "Metadata"), f.watch
	}
	if r.Method != http.MethodGet || r.Header.Get("Accept") != accept || r.Header.Get("Accept-Encoding") != "identity" {
		f.t.Errorf("%s %s with headers %v, want a GET of metadata, uncompressed", r.Method, r.URL, r.Header)
	}
	body, answer := take(r)
	answer(w, r, body)
}

// list notes a request and returns its page and its answer.
func (f *fakeAPI) list(r *http.Request) ([]byte, answer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests = append(f.requests, r.URL.Path+"?"+r.URL.Query().Encode())
	f.times = append(f.times, time.Now())
	return f.page(r), next(f.script, r, serve)
}

// watch notes a watch, without what all have in common, and returns its answer.
func (f *fakeAPI) watch(r *http.Request) ([]byte, answer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	query := r.URL.Query()
	if query.Get("watch") != "true" || query.Get("allowWatchBookmarks") != "true" || query.Get("timeoutSeconds") == "" {
		f.t.Errorf("%s: want a watch with bookmarks that ends", r.URL)
	}
	for _, name := range []string{"watch", "allowWatchBookmarks", "timeoutSeconds"} {
		query.Del(name)
	}
	f.watched = append(f.watched, r.URL.Path+"?"+query.Encode())
	f.watchTimes = append(f.watchTimes, time.Now())
	return nil, next(f.watches, r, feed())
}

// next takes the next answer of a path's script.
func next(scripts map[string][]answer, r *http.Request, otherwise answer) answer {
	if script := scripts[r.URL.Path]; len(script) > 0 {
		scripts[r.URL.Path] = script[1:]
		if script[0] != nil {
			return script[0]
		}
	}
	return otherwise
}

// page encodes what a request asks for. A continue token is the version of the
// list and how many objects came before.
func (f *fakeAPI) page(r *http.Request) []byte {
	limit, err := strconv.Atoi(r.URL.Query().Get("limit"))
	if err != nil || limit <= 0 {
		f.t.Errorf("%s: a list of no limit", r.URL)
	}
	version, from := 0, 0
	if token := r.URL.Query().Get("continue"); token == "" {
		f.version++
		version = f.version
	} else if _, err := fmt.Sscanf(token, "%d-%d", &version, &from); err != nil {
		f.t.Errorf("%s: continue token %q: %v", r.URL, token, err)
	}
	objects := f.objects[r.URL.Path]
	if selector := r.URL.Query().Get("fieldSelector"); selector != "" {
		objects = slices.DeleteFunc(slices.Clone(objects), func(o metav1.PartialObjectMetadata) bool {
			return "metadata.name="+o.Name != selector
		})
	}
	to := min(from+limit, len(objects))
	list := newList(metav1.ListMeta{ResourceVersion: strconv.Itoa(version)}, objects[from:to]...)
	if remaining := int64(len(objects) - to); remaining > 0 {
		list.Continue = fmt.Sprintf("%d-%d", version, to)
		list.RemainingItemCount = &remaining
	}
	return encode(f.t, f.form, list)
}

// asked returns the requests so far.
func (f *fakeAPI) asked() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.requests)
}

func serve(w http.ResponseWriter, _ *http.Request, body []byte) {
	w.Header().Set("Content-Type", contentType(body))
	_, _ = w.Write(body)
}

func contentType(body []byte) string {
	if bytes.HasPrefix(body, []byte("k8s\x00")) {
		return "application/vnd.kubernetes.protobuf"
	}
	return "application/json"
}

// status answers with a Status object, in protobuf or JSON.
func status(form string, status metav1.Status) answer {
	return func(w http.ResponseWriter, _ *http.Request, _ []byte) {
		status.Status = metav1.StatusFailure
		status.Kind, status.APIVersion = "Status", "v1"
		var b bytes.Buffer
		if err := serializers[form].Encode(&status, &b); err != nil {
			panic(err)
		}
		w.Header().Set("Content-Type", contentType(b.Bytes()))
		w.WriteHeader(int(status.Code))
		_, _ = w.Write(b.Bytes())
	}
}

func refusal(code int32, reason metav1.StatusReason, message string) answer {
	return status("protobuf", metav1.Status{Code: code, Reason: reason, Message: message})
}

func forbidden() answer { return refusal(403, metav1.StatusReasonForbidden, "pods is forbidden") }

func gone(form, token string) answer {
	expired := metav1.Status{Code: 410, Reason: metav1.StatusReasonExpired, Message: "too old"}
	expired.Continue = token
	return status(form, expired)
}

// text answers as proxies and overloaded API servers do.
func text(code int, retryAfter string) answer {
	return func(w http.ResponseWriter, _ *http.Request, _ []byte) {
		if retryAfter != "" {
			w.Header().Set("Retry-After", retryAfter)
		}
		http.Error(w, "not now", code)
	}
}

// disconnect closes the connection without an answer.
func disconnect(http.ResponseWriter, *http.Request, []byte) { panic(http.ErrAbortHandler) }

// partly serves a page until the object of that name is nearly whole ("": to its
// end), and then does what then does.
func partly(name string, then answer) answer {
	return func(w http.ResponseWriter, r *http.Request, body []byte) {
		if name != "" {
			before, _, ok := bytes.Cut(body, []byte(name))
			if !ok {
				panic("no " + name + " on the page")
			}
			body = body[:len(before)+len(name)]
		}
		serve(w, r, body)
		w.(http.Flusher).Flush()
		then(w, r, nil)
	}
}

func cutAt(name string) answer  { return partly(name, disconnect) }
func hangAt(name string) answer { return partly(name, hang) }

// hang says nothing until the client leaves.
func hang(_ http.ResponseWriter, r *http.Request, _ []byte) { <-r.Context().Done() }

// repeat is n times the same answer.
func repeat(n int, a answer) []answer { return slices.Repeat([]answer{a}, n) }

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

// feed sends frames and keeps the watch open until the client leaves, feedAndEnd
// ends it, and feedAndBreak breaks the connection.
func feed(frames ...[]byte) answer { return feedAnd(hang, frames) }
func feedAndEnd(frames ...[]byte) answer {
	return feedAnd(func(http.ResponseWriter, *http.Request, []byte) {}, frames)
}
func feedAndBreak(frames ...[]byte) answer { return feedAnd(disconnect, frames) }

func feedAnd(then answer, frames [][]byte) answer {
	return func(w http.ResponseWriter, r *http.Request, _ []byte) {
		write(w, frames...)
		then(w, r, nil)
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
	w.(http.Flusher).Flush()
	for _, frame := range frames {
		_, _ = w.Write(frame)
		w.(http.Flusher).Flush()
	}
}
