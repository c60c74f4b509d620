// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/prometheus/model/value"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"labelstream/test/receiver"
	"labelstream/test/synthetic"
)

// patience is how long a sample may take to arrive.
const patience = 20 * time.Second

// lifetime is that of the pod which is gone before anything could scrape it.
const lifetime = 2 * time.Second

// story is the demo on an API server of its own.
type story struct {
	demo     *demo
	env      []string
	client   *dynamic.DynamicClient
	receiver *receiver.Server
	// arrivals are the series that each request has brought.
	arrivals chan receiver.Series
}

// settings are those that are not of one run. But for the preset they keep the output
// short, and the waiting too.
var settings = []string{
	"LABELSTREAM_PRESET=prometheus",
	"LABELSTREAM_SEND_INTERVAL=1s",
	"LABELSTREAM_STATUS_ADDRESS=127.0.0.1:0",
	"LABELSTREAM_LOG_LEVEL=warn",
	"LABELSTREAM_LOG_FORMAT=text",
}

// tell shows every command, and then what the daemon does when pods change.
func (d *demo) tell(ctx context.Context) error {
	server := httptest.NewServer(synthetic.NewCluster())
	defer server.Close()
	r, err := receiver.Start(receiver.New(receiver.Options{}))
	if err != nil {
		return err
	}
	defer r.Down()
	s := &story{demo: d, receiver: r, arrivals: make(chan receiver.Series, 1000)}
	r.Always(func(_ http.ResponseWriter, _ *http.Request, request *receiver.Request) bool {
		for _, series := range request.Series {
			s.arrivals <- series
		}
		return false
	})

	s.narrate("A small API server on loopback, with the objects of examples/, and a receiver that prints what it is sent.")
	if s.client, err = d.populate(ctx, &rest.Config{Host: server.URL}); err != nil {
		return err
	}
	kubeconfig := filepath.Join(d.dir, "kubeconfig")
	if err := synthetic.WriteKubeconfig(kubeconfig, server.URL, nil); err != nil {
		return err
	}
	s.env = append([]string{"KUBECONFIG=" + kubeconfig, "LABELSTREAM_DESTINATION=" + r.URL()}, settings...)
	s.narrate("Where to read, where to send, and settings of the demo.")
	for _, setting := range s.env {
		fmt.Fprintln(s.demo.stdout, "$ export", setting)
	}
	if err := s.commands(ctx); err != nil {
		return err
	}
	return s.daemon(ctx)
}

// narrate prints a line that a shell would take for a comment.
func (s *story) narrate(text string) { fmt.Fprintf(s.demo.stdout, "\n# %s\n", text) }

// commands shows those that end.
func (s *story) commands(ctx context.Context) error {
	for _, step := range []struct{ why, line string }{
		{"Which keys are there, and which are worth sending? This sends nothing.", "labelstream inspect"},
		{"Will it work here? This sends a sample of its own.", "labelstream check"},
		{"What would be sent? This sends nothing.", "labelstream --dry-run 2>/dev/null | grep nightly-report"},
		{"Send everything once.", "labelstream once"},
	} {
		s.narrate(step.why)
		fmt.Fprintln(s.demo.stdout, "$", step.line)
		if err := s.demo.execute(s.demo.command(ctx, s.demo.environment(s.env), "/bin/sh", "-c", step.line)); err != nil {
			return err
		}
		for _, series := range s.received() {
			s.print(series)
		}
	}
	return mustBeValid(s.receiver)
}

// received takes what has arrived, sorted by series: two kinds are read at a time.
func (s *story) received() (all []receiver.Series) {
	for {
		select {
		case one := <-s.arrivals:
			all = append(all, one)
		default:
			slices.SortFunc(all, func(a, b receiver.Series) int { return strings.Compare(a.String(), b.String()) })
			return all
		}
	}
}

// print prints a line for each sample.
func (s *story) print(series receiver.Series) {
	for _, sample := range series.Samples {
		text := fmt.Sprint(sample.Value)
		if value.IsStaleNaN(sample.Value) {
			text = "stale marker"
		}
		fmt.Fprintf(s.demo.stdout, "received %s %s\n", series, text)
	}
}

var pods = schema.GroupVersionResource{Version: "v1", Resource: "pods"}

// daemon shows what a daemon sends of a pod that is relabelled, and of one that
// lives for two seconds.
func (s *story) daemon(ctx context.Context) error {
	s.narrate("Stay, and send what changes.")
	fmt.Fprintln(s.demo.stdout, "$ labelstream &")
	daemon := s.demo.command(ctx, s.demo.environment(s.env), s.demo.binary)
	if err := daemon.Start(); err != nil {
		return fmt.Errorf("start labelstream: %w", err)
	}
	err := s.changes(ctx)
	s.narrate("Stop it. 0 says that everything it held was accepted.")
	fmt.Fprintln(s.demo.stdout, "$ kill %1; wait %1; echo $?")
	err = errors.Join(err, daemon.Process.Signal(syscall.SIGTERM), daemon.Wait(), mustBeValid(s.receiver))
	fmt.Fprintln(s.demo.stdout, daemon.ProcessState.ExitCode())
	return err
}

// changes waits for the series of the start, then makes each change, and prints what
// comes of it.
func (s *story) changes(ctx context.Context) error {
	known := s.receiver.Series()
	backfill := len(known) - 1 // without that of check
	for range backfill {
		series, err := s.next(ctx)
		if err == nil && !slices.Contains(known, series.String()) {
			err = fmt.Errorf("%s is new, and nothing has changed", series)
		}
		if err != nil {
			return err
		}
	}
	fmt.Fprintf(s.demo.stdout, "received the same %d series, as at each start\n", backfill)

	s.narrate("Another team takes over a pod.")
	web := pod("production", "web-6d5f7c9b8-2xkq7", map[string]any{"app": "web", "team": "payments"})
	if err := s.show(ctx, apply(ctx, s.client, web)); err != nil {
		return err
	}
	s.narrate("A pod lives for two seconds. A scrape would not see it.")
	short := pod("analytics", "adhoc-query-x7f2p", map[string]any{"app": "query", "team": "data"})
	created := time.Now()
	if err := s.show(ctx, apply(ctx, s.client, short)); err != nil {
		return err
	}
	time.Sleep(time.Until(created.Add(lifetime)))
	s.narrate("It is deleted: its series ends with a stale marker.")
	return s.show(ctx, s.client.Resource(pods).Namespace(short.GetNamespace()).Delete(ctx, short.GetName(), metav1.DeleteOptions{}))
}

func pod(namespace, name string, labels map[string]any) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Pod",
		"metadata": map[string]any{"namespace": namespace, "name": name, "labels": labels},
	}}
}

// show prints the series that comes of a change, which may have failed.
func (s *story) show(ctx context.Context, err error) error {
	if err != nil {
		return fmt.Errorf("change a pod: %w", err)
	}
	series, err := s.next(ctx)
	s.print(series)
	return err
}

// next waits for a series.
func (s *story) next(ctx context.Context) (receiver.Series, error) {
	select {
	case one := <-s.arrivals:
		return one, nil
	case <-time.After(patience):
		return receiver.Series{}, fmt.Errorf("nothing was received for %v", patience)
	case <-ctx.Done():
		return receiver.Series{}, ctx.Err()
	}
}
