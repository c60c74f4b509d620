package main

import (
	"context"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"labelstream/config"
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

	mu  sync.Mutex
	err error
	// hangs lets requests wait until the client's timeout.
	hangs bool
}

func (l *fakeLock) fail(err error, hangs bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err, l.hangs = err, hangs
}

func (l *fakeLock) reach(ctx context.Context) error {
	l.mu.Lock()
	err, hangs := l.err, l.hangs
	l.mu.Unlock()
	if hangs {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		<-ctx.Done()
		return ctx.Err()
	}
	return errors.Join(err, ctx.Err())
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

// replica takes part in an election and notes when it leads.
type replica struct {
	*election
	lock *fakeLock
	logs *logtest.Hook
	// drain is how long it goes on when it is told to end.
	drain time.Duration

	mu      sync.Mutex
	leading bool
	terms   []string
}

func newReplica(lease *fakeLease, identity string) *replica {
	log, hook := logtest.NewNullLogger()
	r := &replica{lock: &fakeLock{lease: lease, identity: identity}, logs: hook}
	cfg := &config.Leader{LeaseDuration: 15 * time.Second, RenewDeadline: 10 * time.Second, RetryPeriod: 2 * time.Second}
	r.election = &election{cfg: cfg, lock: r.lock, log: log}
	return r
}

// start runs the replica; the function returned stops it and waits.
func (r *replica) start(t *testing.T) (stop func() error) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- r.run(ctx, func(lease leaseTerm) error {
			r.set(true)
			defer r.set(false)
			if err := lease.check(); err != nil {
				t.Errorf("at the beginning of its term, %s may not send: %v", r.lock.identity, err)
			}
			select {
			case <-lease.Done():
				r.ended("lost")
				if err := lease.check(); !errors.Is(err, errLeaseLost) {
					t.Errorf("without the lease, %s is kept from sending by %v, want %v", r.lock.identity, err, errLeaseLost)
				}
			case <-ctx.Done():
				r.ended("stopped")
				time.Sleep(r.drain)
			}
			return nil
		})
	}()
	return func() error {
		cancel()
		return <-ended
	}
}

func (r *replica) set(leading bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.leading = leading
}

func (r *replica) ended(how string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.terms = append(r.terms, how)
}

func (r *replica) isLeading() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.leading
}

// expectLeaders lets everything come to rest and compares who leads.
func expectLeaders(t *testing.T, when string, replicas []*replica, want ...string) {
	t.Helper()
	synctest.Wait()
	var got []string
	for _, r := range replicas {
		if r.isLeading() {
			got = append(got, r.lock.identity)
		}
		if err := r.stuck(time.Now()); err != nil {
			t.Errorf("%s: %s: %v", when, r.lock.identity, err)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s: %v lead, want %v", when, got, want)
	}
}

// TestLeaderStops has a leader that is told to end: it leads until it has
// drained, and the other one takes over at once and not before.
func TestLeaderStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lease := &fakeLease{}
		a, b := newReplica(lease, "a"), newReplica(lease, "b")
		a.drain = 19 * time.Second
		both := []*replica{a, b}
		stopA := a.start(t)
		expectLeaders(t, "alone", both, "a")
		stopB := b.start(t)
		time.Sleep(time.Hour)
		expectLeaders(t, "after an hour", both, "a")
		go func() { _ = stopA() }()
		time.Sleep(18 * time.Second)
		expectLeaders(t, "while the leader drains", both, "a")
		time.Sleep(time.Second + 5*time.Second)
		expectLeaders(t, "then", both, "b")
		if err := stopB(); err != nil {
			t.Error(err)
		}
		if holder := lease.record.HolderIdentity; holder != "" {
			t.Errorf("the Lease is held by %q when all have ended", holder)
		}
		if got := slices.Concat(a.terms, b.terms); !slices.Equal(got, []string{"stopped", "stopped"}) {
			t.Errorf("terms ended: %v, want both stopped", got)
		}
	})
}

