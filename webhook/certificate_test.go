// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"crypto/x509"
	"maps"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

var names = []string{"labelstream-webhook.cost.svc", "labelstream-webhook.cost.svc.cluster.local"}

func renew(t *testing.T, p pair, now time.Time) pair {
	t.Helper()
	p, err := p.renewed(names, now)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestRenewed says for each state what follows.
func TestRenewed(t *testing.T) {
	first := renew(t, pair{}, noon)
	both := renew(t, first, noon.Add(336*day))
	for _, test := range []struct {
		name string
		from pair
		at   time.Duration
		want string
	}{
		{"nothing is there", pair{}, 0, "anew"},
		{"fresh", first, 0, "same"},
		{"31 days left", first, 334 * day, "same"},
		{"30 days left", first, 335 * day, "next"},
		{"ended", first, 366 * day, "anew"},
		{"with a successor", both, 337 * day, "same"},
		{"with a successor, a minute left", both, 365*day - time.Minute, "same"},
		{"ended, with a successor", both, 365 * day, "moved up"},
		{"both ended", both, (336 + 365) * day, "anew"},
		{"made by a clock 90 minutes ahead", first, -90 * time.Minute, "same"},
		{"made by a clock 23 hours ahead", both, 336*day - 23*time.Hour, "same"},
		{"made by a clock two days ahead", first, -2 * day, "anew"},
		{"its successor made by a clock two days ahead", both, 334 * day, "dropped"},
	} {
		t.Run(test.name, func(t *testing.T) {
			now := noon.Add(test.at)
			got := renew(t, test.from, now)
			if how := difference(test.from, got); how != test.want {
				t.Fatalf("%s, want %s", how, test.want)
			}
			if renew(t, got, now) != got {
				t.Error("it is renewed again at once")
			}
			for _, c := range []*certificate{got.current, got.next} {
				if c != nil && c != test.from.current && c != test.from.next && (c.left(now) != lifetime || c.left(now.Add(-backdated)) == 0) {
					t.Errorf("valid for %v, want %v and backdated", c.left(now), lifetime)
				}
			}
		})
	}
}

func difference(from, to pair) string {
	switch {
	case from == to:
		return "same"
	case to.current == from.current && from.next == nil:
		return "next"
	case to.current == from.current && to.next == nil:
		return "dropped"
	case to.current == from.next && to.next == nil:
		return "moved up"
	case to.current != from.current && to.next == nil:
		return "anew"
	}
	return "something else"
}

func TestServe(t *testing.T) {
	first := renew(t, pair{}, noon)
	both := renew(t, first, noon.Add(336*day))
	for _, test := range []struct {
		name      string
		pair      pair
		at        time.Duration
		published bool
		want      *certificate
	}{
		{"alone", first, 0, true, first.current},
		{"alone and ended", first, 366 * day, false, first.current},
		{"a successor that is not known", both, 337 * day, false, both.current},
		{"a successor that is known", both, 337 * day, true, both.next},
		{"a day left", both, 364 * day, false, both.current},
		{"less than a day left", both, 364*day + time.Second, false, both.next},
		{"ended", both, 366 * day, false, both.next},
	} {
		if got := test.pair.serve(noon.Add(test.at), test.published); got != test.want {
			t.Errorf("%s: serves the other", test.name)
		}
	}
}

// TestOwnTrustAnchor verifies certificates as clients do that trust the bundle:
// both of its own are good, and nothing that these have signed.
func TestOwnTrustAnchor(t *testing.T) {
	p := renew(t, renew(t, pair{}, noon), noon.Add(336*day))
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(p.bundle())
	for _, test := range []struct {
		name string
		*certificate
		want bool
	}{{"current", p.current, true}, {"next", p.next, true}, {"another of the name", renew(t, pair{}, noon).current, false}} {
		for _, host := range names {
			_, err := test.tls.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: host, CurrentTime: noon.Add(340 * day)})
			if (err == nil) != test.want || test.tls.Leaf.IsCA {
				t.Errorf("%s, %s: %v, may sign others: %v", test.name, host, err, test.tls.Leaf.IsCA)
			}
		}
	}
}

func TestParsePair(t *testing.T) {
	p := renew(t, renew(t, pair{}, noon), noon.Add(336*day))
	if got, err := parsePair(p.data(), names); err != nil || !got.current.tls.Leaf.Equal(p.current.tls.Leaf) || !got.next.tls.Leaf.Equal(p.next.tls.Leaf) {
		t.Errorf("a pair is another when it is read again: %v", err)
	}
	if got, err := parsePair(nil, names); got != (pair{}) || err != nil {
		t.Errorf("nothing gives %v, %v", got, err)
	}
	foreign := made(t)
	others := altered(t, p.current, func(c *x509.Certificate) { c.RawSubject, c.Subject.Organization = nil, nil })
	const another = "not a certificate that labelstream has made for this Service"
	for _, test := range []struct {
		name    string
		changes map[string][]byte
		want    string
	}{
		{"no certificate", map[string][]byte{currentCert: nil}, "tls.crt, tls.key: "},
		{"rubbish", map[string][]byte{currentCert: []byte("rubbish")}, "tls.crt, tls.key: "},
		{"another key", map[string][]byte{currentKey: p.next.key}, "tls.crt, tls.key: tls: private key does not match"},
		{"for another Service", map[string][]byte{currentCert: foreign.cert, currentKey: foreign.key}, "tls.crt, tls.key: " + another},
		{"made by others", map[string][]byte{currentCert: others.cert}, "tls.crt, tls.key: " + another},
		{"another next key", map[string][]byte{nextKey: p.current.key}, "next.crt, next.key: tls: private key does not match"},
		{"no next key", map[string][]byte{nextKey: nil}, "next.crt, next.key: "},
	} {
		data := p.data()
		maps.Copy(data, test.changes)
		if _, err := parsePair(data, names); err == nil || !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("%s: %v, want %s", test.name, err, test.want)
		}
	}
}
