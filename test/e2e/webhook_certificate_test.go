package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// authority is one that webhooks, and those who call them, have certificates of.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	// bundle is the certificate in PEM, as a caBundle has it.
	bundle []byte
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	description := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "authority of " + t.Name()},
		NotAfter:              time.Now().Add(24 * time.Hour),
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	key := newKey(t)
	der := signed(t, description, description, key, key)
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{certificate: certificate, key: key, bundle: inPEM("CERTIFICATE", der)}
}

// issue returns a certificate for hosts, which are names or addresses, and its
// key, both in PEM. It serves for either side of a connection, for the usual 90
// days.
func (a *authority) issue(t *testing.T, hosts ...string) (certificate, key []byte) {
	t.Helper()
	return a.issueUntil(t, time.Now().Add(90*24*time.Hour), hosts...)
}

// issueUntil is the same for a certificate that ends, or has ended, at some time.
func (a *authority) issueUntil(t *testing.T, end time.Time, hosts ...string) (certificate, key []byte) {
	t.Helper()
	description := &x509.Certificate{
		Subject:     pkix.Name{CommonName: hosts[0]},
		NotAfter:    end,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			description.IPAddresses = append(description.IPAddresses, ip)
		} else {
			description.DNSNames = append(description.DNSNames, host)
		}
	}
	own := newKey(t)
	der, err := x509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		t.Fatal(err)
	}
	return inPEM("CERTIFICATE", signed(t, description, a.certificate, own, a.key)), inPEM("PRIVATE KEY", der)
}

// files has a daemon serve its webhook with a certificate for hosts.
func (a *authority) files(t *testing.T, hosts ...string) settings {
	t.Helper()
	dir := t.TempDir()
	files := settings{"WEBHOOK_CERT_FILE": filepath.Join(dir, "tls.crt"), "WEBHOOK_KEY_FILE": filepath.Join(dir, "tls.key")}
	certificate, key := a.issue(t, hosts...)
	for name, text := range map[string][]byte{"WEBHOOK_CERT_FILE": certificate, "WEBHOOK_KEY_FILE": key} {
		if err := os.WriteFile(files[name], text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// signed is the certificate of a key, from an hour ago, in DER.
func signed(t *testing.T, description, issuer *x509.Certificate, own, issuers *ecdsa.PrivateKey) []byte {
	t.Helper()
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		t.Fatal(err)
	}
	description.SerialNumber = serial
	description.NotBefore = time.Now().Add(-time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, description, issuer, own.Public(), issuers)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func inPEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
