// SPDX-License-Identifier: Apache-2.0

package app

import (
	"bytes"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	logtest "github.com/sirupsen/logrus/hooks/test"
)

// TestChecks compares both forms of the output. The exit code follows the error.
func TestChecks(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none")
	t.Setenv("KUBECONFIG", none)
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	const (
		fault  = "find out how to reach the API server: no cluster in the files of KUBECONFIG="
		reason = ", no service account, no ~/.kube/config"
		hint   = "look at --kubeconfig, KUBECONFIG and --context, and whether the server can be reached from here"
	)
	cfg := loadConfig(t, "http://127.0.0.1:1", nil)
	log, _ := logtest.NewNullLogger()
	for output, want := range map[string]string{
		"text": "fail  API server   " + fault + `"` + none + `"` + reason + "\n                   " + hint + "\n",
		"json": `[
  {
    "level": "fail",
    "check": "API server",
    "message": "` + fault + `\"` + none + `\"` + reason + `",
    "hint": "` + hint + `"
  }
]
`,
	} {
		var out bytes.Buffer
		err := Run(t.Context(), cfg, Options{Flags: Flags{Command: "check", Output: output, NoSend: true}, Log: log, Stdout: &out})
		if diff := cmp.Diff(want, out.String()); diff != "" || err == nil || err.Error() != "1 of 1 checks failed" {
			t.Errorf("%s: %v, output (-want +got):\n%s", output, err, diff)
		}
		err = Run(t.Context(), cfg, Options{Flags: Flags{Command: "check", Output: output, NoSend: true}, Log: log, Stdout: brokenWriter{}})
		if err == nil || err.Error() != "print the checks: disk full" {
			t.Errorf("%s: %v", output, err)
		}
	}
}
