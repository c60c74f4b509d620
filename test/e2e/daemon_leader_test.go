package e2e

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"labelstream/test/receiver"
)

// The lease of the tests' replicas is short.
const leaseDuration = 3 * time.Second

var electing = settings{
	"LEADER_ELECTION": "true",
	"LEASE_DURATION":  leaseDuration.String(),
	"RENEW_DEADLINE":  "2s",
	"RETRY_PERIOD":    "200ms",
}

// replicas are daemons of which one leads.
type replicas struct {
	plane     *plane
	namespace string
	journal   *journal
	base      invocation
}

func newReplicas(t *testing.T, p *plane, namespace string, more settings) *replicas {
	t.Helper()
	user := p.follower(t, namespace, "pods")
	p.allow(t, user, namespace, right{"leases.coordination.k8s.io", []string{"get", "create", "update"}})
	r := &replicas{plane: p, namespace: namespace, journal: newJournal(t)}
	r.journal.cut = true
	r.base = invocation{user: user, settings: following.and(electing).and(settings{
		"NAMESPACES": namespace, "LEASE_NAMESPACE": namespace,
	}).and(more)}
	return r
}

// start starts one that sends to a path of its own.
func (r *replicas) start(t *testing.T, name string) *daemon {
	t.Helper()
	inv := r.base
	inv.settings = inv.settings.and(settings{"POD_NAME": name, "DESTINATION": r.journal.URL() + "/" + name})
	return startDaemon(t, inv)
}

// awaitFrom waits until a replica has sent something after the sample of that
// number.
func (r *replicas) awaitFrom(t *testing.T, name string, after int) {
	t.Helper()
	r.journal.await(t, "a sample from "+name, func(samples []sample) bool {
		return slices.ContainsFunc(samples[after:], func(s sample) bool { return s.From == name })
	})
}

