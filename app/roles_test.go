// SPDX-License-Identifier: Apache-2.0

package app

import (
	"bytes"
	stdcmp "cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	logtest "github.com/sirupsen/logrus/hooks/test"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"

	"labelstream/config"
)

// rolesOf prints the roles for settings, which lack their prefix. Unless a flag
// names a cluster, there is none.
func rolesOf(t *testing.T, settings map[string]string, flags Flags) (string, error) {
	t.Helper()
	t.Setenv("POD_NAMESPACE", "")
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "none"))
	for name, value := range settings {
		t.Setenv("LABELSTREAM_"+name, value)
	}
	cfg, err := config.Load(true)
	if err != nil {
		t.Fatal(err)
	}
	log, _ := logtest.NewNullLogger()
	var out bytes.Buffer
	flags.Command = "rbac"
	err = Run(t.Context(), cfg, Options{Flags: flags, Log: log, Stdout: &out})
	return out.String(), err
}

// TestRolesAsYAML compares all that is printed for the settings that print
// objects of each kind.
func TestRolesAsYAML(t *testing.T) {
	want, err := os.ReadFile("testdata/rbac.yaml")
	if err != nil {
		t.Fatal(err)
	}
	got, err := rolesOf(t, map[string]string{
		"NAMESPACES": "shop", "LABELS_RESOURCES": "pods,namespaces,deployments,nodes", "CHANGES": "webhook",
	}, Flags{})
	if err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("roles (-want +got):\n%s", diff)
	}
}

// TestRoles has each rule in short: where it holds, the group, the resources, the
// names in brackets where only those are meant, and the verbs.
func TestRoles(t *testing.T) {
	for _, tt := range []struct {
		name     string
		settings map[string]string
		flags    Flags
		want     []string
	}{
		{"the default ones", nil, Flags{}, []string{"cluster: '' namespaces,pods: list,watch"}},
		{"--once", map[string]string{"LEADER_ELECTION": "true"}, Flags{Once: true}, []string{"cluster: '' namespaces,pods: list"}},
		{"--dry-run", map[string]string{"CHANGES": "webhook"}, Flags{DryRun: true}, []string{"cluster: '' namespaces,pods: list"}},
		{"nothing tells of changes", map[string]string{"CHANGES": "none"}, Flags{}, []string{"cluster: '' namespaces,pods: list"}},
		{"kinds of several groups, whichever way they are named", map[string]string{
			"LABELS_RESOURCES":    "rollouts.argoproj.io,storageclasses,pods,deployments.apps,ingresses,widgets.example.com",
			"ANNOTATIONS_ENABLED": "true", "ANNOTATIONS_RESOURCES": "deployments,daemonsets",
		}, Flags{Once: true}, []string{
			"cluster: '' pods: list",
			"cluster: apps daemonsets,deployments: list",
			"cluster: argoproj.io rollouts: list",
			"cluster: example.com widgets: list",
			"cluster: networking.k8s.io ingresses: list",
			"cluster: storage.k8s.io storageclasses: list",
		}},
		{"of kinds that are off, nothing", map[string]string{"ANNOTATIONS_RESOURCES": "secrets"}, Flags{Once: true},
			[]string{"cluster: '' namespaces,pods: list"}},
		{"namespaces", map[string]string{"NAMESPACES": "shop,bank", "LABELS_RESOURCES": "namespaces,nodes,pods,jobs"}, Flags{}, []string{
			"cluster: '' namespaces[shop,bank]: list,watch",
			"cluster: '' nodes: list,watch",
			"bank: '' pods: list,watch",
			"bank: batch jobs: list,watch",
			"shop: '' pods: list,watch",
			"shop: batch jobs: list,watch",
		}},
		{"namespaces, and no cluster role", map[string]string{"NAMESPACES": "shop", "LABELS_RESOURCES": "pods"}, Flags{Once: true},
			[]string{"shop: '' pods: list"}},
		{"an election", map[string]string{"LEADER_ELECTION": "true", "LEASE_NAME": "turn", "LABELS_RESOURCES": "pods"}, Flags{}, []string{
			"cluster: '' pods: list,watch",
			"labelstream: coordination.k8s.io leases[turn]: get,update",
			"labelstream: coordination.k8s.io leases: create",
		}},
		{"a certificate of its own", map[string]string{
			"CHANGES": "webhook", "LABELS_RESOURCES": "pods", "POD_NAMESPACE": "metering", "WEBHOOK_NAME": "hook", "NAMESPACES": "metering",
		}, Flags{}, []string{
			"cluster: admissionregistration.k8s.io validatingwebhookconfigurations[hook]: get,patch",
			"metering: '' pods: list",
			"metering: '' secrets[hook]: create,get,patch",
		}},
		{"a certificate in files", map[string]string{"CHANGES": "webhook", "LABELS_RESOURCES": "pods", "WEBHOOK_CERT_DIR": "/tls"}, Flags{},
			[]string{"cluster: '' pods: list"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			stdout, err := rolesOf(t, tt.settings, tt.flags)
			if err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff(tt.want, shortRules(t, stdout)); diff != "" {
				t.Errorf("rules (-want +got):\n%s", diff)
			}
		})
	}
}

func shortRules(t *testing.T, text string) []string {
	t.Helper()
	var all []string
	for document := range strings.SplitSeq(text, "---\n") {
		var role rbacv1.Role
		if err := yaml.Unmarshal([]byte(document), &role); err != nil {
			t.Fatal(err)
		}
		for _, rule := range role.Rules {
			names := ""
			if len(rule.ResourceNames) > 0 {
				names = "[" + strings.Join(rule.ResourceNames, ",") + "]"
			}
			all = append(all, fmt.Sprintf("%s: %s %s%s: %s", stdcmp.Or(role.Namespace, "cluster"), stdcmp.Or(strings.Join(rule.APIGroups, ","), "''"),
				strings.Join(rule.Resources, ","), names, strings.Join(rule.Verbs, ",")))
		}
	}
	return all
}

// TestRolesAskTheServer names what only a server knows.
func TestRolesAskTheServer(t *testing.T) {
	cluster := writeKubeconfig(t, newFakeCluster(t).URL)
	for _, tt := range []struct{ name, kubeconfig, resources, namespaces, want string }{
		{"a whole group", "", "pods,*.apps", "", `"*.apps": only an API server knows what the group holds`},
		{"no group", "", "rollouts", "", `"rollouts": only an API server knows of which group it is`},
		{"namespaced or not", "", "widgets.example.com", "shop", `"widgets.example.com": only an API server knows whether it is in namespaces`},
		{"not served", cluster, "widgets.example.com,*.apps", "shop", `LABELSTREAM_LABELS_RESOURCES: "widgets.example.com": the server has no such resource`},
		{"no such group", cluster, "*.apps", "", `LABELSTREAM_LABELS_RESOURCES: "*.apps": the server has no such group`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			stdout, err := rolesOf(t, map[string]string{"LABELS_RESOURCES": tt.resources, "NAMESPACES": tt.namespaces}, Flags{Kubeconfig: tt.kubeconfig})
			if err == nil || stdout != "" || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error %v, standard output %q, want the error %s", err, stdout, tt.want)
			}
			if tt.kubeconfig == "" && !strings.Contains(err.Error(), "find out how to reach the API server: ") {
				t.Errorf("error %v, want also why no server was asked", err)
			}
		})
	}
}
