// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images/archive"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
)

// version is not in the repository.
const version = "v0.1.0"

// machines are the processors of the image.
var machines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

// TestRelease makes a release of the same sources in two directories, pushes its image,
// and looks at all files as a user would.
func TestRelease(t *testing.T) {
	hub := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer hub.Close()
	image, err := name.NewTag(strings.TrimPrefix(hub.URL, "http://")+"/labelstream", name.WithDefaultTag(version))
	if err != nil {
		t.Fatal(err)
	}
	files := makeRelease(t, "../..", image)
	if diff := cmp.Diff(files, makeRelease(t, copySources(t), image)); diff != "" {
		t.Fatalf("two directories give different files (-one +other):\n%s", diff)
	}

	t.Run("archive", func(t *testing.T) {
		own := "labelstream-" + version + "-" + runtime.GOOS + "-" + runtime.GOARCH
		content := untar(t, gunzip(t, files[own+".tar.gz"]))
		for _, part := range []string{"LICENSE", "NOTICE", "licenses/go/LICENSE", "licenses/github.com/prometheus/common/NOTICE",
			"completions/labelstream.bash", "completions/labelstream.zsh", "completions/labelstream.fish"} {
			if content[own+"/"+part] == "" {
				t.Errorf("the archive has no %s, or an empty one", part)
			}
		}
		binary := filepath.Join(t.TempDir(), "labelstream")
		if err := os.WriteFile(binary, []byte(content[own+"/labelstream"]), 0o700); err != nil {
			t.Fatal(err)
		}
		said, err := exec.CommandContext(t.Context(), binary, "version").CombinedOutput()
		if want := "labelstream v0.1.0 (commit 0123abc, 2026-01-02T03:04:05Z)\n"; err != nil || string(said) != want {
			t.Errorf("labelstream version says %q (%v), want %q", said, err, want)
		}
	})

	pushed, err := remote.Index(image)
	if err != nil {
		t.Fatal(err)
	}
	digest, err := pushed.Digest()
	if err != nil {
		t.Fatal(err)
	}
	t.Run("image", func(t *testing.T) { checkImage(t, pushed) })
	t.Run("image archive", func(t *testing.T) {
		packed := files["labelstream-"+version+"-image.tar"]
		checkImport(t, packed, image, digest)
		checkLoad(t, packed, image, pushed)
	})
	t.Run("manifests", func(t *testing.T) {
		pin := "image: " + image.Name() + "@" + digest.String() + "\n"
		for file, webhooks := range map[string]int{"install.yaml": 0, "install-webhook.yaml": 1} {
			text := files[file]
			if !strings.Contains(text, pin) || !strings.Contains(text, "LABELSTREAM_DESTINATION: EDIT ") ||
				!strings.Contains(text, "        app.kubernetes.io/version: "+version+"\n") ||
				strings.Count(text, "kind: ValidatingWebhookConfiguration\n") != webhooks {
				t.Errorf("%s has not %q, the version, the destination to edit and %d webhooks:\n%s", file, pin, webhooks, text)
			}
		}
	})
	t.Run("SBOM", func(t *testing.T) {
		for processor := range machines {
			if text := files["labelstream-"+version+"-linux-"+processor+".cdx.json"]; !strings.Contains(text, "pkg:golang/k8s.io/client-go@v") ||
				!strings.Contains(text, `"version": "v0.1.0"`) || !strings.Contains(text, `"value": "`+processor+`"`) {
				t.Errorf("the bill of materials for %s lacks client-go, this version or the processor:\n%.1500s", processor, text)
			}
		}
	})
	t.Run("checksums", func(t *testing.T) {
		for line := range strings.Lines(files["SHA256SUMS"]) {
			sum, file, _ := strings.Cut(strings.TrimSpace(line), "  ")
			if got := fmt.Sprintf("%x", sha256.Sum256([]byte(files[file]))); got != sum {
				t.Errorf("%s has the sum %s, want %s", file, got, sum)
			}
		}
		if lines := strings.Count(files["SHA256SUMS"], "\n"); lines != len(files)-1 {
			t.Errorf("%d sums of %d other files", lines, len(files)-1)
		}
	})
}

