// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestControlPlane shows what other tests rely on: how requests are counted, that
// Kill ends the API server, and that nothing is left.
func TestControlPlane(t *testing.T) {
	// The first start on a machine builds the binaries.
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
	defer cancel()
	c, err := Start(ctx, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Stop()
	config, err := c.Config(Admin)
	if err != nil {
		t.Fatal(err)
	}
	admin, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	version, err := admin.ServerVersion()
	if err != nil || version.GitVersion != Version || version.Minor != "37" {
		t.Errorf("version %v, %v", version, err)
	}
	if _, err := c.Config("stranger"); err == nil {
		t.Error("a user that does not exist has a config")
	}
	var counts [2]int
	for i := range counts {
		if _, err := admin.CoreV1().Secrets("").List(ctx, metav1.ListOptions{}); err != nil {
			t.Fatal(err)
		}
		if counts[i], err = c.Requests(ctx, map[string]string{"verb": "LIST", "resource": "secrets", "code": "200"}); err != nil {
			t.Fatal(err)
		}
	}
	if counts[1]-counts[0] != 1 {
		t.Errorf("one list was counted as %d", counts[1]-counts[0])
	}
	c.Kill()
	if _, err := admin.ServerVersion(); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("after Kill: %v, want a refused connection", err)
	}
	pid := c.etcd.Pid()
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("etcd after Stop: %v", err)
	}
	if _, err := os.Stat(c.dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory after Stop: %v", err)
	}
}
