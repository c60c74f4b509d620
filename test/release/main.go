// SPDX-License-Identifier: Apache-2.0

// Command release makes the files of a release from what make has built: archives, a
// container image, manifests, the chart, bills of materials and checksums. The same
// sources give the same bytes. It is a module of its own, so that the tests do not
// compile what only a release needs.
package main

import (
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

const (
	product = "labelstream"
	license = "Apache-2.0"
)

// release is what the files are made from, and where they are put.
type release struct {
	version   string
	commit    string
	date      time.Time // of the commit; all files get it
	source    string    // the repository's URL; "" leaves it out
	image     name.Tag  // without a registry where none was named
	fullName  string    // the image's as containerd and the kubelet complete it
	build     string    // has a directory for each platform, such as linux/amd64, and one for completions
	manifests string
	chart     string // "" where there is none
	out       string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	var r release
	flags := flag.NewFlagSet("release", flag.ExitOnError)
	flags.StringVar(&r.version, "version", "", "such as v1.2.3")
	flags.StringVar(&r.commit, "commit", "", "what was built")
	flags.StringVar(&r.source, "source", "", "URL of the repository")
	flags.StringVar(&r.build, "build", "", "directory of what was built")
	flags.StringVar(&r.manifests, "manifests", "", "directory of the manifests")
	flags.StringVar(&r.chart, "chart", "", "directory of the chart")
	flags.StringVar(&r.out, "out", "", "directory for the files")
	date := flags.String("date", "", "when that was committed")
	image := flags.String("image", "", "name and tag")
	if err := flags.Parse(args); err != nil {
		return err
	}
	var err error
	if r.date, err = time.Parse(time.RFC3339, *date); err != nil {
		return fmt.Errorf("the commit's date: %w; outside a git repository say DATE=2026-01-02T03:04:05Z and COMMIT=…", err)
	}
	// Without a default, a name that has no registry is seen to have none.
	if r.image, err = name.NewTag(*image, name.WithDefaultRegistry(""), name.WithDefaultTag(r.version)); err != nil {
		return fmt.Errorf("IMAGE is a name and a tag, such as registry.example.com/labelstream:%s: %w", r.version, err)
	}
	full, err := name.NewTag(r.image.Name())
	if err != nil {
		return err
	}
	r.fullName = strings.TrimPrefix(full.Name(), "index.")
	return r.make(ctx)
}

func (r *release) make(ctx context.Context) error {
	if err := os.MkdirAll(r.out, 0o755); err != nil {
		return err
	}
	platforms, err := r.platforms()
	if err != nil {
		return err
	}
	for _, platform := range platforms {
		if err := r.writeArchive(platform); err != nil {
			return fmt.Errorf("the archive for %s: %w", platform, err)
		}
		if err := r.writeSBOM(platform); err != nil {
			return fmt.Errorf("the bill of materials for %s: %w", platform, err)
		}
	}
	digest, err := r.makeImage(ctx, platforms)
	if err != nil {
		return fmt.Errorf("the image: %w", err)
	}
	if err := r.writeManifests(digest); err != nil {
		return fmt.Errorf("the manifests: %w", err)
	}
	if r.chart != "" {
		if err := r.packageChart(digest); err != nil {
			return fmt.Errorf("the chart: %w", err)
		}
	}
	return r.writeChecksums()
}

// pushes tells whether IMAGE names a registry.
func (r *release) pushes() bool { return r.image.RegistryStr() != "" }

// file is the path of a file of the release that has the version in its name.
func (r *release) file(suffix string) string {
	return filepath.Join(r.out, product+"-"+r.version+"-"+suffix)
}

// platforms are those that were built.
func (r *release) platforms() ([]v1.Platform, error) {
	dirs, err := filepath.Glob(filepath.Join(r.build, "*", "*", product))
	if err != nil {
		return nil, err
	}
	if len(dirs) == 0 {
		return nil, fmt.Errorf("%s holds no binaries: run make release", r.build)
	}
	var all []v1.Platform
	for _, binary := range dirs {
		dir := filepath.Dir(binary)
		all = append(all, v1.Platform{OS: filepath.Base(filepath.Dir(dir)), Architecture: filepath.Base(dir)})
	}
	return all, nil
}

// tree is where the files of a platform are.
func (r *release) tree(platform v1.Platform) string {
	return filepath.Join(r.build, platform.OS, platform.Architecture)
}

// writeChecksums is for sha256sum --check.
func (r *release) writeChecksums() error {
	entries, err := os.ReadDir(r.out)
	if err != nil {
		return err
	}
	var sums []byte
	for _, entry := range entries {
		content, err := os.ReadFile(filepath.Join(r.out, entry.Name()))
		if err != nil {
			return err
		}
		sums = fmt.Appendf(sums, "%x  %s\n", sha256.Sum256(content), entry.Name())
	}
	return os.WriteFile(filepath.Join(r.out, "SHA256SUMS"), sums, 0o644)
}
