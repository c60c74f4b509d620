// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"labelstream/test/prometheus"
	"labelstream/test/receiver"
	"labelstream/test/synthetic"
)

// receiverFault is what a receiver does with the first requests, or with all.
type receiverFault struct {
	name     string
	faults   []receiver.Fault
	always   receiver.Fault
	settings settings
	// refused is the pod that is never taken.
	refused string
}

// receiverFaults end by themselves, but for a refusal.
func receiverFaults() []receiverFault {
	inOneSecond := receiver.Status(503, http.Header{"Retry-After": {"1"}})
	never := make(chan struct{})
	const poisoned = "pod-147"
	isPoisoned := func(s receiver.Series) bool { return s.Get("pod") == poisoned }
	return []receiverFault{
		{name: "503 for 20 requests",
			// The last ones with a Retry-After, without which the backoff of 20
			// failures in a row would take minutes.
			faults: append(slices.Repeat([]receiver.Fault{receiver.Status(503, nil)}, 4),
				slices.Repeat([]receiver.Fault{inOneSecond}, 16)...)},
		{name: "429 with seconds", faults: []receiver.Fault{nil, receiver.Status(429, http.Header{"Retry-After": {"2"}})}},
		{name: "500 and 408", faults: []receiver.Fault{receiver.Status(500, nil), receiver.Status(408, nil)}},
		{name: "hang", faults: []receiver.Fault{nil, receiver.Hang(never), receiver.Hang(never)}, settings: settings{"SEND_TIMEOUT": "1s"}},
		{name: "reset", faults: []receiver.Fault{receiver.Reset(), nil, receiver.Reset(), receiver.Reset()}},
		{name: "slow", always: receiver.Delay(200 * time.Millisecond)},
		{name: "400 for one record", refused: poisoned,
			always: receiver.RefuseIf(func(req *receiver.Request) bool { return slices.ContainsFunc(req.Series, isPoisoned) }, 400)},
	}
}

// TestReceiverFaults sends a few batches to receivers that fail in one way each,
// and recover.
func TestReceiverFaults(t *testing.T) {
	t.Parallel()
	const (
		namespace = "faulty"
		count     = 300
	)
	p := shared.plane
	p.numbered(t, namespace, count)
	inv := invocation{user: p.reader(t, namespace, "pods"), settings: settings{
		"LABELS_RESOURCES": "pods", "NAMESPACES": namespace, "BATCH_SIZE": "20",
	}}
	for _, test := range receiverFaults() {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			j := newJournal(t)
			j.Next(test.faults...)
			j.Always(test.always)
			r := once(t, inv.with(test.settings).with(settings{"DESTINATION": j.URL()}))
			want := podSeries(namespace, count)
			if test.refused != "" {
				r.mustFail(t)
				r.mustSayOnce(t, "The destination refused a record", test.refused)
				r.mustSayOnce(t, "send pods: records that the destination refused: 1")
				want = slices.DeleteFunc(want, func(series string) bool { return series == podSeriesOf(namespace, test.refused) })
			} else {
				r.mustSucceed(t)
				failures := len(slices.DeleteFunc(slices.Clone(test.faults), func(f receiver.Fault) bool { return f == nil }))
				if failed := j.Requests() - j.Accepted(); failed != failures {
					t.Errorf("%d requests failed, want %d", failed, failures)
				}
			}
			j.mustHave(t, want)
			r.mustHaveSent(t, "pods", len(want))
		})
	}
}

// podSeries are the series of numbered pods.
func podSeries(namespace string, n int) []string {
	series := make([]string, n)
	for i := range n {
		series[i] = podSeriesOf(namespace, numberedPod(i))
	}
	return series
}

func podSeriesOf(namespace, name string) string {
	return fmt.Sprintf(`cloudzero_pod_labels{label_step="1",namespace=%q,pod=%q,resource_type="pod"}`, namespace, name)
}

