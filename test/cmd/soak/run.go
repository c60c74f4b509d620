// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"labelstream/test/loopback"
	"labelstream/test/receiver"
	"labelstream/test/synthetic"
)

// settleTime is how long the last changes may take to arrive.
const settleTime = 10 * time.Minute

// silent drops what the servers log of connections that end: many do here.
var silent = log.New(io.Discard, "", 0)

// world is a run.
type world struct {
	options
	length    time.Duration
	begun     time.Time
	directory string
	cluster   *synthetic.Cluster
	receiver  *receiver.Receiver
	judge     *judge
	api, sink *server
	replicas  []*replica

	// pods are changed by one goroutine.
	pods    []metav1.ObjectMeta
	created int

	mu sync.Mutex
	// active are the faults that last, and recent those since the last sample.
	active, recent []faultKind
}

// run is over when all that has happened has arrived.
func run(ctx context.Context, o options) (err error) {
	w := &world{
		options: o, length: time.Duration(o.hours * float64(time.Hour)), cluster: synthetic.NewCluster(), judge: newJudge(),
		receiver: receiver.New(receiver.Options{Forget: true}),
	}
	w.receiver.Always(w.judge.see)
	if w.directory, err = os.MkdirTemp("", "labelstream-soak-"); err != nil {
		return fmt.Errorf("make a directory for the run: %w", err)
	}
	defer os.RemoveAll(w.directory)
	if err := w.populate(); err != nil {
		return err
	}
	if w.api, err = newServer(w.cluster); err != nil {
		return err
	}
	defer w.api.down()
	if w.sink, err = newServer(w.receiver); err != nil {
		return err
	}
	defer w.sink.down()
	if err := w.prepare(); err != nil {
		return err
	}
	w.begun = time.Now()
	running, ctx := errgroup.WithContext(ctx)
	disturbing, whole := errgroup.WithContext(ctx)
	replicas, stop := context.WithCancel(ctx)
	defer stop()
	for _, r := range w.replicas {
		running.Go(func() error { return r.run(replicas) })
	}
	sampling, stopSampling := context.WithCancel(ctx)
	defer stopSampling()
	running.Go(func() error { return w.sample(sampling) })
	disturbing.Go(func() error { return w.churn(whole) })
	for _, f := range schedule(w.length) {
		disturbing.Go(func() error { return w.disturb(whole, f) })
	}
	err = disturbing.Wait()
	if err == nil {
		err = w.settle(ctx)
	}
	stopSampling()
	stop()
	err = errors.Join(err, running.Wait())
	return errors.Join(append(w.receiver.Violations(), err)...)
}

// populate creates the pods and their namespaces.
func (w *world) populate() error {
	namespaces := map[string]bool{}
	for pod := range synthetic.Pods(synthetic.Mixed, w.objects) {
		if !namespaces[pod.Namespace] {
			namespaces[pod.Namespace] = true
			namespace := metav1.ObjectMeta{Name: pod.Namespace, Labels: map[string]string{"kubernetes.io/metadata.name": pod.Namespace}}
			w.judge.want("namespace", namespace)
			if err := w.cluster.Put("namespaces", namespace); err != nil {
				return err
			}
		}
		if err := w.put(pod); err != nil {
			return err
		}
		w.pods = append(w.pods, pod)
	}
	return nil
}

func (w *world) put(pod metav1.ObjectMeta) error {
	w.judge.want("pod", pod)
	return w.cluster.Put("pods", pod)
}

// prepare writes the files that replicas read, and names the replicas.
func (w *world) prepare() error {
	kubeconfig, trusted := filepath.Join(w.directory, "kubeconfig"), filepath.Join(w.directory, "ca.crt")
	if err := errors.Join(synthetic.WriteKubeconfig(kubeconfig, w.api.url(), w.api.trusted), replaceFile(trusted, w.sink.trusted)); err != nil {
		return err
	}
	ports, err := loopback.FreePorts(2)
	if err != nil {
		return err
	}
	for i, name := range []string{"a", "b"} {
		address := fmt.Sprintf("127.0.0.1:%d", ports[i])
		r := &replica{
			name: name, binary: w.binary, log: filepath.Join(filepath.Dir(w.samples), name+".log"), status: "http://" + address,
			args: []string{"--kubeconfig", kubeconfig},
			environment: []string{
				"PATH=" + os.Getenv("PATH"), "HOME=" + w.directory, "LABELSTREAM_DESTINATION=" + w.sink.url() + "/api/v1/write",
				"LABELSTREAM_TLS_CA_FILE=" + trusted, "LABELSTREAM_STATUS_ADDRESS=" + address, "LABELSTREAM_LEADER_ELECTION=true",
				"LABELSTREAM_POD_NAMESPACE=labelstream", "LABELSTREAM_RESYNC_INTERVAL=" + (min(w.length, longestCycle) / 6).String(),
			},
		}
		// What an earlier run has said is not of this one.
		_ = os.Remove(r.log)
		w.replicas = append(w.replicas, r)
	}
	return nil
}

// churn changes pods until the run is over, evenly.
func (w *world) churn(ctx context.Context) error {
	random := rand.New(rand.NewPCG(1, 2))
	ticker := time.NewTicker(time.Duration(float64(time.Minute) / w.changes))
	defer ticker.Stop()
	for time.Since(w.begun) < w.length {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := w.change(random); err != nil {
			return err
		}
	}
	return nil
}

