package webhook

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"
)

const (
	authorityLife = 5 * 365 * 24 * time.Hour
	leafLife      = 90 * 24 * time.Hour
	// backdated is for API servers whose clock is late.
	backdated = time.Hour
	// settleTime is how long a new authority must have been known to API
	// servers before a certificate of its is served.
	settleTime = time.Minute
	// urgent is how long before its end a certificate is renewed whatever is
	// known of what API servers trust.
	urgent = 24 * time.Hour
)

// The keys of the Secret that an authority is kept in.
const (
	secretBundle  = "ca.crt"
	secretCAKey   = "ca.key"
	secretLeaf    = "tls.crt"
	secretLeafKey = "tls.key"
)

// authorityName is what the names of our authorities begin with.
const authorityName = "labelstream webhook "

// maxTrusted bounds how many authorities are trusted at a time. There are more
// than two only where all has been made anew more than once.
const maxTrusted = 5

// authority is a certificate authority of our own, and the certificate that is
// served. It is not changed once it is made.
type authority struct {
	// trusted are the authorities that API servers should trust, the newest,
	// whose key we have, first.
	trusted []*x509.Certificate
	key     *ecdsa.PrivateKey
	leaf    *tls.Certificate
	// data is what is kept in the Secret.
	data map[string][]byte
}

// bundle is what API servers should trust, in PEM.
func (a *authority) bundle() []byte { return a.data[secretBundle] }

// issuer is the authority that the leaf is of, nil where it is of none.
func (a *authority) issuer() *x509.Certificate {
	for _, ca := range a.trusted {
		if a.leaf.Leaf.CheckSignatureFrom(ca) == nil {
			return ca
		}
	}
	return nil
}

// renewed returns the authority that should follow a at the time now, which is
// a where nothing is to be done. names are those that the certificate must be
// for. known is since when API servers are known to trust all that a has them
// trust, zero where they are not.
//
// A certificate is renewed by the newest authority. A new authority is first
// only trusted, beside the one before, and used later.
func (a *authority) renewed(names []string, now, known time.Time) (*authority, error) {
	if a.ended(now) {
		return newAuthority(names, now)
	}
	newest, leaf := a.trusted[0], a.leaf.Leaf
	settled := !known.IsZero() && now.Sub(known) >= settleTime
	inUse := a.issuer() == newest
	switch {
	case inUse && due(newest, now):
		return a.withSuccessor(now)
	case inUse && (due(leaf, now) || !slices.Equal(leaf.DNSNames, names)),
		!inUse && (settled || !usable(leaf, now.Add(urgent))):
		return a.withLeaf(names, now)
	}
	return a, nil
}

// ended tells whether there is no authority that can issue anything.
func (a *authority) ended(now time.Time) bool { return a == nil || !usable(a.trusted[0], now) }

// due tells whether two thirds of a certificate's life are over.
func due(c *x509.Certificate, now time.Time) bool {
	life := c.NotAfter.Sub(c.NotBefore)
	return now.After(c.NotAfter.Add(-life / 3))
}

func usable(c *x509.Certificate, now time.Time) bool {
	return now.After(c.NotBefore) && now.Before(c.NotAfter)
}

// newAuthority makes all anew.
func newAuthority(names []string, now time.Time) (*authority, error) {
	ca, key, err := newCA(now)
	if err != nil {
		return nil, err
	}
	a := &authority{trusted: []*x509.Certificate{ca}, key: key}
	return a.withLeaf(names, now)
}

// beside has those authorities of ours trusted that others may still use, as long
// as they last.
func (a *authority) beside(others []*x509.Certificate, now time.Time) (*authority, error) {
	trusted := slices.Clone(a.trusted)
	for _, ca := range others {
		ours := ca.IsCA && strings.HasPrefix(ca.Subject.CommonName, authorityName) && usable(ca, now)
		if ours && len(trusted) < maxTrusted && !slices.ContainsFunc(trusted, ca.Equal) {
			trusted = append(trusted, ca)
		}
	}
	return assemble(trusted, a.key, a.data[secretLeaf], a.data[secretLeafKey])
}