// makeRelease makes the files from the sources in a directory, and returns them by
// name. Archives for other systems than Linux and this one differ in nothing but the
// compiler's target.
func makeRelease(t *testing.T, source string, image name.Tag) map[string]string {
	t.Helper()
	out, build := t.TempDir(), t.TempDir()
	platforms := []string{"linux/amd64", "linux/arm64"}
	if own := runtime.GOOS + "/" + runtime.GOARCH; !slices.Contains(platforms, own) {
		platforms = append(platforms, own)
	}
	cmd := exec.CommandContext(t.Context(), "make", "-C", source, "release", "VERSION="+version, "COMMIT=0123abc", "DATE=2026-01-02T03:04:05Z",
		"IMAGE="+image.Name(), "SOURCE=https://example.com/labelstream", "PLATFORMS="+strings.Join(platforms, " "),
		"RELEASE="+out, "RELEASE_TMP="+build, "BINARY="+filepath.Join(t.TempDir(), "labelstream"))
	// What the make that runs the tests was told is not meant for this one.
	cmd.Env = slices.DeleteFunc(os.Environ(), func(entry string) bool {
		variable, _, _ := strings.Cut(entry, "=")
		return slices.Contains([]string{"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES"}, variable)
	})
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, said)
	}
	entries, err := os.ReadDir(out)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, entry := range entries {
		text, err := os.ReadFile(filepath.Join(out, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[entry.Name()] = string(text)
	}
	return files
}

// copySources copies the repository without its history and what was built.
func copySources(t *testing.T) string {
	t.Helper()
	to := t.TempDir()
	entries, err := os.ReadDir("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if slices.Contains([]string{".git", "bin", "dist"}, entry.Name()) {
			continue
		}
		if said, err := exec.CommandContext(t.Context(), "cp", "-R", filepath.Join("../..", entry.Name()), to).CombinedOutput(); err != nil {
			t.Fatalf("copy %s: %v\n%s", entry.Name(), err, said)
		}
	}
	return to
}

// checkImage wants an image for each processor that says who it is, runs as nobody,
// and holds a static binary beside the licences.
func checkImage(t *testing.T, index v1.ImageIndex) {
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	labels := map[string]string{
		"org.opencontainers.image.created": "2026-01-02T03:04:05Z", "org.opencontainers.image.version": version,
		"org.opencontainers.image.revision": "0123abc", "org.opencontainers.image.title": "labelstream",
		"org.opencontainers.image.description": "Sends the labels and annotations of Kubernetes objects as Prometheus remote_write.",
		"org.opencontainers.image.licenses":    "Apache-2.0", "org.opencontainers.image.source": "https://example.com/labelstream",
	}
	if diff := cmp.Diff(labels, manifest.Annotations); diff != "" {
		t.Errorf("the index's annotations (-want +got):\n%s", diff)
	}
	if len(manifest.Manifests) != len(machines) {
		t.Fatalf("%d images, want %d", len(manifest.Manifests), len(machines))
	}
	for _, descriptor := range manifest.Manifests {
		image, err := index.Image(descriptor.Digest)
		if err != nil {
			t.Fatal(err)
		}
		config, err := image.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if got := *descriptor.Platform; got.OS != "linux" || config.OS != got.OS || config.Architecture != got.Architecture {
			t.Errorf("the index says %s, the image %s/%s", got, config.OS, config.Architecture)
		}
		if diff := cmp.Diff(v1.Config{User: "65532:65532", Entrypoint: []string{"/labelstream"}, Labels: labels}, config.Config); diff != "" {
			t.Errorf("the configuration (-want +got):\n%s", diff)
		}
		root := mutate.Extract(image)
		content := untar(t, root)
		root.Close()
		for _, file := range []string{"LICENSE", "NOTICE", "licenses/k8s.io/client-go/LICENSE", "etc/ssl/certs/ca-certificates.crt"} {
			if content[file] == "" {
				t.Errorf("the image has no %s, or an empty one", file)
			}
		}
		binary, err := elf.NewFile(strings.NewReader(content["labelstream"]))
		if err != nil {
			t.Fatal(err)
		}
		libraries, err := binary.ImportedLibraries()
		if err != nil || len(libraries) > 0 || binary.Machine != machines[config.Architecture] {
			t.Errorf("the binary for %s is for %v and needs the libraries %v (%v)", config.Architecture, binary.Machine, libraries, err)
		}
	}
}