// TestLeaderLosesItsLease cuts the leader off in all ways, for longer than its
// lease: it stops in time, before the other one leads, and leads again later.
func TestLeaderLosesItsLease(t *testing.T) {
	for name, cut := range map[string]func(*fakeLock){
		"requests fail": func(l *fakeLock) { l.fail(errors.New("connection refused"), false) },
		"requests hang": func(l *fakeLock) { l.fail(nil, true) },
		"forbidden":     func(l *fakeLock) { l.fail(apierrors.NewForbidden(leases, "labelstream", errors.New("no")), false) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lease := &fakeLease{}
				a, b := newReplica(lease, "a"), newReplica(lease, "b")
				both := []*replica{a, b}
				stopA := a.start(t)
				synctest.Wait()
				stopB := b.start(t)
				time.Sleep(time.Minute)
				expectLeaders(t, "before", both, "a")
				cut(a.lock)
				begun := time.Now()
				for !b.isLeading() {
					time.Sleep(100 * time.Millisecond)
					if a.isLeading() && (b.isLeading() || time.Since(begun) > 10*time.Second+100*time.Millisecond) {
						t.Fatalf("after %s: a leads still; b: %t", time.Since(begun), b.isLeading())
					}
				}
				// Each asks every 2 to 4.4 s: b saw the last renewal so much later,
				// and notices the end so much later again.
				if took := time.Since(begun); took > 24*time.Second {
					t.Errorf("the other one took over after %s, want the lease's 15 s and two attempts' time", took)
				}
				a.lock.fail(nil, false)
				time.Sleep(time.Minute)
				expectLeaders(t, "when a is back", both, "b")
				if err := stopB(); err != nil {
					t.Error(err)
				}
				time.Sleep(6 * time.Second)
				expectLeaders(t, "when b has ended", both, "a")
				if err := stopA(); err != nil {
					t.Error(err)
				}
				if !slices.Equal(a.terms, []string{"lost", "stopped"}) {
					t.Errorf("a's terms ended: %v, want one lost and one stopped", a.terms)
				}
			})
		})
	}
}

// TestLeaseFlickers has requests fail for less than the deadline: the leader
// goes on, and the log says so once.
func TestLeaseFlickers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newReplica(&fakeLease{}, "a")
		stop := a.start(t)
		time.Sleep(time.Minute + time.Second)
		for range 5 {
			a.lock.fail(errors.New("connection refused"), false)
			time.Sleep(6 * time.Second)
			a.lock.fail(nil, false)
			time.Sleep(8 * time.Second)
		}
		expectLeaders(t, "after all", []*replica{a}, "a")
		if err := stop(); err != nil {
			t.Error(err)
		}
		var got []string
		for _, entry := range a.logs.AllEntries() {
			got = append(got, entry.Level.String()+": "+entry.Message)
		}
		want := append([]string{"info: Leading"}, slices.Repeat([]string{
			"warning: Cannot use the Lease; trying again", "info: The Lease can be used again",
		}, 5)...)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("log (-want +got):\n%s", diff)
		}
	})
}

// TestFollowerStops ends a replica that never led, also one that cannot reach
// the Lease at all.
// TestReleaseIsOfOwnLease has a process release the Lease that has been paused
// since it held it.
func TestReleaseIsOfOwnLease(t *testing.T) {
	for _, test := range []struct{ holder, want string }{{"a", ""}, {"b", "b"}} {
		lease := &fakeLease{record: &resourcelock.LeaderElectionRecord{HolderIdentity: test.holder}}
		a := newReplica(lease, "a")
		lock := &watchedLock{Interface: a.lock, election: a.election}
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

func TestFollowerStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lease := &fakeLease{}
		a, b, c := newReplica(lease, "a"), newReplica(lease, "b"), newReplica(lease, "c")
		c.lock.fail(nil, true)
		var stops []func() error
		for _, r := range []*replica{a, b, c} {
			stops = append(stops, r.start(t))
			synctest.Wait()
		}
		time.Sleep(time.Minute)
		for _, stop := range slices.Backward(stops) {
			begun := time.Now()
			if err := stop(); err != nil || time.Since(begun) != 0 {
				t.Errorf("the end gave %v after %s", err, time.Since(begun))
			}
		}
		if len(b.terms)+len(c.terms) > 0 {
			t.Errorf("b and c led: %v, %v", b.terms, c.terms)
		}
	})
}

