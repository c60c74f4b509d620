// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"labelstream/test/monitoring"
	"labelstream/test/prometheus"
	"labelstream/test/receiver"
)

const (
	// alertsFaster is by how much every time of a minute or more in the shipped
	// rules is divided: minutes become seconds.
	alertsFaster = 60
	// alertsNamespace has pods whose labels change all the time, from the start: a
	// watch that brings nothing is taken for dead in seconds. Others are deleted.
	alertsNamespace        = "alerts"
	alertsPods, alertsGone = 5, 15
	// downJob is the job that LabelstreamDown asks for.
	downJob = "labelstream"
)

// patient is a daemon that something is wrong with, or nothing, and the alerts
// that it is to cause.
type patient struct {
	job    string
	start  func(*ward, *testing.T) *daemon
	alerts []string
}

var patients = []patient{
	{downJob, with(nil), []string{"LabelstreamDown"}},
	{"well", (*ward).reviewed, nil},
	// It has no right to the Lease.
	{"no-lease", with(settings{"LEADER_ELECTION": "true", "POD_NAMESPACE": alertsNamespace}), []string{"LabelstreamNoLeader"}},
	{"no-receiver", (*ward).unheard, []string{"LabelstreamNotSending"}},
	{"refused", (*ward).refused, []string{"LabelstreamDropping"}},
	{"misspelt", with(settings{"LABELS_RESOURCES": "pods,pod"}), []string{"LabelstreamKindMissing"}},
	{"no-api-server", (*ward).severed, []string{"LabelstreamKindMissing"}},
	{"forbidden", with(settings{"LABELS_RESOURCES": "pods,deployments"}), []string{"LabelstreamKindNotSynced"}},
	{"unwatched", (*ward).unwatched, []string{"LabelstreamKindStale"}},
	// A list is between two watches.
	{"unlisted", (*ward).unlisted, []string{"LabelstreamBackfillOverdue", "LabelstreamKindStale"}},
	{"slow-receiver", (*ward).delayed, []string{"LabelstreamQueueFull"}},
	{"old-certificate", (*ward).expiring, []string{"LabelstreamCertificateExpiring"}},
	{"slow-reviews", (*ward).slowlyReviewed, []string{"LabelstreamWebhookSlow"}},
	{"not-reviewed", (*ward).unreviewed, []string{"LabelstreamWebhookSilent"}},
}

// unsteady are alerts that may fire without a fault when times are shorter: of
// the reviews of five seconds, one in a hundred is one or none, and on a machine
// with much to do that one takes a quarter of a second. Which fires for what is
// known to be slow is looked at all the same.
var unsteady = []string{"LabelstreamWebhookSlow"}

// TestAlerts has a real Prometheus look at daemons with one fault each, by the
// shipped rules with shorter times, and demands that each fault fires its alert,
// and no other ever does.
func TestAlerts(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	targets := make(map[string]string)
	var want []string
	var down *daemon
	var daemons []*daemon
	for _, p := range patients {
		d := p.start(w, t)
		daemons = append(daemons, d)
		targets[p.job] = strings.TrimPrefix(d.status, "http://")
		for _, alert := range p.alerts {
			// Of what is not there, nobody knows the job.
			if p.job == downJob {
				down = d
				want = append(want, alert+" ")
			} else {
				want = append(want, alert+" "+p.job)
			}
		}
	}
	slices.Sort(want)
	// Where there is a webhook, the first list takes longer than it may when minutes
	// are seconds.
	for _, d := range daemons {
		if strings.Contains(d.stderr.String(), "Serving the webhook") {
			d.awaitSynced(t, "pods")
		}
	}
	s := newPrometheus(t, prometheus.Options{Config: scraping(t, targets)})
	eventuallyTrue(t, "all daemons are scraped", func() bool { return len(query(t, s, "up == 1")) == len(patients) })
	down.kill(t)
	for i := range alertsGone {
		shared.plane.remove(t, alertsNamespace, numberedPod(alertsPods+i))
	}
	var got []string
	var shown error
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("alerts that fire (-want +got):\n%s\nthe last slow review: %v", gocmp.Diff(want, got), shown)
		}
	})
	eventuallyTrue(t, "each fault fires its alert", func() bool {
		shown = w.showSlowly(t)
		got = alertsOf(t, s, `ALERTS{alertstate="firing"}`, want)
		return slices.Equal(got, want)
	})
	ever := alertsOf(t, s, `count by (alertname, job) (count_over_time(ALERTS{alertstate="firing"}[1h]))`, want)
	if diff := gocmp.Diff(want, ever); diff != "" {
		t.Errorf("alerts that have fired (-want +got):\n%s", diff)
	}
	w.changes.stop()
}

