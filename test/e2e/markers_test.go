// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"labelstream/test/prometheus"
)

const (
	// markedSoon is how long a change may take to show in queries.
	markedSoon = 2 * time.Second
	// markedStep is how far apart the times are that queries are made for.
	markedStep = 20 * time.Millisecond
)

// history is what queries should have seen of the pods of a namespace.
type history struct {
	plane     *plane
	namespace string
	states    map[string][]state
}

// state is the step to which a change has brought a pod, "" where it is gone.
type state struct {
	step        string
	begun, done time.Time
}

// TestStaleMarkers deletes, recreates and relabels pods, and restarts the daemon. A
// query must find every pod that there is, and only those, each in one series. Watches
// do not tell which labels a pod had before, so a relabelled pod needs reviews.
func TestStaleMarkers(t *testing.T) {
	t.Parallel()
	for _, changes := range []string{"watch", "webhook"} {
		t.Run(changes, func(t *testing.T) {
			t.Parallel()
			p, s := shared.plane, newPrometheus(t, prometheus.Options{})
			h := &history{plane: p, namespace: "markers-" + changes, states: make(map[string][]state)}
			p.namespace(t, h.namespace)
			inv := invocation{user: p.follower(t, h.namespace, "pods"), settings: following.and(settings{
				"DESTINATION": s.WriteURL(), "NAMESPACES": h.namespace, "PRESET": "prometheus", "CHANGES": changes,
				"WEBHOOK_ADDRESS": "127.0.0.1:0",
			})}
			d, stop := h.start(t, inv, changes)
			h.become(t, "steady", "1")
			h.become(t, "relabelled", "1")
			for round := range 6 {
				h.become(t, fmt.Sprint("deleted-", round), "1")
				h.become(t, fmt.Sprint("recreated-", round), "1")
			}
			promql := fmt.Sprintf("kube_pod_labels{namespace=%q}", h.namespace)
			eventuallyTrue(t, "all pods are there", func() bool { return len(query(t, s, promql)) == len(h.states) })
			from := time.Now()
			for round := range 6 {
				if round == 4 {
					elapse(t, markedSoon)
					stop()
					elapse(t, time.Second)
					d, stop = h.start(t, inv, changes)
				}
				h.become(t, fmt.Sprint("deleted-", round), "")
				h.become(t, fmt.Sprint("recreated-", round), "")
				elapse(t, time.Duration(round)*150*time.Millisecond)
				h.become(t, fmt.Sprint("recreated-", round), fmt.Sprint(1+round%2))
				if changes == "webhook" {
					h.become(t, "relabelled", fmt.Sprint(2+round))
				}
			}
			d.awaitSynced(t, "pods")
			elapse(t, markedSoon+time.Second)
			h.mustBe(t, s, promql, from, time.Now())
			stop()
			mustComplain(t, s)
		})
	}
}

// start starts a daemon, and returns when it learns of what is written. With reviews it
// has not listed by then: what was written before the list began must be readable first.
func (h *history) start(t *testing.T, inv invocation, changes string) (d *daemon, stop func()) {
	t.Helper()
	if changes == "watch" {
		d = startDaemon(t, inv)
		d.awaitSynced(t, "pods")
		return d, func() { d.terminate(t) }
	}
	hooked := startHooked(t, inv)
	r := h.plane.register(t, registration(hooked.byURL(), h.namespace))
	hooked.awaitShown(t, h.plane, h.namespace)
	return hooked.daemon, func() {
		configurations := h.plane.client.AdmissionregistrationV1().ValidatingWebhookConfigurations()
		if err := configurations.Delete(t.Context(), r.Name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		hooked.terminate(t)
	}
}

// become creates a pod in a step, relabels it, or deletes it.
func (h *history) become(t *testing.T, name, step string) {
	t.Helper()
	states, begun := h.states[name], time.Now()
	switch {
	case step == "":
		h.plane.remove(t, h.namespace, name)
	case len(states) == 0 || states[len(states)-1].step == "":
		h.plane.create(t, h.namespace, name, step)
	default:
		h.plane.setStep(t, h.namespace, name, step)
	}
	h.states[name] = append(states, state{step, begun, time.Now()})
}

// mustBe demands that a query finds each pod as it was, at any time: in one series, or
// in none where it was gone.
func (h *history) mustBe(t *testing.T, s *prometheus.Server, promql string, from, to time.Time) {
	t.Helper()
	matrix, err := s.QueryRange(t.Context(), promql, from, to, markedStep)
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]map[int64][]string)
	for _, series := range matrix {
		pod := string(series.Metric["pod"])
		if found[pod] == nil {
			found[pod] = make(map[int64][]string)
		}
		for _, value := range series.Values {
			at := int64(value.Timestamp)
			found[pod][at] = append(found[pod][at], string(series.Metric["label_step"]))
		}
	}
	for name, states := range h.states {
		for at := from.UnixMilli(); at <= to.UnixMilli(); at += markedStep.Milliseconds() {
			got, allowed := found[name][at], allowedAt(states, time.UnixMilli(at))
			if len(got) > 1 || !slices.Contains(allowed, strings.Join(got, "")) {
				t.Errorf("%s after the start a query finds %q of %s, want one of the steps %q", time.UnixMilli(at).Sub(from), got, name, allowed)
				break
			}
		}
	}
}

// allowedAt are the states that a query may find: each from the beginning of its change
// until the next has had time to show.
func allowedAt(states []state, at time.Time) (allowed []string) {
	for i, state := range states {
		isOver := i+1 < len(states) && at.After(states[i+1].done.Add(markedSoon))
		if !at.Before(state.begun) && !isOver {
			allowed = append(allowed, state.step)
		}
	}
	return allowed
}
