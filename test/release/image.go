// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"

	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// user is a number, so that a pod's runAsNonRoot can be checked.
const user = "65532:65532"

// makeImage writes the image of all Linux platforms as an archive, pushes it where
// IMAGE names a registry, and returns the digest of its index.
func (r *release) makeImage(ctx context.Context, platforms []v1.Platform) (v1.Hash, error) {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	var docker tarball.Manifest
	for _, platform := range platforms {
		if platform.OS != "linux" {
			continue
		}
		image, err := r.imageOf(platform)
		if err != nil {
			return v1.Hash{}, err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: &platform}})
		entry, err := r.dockerEntry(image, platform)
		if err != nil {
			return v1.Hash{}, err
		}
		docker = append(docker, entry)
	}
	index = mutate.Annotations(index, r.annotations()).(v1.ImageIndex)
	if err := r.writeImage(index, docker); err != nil {
		return v1.Hash{}, err
	}
	if r.pushes() {
		if err := remote.WriteIndex(r.image, index, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain)); err != nil {
			return v1.Hash{}, err
		}
	}
	return index.Digest()
}

// imageOf is the image of a platform: one layer of what make rootfs has assembled.
func (r *release) imageOf(platform v1.Platform) (v1.Image, error) {
	var content bytes.Buffer
	archive := tar.NewWriter(&content)
	err := errors.Join(addTree(archive, os.DirFS(r.tree(platform)), ".", "", r.date), archive.Close())
	if err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content.Bytes())), nil }
	layer, err := tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer),
		tarball.WithCompressionLevel(gzip.DefaultCompression), tarball.WithCompressedCaching)
	if err != nil {
		return nil, err
	}
	created := v1.Time{Time: r.date}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image, err = mutate.ConfigFile(image, &v1.ConfigFile{
		OS: platform.OS, Architecture: platform.Architecture, Created: created,
		Config: v1.Config{Entrypoint: []string{"/" + product}, User: user, Labels: r.annotations()},
		RootFS: v1.RootFS{Type: "layers"},
	})
	if err != nil {
		return nil, err
	}
	image, err = mutate.Append(image, mutate.Addendum{Layer: layer, History: v1.History{Created: created, CreatedBy: "make rootfs"}})
	if err != nil {
		return nil, err
	}
	return mutate.Annotations(image, r.annotations()).(v1.Image), nil
}

// annotations are those of the OCI image specification, and the labels as well: some
// tools read the ones, some the others.
func (r *release) annotations() map[string]string {
	const key = "org.opencontainers.image."
	all := map[string]string{
		key + "created":     r.date.UTC().Format("2006-01-02T15:04:05Z"),
		key + "version":     r.version,
		key + "revision":    r.commit,
		key + "title":       product,
		key + "description": "Sends the labels and annotations of Kubernetes objects as Prometheus remote_write.",
		key + "licenses":    license,
	}
	if r.source != "" {
		all[key+"source"] = r.source
	}
	return all
}

const blobs = "blobs/sha256/"

// dockerEntry is the image's entry in manifest.json. That has one platform for each name,
// so only the image for amd64 has the release's.
func (r *release) dockerEntry(image v1.Image, platform v1.Platform) (tarball.Descriptor, error) {
	manifest, err := image.Manifest()
	if err != nil {
		return tarball.Descriptor{}, err
	}
	entry := tarball.Descriptor{Config: blobs + manifest.Config.Digest.Hex, RepoTags: []string{r.image.Name()}}
	if platform.Architecture != "amd64" {
		entry.RepoTags[0] += "-" + platform.Architecture
	}
	for _, layer := range manifest.Layers {
		entry.Layers = append(entry.Layers, blobs+layer.Digest.Hex)
	}
	return entry, nil
}

// writeImage writes one archive for two kinds of readers. An OCI layout (index.json)
// has all platforms, and is what containerd reads. manifest.json is what docker load
// reads where Docker does not keep its images in containerd.
func (r *release) writeImage(index v1.ImageIndex, docker tarball.Manifest) (err error) {
	dir, err := os.MkdirTemp("", "layout")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	root, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	if err := root.AppendIndex(index, layout.WithAnnotations(map[string]string{
		"org.opencontainers.image.ref.name": r.image.TagStr(),
		"io.containerd.image.name":          r.fullName,
	})); err != nil {
		return err
	}
	manifest, err := json.Marshal(docker)
	if err != nil {
		return err
	}
	file, err := os.Create(r.file("image.tar"))
	if err != nil {
		return err
	}
	archive := tar.NewWriter(file)
	defer func() { err = errors.Join(err, archive.Close(), file.Close()) }()
	if err := addTree(archive, os.DirFS(dir), ".", "", r.date); err != nil {
		return err
	}
	return addFile(archive, "manifest.json", string(manifest), r.date)
}
