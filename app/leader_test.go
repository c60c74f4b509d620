// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"labelstream/status/outage"
)

var leases = schema.GroupResource{Group: "coordination.k8s.io", Resource: "leases"}

// fakeLease is a Lease as an API server keeps it.
type fakeLease struct {
	mu      sync.Mutex
	record  *resourcelock.LeaderElectionRecord
	version int
}

// fakeLock is one replica's view of a Lease.
type fakeLock struct {
	lease    *fakeLease
	identity string
	version  int
	// fails is what requests meet instead of the Lease.
	fails atomic.Pointer[func(context.Context) error]
}

func (l *fakeLock) fail(with func(context.Context) error) { l.fails.Store(&with) }

func (l *fakeLock) reach(ctx context.Context) error {
	if fails := l.fails.Load(); fails != nil {
		return errors.Join((*fails)(ctx), ctx.Err())
	}
	return ctx.Err()
}

func refused(context.Context) error { return errors.New("connection refused") }

// hang lets a request wait until the client's timeout.
func hang(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	<-ctx.Done()
	return ctx.Err()
}

func forbidden(context.Context) error {
	return apierrors.NewForbidden(leases, "labelstream", errors.New("no"))
}

func (l *fakeLock) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	if err := l.reach(ctx); err != nil {
		return nil, nil, err
	}
	l.lease.mu.Lock()
	defer l.lease.mu.Unlock()
	if l.lease.record == nil {
		return nil, nil, apierrors.NewNotFound(leases, "labelstream")
	}
	l.version = l.lease.version
	record := *l.lease.record
	return &record, []byte(record.HolderIdentity + record.RenewTime.String()), nil
}

func (l *fakeLock) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	return l.write(ctx, record, 0)
}

func (l *fakeLock) Update(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	return l.write(ctx, record, l.version)
}

func (l *fakeLock) write(ctx context.Context, record resourcelock.LeaderElectionRecord, version int) error {
	if err := l.reach(ctx); err != nil {
		return err
	}
	l.lease.mu.Lock()
	defer l.lease.mu.Unlock()
	if l.lease.version != version {
		return apierrors.NewConflict(leases, "labelstream", errors.New("it has been modified"))
	}
	l.lease.version++
	l.version, l.lease.record = l.lease.version, &record
	return nil
}

func (l *fakeLock) RecordEvent(string) {}
func (l *fakeLock) Identity() string   { return l.identity }
func (l *fakeLock) Describe() string   { return "cost/labelstream" }

// replica takes part in an election until it is stopped, or loses the lease.
type replica struct {
	*election
	lock *fakeLock
	logs *logtest.Hook
	stop context.CancelFunc
	// ended is what run returned.
	ended   chan error
	leading atomic.Bool
}

// startReplica starts one that goes on for drain when it is told to end.
func startReplica(t *testing.T, lease *fakeLease, identity string, drain time.Duration) *replica {
	t.Helper()
	log, hook := logtest.NewNullLogger()
	r := &replica{lock: &fakeLock{lease: lease, identity: identity}, logs: hook, ended: make(chan error, 1)}
	var err error
	if r.election, err = newElectionOf(r.lock, log); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r.stop = cancel
	go func() {
		r.ended <- r.run(ctx, func(ctx, lease context.Context) error {
			r.leading.Store(true)
			defer r.leading.Store(false)
			select {
			case <-lease.Done():
				return context.Cause(lease)
			case <-ctx.Done():
				time.Sleep(drain)
				return nil
			}
		})
	}()
	synctest.Wait()
	return r
}

// expectLeader lets everything come to rest and compares who leads, and who may
// send.
func expectLeader(t *testing.T, when, want string, replicas ...*replica) {
	t.Helper()
	synctest.Wait()
	for _, r := range replicas {
		leads := r.lock.identity == want
		if r.leading.Load() != leads || (r.check() == nil) != leads {
			t.Errorf("%s: %s leads: %t, may send: %v; want %t", when, r.lock.identity, r.leading.Load(), r.check(), leads)
		}
	}
}

