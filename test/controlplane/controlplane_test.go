package controlplane

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what would otherwise hang a test that has failed.
const patience = 2 * time.Minute

// buildPatience is patience for the first start on a machine, which builds the
// binaries.
const buildPatience = 30 * time.Minute

func started(t *testing.T, opts Options) *ControlPlane {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), buildPatience)
	defer cancel()
	c, err := Start(ctx, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			c.WriteLogs(t.Output(), 50)
		}
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func clientOf(t *testing.T, c *ControlPlane, user string) *kubernetes.Clientset {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := c.WriteKubeconfig(path, user); err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func TestControlPlane(t *testing.T) {
	c := started(t, Options{Users: []string{"guest"}})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	admin := clientOf(t, c, Admin)

	version, err := admin.ServerVersion()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"1", "37", Version}, []string{version.Major, version.Minor, version.GitVersion}); diff != "" {
		t.Errorf("version (-want +got):\n%s", diff)
	}
	_, err = clientOf(t, c, "guest").CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
	if !apierrors.IsForbidden(err) {
		t.Errorf("a user without rights lists namespaces: %v", err)
	}
	if _, err := c.Config("stranger"); err == nil {
		t.Error("a user that does not exist has a config")
	}

	makeNamespaces(ctx, t, admin, 3)
	before, err := c.Requests(ctx, map[string]string{"verb": "LIST", "resource": "secrets", "code": "200"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := admin.CoreV1().Secrets("").List(ctx, metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	after, err := c.Requests(ctx, map[string]string{"verb": "LIST", "resource": "secrets", "code": "200"})
	if err != nil {
		t.Fatal(err)
	}
	if after-before != 1 {
		t.Errorf("one list was counted as %d", after-before)
	}

	t.Run("compact", func(t *testing.T) { testCompact(ctx, t, c, admin) })
	t.Run("kill and restart", func(t *testing.T) { testRestart(ctx, t, c, admin) })
}

func makeNamespaces(ctx context.Context, t *testing.T, client *kubernetes.Clientset, n int) {
	t.Helper()
	for i := range n {
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("team-%d", i)}}
		if _, err := client.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

func testCompact(ctx context.Context, t *testing.T, c *ControlPlane, client *kubernetes.Clientset) {
	list, err := client.CoreV1().Namespaces().List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := client.CoreV1().Namespaces().Delete(ctx, "team-0", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := c.Compact(ctx); err != nil {
		t.Fatal(err)
	}
	for {
		_, err := client.CoreV1().Namespaces().List(ctx, metav1.ListOptions{Limit: 1, Continue: list.Continue})
		switch {
		case apierrors.IsResourceExpired(err):
			return
		case err != nil:
			t.Fatalf("continue a list after compaction: %v", err)
		}
		// The server's cache forgets with a delay.
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			t.Fatal("a list could be continued long after compaction")
		}
	}
}

func testRestart(ctx context.Context, t *testing.T, c *ControlPlane, client *kubernetes.Clientset) {
	c.Kill()
	if _, err := client.ServerVersion(); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("after Kill: %v, want a refused connection", err)
	}
	if err := c.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := client.CoreV1().Namespaces().Get(ctx, "team-1", metav1.GetOptions{}); err != nil {
		t.Errorf("after Restart, with the client of before: %v", err)
	}
}

func TestStopEndsWhatWasStarted(t *testing.T) {
	c := started(t, Options{})
	pids := []int{c.etcd.Pid(), c.server.Pid()}
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("process %d after Stop: %v", pid, err)
		}
	}
	if _, err := os.Stat(c.dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory after Stop: %v", err)
	}
}

func TestStartSaysWhatFailed(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := strconv.Itoa(taken.Addr().(*net.TCPAddr).Port)
	for _, test := range []struct {
		name string
		opts Options
		want []string
	}{
		{"flag of the API server", Options{APIServerFlags: []string{"--no-such-flag"}},
			[]string{"wait for kube-apiserver to be ready: exit status 1", "unknown flag: --no-such-flag"}},
		{"port of etcd taken", Options{EtcdFlags: []string{"--listen-client-urls=http://127.0.0.1:" + port}},
			[]string{"wait for etcd to be ready: exit status 1", "address already in use"}},
		{"port of the API server taken", Options{APIServerFlags: []string{"--secure-port=" + port}},
			[]string{"wait for kube-apiserver to be ready: exit status 1", "address already in use"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), buildPatience)
			defer cancel()
			_, err := Start(ctx, test.opts)
			if err == nil {
				t.Fatal("the control plane started")
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error does not say %q:\n%v", want, err)
				}
			}
		})
	}
}
