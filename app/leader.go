// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"
	coordination "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"labelstream/config"
	"labelstream/status/outage"
)

// The times of the election are those of Kubernetes' own components.
const (
	leaseDuration = 15 * time.Second
	renewDeadline = 10 * time.Second
	retryPeriod   = 2 * time.Second
	// leaseTimeout lets two requests for the Lease fit into the deadline.
	leaseTimeout = renewDeadline / 2
	// leaseCheckInterval bounds how long a request that is under way outlives the
	// lease.
	leaseCheckInterval = time.Second
	// leaseTolerance makes LeaderElector.Check as strict as the elector itself.
	// Check allows the lease's duration and a tolerance since a renewal was
	// answered. Another replica counts the duration from when the renewal was
	// stored, which is up to leaseTimeout earlier, so the tolerance is negative:
	// a process that has not renewed for renewDeadline does not lead.
	leaseTolerance = renewDeadline - leaseDuration
)

var errLeaseLost = errors.New("the lease was lost")

// election lets one of several replicas lead, by holding a Lease. A process
// leads once at most: where it loses the lease, it ends.
type election struct {
	elector *leaderelection.LeaderElector
	log     logrus.FieldLogger
	// won is closed when this process begins to lead.
	won chan struct{}
}

func newElection(cluster *rest.Config, cfg *config.Config, log logrus.FieldLogger) (*election, error) {
	namespace, err := podNamespace(cfg.PodNamespace, namespaceFile, "Lease")
	if err != nil {
		return nil, err
	}
	identity, err := newIdentity()
	if err != nil {
		return nil, err
	}
	cluster = rest.CopyConfig(cluster)
	cluster.Timeout = leaseTimeout
	client, err := coordination.NewForConfig(cluster)
	if err != nil {
		return nil, fmt.Errorf("make a client of the API server at %s: %w", cluster.Host, err)
	}
	return newElectionOf(&resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Namespace: namespace, Name: cfg.LeaseName},
		Client:     client,
		LockConfig: resourcelock.ResourceLockConfig{Identity: identity},
	}, log.WithField("lease", namespace+"/"+cfg.LeaseName))
}

// newIdentity returns a name that no other process holds the Lease by, also none
// before it in the same pod: such a one may have been killed, and the Lease then
// goes to the replica that has waited longest.
func newIdentity() (string, error) {
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("find a name to hold the Lease by: %w", err)
	}
	return host + "_" + string(uuid.NewUUID()), nil
}

func newElectionOf(lock resourcelock.Interface, log logrus.FieldLogger) (*election, error) {
	e := &election{log: log, won: make(chan struct{})}
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock:            &guardedLock{Interface: lock, outage: outage.New(log, "Cannot use the Lease", "The Lease can be used again")},
		LeaseDuration:   leaseDuration,
		RenewDeadline:   renewDeadline,
		RetryPeriod:     retryPeriod,
		ReleaseOnCancel: true,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(context.Context) { close(e.won) },
			OnStoppedLeading: func() {},
			OnNewLeader: func(leader string) {
				if leader != lock.Identity() {
					log.WithField("leader", leader).Info("Another replica leads")
				}
			},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("take part in the leader election: %w", err)
	}
	e.elector = elector
	return e, nil
}

// run calls lead when the election is won, and returns its error. lead must
// return when ctx ends, before the lease is released, or when the lease does,
// which is lost then.
func (e *election) run(ctx context.Context, lead func(ctx, lease context.Context) error) error {
	electing, resign := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		e.elector.Run(electing)
	}()
	defer func() { resign(); <-ended }()
	select {
	case <-e.won:
	case <-ctx.Done():
		return nil
	}
	e.log.Info("Leading")
	lease, lose := context.WithCancelCause(electing)
	defer lose(nil)
	go e.loseAtEnd(lease, lose)
	err := lead(ctx, lease)
	if cause := context.Cause(lease); cause != nil && !errors.Is(err, cause) {
		err = errors.Join(cause, err)
	}
	return err
}

// loseAtEnd calls lose when the lease has ended. The elector itself says so only
// after it has tried to release it.
func (e *election) loseAtEnd(lease context.Context, lose context.CancelCauseFunc) {
	ticker := time.NewTicker(leaseCheckInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			if err := e.check(); err != nil {
				lose(err)
				return
			}
		case <-lease.Done():
			return
		}
	}
}

// check returns an error unless this process leads. It is asked before each
// request to the destination, since a process that was paused notices late what
// it waits for.
func (e *election) check() error {
	if !e.elector.IsLeader() || e.elector.Check(leaseTolerance) != nil {
		return errLeaseLost
	}
	return nil
}

// guardedLock is a Lease that is not taken away from another holder. It logs when
// the Lease cannot be used. One goroutine at a time uses it.
type guardedLock struct {
	resourcelock.Interface
	outage *outage.Outage
	// holder held the Lease when it was last read or written.
	holder string
}

// Get reads the Lease.
func (l *guardedLock) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	record, raw, err := l.Interface.Get(ctx)
	if l.observe(err); err == nil {
		l.holder = record.HolderIdentity
	}
	return record, raw, err
}

// Create takes a Lease that does not exist yet.
func (l *guardedLock) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	return l.write(l.Interface.Create(ctx, record), &record)
}

// Update takes, renews or releases the Lease. It does not release one that is
// another's: the elector reads the Lease before, but goes by what it knew, and a
// process that was paused would take the Lease away from the new leader.
func (l *guardedLock) Update(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	if record.HolderIdentity == "" && l.holder != l.Identity() {
		return nil
	}
	return l.write(l.Interface.Update(ctx, record), &record)
}

func (l *guardedLock) write(err error, record *resourcelock.LeaderElectionRecord) error {
	if l.observe(err); err == nil {
		l.holder = record.HolderIdentity
	}
	return err
}

// observe logs when the Lease begins to fail, and when it works again.
func (l *guardedLock) observe(err error) {
	switch {
	case err == nil:
		l.outage.End()
	case errors.Is(err, context.Canceled), apierrors.IsNotFound(err), apierrors.IsConflict(err), apierrors.IsAlreadyExists(err):
		// Part of the election.
	case apierrors.IsForbidden(err):
		l.outage.Fail(string(metav1.StatusReasonForbidden), outage.WithHint(err,
			`grant the verbs "get", "create" and "update" on resource "leases" in API group "coordination.k8s.io"`))
	default:
		l.outage.Fail(outage.Cause(err), err)
	}
}

// namespaceFile holds the namespace of the pod that this process runs in.
const namespaceFile = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

// podNamespace is the namespace that is set, or else this pod's. what is looked
// for there.
func podNamespace(namespace, file, what string) (string, error) {
	if namespace != "" {
		return namespace, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("find the namespace of the %s: set POD_NAMESPACE from the downward API: %w", what, err)
	}
	return strings.TrimSpace(string(text)), nil
}
