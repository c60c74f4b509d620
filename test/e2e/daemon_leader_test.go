// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"labelstream/test/receiver"
)

// replicas are daemons one of which leads, while the cluster changes.
type replicas struct {
	plane     *plane
	namespace string
	user      string
	journal   *journal
	changes   *changer
}

func newReplicas(t *testing.T, namespace string) *replicas {
	t.Helper()
	const count = 50
	p := shared.plane
	p.numbered(t, namespace, count)
	r := &replicas{plane: p, namespace: namespace, journal: newJournal(t), user: p.follower(t, namespace, "pods")}
	p.allow(t, r.user, namespace, "get create update", "leases.coordination.k8s.io")
	r.journal.cut = true
	r.changes = newChanger(t, p, namespace, count, 20*time.Millisecond)
	r.changes.start()
	return r
}

// replica is one of them, with its own way to the API server.
type replica struct {
	*daemon
	name  string
	proxy *proxy
}

// start starts one that sends to a path of its own.
func (r *replicas) start(t *testing.T, name string) *replica {
	t.Helper()
	x := newProxy(t, r.plane, r.user, nil)
	return &replica{name: name, proxy: x, daemon: startDaemon(t, invocation{kubeconfig: x.kubeconfig(t), settings: following.and(settings{
		"NAMESPACES": r.namespace, "POD_NAMESPACE": r.namespace, "LEADER_ELECTION": "true", "DESTINATION": r.journal.URL() + "/" + name,
	})})}
}

// startFollower starts one while another leads.
func (r *replicas) startFollower(t *testing.T, name string) *replica {
	t.Helper()
	d := r.start(t, name)
	d.awaitLog(t, `"Another replica leads"`)
	return d
}

// awaitFrom waits until a replica has sent something.
func (r *replicas) awaitFrom(t *testing.T, d *replica) {
	t.Helper()
	r.journal.await(t, "a sample from "+d.name, func(samples []sample) bool {
		return slices.ContainsFunc(samples, func(s sample) bool { return s.From == d.name })
	})
}

// end ends the last leader, and demands that these replicas have sent, one after
// the other, and the cluster's state at last.
func (r *replicas) end(t *testing.T, last *replica, want ...string) {
	t.Helper()
	r.changes.stop()
	r.journal.awaitState(t, r.plane.state(t, r.namespace))
	last.terminate(t)
	// The others need not wait for one that ends in order.
	lease, err := r.plane.client.CoordinationV1().Leases(r.namespace).Get(t.Context(), "labelstream", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if holder := lease.Spec.HolderIdentity; holder != nil && *holder != "" {
		t.Errorf("after its end, the Lease is held by %q", *holder)
	}
	var names []string
	for _, s := range r.journal.all() {
		names = append(names, s.From)
	}
	if got := slices.Compact(names); !slices.Equal(got, want) {
		t.Errorf("the replicas that sent, in order: %v, want %v", got, want)
	}
	r.journal.mustBeInOrder(t)
}

// leaderFaults take a leader its lease, for a time.
var leaderFaults = []struct {
	name       string
	begin, end func(*replica, *testing.T)
	code       int
}{
	{"killed", func(d *replica, t *testing.T) { d.kill(t) }, func(*replica, *testing.T) {}, -1},
	{"paused", func(d *replica, t *testing.T) { d.signal(t, syscall.SIGSTOP) },
		func(d *replica, t *testing.T) { d.signal(t, syscall.SIGCONT) }, 1},
	{"partitioned", func(d *replica, _ *testing.T) { d.proxy.down() }, func(d *replica, t *testing.T) { d.proxy.up(t) }, 1},
}

// TestDaemonLeaderLost takes a leader that tries to send a batch again and again
// its lease. Another leads then, and what the first has in hand is never sent: it
// ends as soon as it can.
func TestDaemonLeaderLost(t *testing.T) {
	t.Parallel()
	for _, fault := range leaderFaults {
		t.Run(fault.name, func(t *testing.T) {
			t.Parallel()
			r := newReplicas(t, "leader-"+fault.name)
			leader, want := r.start(t, "replica-0"), []string{"replica-0"}
			r.awaitFrom(t, leader)
			for round := range inSoak(10, 1) {
				follower := r.startFollower(t, fmt.Sprintf("replica-%d", round+1))
				refused := r.journal.refuseFrom(leader.name)
				eventuallyTrue(t, "the leader tries again and again", func() bool { return refused.Load() >= 3 })
				fault.begin(leader, t)
				r.awaitFrom(t, follower)
				r.journal.Always(nil)
				fault.end(leader, t)
				leader.wait(t).mustEndWith(t, fault.code)
				leader, want = follower, append(want, follower.name)
			}
			r.end(t, leader, want...)
		})
	}
}

// refuseFrom refuses what comes from a replica with 503 until Always is called
// again, and counts it.
func (j *journal) refuseFrom(name string) *atomic.Int32 {
	var count atomic.Int32
	refuse := receiver.Status(http.StatusServiceUnavailable, nil)
	j.Always(func(w http.ResponseWriter, hr *http.Request, req *receiver.Request) bool {
		if !strings.HasSuffix(hr.URL.Path, "/"+name) {
			return false
		}
		count.Add(1)
		return refuse(w, hr, req)
	})
	return &count
}
