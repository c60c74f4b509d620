// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"crypto/subtle"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// maxBodyBytes is what a review may take. The API server accepts no
	// request of more than 3 MiB, an update's review has the object twice, and
	// 1 MiB is for the rest of the review: 2 × 3 + 1.
	maxBodyBytes = 7 << 20
	// maxBufferedBytes is the memory that all reviews may take at a time: each
	// twice its body, and what its labels and annotations take. It is enough for
	// the largest, or for 1,000 of usual size.
	maxBufferedBytes = 24 << 20
)

var (
	errNoRoom = errors.New("no room beside other reviews")
	errCutOff = errors.New("the review was cut off")
)

// Handler answers admission reviews: each is allowed, whatever becomes of it.
// The answer is 200 with the review's uid and apiVersion where its JSON is
// whole and has a kind, apiVersion and uid. All else is an error, for which the
// API server does what the failurePolicy says:
//
//	400  no JSON, no AdmissionReview of v1 or v1beta1, no uid, or cut off
//	404  another path
//	405  another method than POST
//	411  no Content-Length
//	413  more than 7 MiB
//	415  another Content-Type than application/json, or an encoding
//	503  no room beside the reviews that are being read
type Handler struct {
	path   []byte
	target Target
	// owners says whether owner references are wanted.
	owners   bool
	metrics  *metrics
	inFlight atomic.Int64
	buffered atomic.Int64
}

// NewHandler returns a handler for POST requests to the path. owners says whether the
// target wants owner references.
func NewHandler(path string, target Target, owners bool, registerer prometheus.Registerer) *Handler {
	h := &Handler{path: []byte(path), target: target, owners: owners}
	h.metrics = newMetrics(registerer, &h.inFlight, &h.buffered)
	return h
}

// ServeHTTP implements http.Handler. It waits for the body and nothing else.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	begun := time.Now()
	h.inFlight.Add(1)
	defer h.inFlight.Add(-1)
	if code, err := h.check(r); err != nil {
		h.reject(w, code, err)
		return
	}
	held := 2 * r.ContentLength
	if !h.reserve(held) {
		h.reject(w, http.StatusServiceUnavailable, errNoRoom)
		return
	}
	defer h.buffered.Add(-held)
	v, err := read(r)
	if err != nil {
		h.reject(w, http.StatusBadRequest, err)
		return
	}
	kind, outcome, err := h.review(&v.request)
	if err != nil {
		h.reject(w, http.StatusServiceUnavailable, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	// The caller may have left, and is allowed to.
	_, _ = w.Write(v.answer())
	h.metrics.answered(kind, v.request.operation, outcome, time.Since(begun))
}

// check returns the status that rejects a request for its headers.
func (h *Handler) check(r *http.Request) (code int, err error) {
	switch {
	// The path may be a secret that only the API server knows.
	case subtle.ConstantTimeCompare([]byte(r.URL.Path), h.path) != 1:
		return http.StatusNotFound, errors.New("not found")
	case r.Method != http.MethodPost:
		return http.StatusMethodNotAllowed, errors.New("want POST")
	case !isJSON(r.Header):
		return http.StatusUnsupportedMediaType, errors.New("want Content-Type: application/json, not encoded")
	case r.ContentLength < 0:
		return http.StatusLengthRequired, errors.New("want a Content-Length")
	case r.ContentLength > maxBodyBytes:
		return http.StatusRequestEntityTooLarge, errors.New("want at most 7 MiB")
	}
	return 0, nil
}

// reserve sets memory aside for a review, unless there is no room.
func (h *Handler) reserve(n int64) bool {
	if h.buffered.Add(n) <= maxBufferedBytes {
		return true
	}
	h.buffered.Add(-n)
	return false
}

// review shows the target what a request shows.
func (h *Handler) review(r *request) (kind string, outcome Outcome, err error) {
	if outcome := r.skip(); outcome != "" {
		return "", outcome, nil
	}
	if !h.owners {
		r.object.owners, r.oldObject.owners = nil, nil
	}
	held := r.cost()
	if !h.reserve(held) {
		return "", "", errNoRoom
	}
	defer h.buffered.Add(-held)
	kind, outcome = h.target.Review(r.change())
	return kind, outcome, nil
}

// read reads a request's review.
func read(r *http.Request) (*review, error) {
	body := make([]byte, r.ContentLength)
	if _, err := io.ReadFull(r.Body, body); err != nil {
		return nil, errCutOff
	}
	return parse(body)
}

func (h *Handler) reject(w http.ResponseWriter, code int, err error) {
	if code == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", http.MethodPost)
	}
	h.metrics.rejected.WithLabelValues(strconv.Itoa(code)).Inc()
	http.Error(w, err.Error(), code)
}

func isJSON(header http.Header) bool {
	if encoding := header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return false
	}
	typ, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	return err == nil && typ == "application/json"
}
