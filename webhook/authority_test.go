package webhook

import (
	"crypto/x509"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

var names = []string{"labelstream.cost.svc"}

func must(t *testing.T) func(*authority, error) *authority {
	return func(a *authority, err error) *authority {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
}

const day = 24 * time.Hour

// TestRenewed says for each state what follows: nothing, another certificate of
// the same authority, of the next one, another authority beside it, or all anew.
func TestRenewed(t *testing.T) {
	first := must(t)(newAuthority(names, noon))
	// Its authority is due, and has issued another certificate just before.
	due := noon.Add(authorityLife * 2 / 3)
	old := must(t)(first.withLeaf(names, due))
	successor := must(t)(old.withSuccessor(due))
	changed := must(t)(successor.withLeaf(names, due.Add(time.Minute)))
	for _, test := range []struct {
		name  string
		from  *authority
		names []string
		now   time.Time
		known time.Time
		want  string
	}{
		{"nothing is there", nil, names, noon, time.Time{}, "anew"},
		{"fresh", first, names, noon, time.Time{}, "same"},
		{"before two thirds", first, names, noon.Add(59 * day), noon, "same"},
		{"after two thirds", first, names, noon.Add(61 * day), noon, "leaf"},
		{"after two thirds, not known", first, names, noon.Add(61 * day), time.Time{}, "leaf"},
		{"ended", first, names, noon.Add(91 * day), time.Time{}, "leaf"},
		{"another Service", first, []string{"other.cost.svc"}, noon, time.Time{}, "leaf"},
		{"the authority is due", old, names, due.Add(time.Hour), due, "successor"},
		{"the authority is due, not known", old, names, due.Add(time.Hour), time.Time{}, "successor"},
		{"the authority has ended", first, names, noon.Add(authorityLife + day), time.Time{}, "anew"},
		{"the authority is of the future", first, names, noon.Add(-day), time.Time{}, "anew"},
		{"a successor that is not known", successor, names, due.Add(day), time.Time{}, "same"},
		{"a successor known for less than a minute", successor, names, due.Add(day), due.Add(day - 59*time.Second), "same"},
		{"a successor known for a minute", successor, names, due.Add(day), due.Add(day - time.Minute), "leaf"},
		{"a successor that is not known, in two months", successor, names, due.Add(88 * day), time.Time{}, "same"},
		{"a successor that is not known, at the last moment", successor, names, due.Add(89*day + time.Hour), time.Time{}, "leaf"},
		{"the successor in use", changed, names, due.Add(day), time.Time{}, "same"},
		{"the successor in use, after two thirds", changed, names, due.Add(61 * day), time.Time{}, "leaf"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := must(t)(test.from.renewed(test.names, test.now, test.known))
			if how := difference(test.from, got); how != test.want {
				t.Fatalf("made %s, want %s", how, test.want)
			}
			if test.want == "same" {
				return
			}
			expectServes(t, got, got.trusted, test.want == "successor", test.names, test.now)
			if test.from != nil && test.want != "anew" {
				// Who still trusts only what was there before takes it, unless
				// the successor is used.
				expectServes(t, got, test.from.trusted, true, test.names, test.now)
			}
		})
	}
}

// difference says what is new in b.
func difference(a, b *authority) string {
	switch {
	case a == b:
		return "same"
	case a == nil || !slices.ContainsFunc(b.trusted, a.trusted[0].Equal):
		return "anew"
	case !b.trusted[0].Equal(a.trusted[0]) && b.leaf.Leaf.Equal(a.leaf.Leaf):
		return "successor"
	case b.trusted[0].Equal(a.trusted[0]) && !b.leaf.Leaf.Equal(a.leaf.Leaf) && b.issuer() == b.trusted[0]:
		return "leaf"
	}
	return "something else"
}

// expectServes verifies the certificate as an API server does.
func expectServes(t *testing.T, a *authority, trusted []*x509.Certificate, old bool, names []string, now time.Time) {
	t.Helper()
	roots := x509.NewCertPool()
	for _, ca := range trusted {
		roots.AddCert(ca)
	}
	if _, err := a.leaf.Leaf.Verify(x509.VerifyOptions{DNSName: names[0], Roots: roots, CurrentTime: now}); err != nil {
		t.Errorf("an API server would not trust it: %v", err)
	}
	if left := a.leaf.Leaf.NotAfter.Sub(now); !old && (left != leafLife || a.leaf.Leaf.NotBefore.After(now.Add(-backdated))) {
		t.Errorf("valid from %v for %v more at %v, want %v", a.leaf.Leaf.NotBefore, left, now, leafLife)
	}
}

// TestOldAuthorityIsForgotten keeps what may be in use until it has ended.
func TestOldAuthorityIsForgotten(t *testing.T) {
	first := must(t)(newAuthority(names, noon))
	due := noon.Add(authorityLife * 2 / 3)
	a := must(t)(must(t)(first.withSuccessor(due)).withLeaf(names, due))
	if got := strings.Count(string(a.bundle()), "BEGIN"); got != 2 {
		t.Errorf("%d are trusted, want 2", got)
	}
	a = must(t)(a.withLeaf(names, noon.Add(authorityLife+day)))
	if got := strings.Count(string(a.bundle()), "BEGIN"); got != 1 || a.trusted[0].Equal(first.trusted[0]) {
		t.Errorf("%d are trusted, want the newer", got)
	}
}

func TestParseAuthority(t *testing.T) {
	a, b := made(t), made(t)
	if got := must(t)(parseAuthority(a.data)); !got.same(a) || !got.leaf.Leaf.Equal(a.leaf.Leaf) || !got.key.Equal(a.key) {
		t.Error("an authority is another when it is read again")
	}
	with := func(changes map[string][]byte) map[string][]byte {
		data := maps.Clone(a.data)
		maps.Copy(data, changes)
		return data
	}
	for _, test := range []struct {
		data map[string][]byte
		want string
	}{
		{nil, "ca.crt: no certificate in PEM"},
		{with(map[string][]byte{secretBundle: []byte("rubbish")}), "ca.crt: no certificate in PEM"},
		{with(map[string][]byte{secretBundle: a.data[secretCAKey]}), "ca.crt: "},
		{with(map[string][]byte{secretBundle: b.bundle()}), "ca.key: "},
		{with(map[string][]byte{secretCAKey: b.data[secretCAKey]}), "ca.key: "},
		{with(map[string][]byte{secretCAKey: nil}), "ca.key: "},
		{with(map[string][]byte{secretLeafKey: b.data[secretLeafKey]}), "tls.crt, tls.key: "},
		{with(map[string][]byte{secretLeaf: b.data[secretLeaf], secretLeafKey: b.data[secretLeafKey]}), "tls.crt: not of an authority in ca.crt"},
	} {
		if _, err := parseAuthority(test.data); err == nil || !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("got %v, want %s", err, test.want)
		}
	}
}
