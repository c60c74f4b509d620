// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// settings is the ConfigMap that the manifests make of the settings.
const settings = "labelstream-settings"

// guide begins each file of manifests. Unedited, labelstream does not start, and its
// log says which setting to change.
const guide = `# labelstream %s: %s
# Edit LABELSTREAM_DESTINATION and LABELSTREAM_PRESET in the ConfigMap ` + settings + `, then: kubectl apply -f %s
# After a change: kubectl -n labelstream rollout restart deployment/labelstream
# Other kinds than pods and namespaces also need rights: labelstream rbac
`

// installations are the files of manifests.
var installations = []struct {
	file, about string
	components  []string
}{
	{file: "install.yaml", about: "follows changes by watches"},
	{file: "install-webhook.yaml", about: "takes changes from an admission webhook, whose certificate it makes itself", components: []string{"webhook", "self-signed"}},
}

// writeManifests renders the base with the image of this release.
func (r *release) writeManifests(digest v1.Hash) error {
	for _, i := range installations {
		text, err := r.render(i.components, digest)
		if err != nil {
			return fmt.Errorf("%s: %w", i.file, err)
		}
		text = append(fmt.Appendf(nil, guide, r.version, i.about, i.file), text...)
		if err := os.WriteFile(filepath.Join(r.out, i.file), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (r *release) render(components []string, digest v1.Hash) ([]byte, error) {
	dir, err := os.MkdirTemp("", "kustomization")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	manifests, err := relative(dir, r.manifests)
	if err != nil {
		return nil, err
	}
	kustomization := types.Kustomization{
		Resources: []string{filepath.Join(manifests, "base")},
		Images:    []types.Image{r.pinned(digest)},
		Labels:    []types.Label{{Pairs: map[string]string{"app.kubernetes.io/version": r.version}, IncludeTemplates: true}},
		// A name that stays can be edited; the hash of an overlay's name rolls the pods.
		GeneratorOptions: &types.GeneratorOptions{DisableNameSuffixHash: true},
		ConfigMapGenerator: []types.ConfigMapArgs{{GeneratorArgs: types.GeneratorArgs{
			Name: settings, Behavior: "merge",
			KvPairSources: types.KvPairSources{LiteralSources: []string{
				"LABELSTREAM_DESTINATION=EDIT http://<receiver>.<namespace>.svc.cluster.local:9090/api/v1/write",
				"LABELSTREAM_PRESET=prometheus",
			}},
		}}},
	}
	for _, component := range components {
		kustomization.Components = append(kustomization.Components, filepath.Join(manifests, "components", component))
	}
	text, err := yaml.Marshal(kustomization)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "kustomization.yaml"), text, 0o644); err != nil {
		return nil, err
	}
	options := krusty.MakeDefaultOptions()
	// Namespaces come before what is in them.
	options.Reorder = krusty.ReorderOptionLegacy
	objects, err := krusty.MakeKustomizer(options).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		return nil, err
	}
	return objects.AsYaml()
}

// pinned is the image of this release. An image that was not pushed has no digest that
// a kubelet could find it by.
func (r *release) pinned(digest v1.Hash) types.Image {
	image := types.Image{Name: product, NewName: r.image.Repository.Name(), NewTag: r.image.TagStr()}
	if r.pushes() {
		image.Digest = digest.String()
	}
	return image
}

// relative is target as seen from dir, since kustomize takes no absolute paths.
func relative(dir, target string) (string, error) {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", err
	}
	if target, err = filepath.Abs(target); err != nil {
		return "", err
	}
	if target, err = filepath.EvalSymlinks(target); err != nil {
		return "", err
	}
	return filepath.Rel(dir, target)
}
