package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	coordination "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"labelstream/config"
)

var errLeaseLost = errors.New("the lease was lost")

// namespaceFile holds the namespace of the pod that this is.
const namespaceFile = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

// election has one of several replicas lead at a time, by holding a Lease.
type election struct {
	cfg  *config.Leader
	lock resourcelock.Interface
	log  logrus.FieldLogger
	// asked is when the Lease was last asked for or renewed, in nanoseconds of
	// Unix time, 0 before.
	asked atomic.Int64
	// failure is what went wrong with the Lease last, "" where nothing does.
	failure string
}

func newElection(cluster *rest.Config, cfg *config.Leader, log logrus.FieldLogger) (*election, error) {
	namespace, err := leaseNamespace(cfg, namespaceFile)
	if err != nil {
		return nil, err
	}
	identity, err := identity(cfg.PodName)
	if err != nil {
		return nil, err
	}
	cluster = rest.CopyConfig(cluster)
	// Two attempts at least must fit.
	cluster.Timeout = max(time.Second, cfg.RenewDeadline/2)
	client, err := coordination.NewForConfig(cluster)
	if err != nil {
		return nil, fmt.Errorf("make a client of the API server at %s: %w", cluster.Host, err)
	}
	return &election{
		cfg: cfg,
		lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: namespace, Name: cfg.LeaseName},
			Client:     client,
			LockConfig: resourcelock.ResourceLockConfig{Identity: identity},
		},
		log: log.WithField("lease", namespace+"/"+cfg.LeaseName),
	}, nil
}

