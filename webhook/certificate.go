// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"

	certutil "k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"
)

const (
	day = 24 * time.Hour
	// lifetime is how long a certificate of ours is valid.
	lifetime = 365 * day
	// backdated is for API servers and replicas whose clocks are late.
	backdated = day
	// renewBefore is how long before its end a certificate gets a successor.
	renewBefore = 30 * day
	// publishedFor is how long API servers must have trusted a successor before
	// it is served, and the least that a certificate that is served has left.
	publishedFor = day
)

// The keys of the Secret's data.
const (
	currentCert, currentKey = "tls.crt", "tls.key"
	nextCert, nextKey       = "next.crt", "next.key"
)

// organization marks the certificates of ours.
const organization = "labelstream"

// certificate is one of ours: self-signed, and its own trust anchor. It is not
// changed once it is made.
type certificate struct {
	tls *tls.Certificate
	// cert and key are in PEM.
	cert, key []byte
}

// newCertificate makes a certificate for the names.
func newCertificate(names []string, now time.Time) (*certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the webhook's key: %w", err)
	}
	template := &x509.Certificate{
		Subject:     pkix.Name{Organization: []string{organization}, CommonName: names[0]},
		DNSNames:    names,
		NotBefore:   now.Add(-backdated),
		NotAfter:    now.Add(lifetime),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		// It must not sign others: IsCA is false.
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("make the webhook's certificate: %w", err)
	}
	keyPEM, err := keyutil.MarshalPrivateKeyToPEM(key)
	if err != nil {
		return nil, fmt.Errorf("encode the webhook's key: %w", err)
	}
	return parseCertificate(pem.EncodeToMemory(&pem.Block{Type: certutil.CertificateBlockType, Bytes: der}), keyPEM, names)
}

// parseCertificate reads a certificate of ours, which has the names.
func parseCertificate(cert, key []byte, names []string) (*certificate, error) {
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, err
	}
	if !slices.Equal(pair.Leaf.Subject.Organization, []string{organization}) || !slices.Equal(pair.Leaf.DNSNames, names) {
		return nil, errors.New("not a certificate that labelstream has made for this Service")
	}
	return &certificate{tls: &pair, cert: cert, key: key}, nil
}

// left is how long the certificate is valid still; 0 where it is not.
func (c *certificate) left(now time.Time) time.Duration {
	if c == nil || now.Before(c.tls.Leaf.NotBefore) {
		return 0
	}
	return max(0, c.tls.Leaf.NotAfter.Sub(now))
}

// pair is the certificate in use and its successor, nil until it is time to make
// one. Each may be served: API servers should trust both.
type pair struct{ current, next *certificate }

// parsePair reads a Secret's data; none gives an empty pair.
func parsePair(data map[string][]byte, names []string) (p pair, err error) {
	if len(data) == 0 {
		return pair{}, nil
	}
	if p.current, err = parseCertificate(data[currentCert], data[currentKey], names); err != nil {
		return pair{}, fmt.Errorf("%s, %s: %w", currentCert, currentKey, err)
	}
	if _, ok := data[nextCert]; !ok {
		return p, nil
	}
	if p.next, err = parseCertificate(data[nextCert], data[nextKey], names); err != nil {
		return pair{}, fmt.Errorf("%s, %s: %w", nextCert, nextKey, err)
	}
	return p, nil
}

// data is what the Secret holds.
func (p pair) data() map[string][]byte {
	data := map[string][]byte{currentCert: p.current.cert, currentKey: p.current.key}
	if p.next != nil {
		data[nextCert], data[nextKey] = p.next.cert, p.next.key
	}
	return data
}

// bundle is what API servers should trust, in PEM.
func (p pair) bundle() []byte {
	if p.next == nil {
		return p.current.cert
	}
	return slices.Concat(p.current.cert, p.next.cert)
}

// renewed returns the pair that should follow p, which is p where nothing is to
// be done. A certificate stays in the pair until it has ended, whichever of the
// two is served. So replicas whose clocks differ by less than publishedFor never
// undo what the other did.
func (p pair) renewed(names []string, now time.Time) (pair, error) {
	if p.next.left(now) == 0 {
		p.next = nil
	}
	if p.current.left(now) == 0 {
		p.current, p.next = p.next, nil
	}
	var err error
	switch {
	case p.current == nil:
		p.current, err = newCertificate(names, now)
	case p.next == nil && p.current.left(now) <= renewBefore:
		p.next, err = newCertificate(names, now)
	}
	return p, err
}

// serve returns the certificate to serve with. published says that API servers
// have trusted both for long enough.
func (p pair) serve(now time.Time, published bool) *certificate {
	if p.next != nil && (published || p.current.left(now) < publishedFor) {
		return p.next
	}
	return p.current
}