// checkImport reads the archive with containerd's own code.
func checkImport(t *testing.T, packed string, image name.Tag, digest v1.Hash) {
	store, err := local.NewStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	top, err := archive.ImportIndex(t.Context(), store, strings.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	text, err := content.ReadBlob(t.Context(), store, top)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := v1.ParseIndexManifest(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if len(manifest.Manifests) != 1 || manifest.Manifests[0].Digest != digest || manifest.Manifests[0].Annotations["io.containerd.image.name"] != image.Name() {
		t.Errorf("containerd imports %s, want the pushed index as %s", text, image)
	}
}

// checkLoad reads the archive by its manifest.json, as Docker does.
func checkLoad(t *testing.T, packed string, tag name.Tag, pushed v1.ImageIndex) {
	open := func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(packed)), nil }
	for suffix, processor := range map[string]string{"": "amd64", "-arm64": "arm64"} {
		tag := tag.Tag(tag.TagStr() + suffix)
		loaded, err := tarball.Image(open, &tag)
		if err != nil {
			t.Fatal(err)
		}
		config, err := loaded.ConfigFile()
		if err := errors.Join(err, validate.Image(loaded)); err != nil || config.Architecture != processor {
			t.Errorf("%s is for %s, want %s (%v)", tag, config.Architecture, processor, err)
		}
	}
	manifest, err := tarball.LoadManifest(open)
	if index, other := pushed.IndexManifest(); err != nil || other != nil || len(manifest) != len(index.Manifests) {
		t.Errorf("manifest.json has %d images (%v, %v)", len(manifest), err, other)
	}
}

// TestPackageChart packs a chart whose version and image are not yet those of a
// release.
func TestPackageChart(t *testing.T) {
	source := filepath.Join(t.TempDir(), "labelstream")
	for file, text := range map[string]string{
		"Chart.yaml":          "apiVersion: v2\nname: labelstream\nversion: 0.0.0\nappVersion: dev\n",
		"values.yaml":         "# a: 1\nimage:\n  # where\n  repository: labelstream\n\n  tag: \"\"\n  digest: \"\" # wins\nother:\n  tag: mine\n",
		"templates/x.yaml":    "{{ .Values.image }}\n",
		"templates/NOTES.txt": "Thanks.\n",
	} {
		if err := os.MkdirAll(filepath.Join(source, path.Dir(file)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(source, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	image, err := name.NewTag("registry.example.com/labelstream:" + version)
	if err != nil {
		t.Fatal(err)
	}
	r := release{version: version, image: image, chart: source, out: t.TempDir()}
	if err := r.packageChart(v1.Hash{Algorithm: "sha256", Hex: "12ab"}); err != nil {
		t.Fatal(err)
	}
	chart, err := loader.LoadFile(filepath.Join(r.out, "labelstream-0.1.0.tgz"))
	if err != nil {
		t.Fatal(err)
	}
	if chart.Metadata.Version != "0.1.0" || chart.Metadata.AppVersion != version || len(chart.Templates) != 2 {
		t.Errorf("the chart is %+v with %d templates", chart.Metadata, len(chart.Templates))
	}
	const want = "# a: 1\nimage:\n  # where\n  repository: \"registry.example.com/labelstream\"\n\n" +
		"  tag: \"v0.1.0\"\n  digest: \"sha256:12ab\"\nother:\n  tag: mine\n"
	for _, file := range chart.Raw {
		if file.Name == "values.yaml" && string(file.Data) != want {
			t.Errorf("values.yaml is\n%s\nwant\n%s", file.Data, want)
		}
	}
	if _, err := setImage([]byte("other:\n  tag: mine\n"), "tag", version); err == nil {
		t.Error("a chart without image.tag is no error")
	}
}

func gunzip(t *testing.T, text string) io.Reader {
	t.Helper()
	unzipped, err := gzip.NewReader(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return unzipped
}

// untar returns the contents of an archive's files, all of which must be root's.
func untar(t *testing.T, packed io.Reader) map[string]string {
	t.Helper()
	files := map[string]string{}
	for archive := tar.NewReader(packed); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if header.Uid != 0 || header.Mode&0o022 != 0 {
			t.Errorf("%s is of user %d and has the mode %o", header.Name, header.Uid, header.Mode)
		}
		text, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		files[header.Name] = string(text)
	}
}