// TestLeaderStops tells a leader to end: it leads until it has drained, and the
// other one takes over at once and not before.
func TestLeaderStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lease := &fakeLease{}
		a := startReplica(t, lease, "a", 19*time.Second)
		expectLeader(t, "alone", "a", a)
		b := startReplica(t, lease, "b", 0)
		time.Sleep(time.Hour)
		expectLeader(t, "after an hour", "a", a, b)
		a.stop()
		time.Sleep(18 * time.Second)
		expectLeader(t, "while the leader drains", "a", a, b)
		time.Sleep(time.Second + 5*time.Second)
		expectLeader(t, "then", "b", a, b)
		b.stop()
		for _, r := range []*replica{a, b} {
			if err := <-r.ended; err != nil {
				t.Errorf("%s ended with %v", r.lock.identity, err)
			}
		}
		if holder := lease.record.HolderIdentity; holder != "" {
			t.Errorf("the Lease is held by %q when all have ended", holder)
		}
	})
}

// TestLeaderLosesItsLease cuts the leader off in all ways: it ends before the
// other one leads.
func TestLeaderLosesItsLease(t *testing.T) {
	for name, fails := range map[string]func(context.Context) error{"requests fail": refused, "requests hang": hang, "forbidden": forbidden} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lease := &fakeLease{}
				a := startReplica(t, lease, "a", 0)
				b := startReplica(t, lease, "b", 0)
				time.Sleep(time.Minute)
				expectLeader(t, "before", "a", a, b)
				a.lock.fail(fails)
				begun := time.Now()
				for !b.leading.Load() {
					time.Sleep(100 * time.Millisecond)
					took := time.Since(begun)
					if a.check() == nil && took > renewDeadline {
						t.Fatalf("after %s: a may still send", took)
					}
					if a.leading.Load() && (b.leading.Load() || took > renewDeadline+leaseCheckInterval) {
						t.Fatalf("after %s: a still leads; b: %t", took, b.leading.Load())
					}
				}
				// Each asks every 2 to 4.4 s: b saw the last renewal so much later,
				// and notices the end so much later again.
				if took := time.Since(begun); took > 24*time.Second {
					t.Errorf("the other one took over after %s, want the lease's 15 s and two attempts' time", took)
				}
				if err := <-a.ended; !errors.Is(err, errLeaseLost) {
					t.Errorf("a ended with %v, want %v", err, errLeaseLost)
				}
				b.stop()
				<-b.ended
			})
		})
	}
}

// TestLeaderIsKilledAgainAndAgain starts a container anew each time at once. It is
// another holder then, so that the replica that waits leads.
func TestLeaderIsKilledAgainAndAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lease := &fakeLease{}
		kill := func(r *replica) {
			r.lock.fail(refused)
			r.stop()
		}
		start := func() *replica {
			identity, err := newIdentity()
			if err != nil {
				t.Fatal(err)
			}
			return startReplica(t, lease, identity, 0)
		}
		a := start()
		b := startReplica(t, lease, "b", 0)
		time.Sleep(time.Minute)
		begun := time.Now()
		for !b.leading.Load() {
			if time.Since(begun) > leaseDuration+2*retryPeriod*11/5 {
				t.Fatalf("the other replica does not lead after %s", time.Since(begun))
			}
			kill(a)
			a = start()
			time.Sleep(5 * time.Second)
		}
		a.stop()
		b.stop()
	})
}