// change relabels a pod, or creates or deletes one.
func (w *world) change(random *rand.Rand) error {
	i := random.IntN(len(w.pods))
	pod := w.pods[i]
	switch random.IntN(10) {
	case 0:
		w.created++
		pod.Name += "-" + strconv.Itoa(w.created)
		w.pods = append(w.pods, pod)
	case 1:
		w.pods = slices.Delete(w.pods, i, i+1)
		w.judge.forget("pod", pod)
		return w.cluster.Delete("pods", pod.Namespace, pod.Name)
	default:
		revision, _ := strconv.Atoi(pod.Labels["revision"])
		// The cluster and its watches hold the labels from before.
		pod.Labels = maps.Clone(pod.Labels)
		pod.Labels["revision"] = strconv.Itoa(revision + 1)
		w.pods[i] = pod
	}
	return w.put(pod)
}

// disturb makes a fault happen at its time.
func (w *world) disturb(ctx context.Context, f fault) error {
	if err := wait(ctx, time.Until(w.begun.Add(f.at))); err != nil {
		return err
	}
	end := w.begin(ctx, f.kind)
	w.note(f.kind, true)
	err := wait(ctx, f.lasts)
	w.note(f.kind, false)
	return errors.Join(err, end())
}

// begin begins a fault, and returns what ends it.
func (w *world) begin(ctx context.Context, kind faultKind) (end func() error) {
	nothing := func() error { return nil }
	switch kind {
	case receiverDown:
		w.sink.down()
		return w.sink.up
	case apiServerDown:
		w.api.down()
		return w.api.up
	case watchesExpired:
		w.cluster.Compact()
		return nothing
	case rotation:
		if err := w.rotate(); err != nil {
			return func() error { return err }
		}
		return nothing
	}
	leader, follower := w.replicas[0], w.replicas[1]
	if f, err := follower.figures(ctx); err == nil && f.leader == 1 {
		leader, follower = follower, leader
	}
	switch kind {
	case followerKilled:
		follower.signal(syscall.SIGKILL)
	case leaderKilled:
		leader.signal(syscall.SIGKILL)
	case leaderPaused:
		leader.signal(syscall.SIGSTOP)
		return func() error { leader.signal(syscall.SIGCONT); return nil }
	}
	return nothing
}

// rotate replaces the receiver's certificate, and tells the replicas first. Their
// connections are cut, or they would not see it.
func (w *world) rotate() error {
	if err := w.sink.renew(); err != nil {
		return err
	}
	if err := replaceFile(filepath.Join(w.directory, "ca.crt"), w.sink.trusted); err != nil {
		return err
	}
	return w.sink.cut()
}

func (w *world) note(kind faultKind, begins bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if begins {
		w.active, w.recent = append(w.active, kind), append(w.recent, kind)
		return
	}
	i := slices.Index(w.active, kind)
	w.active = slices.Delete(w.active, i, i+1)
}

// faults are those since it was asked last.
func (w *world) faults() (all []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, kind := range w.recent {
		all = append(all, string(kind))
	}
	w.recent = slices.Clone(w.active)
	slices.Sort(all)
	return slices.Compact(all)
}

// sample writes a row each interval until the context ends.
func (w *world) sample(ctx context.Context) error {
	file, err := os.Create(w.samples)
	if err != nil {
		return fmt.Errorf("write the samples: %w", err)
	}
	defer file.Close()
	rows := csv.NewWriter(file)
	err = rows.Write(columns)
	ticker := time.NewTicker(w.interval)
	defer ticker.Stop()
	for err == nil {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
		waiting, oldest, lag := w.judge.lag(time.Now())
		s := sample{faults: w.faults(), numbers: map[string]float64{
			"seconds": time.Since(w.begun).Seconds(), "waiting": float64(waiting), "oldest_s": oldest, "lag_s": lag,
		}}
		for _, r := range w.replicas {
			f, err := r.figures(ctx)
			if err != nil {
				// It is dead, or paused.
				f = figures{math.NaN(), math.NaN(), math.NaN(), math.NaN(), math.NaN()}
			}
			maps.Copy(s.numbers, map[string]float64{
				r.name + "_leader": f.leader, r.name + "_resident_mib": f.resident, r.name + "_goroutines": f.goroutines, r.name + "_files": f.files, r.name + "_queue": f.queue,
			})
		}
		err = rows.Write(s.row())
		// Whoever stops the run has the samples until then.
		rows.Flush()
	}
	return errors.Join(err, rows.Error())
}

// settle waits until the last state of each object has arrived.
func (w *world) settle(ctx context.Context) error {
	deadline := time.Now().Add(settleTime)
	for w.judge.missing() != nil && time.Now().Before(deadline) {
		if err := wait(ctx, time.Second); err != nil {
			return err
		}
	}
	objects, late := w.judge.counts()
	fmt.Fprintf(os.Stderr, "soak: %d objects; replicas started %d and %d times; %d requests, %d samples, %d of them older than one of the same object\n",
		objects, w.replicas[0].starts, w.replicas[1].starts, w.receiver.Requests(), w.receiver.Samples(), late)
	return w.judge.missing()
}
