// SPDX-License-Identifier: Apache-2.0

package informer

import (
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"labelstream/config"
)

// builtin are the resources that every API server of the version of our client-go
// lets be listed and watched: those in namespaces, and those of the cluster.
var builtin = []struct{ group, namespaced, cluster string }{
	{"", "configmaps endpoints events limitranges persistentvolumeclaims pods podtemplates replicationcontrollers " +
		"resourcequotas secrets serviceaccounts services", "namespaces nodes persistentvolumes"},
	{"admissionregistration.k8s.io", "", "mutatingadmissionpolicies mutatingadmissionpolicybindings mutatingwebhookconfigurations " +
		"validatingadmissionpolicies validatingadmissionpolicybindings validatingwebhookconfigurations"},
	{"apiextensions.k8s.io", "", "customresourcedefinitions"},
	{"apiregistration.k8s.io", "", "apiservices"},
	{"apps", "controllerrevisions daemonsets deployments replicasets statefulsets", ""},
	{"autoscaling", "horizontalpodautoscalers", ""},
	{"batch", "cronjobs jobs", ""},
	{"certificates.k8s.io", "podcertificaterequests", "certificatesigningrequests clustertrustbundles"},
	{"coordination.k8s.io", "leases", ""},
	{"discovery.k8s.io", "endpointslices", ""},
	{"events.k8s.io", "events", ""},
	{"flowcontrol.apiserver.k8s.io", "", "flowschemas prioritylevelconfigurations"},
	{"networking.k8s.io", "ingresses networkpolicies", "ingressclasses ipaddresses servicecidrs"},
	{"node.k8s.io", "", "runtimeclasses"},
	{"policy", "poddisruptionbudgets", ""},
	{"rbac.authorization.k8s.io", "rolebindings roles", "clusterrolebindings clusterroles"},
	{"resource.k8s.io", "resourceclaims resourceclaimtemplates", "deviceclasses devicetaintrules resourceslices"},
	{"scheduling.k8s.io", "", "priorityclasses"},
	{"storage.k8s.io", "csistoragecapacities", "csidrivers csinodes storageclasses volumeattachments volumeattributesclasses"},
	{"storagemigration.k8s.io", "", "storageversionmigrations"},
}

// ByName returns a catalog of what the settings name, made without a server. Of
// its kinds no more is known than their group and resource, and [Kind.Scopes].
// [Catalog.Kinds] says what to write in place of a name that is known to be wrong.
// The error names a resource for which only a server knows that.
func ByName(cfg *config.Config) (*Catalog, error) {
	c := &Catalog{resources: make(map[schema.GroupResource]resourceInfo)}
	for _, group := range builtin {
		c.addNamed(group.group, group.namespaced, true)
		c.addNamed(group.group, group.cluster, false)
	}
	for _, name := range chosenNames(cfg) {
		if isWholeGroup(name) {
			return nil, fmt.Errorf("%q: only an API server knows what the group holds", name)
		}
		gr := schema.ParseGroupResource(name)
		if _, err := c.resolve(name); err == nil || len(c.meant(gr)) > 0 {
			continue
		}
		switch {
		case gr.Group == "":
			return nil, fmt.Errorf("%q: only an API server knows of which group it is", name)
		case gr.Resource != strings.ToLower(gr.Resource):
			return nil, fmt.Errorf("%q: only an API server knows the plural of a kind", name)
		case len(cfg.Namespaces) > 0:
			return nil, fmt.Errorf("%q: only an API server knows whether it is in namespaces", name)
		}
		c.addNamed(gr.Group, gr.Resource, false)
	}
	return c, nil
}

// addNamed adds the resources that plurals names, with spaces between them.
func (c *Catalog) addNamed(group, plurals string, namespaced bool) {
	for _, plural := range strings.Fields(plurals) {
		c.add(schema.GroupVersion{Group: group},
			metav1.APIResource{Name: plural, Namespaced: namespaced, Verbs: metav1.Verbs{"list", "watch"}})
	}
}
