package synthetic

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// SelfSigned makes a certificate for 127.0.0.1 that is valid for a day, and
// gives it in PEM too, for clients to trust.
func SelfSigned() (tls.Certificate, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, fmt.Errorf("generate a key for the synthetic server: %w", err)
	}
	now := time.Now()
	description := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "synthetic"},
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.Add(24 * time.Hour),
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, description, description, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, nil, fmt.Errorf("sign a certificate for the synthetic server: %w", err)
	}
	trusted := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, trusted, nil
}

// WriteKubeconfig writes a kubeconfig with which clients reach the server at
// url, trusting the certificates in PEM if there are any.
func WriteKubeconfig(file, url string, trusted []byte) error {
	config := clientcmdapi.NewConfig()
	config.Clusters["synthetic"] = &clientcmdapi.Cluster{Server: url, CertificateAuthorityData: trusted}
	config.AuthInfos["synthetic"] = &clientcmdapi.AuthInfo{}
	config.Contexts["synthetic"] = &clientcmdapi.Context{Cluster: "synthetic", AuthInfo: "synthetic"}
	config.CurrentContext = "synthetic"
	if err := clientcmd.WriteToFile(*config, file); err != nil {
		return fmt.Errorf("write the synthetic server's kubeconfig: %w", err)
	}
	return nil
}
