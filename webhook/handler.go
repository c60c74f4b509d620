package webhook

import (
	"crypto/subtle"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Handler answers admission reviews: each is allowed, whatever becomes of it.
// The answer is 200 with the review's uid and apiVersion where the review can
// be told to be one: its JSON is whole, and has kind, apiVersion and a uid. A
// review that is larger than 7 MiB, or of an object with more than 10,000 labels
// or annotations, or comes while too many others are being read, is allowed if
// its first bytes name these and the resource, and its kind is listed again. All else is an error that has the API server do what
// the failurePolicy says:
//
//	400  no JSON, no AdmissionReview of v1 or v1beta1, or no uid
//	404  another path
//	405  another method than POST
//	413  too large, and the beginning does not say what it is
//	415  another Content-Type than application/json, or an encoding
//	503  too many others, and the beginning does not say what it is or was
//	     not read
type Handler struct {
	path      []byte
	reconnect uint64
	target    Target
	metrics   *metrics
	buffers   buffers
	readers   sync.Pool
	answers   atomic.Uint64
	inFlight  atomic.Int64
}

// maxInFlight bounds what is read at a time, beside maxHeldBytes. Over HTTP/1.1
// it is no bound, but over HTTP/2 a connection may have hundreds of requests.
const maxInFlight = maxConnections

// reader is what it takes to read a review.
type reader struct {
	scanner scanner
	review  review
	answer  []byte
	counter lastCounter
}

// NewHandler returns a handler for POST requests to the path. One in reconnect
// answers ends its connection, so that callers spread over replicas that come
// later; 0 means none.
func NewHandler(path string, reconnect int, target Target, registerer prometheus.Registerer) *Handler {
	h := &Handler{path: []byte(path), reconnect: uint64(reconnect), target: target}
	h.buffers.limit = maxHeldBytes
	h.readers.New = func() any { return new(reader) }
	h.metrics = newMetrics(registerer, &h.inFlight, &h.buffers.held)
	return h
}

// ServeHTTP implements http.Handler. It waits for the body and nothing else.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	begun := time.Now()
	// The path may be a secret that only the API server knows.
	if subtle.ConstantTimeCompare([]byte(r.URL.Path), h.path) != 1 {
		h.refuse(w, http.StatusNotFound, "not found")
		return
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		h.refuse(w, http.StatusMethodNotAllowed, "want POST")
		return
	}
	if !isJSON(r.Header) {
		h.refuse(w, http.StatusUnsupportedMediaType, "want Content-Type: application/json, not encoded")
		return
	}
	defer h.inFlight.Add(-1)
	if h.inFlight.Add(1) > maxInFlight {
		h.refuse(w, http.StatusServiceUnavailable, "too many reviews at a time")
		return
	}
	body := h.buffers.open()
	defer body.release()
	problem := body.read(r.Body)

	memory := h.readers.Get().(*reader)
	defer h.keep(memory)
	review := &memory.review
	err := review.parse(&memory.scanner, body.bytes())
	switch {
	case problem != "":
		err = review.checkBeginning()
	case err == nil && memory.scanner.tooMany:
		problem = tooLarge
	}
	if err != nil {
		h.refuse(w, statusOf(problem), err.Error())
		return
	}
	kind, outcome := h.take(review, problem)
	memory.answer = appendAnswer(memory.answer[:0], review)
	h.write(w, memory.answer)
	h.metrics.answered(&memory.counter, kind, review.operation, outcome, time.Since(begun))
}

// keep keeps a reader for the next review, unless the last has made it large.
func (h *Handler) keep(r *reader) {
	if !r.review.large() && cap(r.scanner.unquoted) <= keptBytes {
		h.readers.Put(r)
	}
}

// take takes a review, of which only the beginning has been read if there was a
// problem.
func (h *Handler) take(r *review, problem Outcome) (kind string, outcome Outcome) {
	if problem != "" {
		if kind = h.target.Kind(r.group, r.resource); kind != "" {
			h.target.Heal(r.group, r.resource)
		}
		return kind, problem
	}
	if outcome = r.nothing(); outcome != "" {
		return h.target.Kind(r.group, r.resource), outcome
	}
	return h.target.Take(&Change{Group: r.group, Resource: r.resource, Object: r.subject(), Deleted: r.deletes()})
}

func statusOf(problem Outcome) int {
	switch problem {
	case tooLarge:
		return http.StatusRequestEntityTooLarge
	case overBudget:
		return http.StatusServiceUnavailable
	}
	return http.StatusBadRequest
}

func (h *Handler) refuse(w http.ResponseWriter, code int, text string) {
	h.metrics.refused.WithLabelValues(strconv.Itoa(code)).Inc()
	if code != http.StatusRequestEntityTooLarge && code != http.StatusServiceUnavailable {
		// No API server asks that: it need not keep a connection.
		w.Header().Set("Connection", "close")
	}
	http.Error(w, text, code)
}

var contentType = []string{"application/json"}

func (h *Handler) write(w http.ResponseWriter, answer []byte) {
	w.Header()["Content-Type"] = contentType
	if h.reconnect > 0 && h.answers.Add(1)%h.reconnect == 0 {
		w.Header().Set("Connection", "close")
	}
	// The caller may have left, and is allowed to.
	_, _ = w.Write(answer)
}

func isJSON(header http.Header) bool {
	if encoding := header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return false
	}
	text := header.Get("Content-Type")
	if text == "application/json" {
		return true
	}
	typ, _, err := mime.ParseMediaType(text)
	return err == nil && typ == "application/json"
}

// appendAnswer appends the answer that allows the review.
func appendAnswer(dst []byte, r *review) []byte {
	dst = append(dst, `{"kind":"AdmissionReview","apiVersion":"`...)
	dst = append(dst, r.apiVersion...) // one of two that need no quoting
	dst = append(dst, `","response":{"uid":`...)
	dst = appendQuoted(dst, r.uid)
	return append(dst, `,"allowed":true}}`...)
}

// appendQuoted appends valid UTF-8 as a JSON string.
func appendQuoted(dst, text []byte) []byte {
	dst = append(dst, '"')
	for _, c := range text {
		switch {
		case c < ' ':
			dst = fmt.Appendf(dst, `\u%04x`, c)
		case c == '"', c == '\\':
			dst = append(dst, '\\', c)
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}