// startAgent starts a Prometheus agent at an address that forwards to the journal
// what it is sent. It does not forward samples that are older than its own start.
func startAgent(t *testing.T, address string, j *journal) *prometheus.Server {
	t.Helper()
	return newPrometheus(t, prometheus.Options{
		Agent: true, Address: address,
		Config: fmt.Sprintf("remote_write: [{url: %q, queue_config: {batch_send_deadline: 200ms}}]\n", j.URL()),
	})
}

// closedPort is an address of a host with a port that nobody listens on.
func closedPort(t *testing.T, host string) string {
	t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// syntheticCluster serves an API server of so many pods, and returns its
// kubeconfig.
func syntheticCluster(t *testing.T, pods int) string {
	t.Helper()
	handler, err := synthetic.New(synthetic.Options{Pods: pods})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return writeKubeconfig(t, &clientcmdapi.Cluster{Server: server.URL}, &clientcmdapi.AuthInfo{})
}

// TestCollectorStartsLater starts a collector 20 s after labelstream: it gets, and
// forwards, every series at a time of its own life.
func TestCollectorStartsLater(t *testing.T) {
	t.Parallel()
	const pods = 10_000
	j, address := newJournal(t), closedPort(t, "127.0.0.1")
	run := launchOnce(t, invocation{kubeconfig: syntheticCluster(t, pods), settings: settings{
		"DESTINATION": "http://" + address + "/api/v1/write", "LABELS_RESOURCES": "pods",
	}})
	run.awaitLog(t, "connection refused")
	elapse(t, 20*time.Second)
	// A request that waits while the collector starts is stamped before that. The
	// next one comes some seconds after one that has just failed.
	const attempts = "labelstream_send_duration_seconds_count"
	d := run.serving(t)
	before := d.metrics(t)[attempts]
	eventuallyTrue(t, "another attempt fails", func() bool { return d.metrics(t)[attempts] > before })
	started := time.Now()
	startAgent(t, address, j)
	run.wait(t).mustSucceed(t)
	j.awaitCount(t, pods)
	if n := len(j.Series()); n != pods {
		t.Errorf("%d series were forwarded, want %d", n, pods)
	}
	j.mustBeSince(t, started, 0)
}

// TestCollectorKilledAfterChange kills a collector a second after a change, before
// that was sent to it. The next collector gets it at a time of its own life. The
// interval is long, so that it listens and has started by then.
func TestCollectorKilledAfterChange(t *testing.T) {
	t.Parallel()
	const (
		namespace = "collector-killed"
		count     = 20
	)
	p := shared.plane
	all := p.numbered(t, namespace, count)
	j, address := newJournal(t), closedPort(t, "127.0.0.1")
	// It is killed while it sends.
	j.cut = true
	agent := startAgent(t, address, j)
	d := startDaemon(t, invocation{user: p.follower(t, namespace, "pods"), settings: following.and(settings{
		"DESTINATION": "http://" + address + "/api/v1/write", "NAMESPACES": namespace, "SEND_INTERVAL": "15s",
	})})
	j.awaitCount(t, count)
	p.setStep(t, namespace, numberedPod(0), "2")
	elapse(t, time.Second)
	if err := agent.Stop(); err != nil {
		t.Fatal(err)
	}
	elapse(t, time.Second)
	started := time.Now()
	startAgent(t, address, j)
	j.awaitCount(t, count+1)
	d.terminate(t)
	j.mustBe(t, append(all, numberedPod(0)+" 2"))
	j.mustBeSince(t, started, count)
}

// mustBeSince demands that no sample from a number on is older than a time.
func (j *journal) mustBeSince(t *testing.T, start time.Time, from int) {
	t.Helper()
	for _, s := range j.all()[from:] {
		if at := time.UnixMilli(s.At); at.Before(start.Truncate(time.Millisecond)) {
			t.Errorf("a sample of %s is of %v, before the collector's start at %v", s.Object, at, start)
		}
	}
}
