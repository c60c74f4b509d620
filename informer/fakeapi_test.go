package informer

import (
	"bytes"
	"fmt"
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
	// script holds by path the answers to the next requests; nil, and all that
	// come after the last, serve the page.
	script   map[string][]answer
	requests []string
	// watches and watched are the same for watches; those after the last answer
	// stay open and bring nothing.
	watches map[string][]answer
	watched []string
	times   []time.Time
	// version is the resourceVersion of the last list that began.
	version int
}

// answer answers one request in its own way. body is the page that would have
// been served.
type answer func(w http.ResponseWriter, r *http.Request, body []byte)

func newFakeAPI(t *testing.T) *fakeAPI {
	return &fakeAPI{
		t: t, form: "protobuf-streaming", version: 100,
		objects: make(map[string][]metav1.PartialObjectMetadata), script: make(map[string][]answer),
		watches: make(map[string][]answer),
	}
}

const wantAccept = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1," +
	"application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"

func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Has("watch") {
		f.serveWatch(w, r)
		return
	}
	if r.Method != http.MethodGet || r.Header.Get("Accept") != wantAccept || r.Header.Get("Accept-Encoding") != "identity" {
		f.t.Errorf("%s %s with headers %v, want a GET of metadata, uncompressed", r.Method, r.URL, r.Header)
	}
	body, answer := f.take(r)
	if answer == nil {
		answer = serve
	}
	answer(w, r, body)
}

// take notes a request and returns its page and its scripted answer.
func (f *fakeAPI) take(r *http.Request) ([]byte, answer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests = append(f.requests, r.URL.Path+"?"+r.URL.Query().Encode())
	f.times = append(f.times, time.Now())
	var next answer
	if script := f.script[r.URL.Path]; len(script) > 0 {
		next, f.script[r.URL.Path] = script[0], script[1:]
	}
	return f.page(r), next
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

// pause is the time between two requests.
func (f *fakeAPI) pause(from, to int) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.times[to].Sub(f.times[from])
}

func serve(w http.ResponseWriter, _ *http.Request, body []byte) {
	w.Header().Set("Content-Type", "application/vnd.kubernetes.protobuf")
	if !bytes.HasPrefix(body, []byte("k8s\x00")) {
		w.Header().Set("Content-Type", "application/json")
	}
	_, _ = w.Write(body)
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
		w.Header().Set("Content-Type", "application/json")
		if strings.HasPrefix(form, "protobuf") {
			w.Header().Set("Content-Type", "application/vnd.kubernetes.protobuf")
		}
		w.WriteHeader(int(status.Code))
		_, _ = w.Write(b.Bytes())
	}
}

func forbidden() answer {
	return status("protobuf", metav1.Status{Code: 403, Reason: metav1.StatusReasonForbidden, Message: "pods is forbidden"})
}

func gone(form, token string) answer {
	return status(form, metav1.Status{
		Code: 410, Reason: metav1.StatusReasonExpired, Message: "too old",
		ListMeta: metav1.ListMeta{Continue: token},
	})
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

// before returns the part of a page before the object of that name is whole.
func before(body []byte, name string) []byte {
	at := bytes.Index(body, []byte(name))
	if at < 0 {
		panic("no " + name + " on the page")
	}
	return body[:at+len(name)]
}

// cutAt serves a page until the object of that name, and closes the
// connection.
func cutAt(name string) answer {
	return func(w http.ResponseWriter, r *http.Request, body []byte) {
		serve(w, r, before(body, name))
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
}

// cutAfterList serves a whole page and closes the connection all the same.
func cutAfterList(w http.ResponseWriter, r *http.Request, body []byte) {
	serve(w, r, body)
	w.(http.Flusher).Flush()
	panic(http.ErrAbortHandler)
}

// hang says nothing until the client leaves.
func hang(_ http.ResponseWriter, r *http.Request, _ []byte) { <-r.Context().Done() }

// hangAt serves a page until the object of that name and falls silent.
func hangAt(name string) answer {
	return func(w http.ResponseWriter, r *http.Request, body []byte) {
		serve(w, r, before(body, name))
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}
}

// repeat is n times the same answer.
func repeat(n int, a answer) []answer { return slices.Repeat([]answer{a}, n) }