// holder is who holds the Lease.
func (r *replicas) holder(t *testing.T) string {
	t.Helper()
	lease, err := r.plane.client.CoordinationV1().Leases(r.namespace).Get(t.Context(), "labelstream", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if lease.Spec.HolderIdentity == nil {
		return ""
	}
	return *lease.Spec.HolderIdentity
}

// terms are the names of those who sent, one after the other.
func terms(samples []sample) []string {
	var names []string
	for _, s := range samples {
		names = append(names, s.From)
	}
	return slices.Compact(names)
}

// mustBeTerms demands that the replicas sent one after the other, in this order.
func (r *replicas) mustBeTerms(t *testing.T, want ...string) {
	t.Helper()
	if got := terms(r.journal.all()); !slices.Equal(got, want) {
		t.Errorf("who sent, in order: %v, want %v", got, want)
	}
	r.journal.mustBeInOrder(t)
}

// TestDaemonLeaderKilled kills leaders, while the cluster changes.
func TestDaemonLeaderKilled(t *testing.T) {
	t.Parallel()
	const (
		namespace = "leader-killed"
		count     = 50
	)
	p := shared.plane
	p.numbered(t, namespace, count)
	r := newReplicas(t, p, namespace, nil)
	changes := newChanger(t, p, namespace, count, 20*time.Millisecond)
	changes.start()
	leader, want := r.start(t, "replica-0"), []string{"replica-0"}
	r.awaitFrom(t, "replica-0", 0)
	for i := range inSoak(50, 2) {
		name := fmt.Sprintf("replica-%d", i+1)
		follower := r.start(t, name)
		follower.awaitLog(t, `"Another replica leads"`)
		mustFollow(t, follower)
		sent := len(r.journal.all())
		leader.kill(t)
		r.awaitFrom(t, name, sent)
		if holder := r.holder(t); holder != name {
			t.Errorf("%s sends, and the Lease is held by %q", name, holder)
		}
		leader, want = follower, append(want, name)
	}
	changes.stop()
	r.journal.awaitState(t, p.state(t, namespace))
	if value := leader.metrics(t)["labelstream_leader"]; value != 1 {
		t.Errorf("labelstream_leader is %v of the leader", value)
	}
	leader.terminate(t)
	r.mustBeTerms(t, want...)
	// Who ends in order does not let the others wait.
	if holder := r.holder(t); holder != "" {
		t.Errorf("after its end, the Lease is held by %q", holder)
	}
}

// mustFollow demands that a replica is well, and says that it does not lead.
func mustFollow(t *testing.T, d *daemon) {
	t.Helper()
	if value := d.metrics(t)["labelstream_leader"]; value != 0 {
		t.Errorf("labelstream_leader is %v of a follower", value)
	}
	if code, text := d.get(t, "/readyz?verbose"); code != 200 || text != "another replica leads\nok\n" {
		t.Errorf("a follower's /readyz?verbose is %d %q", code, text)
	}
}

// TestDaemonLeaderPaused stops leaders for longer than the lease, with records in
// hand that they have not sent. What they wake up with is history.
func TestDaemonLeaderPaused(t *testing.T) {
	t.Parallel()
	const (
		namespace = "leader-paused"
		count     = 50
	)
	p := shared.plane
	p.numbered(t, namespace, count)
	// A leader nearly always has something in hand.
	r := newReplicas(t, p, namespace, settings{"SEND_INTERVAL": "500ms"})
	changes := newChanger(t, p, namespace, count, 5*time.Millisecond)
	changes.start()
	leader, other := r.start(t, "replica-0"), (*daemon)(nil)
	names, want := []string{"replica-0", "replica-1"}, []string{"replica-0"}
	r.awaitFrom(t, names[0], 0)
	other = r.start(t, names[1])
	other.awaitLog(t, `"Another replica leads"`)
	for range inSoak(50, 3) {
		sent := len(r.journal.all())
		// What it sends from now on may be in hand when it stops.
		r.awaitFrom(t, names[0], sent)
		leader.signal(t, syscall.SIGSTOP)
		sent = len(r.journal.all())
		r.awaitFrom(t, names[1], sent)
		leader.signal(t, syscall.SIGCONT)
		leader, other = other, leader
		names[0], names[1] = names[1], names[0]
		want = append(want, names[0])
		awaitFollowing(t, other)
		// Long enough for the one that woke up to send, if it did.
		sent = len(r.journal.all())
		r.awaitFrom(t, names[0], sent)
	}
	changes.stop()
	r.journal.awaitState(t, p.state(t, namespace))
	mustFollow(t, other)
	leader.terminate(t)
	other.terminate(t)
	r.mustBeTerms(t, want...)
	if lost := strings.Count(other.stderr.String(), "Not leading any more"); lost == 0 {
		t.Error("a leader that was paused does not say that it lost the lease")
	}
}

// awaitFollowing waits until a replica knows that it does not lead.
func awaitFollowing(t *testing.T, d *daemon) {
	t.Helper()
	eventuallyTrue(t, "labelstream_leader is 0", func() bool { return d.metrics(t)["labelstream_leader"] == 0 })
}

// TestDaemonLeaderPausedWithBatchOnTheWay stops a leader whose batch the receiver
// has not taken yet, and lets the receiver take what it will when the leader wakes
// up.
func TestDaemonLeaderPausedWithBatchOnTheWay(t *testing.T) {
	t.Parallel()
	const (
		namespace = "leader-paused-sending"
		count     = 20
	)
	p := shared.plane
	p.numbered(t, namespace, count)
	r := newReplicas(t, p, namespace, nil)
	names, want := []string{"replica-0", "replica-1"}, []string{"replica-0"}
	leader := r.start(t, names[0])
	r.journal.awaitCount(t, count)
	other := r.start(t, names[1])
	other.awaitLog(t, `"Another replica leads"`)
	step := 1
	change := func() {
		step++
		p.setStep(t, namespace, numberedPod(0), strconv.Itoa(step))
	}
	for range inSoak(50, 3) {
		// The leader tries to send this again and again.
		refused := r.journal.refuseFrom(names[0], http.StatusServiceUnavailable)
		change()
		refused.await(t, 3)
		leader.signal(t, syscall.SIGSTOP)
		change()
		r.journal.awaitState(t, p.state(t, namespace))
		r.journal.Always(nil)
		leader.signal(t, syscall.SIGCONT)
		leader, other = other, leader
		names[0], names[1] = names[1], names[0]
		want = append(want, names[0])
		awaitFollowing(t, other)
		change()
		r.journal.awaitState(t, p.state(t, namespace))
	}
	leader.terminate(t)
	other.terminate(t)
	r.mustBeTerms(t, want...)
}

// refusedReplica are requests of one replica that were refused.
type refusedReplica struct {
	*journal
	count int
}

// refuseFrom refuses what comes from a replica with a status, until Always is
// called again.
func (j *journal) refuseFrom(name string, code int) *refusedReplica {
	r := &refusedReplica{journal: j}
	j.Always(r.fault(name, code))
	return r
}

// await waits until so many have been refused.
func (r *refusedReplica) await(t *testing.T, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	// The receiver tells of every request that begins.
	if err := r.WaitFor(ctx, func() bool { return r.refused() >= n }); err != nil {
		t.Fatal(err)
	}
}

func (r *refusedReplica) refused() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.count
}

func (r *refusedReplica) fault(name string, code int) receiver.Fault {
	refuse := receiver.Status(code, nil)
	return func(w http.ResponseWriter, hr *http.Request, req *receiver.Request) bool {
		if !strings.HasSuffix(hr.URL.Path, "/"+name) {
			return false
		}
		r.mu.Lock()
		r.count++
		r.mu.Unlock()
		return refuse(w, hr, req)
	}
}
