// SPDX-License-Identifier: Apache-2.0

package app

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	logtest "github.com/sirupsen/logrus/hooks/test"

	"labelstream/status"
	"labelstream/status/outage"
)

func TestRestConfigOrder(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	flag := writeKubeconfig(t, "http://flag:1")
	variable := writeKubeconfig(t, "http://variable:1")
	none := filepath.Join(t.TempDir(), "none")
	for _, tt := range []struct{ name, file, variable, context, host, err string }{
		{"flag first", flag, variable, "", "http://flag:1", ""},
		{"then KUBECONFIG", "", variable, "", "http://variable:1", ""},
		{"a KUBECONFIG that is missing", "", none, "", "", `KUBECONFIG="` + none + `"`},
		{"a file that is missing", none, variable, "", "", "no such file or directory"},
		{"a context", "", variable, "c", "http://variable:1", ""},
		{"a context that is missing", flag, "", "other", "", `context "other" does not exist`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("KUBECONFIG", tt.variable)
			cfg, err := restConfig(&Options{Flags: Flags{Kubeconfig: tt.file, Context: tt.context}, Build: status.Build{Version: "1.2.3"}})
			switch {
			case tt.err != "":
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v, want %s", err, tt.err)
				}
			case err != nil:
				t.Error(err)
			case cfg.Host != tt.host || cfg.UserAgent != "labelstream/1.2.3":
				t.Errorf("host %q, user agent %q", cfg.Host, cfg.UserAgent)
			}
		})
	}
}

// TestLogErrors writes a line for each error, with its hint.
func TestLogErrors(t *testing.T) {
	log, hook := logtest.NewNullLogger()
	LogErrors(log, errors.Join(errors.New("a"), errors.Join(outage.WithHint(errors.New("b"), "do it"), os.ErrNotExist)))
	var got []string
	for _, entry := range hook.AllEntries() {
		text, err := entry.String()
		if err != nil {
			t.Fatal(err)
		}
		_, text, _ = strings.Cut(strings.TrimSpace(text), "level=")
		got = append(got, text)
	}
	want := []string{`error msg=a`, `error msg=b hint="do it"`, `error msg="file does not exist"`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
}
