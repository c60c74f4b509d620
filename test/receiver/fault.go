// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"maps"
	"net"
	"net/http"
	"time"
)

// Fault is what a receiver does with a request before it takes it. It returns
// true when the request has been dealt with: nothing is stored then. It may
// block, until the request's context ends at the latest.
type Fault func(w http.ResponseWriter, hr *http.Request, req *Request) bool

// Next makes the following requests meet a fault each, in this order; a nil
// fault lets one pass.
func (r *Receiver) Next(faults ...Fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.next = append(r.next, faults...)
}

// Always makes every request meet a fault for which Next has none, until it is
// called again; nil ends it.
func (r *Receiver) Always(fault Fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.always = fault
}

// Status refuses a request with a status and headers.
func Status(code int, header http.Header) Fault {
	return func(w http.ResponseWriter, _ *http.Request, _ *Request) bool {
		maps.Copy(w.Header(), header)
		http.Error(w, http.StatusText(code), code)
		return true
	}
}

// RefuseIf refuses with a status those requests that match.
func RefuseIf(match func(*Request) bool, code int) Fault {
	refuse := Status(code, nil)
	return func(w http.ResponseWriter, hr *http.Request, req *Request) bool {
		return match(req) && refuse(w, hr, req)
	}
}

// Hang keeps a request open until the channel is closed and takes it then. A
// request whose sender has left meanwhile is not taken.
func Hang(until <-chan struct{}) Fault {
	return func(_ http.ResponseWriter, hr *http.Request, _ *Request) bool {
		await(hr, until)
		return false
	}
}

// Delay takes a request after a while.
func Delay(d time.Duration) Fault {
	return func(_ http.ResponseWriter, hr *http.Request, _ *Request) bool {
		await(hr, time.After(d))
		return false
	}
}

// await ends the request where its sender leaves before the channel has something.
func await[T any](hr *http.Request, until <-chan T) {
	select {
	case <-until:
	case <-hr.Context().Done():
		// To return would answer 200.
		panic(http.ErrAbortHandler)
	}
}

// Reset ends the connection with a TCP reset instead of an answer. It needs a
// connection of HTTP/1, and panics on any other.
func Reset() Fault {
	return func(w http.ResponseWriter, _ *http.Request, _ *Request) bool {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		if tcp, ok := conn.(*net.TCPConn); ok {
			// Without lingering, close sends RST.
			_ = tcp.SetLinger(0)
		}
		_ = conn.Close()
		return true
	}
}