// leaseNamespace is the one that is set, or else this pod's.
func leaseNamespace(cfg *config.Leader, file string) (string, error) {
	for _, namespace := range []string{cfg.LeaseNamespace, cfg.PodNamespace} {
		if namespace != "" {
			return namespace, nil
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("find the namespace of the Lease: set LABELSTREAM_LEASE_NAMESPACE, or POD_NAMESPACE from the downward API: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// identity is by which this process holds the Lease. A container that starts
// again in its pod is the same: the one before it has ended.
func identity(pod string) (string, error) {
	if pod != "" {
		return pod, nil
	}
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("find a name to hold the Lease by: set POD_NAME from the downward API: %w", err)
	}
	return host + "_" + rand.String(8), nil
}

// run takes part in the election until ctx ends, and calls lead each time it
// is won, with a context that ends when the lease does. lead must return when
// ctx or that context ends; the lease is held until it has returned. The error
// is lead's, if it was not for the lease that it ended.
func (e *election) run(ctx context.Context, lead func(lease context.Context) error) error {
	defer e.asked.Store(0)
	for {
		err := e.campaign(ctx, lead)
		if ctx.Err() != nil || !errors.Is(err, errLeaseLost) {
			return err
		}
		e.log.WithError(err).Warn("Not leading any more; what is not sent is for the next leader to send")
	}
}

// campaign wins the election once and leads, or is stopped before. The error is
// lead's, and errLeaseLost where the lease was.
func (e *election) campaign(ctx context.Context, lead func(lease context.Context) error) error {
	running, withdraw := context.WithCancel(context.WithoutCancel(ctx))
	defer withdraw()
	lease, lose := context.WithCancelCause(running)
	defer lose(nil)
	// client-go's elector notices a lease that was not renewed only after it
	// has tried to release it. This timer knows no such delay, and fires at
	// once in a process that was paused.
	expiry := time.AfterFunc(e.cfg.LeaseDuration, func() { lose(errLeaseLost) })
	expiry.Stop()
	defer expiry.Stop()
	var won atomic.Bool
	lock := &watchedLock{Interface: e.lock, election: e, renewed: func(begun time.Time) {
		expiry.Reset(time.Until(begun.Add(e.cfg.RenewDeadline)))
		won.Store(true)
	}}
	defer context.AfterFunc(ctx, func() {
		if !won.Load() {
			withdraw()
		}
	})()
	ended := make(chan error, 1)
	elector, err := e.elector(lock, func(context.Context) {
		e.log.Info("Leading")
		err := lead(lease)
		if errors.Is(context.Cause(lease), errLeaseLost) && !errors.Is(err, errLeaseLost) {
			err = errors.Join(errLeaseLost, err)
		}
		ended <- err
		// Only now may another replica lead.
		withdraw()
	})
	if err != nil {
		return err
	}
	elector.Run(running)
	lose(errLeaseLost)
	if won.Load() {
		return <-ended
	}
	return nil
}

func (e *election) elector(lock resourcelock.Interface, lead func(context.Context)) (*leaderelection.LeaderElector, error) {
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock:            lock,
		LeaseDuration:   e.cfg.LeaseDuration,
		RenewDeadline:   e.cfg.RenewDeadline,
		RetryPeriod:     e.cfg.RetryPeriod,
		ReleaseOnCancel: true,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: lead,
			OnStoppedLeading: func() {},
			OnNewLeader: func(leader string) {
				if leader != lock.Identity() {
					e.log.WithField("leader", leader).Info("Another replica leads")
				}
			},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("take part in the leader election: %w", err)
	}
	return elector, nil
}

// stuck returns an error where the Lease has not been asked for as it should.
func (e *election) stuck(now time.Time) error {
	asked := e.asked.Load()
	if asked == 0 {
		return nil
	}
	if idle := now.Sub(time.Unix(0, asked)); idle > time.Minute+e.cfg.RenewDeadline+2*e.cfg.RetryPeriod {
		return fmt.Errorf("the leader election is stuck: the Lease has not been asked for in %s", idle.Round(time.Second))
	}
	return nil
}

// note logs what goes wrong with the Lease when it begins, changes and ends.
func (e *election) note(err error) {
	e.asked.Store(time.Now().UnixNano())
	switch {
	case err == nil:
		if e.failure != "" {
			e.failure = ""
			e.log.Info("The Lease can be used again")
		}
		return
	case errors.Is(err, context.Canceled), apierrors.IsNotFound(err), apierrors.IsConflict(err), apierrors.IsAlreadyExists(err):
		// Part of the election.
		return
	}
	failure := class(err)
	if failure == e.failure {
		return
	}
	e.failure = failure
	if apierrors.IsForbidden(err) {
		err = fmt.Errorf(`grant the verbs "get", "create" and "update" on resource "leases" in API group "coordination.k8s.io": %w`, err)
	}
	e.log.WithError(err).Warn("Cannot use the Lease; trying again")
}

// class is the same for errors that have the same cause, whichever request
// brought them: the server's reason, or the innermost text.
func class(err error) string {
	if reason := apierrors.ReasonForError(err); reason != metav1.StatusReasonUnknown {
		return string(reason)
	}
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(inner) {
		err = inner
	}
	return err.Error()
}

// watchedLock is a lock of which is known when it was renewed.
type watchedLock struct {
	resourcelock.Interface
	election *election
	// renewed is told when a renewal that succeeded was begun.
	renewed func(begun time.Time)
}

// Get reads the Lease.
func (l *watchedLock) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	record, raw, err := l.Interface.Get(ctx)
	l.election.note(err)
	return record, raw, err
}

// Create takes a Lease that is not there yet.
func (l *watchedLock) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	return l.write(ctx, record, l.Interface.Create)
}

// Update takes, renews or releases the Lease.
func (l *watchedLock) Update(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	return l.write(ctx, record, l.Interface.Update)
}

func (l *watchedLock) write(ctx context.Context, record resourcelock.LeaderElectionRecord,
	write func(context.Context, resourcelock.LeaderElectionRecord) error,
) error {
	begun := time.Now()
	err := write(ctx, record)
	l.election.note(err)
	if err == nil && record.HolderIdentity == l.Identity() {
		l.renewed(begun)
	}
	return err
}