// TestLeadFails returns an error that is not the lease's.
func TestLeadFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newReplica(&fakeLease{}, "a")
		wrong := errors.New("the settings are wrong")
		err := a.run(t.Context(), func(leaseTerm) error { return wrong })
		if !errors.Is(err, wrong) {
			t.Errorf("run returns %v, want %v", err, wrong)
		}
	})
}

func TestForbiddenLeaseSaysWhatToGrant(t *testing.T) {
	a := newReplica(&fakeLease{}, "a")
	a.election.note(apierrors.NewForbidden(leases, "labelstream", errors.New("no")))
	err := a.logs.LastEntry().Data[logrus.ErrorKey].(error)
	if want := `grant the verbs "get", "create" and "update" on resource "leases" in API group "coordination.k8s.io": `; !strings.HasPrefix(err.Error(), want) {
		t.Errorf("error %v, want %s…", err, want)
	}
}

// TestLeaseTroubleIsLoggedOnce has requests of two sorts fail in turn.
func TestLeaseTroubleIsLoggedOnce(t *testing.T) {
	a := newReplica(&fakeLease{}, "a")
	refused := errors.New("connection refused")
	for range 3 {
		for _, verb := range []string{"Put", "Get"} {
			a.election.note(&url.Error{Op: verb, URL: "https://api/leases", Err: refused})
		}
	}
	for _, verb := range []string{"update", "get"} {
		a.election.note(apierrors.NewForbidden(leases, "labelstream", errors.New("cannot "+verb)))
	}
	a.election.note(nil)
	a.election.note(nil)
	var got []string
	for _, entry := range a.logs.AllEntries() {
		got = append(got, entry.Message)
	}
	want := []string{"Cannot use the Lease; trying again", "Cannot use the Lease; trying again", "The Lease can be used again"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
}

func TestElectionIsStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newReplica(&fakeLease{}, "a")
		stop := a.start(t)
		synctest.Wait()
		now := time.Now()
		if err := a.stuck(now.Add(74 * time.Second)); err != nil {
			t.Error(err)
		}
		want := "the leader election is stuck: the Lease has not been asked for in 1m15s"
		if err := a.stuck(now.Add(75 * time.Second)); err == nil || err.Error() != want {
			t.Errorf("error %v, want %s", err, want)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
		if err := a.stuck(now.Add(time.Hour)); err != nil {
			t.Errorf("after the end: %v", err)
		}
	})
}

func TestLeaseNamespace(t *testing.T) {
	file := filepath.Join(t.TempDir(), "namespace")
	if err := os.WriteFile(file, []byte("own\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		cfg        config.Leader
		file, want string
	}{
		{config.Leader{LeaseNamespace: "set", PodNamespace: "pod"}, file, "set"},
		{config.Leader{PodNamespace: "pod"}, file, "pod"},
		{config.Leader{}, file, "own"},
	} {
		if got, err := leaseNamespace(&tt.cfg, tt.file); got != tt.want || err != nil {
			t.Errorf("%+v: %q, %v; want %q", tt.cfg, got, err, tt.want)
		}
	}
	_, err := leaseNamespace(&config.Leader{}, file+"-none")
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "LABELSTREAM_LEASE_NAMESPACE") {
		t.Errorf("without any: %v, want what to set", err)
	}
}

func TestIdentity(t *testing.T) {
	if got, err := identity("labelstream-0"); got != "labelstream-0" || err != nil {
		t.Errorf("in a pod: %q, %v", got, err)
	}
	one, err := identity("")
	if err != nil {
		t.Fatal(err)
	}
	two, _ := identity("")
	host, _ := os.Hostname()
	if one == two || !strings.HasPrefix(one, host+"_") {
		t.Errorf("elsewhere: %q and %q, want two that begin with %s_", one, two, host)
	}
}
