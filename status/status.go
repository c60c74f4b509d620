// SPDX-License-Identifier: Apache-2.0

// Package status serves what an operator looks at.
package status

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Build says what was built: its version, the commit and that commit's date.
type Build struct {
	Version string `json:"version"`
	Commit  string `json:"commit"`
	Date    string `json:"date"`
}

// NewRegistry returns a registry with the metrics of the process, of the Go
// runtime and of the build.
func NewRegistry(build Build) *prometheus.Registry {
	registry := prometheus.NewRegistry()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "labelstream_build_info",
		Help:        "Always 1; its labels say what is running.",
		ConstLabels: prometheus.Labels{"version": build.Version, "commit": build.Commit, "date": build.Date},
	})
	info.Set(1)
	registry.MustRegister(info, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

// Options are what a Server serves.
type Options struct {
	// Gatherer is what /metrics shows.
	Gatherer prometheus.Gatherer
	// Alive returns why the process must be restarted, nil where it is well.
	// Nil means that there is no /healthz.
	Alive func() error
	// Ready returns why nothing may be sent to the process, nil where it
	// serves. Nil means that there is no /readyz.
	Ready func() error
	// Report writes a line on each kind, for /readyz?verbose.
	Report func(io.Writer)
	// State returns what the status page shows. Nil means that there is none.
	State func() *State
	// Profiles serves Go's profiles under /debug/pprof/.
	Profiles bool
}

// Server serves what an operator, a probe and Prometheus look at.
type Server struct {
	listener net.Listener
	server   *http.Server
}

// Listen takes the address, so that a wrong one is known before anything runs.
func Listen(address string, options Options) (*Server, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen on STATUS_ADDRESS %q: %w", address, err)
	}
	server := &http.Server{
		Handler:           newMux(&options),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
	if options.Profiles {
		// A profile or trace takes as long as its request says.
		server.WriteTimeout = 0
	}
	return &Server{listener: listener, server: server}, nil
}

func newMux(options *Options) *http.ServeMux {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(options.Gatherer, promhttp.HandlerOpts{}))
	if options.Alive != nil {
		mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, options.Alive(), nil) })
	}
	if options.Ready != nil {
		mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
			report := options.Report
			if !r.URL.Query().Has("verbose") {
				report = nil
			}
			answer(w, options.Ready(), report)
		})
	}
	if options.State != nil {
		servePage(mux, options)
	}
	if options.Profiles {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return mux
}

// answer writes the report, and then what is wrong, or ok.
func answer(w http.ResponseWriter, err error, report func(io.Writer)) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	verdict := "ok"
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		verdict = err.Error()
	}
	if report != nil {
		report(w)
	}
	fmt.Fprintln(w, verdict)
}

// Address is where the server listens.
func (s *Server) Address() string { return s.listener.Addr().String() }

// Run serves until ctx ends, and closes the listener. It returns an error when
// serving fails before that.
func (s *Server) Run(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { _ = s.server.Close() })()
	if err := s.server.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", s.Address(), err)
	}
	return nil
}