// TestLeaseFlickers lets requests fail for less than the deadline: the leader goes
// on, and the log says so when it begins and when it ends.
func TestLeaseFlickers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := startReplica(t, &fakeLease{}, "a", 0)
		time.Sleep(time.Minute + time.Second)
		for range 2 {
			a.lock.fail(refused)
			time.Sleep(6 * time.Second)
			a.lock.fails.Store(nil)
			time.Sleep(2 * time.Minute)
		}
		expectLeader(t, "after all", "a", a)
		a.stop()
		if err := <-a.ended; err != nil {
			t.Error(err)
		}
		var got []string
		for _, entry := range a.logs.AllEntries() {
			got = append(got, entry.Level.String()+": "+entry.Message)
		}
		want := []string{
			"info: Leading",
			"warning: Cannot use the Lease", "info: The Lease can be used again",
			"warning: Cannot use the Lease", "info: The Lease can be used again",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("log (-want +got):\n%s", diff)
		}
	})
}

// TestFollowerStops ends a replica that never led, also one that cannot reach
// the Lease at all.
func TestFollowerStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lease := &fakeLease{}
		a, b, c := startReplica(t, lease, "a", 0), startReplica(t, lease, "b", 0), startReplica(t, lease, "c", 0)
		c.lock.fail(hang)
		time.Sleep(time.Minute)
		for _, r := range []*replica{c, b, a} {
			begun := time.Now()
			r.stop()
			if err := <-r.ended; err != nil || time.Since(begun) != 0 {
				t.Errorf("the end of %s gave %v after %s", r.lock.identity, err, time.Since(begun))
			}
		}
	})
}

func newGuardedLock(lease *fakeLease) (*guardedLock, *logtest.Hook) {
	log, hook := logtest.NewNullLogger()
	lock := &fakeLock{lease: lease, identity: "a"}
	return &guardedLock{Interface: lock, outage: outage.New(log, "Cannot use the Lease", "The Lease can be used again")}, hook
}

// TestReleaseIsOfOwnLease releases the Lease in a process that has been paused
// since it held it.
func TestReleaseIsOfOwnLease(t *testing.T) {
	for _, test := range []struct{ holder, want string }{{"a", ""}, {"b", "b"}} {
		lease := &fakeLease{record: &resourcelock.LeaderElectionRecord{HolderIdentity: test.holder}}
		lock, _ := newGuardedLock(lease)
		if _, _, err := lock.Get(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := lock.Update(t.Context(), resourcelock.LeaderElectionRecord{}); err != nil {
			t.Error(err)
		}
		if got := lease.record.HolderIdentity; got != test.want {
			t.Errorf("the Lease of %q is held by %q after its release by a, want %q", test.holder, got, test.want)
		}
	}
}

func TestForbiddenLeaseSaysWhatToGrant(t *testing.T) {
	lock, logs := newGuardedLock(&fakeLease{})
	for _, verb := range []string{"update", "get"} {
		lock.observe(apierrors.NewForbidden(leases, "labelstream", errors.New("cannot "+verb)))
	}
	want := logrus.Fields{
		"error": `leases.coordination.k8s.io "labelstream" is forbidden: cannot update`,
		"hint":  `grant the verbs "get", "create" and "update" on resource "leases" in API group "coordination.k8s.io"`,
	}
	if n := len(logs.AllEntries()); n != 1 {
		t.Fatalf("%d lines in the log, want 1", n)
	}
	got := logs.LastEntry().Data
	got["error"] = got["error"].(error).Error()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
}

func TestPodNamespace(t *testing.T) {
	file := filepath.Join(t.TempDir(), "namespace")
	if err := os.WriteFile(file, []byte("own\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for set, want := range map[string]string{"set": "set", "": "own"} {
		if got, err := podNamespace(set, file, "Lease"); got != want || err != nil {
			t.Errorf("%q: %q, %v; want %q", set, got, err, want)
		}
	}
	_, err := podNamespace("", file+"-none", "Lease")
	if want := "find the namespace of the Lease: set POD_NAMESPACE from the downward API: "; !errors.Is(err, os.ErrNotExist) || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("without any: %v, want %s…", err, want)
	}
}
