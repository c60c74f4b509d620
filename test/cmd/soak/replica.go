// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"

	"labelstream/test/metrics"
	"labelstream/test/process"
)

// restartDelay is how long a replica is gone, as its kubelet would need to start it.
const restartDelay = 2 * time.Second

// replica is a labelstream that is started again when it ends.
type replica struct {
	name, binary, log, status string
	args, environment         []string

	mu      sync.Mutex
	process *process.Process
	starts  int
}

func (r *replica) start() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, err := process.StartWith(r.environment, r.log, r.binary, r.args...)
	if err != nil {
		return err
	}
	r.process = p
	r.starts++
	return nil
}

func (r *replica) current() *process.Process {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.process
}

// run keeps the replica running until the context ends, and ends it with SIGTERM
// then: nothing may be unsent.
func (r *replica) run(ctx context.Context) error {
	for {
		if err := r.start(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return r.current().Stop()
		case <-r.current().Done():
		}
		if wait(ctx, restartDelay) != nil {
			return nil
		}
	}
}

// signal sends one to the process that runs now, if one does.
func (r *replica) signal(s syscall.Signal) {
	p := r.current()
	select {
	case <-p.Done():
	default:
		_ = syscall.Kill(p.Pid(), s)
	}
}

// figures are what a replica takes, NaN where it does not tell.
type figures struct{ leader, resident, goroutines, files, queue float64 }

// statusTimeout bounds the question to a process that may be paused.
const statusTimeout = 2 * time.Second

func (r *replica) figures(ctx context.Context) (f figures, err error) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	families, err := metrics.Get(ctx, http.DefaultClient, r.status+"/metrics")
	if err != nil {
		return f, err
	}
	pid := r.current().Pid()
	account, err := process.AccountOf(pid)
	if err != nil {
		return f, err
	}
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return f, fmt.Errorf("count the files of %s: %w", r.name, err)
	}
	return figures{
		leader: families.Sum("labelstream_leader", nil), resident: float64(account.Resident) / (1 << 20), goroutines: families.Sum("go_goroutines", nil),
		files: float64(len(files)), queue: families.Sum("labelstream_queue_length", nil),
	}, nil
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
