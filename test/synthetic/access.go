package synthetic

import (
	"fmt"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

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