// scraping is the configuration of a Prometheus that looks at a daemon for each
// job, by the shipped rules.
func scraping(t *testing.T, targets map[string]string) string {
	t.Helper()
	rules, err := monitoring.ReadRules(filepath.Join(monitoring.Dir, "prometheusrule.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := rules.Shorten(alertsFaster); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "rules.yaml")
	if err := rules.Write(path); err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf("global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}\nrule_files: [%q]\nscrape_configs:\n", path)
	for _, job := range slices.Sorted(maps.Keys(targets)) {
		config += fmt.Sprintf("- {job_name: %s, static_configs: [{targets: [%q]}]}\n", job, targets[job])
	}
	return config
}

// alertsOf are the alerts of an expression's series, each with its job, but for
// unsteady ones that are not wanted.
func alertsOf(t *testing.T, s *prometheus.Server, promql string, want []string) []string {
	t.Helper()
	var alerts []string
	for _, sample := range query(t, s, promql) {
		name := string(sample.Metric["alertname"])
		alert := name + " " + string(sample.Metric["job"])
		if slices.Contains(want, alert) || !slices.Contains(unsteady, name) {
			alerts = append(alerts, alert)
		}
	}
	slices.Sort(alerts)
	return alerts
}

// ward is where the daemons are.
type ward struct {
	// changes are made to the pods that stay.
	changes *changer
	// slow is a daemon that is shown slow reviews.
	slow *hooked
}

func newWard(t *testing.T) *ward {
	t.Helper()
	shared.plane.numbered(t, alertsNamespace, alertsPods+alertsGone)
	w := &ward{changes: newChanger(t, shared.plane, alertsNamespace, alertsPods, 40*time.Millisecond)}
	w.changes.relabelsOnly = true
	w.changes.start()
	return w
}

// healthy is how a daemon is started that nothing is wrong with.
func (w *ward) healthy(t *testing.T) invocation {
	t.Helper()
	return invocation{user: shared.plane.follower(t, alertsNamespace, "pods"), settings: following.and(settings{
		"DESTINATION": newJournal(t).URL(), "NAMESPACES": alertsNamespace,
	})}
}

// with starts a daemon that lacks nothing but what the settings ask for.
func with(more settings) func(*ward, *testing.T) *daemon {
	return func(w *ward, t *testing.T) *daemon { return startDaemon(t, w.healthy(t).with(more)) }
}

// hooked is how a daemon is started that has a webhook.
func (w *ward) hooked(t *testing.T) invocation {
	t.Helper()
	return w.healthy(t).with(settings{"CHANGES": "webhook"})
}

// reviewed has a webhook that the API server calls.
func (w *ward) reviewed(t *testing.T) *daemon {
	h := startHooked(t, w.hooked(t))
	w.review(t, h)
	return h.daemon
}

// review makes the API server call a webhook.
func (w *ward) review(t *testing.T, h *hooked) {
	t.Helper()
	shared.plane.register(t, registration(h.byURL(), alertsNamespace))
	h.awaitShown(t, shared.plane, alertsNamespace)
}

// unheard has a receiver that is down, and room in its queue for half an hour of changes:
// reading does not wait.
func (w *ward) unheard(t *testing.T) *daemon {
	j := newJournal(t)
	j.Down()
	return startDaemon(t, w.healthy(t).with(settings{"DESTINATION": j.URL(), "BATCH_SIZE": "10000"}))
}

// refused has a receiver that refuses one pod. Its batches hold others, too: where
// everything is refused, sending slows down.
func (w *ward) refused(t *testing.T) *daemon {
	j := newJournal(t)
	j.Always(receiver.RefuseIf(func(req *receiver.Request) bool {
		return slices.ContainsFunc(req.Series, func(s receiver.Series) bool { return s.Get("pod") == numberedPod(0) })
	}, http.StatusBadRequest))
	return startDaemon(t, w.healthy(t).with(settings{"DESTINATION": j.URL(), "SEND_INTERVAL": "1s"}))
}

// severed has an API server that cannot be reached.
func (w *ward) severed(t *testing.T) *daemon {
	return w.proxied(t, nil, func(*http.Request) { panic(http.ErrAbortHandler) })
}

// proxied has a way to the API server that sees, and may end, its requests.
func (w *ward) proxied(t *testing.T, more settings, onRequest func(*http.Request)) *daemon {
	inv := w.healthy(t).with(more)
	inv.kubeconfig = newProxy(t, shared.plane, inv.user, onRequest).kubeconfig(t)
	return startDaemon(t, inv)
}

// unwatched may list and not watch.
func (w *ward) unwatched(t *testing.T) *daemon {
	inv := w.healthy(t)
	inv.user = shared.plane.reader(t, alertsNamespace, "pods")
	return startDaemon(t, inv)
}

// unlisted has an API server that answers the first list and none after it.
func (w *ward) unlisted(t *testing.T) *daemon {
	var lists atomic.Int32
	return w.proxied(t, settings{"RESYNC_INTERVAL": "4s"}, func(r *http.Request) {
		if isList(r) && lists.Add(1) > 1 {
			<-r.Context().Done()
		}
	})
}

// delayed has a receiver that takes two records a second, of more that come.
func (w *ward) delayed(t *testing.T) *daemon {
	j := newJournal(t)
	j.Always(receiver.Delay(500 * time.Millisecond))
	return startDaemon(t, w.healthy(t).with(settings{"DESTINATION": j.URL(), "BATCH_SIZE": "1"}))
}

// expiring has a certificate for ten more days.
func (w *ward) expiring(t *testing.T) *daemon {
	h := newCertificate(t, "127.0.0.1").startHooked(t, w.hooked(t), time.Now().Add(10*24*time.Hour))
	w.review(t, h)
	return h.daemon
}

// unreviewed has a webhook that no API server knows of. It lists every minute.
func (w *ward) unreviewed(t *testing.T) *daemon {
	return startHooked(t, w.hooked(t).with(settings{"RESYNC_INTERVAL": "1m"})).daemon
}

// slowlyReviewed has a webhook whose caller takes its time.
func (w *ward) slowlyReviewed(t *testing.T) *daemon {
	w.slow = startHooked(t, w.hooked(t))
	return w.slow.daemon
}

// showSlowly sends a review whose second half comes 400 ms after the first. On a
// machine where nothing gets the processor for five seconds, the webhook closes the
// connection before it has read the first.
func (w *ward) showSlowly(t *testing.T) error {
	t.Helper()
	const (
		review = `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"slow","operation":"UPDATE",` +
			`"resource":{"group":"","version":"v1","resource":"pods"},"object":{"metadata":{"namespace":"` + alertsNamespace + `","name":"pod-000","labels":{"step":"1"}}}}}`
		head = "POST /validate HTTP/1.1\r\nHost: webhook\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
	)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(w.slow.bundle)
	dialer := &tls.Dialer{Config: &tls.Config{RootCAs: roots}}
	connection, err := dialer.DialContext(t.Context(), "tcp", w.slow.address)
	if err != nil {
		return err
	}
	defer connection.Close()
	_, first := fmt.Fprintf(connection, head+"%s", len(review), review[:len(review)/2])
	elapse(t, 400*time.Millisecond)
	_, second := io.WriteString(connection, review[len(review)/2:])
	answer, third := io.ReadAll(connection)
	if err := errors.Join(first, second, third); err != nil || !strings.Contains(string(answer), `"allowed":true`) {
		return fmt.Errorf("the review is answered %q: %w", answer, err)
	}
	return nil
}