// withSuccessor adds a new authority, which is not used yet.
func (a *authority) withSuccessor(now time.Time) (*authority, error) {
	ca, key, err := newCA(now)
	if err != nil {
		return nil, err
	}
	return assemble([]*x509.Certificate{ca, a.trusted[0]}, key, a.data[secretLeaf], a.data[secretLeafKey])
}

// withLeaf has the newest authority issue a certificate. Those before it are
// trusted until they end: other replicas may still use them.
func (a *authority) withLeaf(names []string, now time.Time) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the webhook's key: %w", err)
	}
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: names[0]},
		DNSNames:    names,
		NotBefore:   now.Add(-backdated),
		NotAfter:    now.Add(leafLife),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	leaf, err := issue(template, a.trusted[0], &key.PublicKey, a.key)
	if err != nil {
		return nil, err
	}
	keyText, err := keyPEM(key)
	if err != nil {
		return nil, err
	}
	trusted := slices.DeleteFunc(slices.Clone(a.trusted), func(ca *x509.Certificate) bool { return !usable(ca, now) })
	return assemble(trusted, a.key, certificatePEM(leaf), keyText)
}

// newCA makes an authority's certificate and key.
func newCA(now time.Time) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make the webhook authority's key: %w", err)
	}
	template := &x509.Certificate{
		// The names of two authorities must differ, or a chain might be built
		// to the wrong one.
		Subject:               pkix.Name{CommonName: authorityName + now.UTC().Format(time.RFC3339)},
		NotBefore:             now.Add(-backdated),
		NotAfter:              now.Add(authorityLife),
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	ca, err := issue(template, template, &key.PublicKey, key)
	return ca, key, err
}

func issue(template, parent *x509.Certificate, public *ecdsa.PublicKey, key *ecdsa.PrivateKey) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("make a certificate's serial number: %w", err)
	}
	template.SerialNumber = serial
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, fmt.Errorf("make the webhook's certificate: %w", err)
	}
	return x509.ParseCertificate(der)
}

// assemble puts an authority together in the form that a Secret has.
func assemble(trusted []*x509.Certificate, key *ecdsa.PrivateKey, leaf, leafKey []byte) (*authority, error) {
	keyText, err := keyPEM(key)
	if err != nil {
		return nil, err
	}
	var bundle []byte
	for _, ca := range trusted {
		bundle = append(bundle, certificatePEM(ca)...)
	}
	return parseAuthority(map[string][]byte{
		secretBundle: bundle, secretCAKey: keyText, secretLeaf: leaf, secretLeafKey: leafKey,
	})
}

// parseBundle reads the certificates of a text in PEM.
func parseBundle(text []byte) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return all, nil
		}
		ca, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		all = append(all, ca)
	}
}

// isOurs tells whether a Secret's data may be of an authority of ours, though it
// may not be whole.
func isOurs(data map[string][]byte) bool {
	_, ok := data[secretCAKey]
	return ok
}

// parseAuthority reads what is kept in a Secret.
func parseAuthority(data map[string][]byte) (*authority, error) {
	a := &authority{data: data}
	var err error
	if a.trusted, err = parseBundle(data[secretBundle]); err != nil {
		return nil, fmt.Errorf("%s: %w", secretBundle, err)
	}
	if len(a.trusted) == 0 {
		return nil, fmt.Errorf("%s: no certificate in PEM", secretBundle)
	}
	pair, err := tls.X509KeyPair(certificatePEM(a.trusted[0]), data[secretCAKey])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", secretCAKey, err)
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s: no ECDSA key", secretCAKey)
	}
	a.key = key
	if a.leaf, err = keyPair(data[secretLeaf], data[secretLeafKey]); err != nil {
		return nil, fmt.Errorf("%s, %s: %w", secretLeaf, secretLeafKey, err)
	}
	if a.issuer() == nil {
		return nil, errors.New(secretLeaf + ": not of an authority in " + secretBundle)
	}
	return a, nil
}

func certificatePEM(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

func keyPEM(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode the webhook's key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// same tells whether two authorities are kept as the same data.
func (a *authority) same(b *authority) bool {
	if a == nil || b == nil {
		return a == b
	}
	for _, key := range []string{secretBundle, secretCAKey, secretLeaf, secretLeafKey} {
		if !bytes.Equal(a.data[key], b.data[key]) {
			return false
		}
	}
	return true
}
