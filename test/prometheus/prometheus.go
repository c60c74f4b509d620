// SPDX-License-Identifier: Apache-2.0

// Package prometheus runs real Prometheus servers on loopback ports, as
// receivers of remote_write that can be asked what they have taken.
package prometheus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"

	"labelstream/test/process"
)

// Options chooses which Prometheus runs and how.
type Options struct {
	Release Release
	// Config is the configuration file; the empty one scrapes nothing.
	Config string
	// Agent starts it in agent mode: it keeps nothing, and forwards what it is
	// sent as Config says.
	Agent bool
	// Address is where it listens, a free port of 127.0.0.1 where empty.
	Address string
	// Flags come after those that are always set, such as
	// --web.enable-remote-write-receiver.
	Flags []string
}

// Server is a running Prometheus. Unless it is configured to scrape, it holds
// what was sent to it and no more.
type Server struct {
	dir     string
	process *process.Process
	address string
	// started is how much of the log belongs to the start, in bytes.
	started int
}

// Start provides the binary if no run before did (some minutes), starts it, and
// returns when it is ready (less than a second). The context bounds Start
// alone; the caller ends the process with Stop, and on Linux it ends with the
// caller too. An error holds the end of the log.
func Start(ctx context.Context, opts Options) (*Server, error) {
	program, err := opts.Release.program(ctx, os.Stderr)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "labelstream-prometheus-")
	if err != nil {
		return nil, fmt.Errorf("make a directory for Prometheus: %w", err)
	}
	s := &Server{dir: dir}
	if err := s.start(ctx, program, opts); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

func (s *Server) start(ctx context.Context, program string, opts Options) error {
	config := filepath.Join(s.dir, "prometheus.yml")
	if err := os.WriteFile(config, []byte(opts.Config), 0o600); err != nil {
		return fmt.Errorf("configure Prometheus: %w", err)
	}
	args := []string{
		"--config.file=" + config,
		// It takes a free port and logs which.
		"--web.listen-address=" + cmp.Or(opts.Address, "127.0.0.1:0"),
		"--web.enable-remote-write-receiver",
	}
	if data := filepath.Join(s.dir, "data"); opts.Agent {
		args = append(args, "--agent", "--storage.agent.path="+data)
	} else {
		args = append(args, "--storage.tsdb.path="+data)
	}
	var err error
	if s.process, err = process.Start(s.logPath(), program, append(args, opts.Flags...)...); err != nil {
		return err
	}
	if err := s.process.Await(ctx, s.ready); err != nil {
		return err
	}
	log, err := s.log()
	s.started = len(log)
	return err
}

var listening = regexp.MustCompile(`msg="Listening on".* address=(127\.0\.0\.1:\d+)`)

// ready returns why the server cannot be used yet.
func (s *Server) ready(ctx context.Context) error {
	log, err := s.log()
	if err != nil {
		return err
	}
	found := listening.FindSubmatch(log)
	if found == nil {
		return errors.New("the log does not tell the port")
	}
	s.address = string(found[1])
	_, err = s.get(ctx, "/-/ready")
	return err
}

func (s *Server) logPath() string { return filepath.Join(s.dir, "log") }

func (s *Server) log() ([]byte, error) {
	log, err := os.ReadFile(s.logPath())
	if err != nil {
		return nil, fmt.Errorf("read the log of Prometheus: %w", err)
	}
	return log, nil
}

// WriteURL is where the server takes remote_write.
func (s *Server) WriteURL() string { return s.url("/api/v1/write") }

func (s *Server) url(path string) string { return "http://" + s.address + path }

var complaint = regexp.MustCompile(`(?im)^.*\blevel=(?:warn|error)\b.*$`)

// Complaints are the lines that the server has logged as warnings and errors
// since it was ready.
func (s *Server) Complaints() ([]string, error) {
	log, err := s.log()
	if err != nil {
		return nil, err
	}
	return complaint.FindAllString(string(log[s.started:]), -1), nil
}

// WriteLog writes the last lines of the log.
func (s *Server) WriteLog(w io.Writer, lines int) {
	fmt.Fprintf(w, "==> the end of the log of Prometheus\n%s", process.Tail(s.logPath(), lines))
}

// Stop ends the process, returns when it has ended, and removes its files.
func (s *Server) Stop() error {
	if s.process != nil {
		s.process.Kill()
	}
	if err := os.RemoveAll(s.dir); err != nil {
		return fmt.Errorf("remove the files of Prometheus: %w", err)
	}
	return nil
}
