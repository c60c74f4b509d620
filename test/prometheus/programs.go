// SPDX-License-Identifier: Apache-2.0

package prometheus

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"labelstream/test/cache"
)

// Version is that of the Current release, and DebianVersion begins that of the
// Debian one.
const (
	Version       = "v0.316.0"
	DebianVersion = "2.42"
)

// Release chooses a Prometheus.
type Release int

const (
	// Current is a new one, which speaks remote_write 1.0 and 2.0. It is built
	// from its Go module.
	Current Release = iota
	// Debian is the one of Debian 12, which knows 1.0 only, and answers 204 to a
	// 2.0 request of which it keeps nothing. It is downloaded with apt-get.
	Debian
)

// Provide builds or downloads Prometheus if no run before did, which Start
// would do else. It takes some minutes the first time.
func Provide(ctx context.Context, progress io.Writer, releases ...Release) error {
	for _, r := range releases {
		if _, err := r.program(ctx, progress); err != nil {
			return err
		}
	}
	return nil
}

// Promtool returns the path of the current release's promtool, which is built
// with its Prometheus first if no run before did.
func Promtool(ctx context.Context, progress io.Writer) (string, error) {
	dir, err := Current.dir(ctx, progress)
	return filepath.Join(dir, "promtool"), err
}

func (r Release) program(ctx context.Context, progress io.Writer) (string, error) {
	dir, err := r.dir(ctx, progress)
	return filepath.Join(dir, "prometheus"), err
}

// dir returns the directory with the release's programs, which are provided
// first if no run before did.
func (r Release) dir(ctx context.Context, progress io.Writer) (string, error) {
	entry := cache.Entry{
		Key:   fmt.Sprintf("prometheus-promtool-%s-%s-%s-%s", Version, runtime.Version(), runtime.GOOS, runtime.GOARCH),
		Holds: "Prometheus " + Version,
		Fill:  func(ctx context.Context, dir string) error { return build(ctx, dir, progress) },
	}
	if r == Debian {
		entry = cache.Entry{
			Key:   fmt.Sprintf("prometheus-debian-%s-%s", DebianVersion, runtime.GOARCH),
			Holds: "Debian's Prometheus " + DebianVersion,
			Fill:  func(ctx context.Context, dir string) error { return download(ctx, dir, progress) },
		}
	}
	return cache.Dir(ctx, entry)
}

// build installs Prometheus and promtool without the service discoveries, which
// are most of them.
func build(ctx context.Context, dir string, progress io.Writer) error {
	fmt.Fprintln(progress, "building Prometheus", Version, "and promtool from their Go module (once, some minutes)")
	cmd := exec.CommandContext(ctx, "go", "install", "-tags", "remove_all_sd", "-ldflags", "-s -w",
		"github.com/prometheus/prometheus/cmd/prometheus@"+Version, "github.com/prometheus/prometheus/cmd/promtool@"+Version)
	cmd.Env = append(os.Environ(), "GOBIN="+dir)
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build Prometheus %s: %w\n%s", Version, err, said)
	}
	return nil
}

// download takes the binary out of Debian's package. Nothing is installed.
func download(ctx context.Context, dir string, progress io.Writer) error {
	fmt.Fprintln(progress, "downloading Debian's Prometheus", DebianVersion, "(once)")
	work, err := os.MkdirTemp("", "labelstream-debian-")
	if err != nil {
		return fmt.Errorf("make a directory for Debian's Prometheus: %w", err)
	}
	defer os.RemoveAll(work)
	archive, err := fetchPackage(ctx, work)
	if err != nil {
		return fmt.Errorf("download Debian's Prometheus %s, which Debian 12 has: %w", DebianVersion, err)
	}
	if err := command(ctx, work, "dpkg-deb", "-x", archive, work); err != nil {
		return fmt.Errorf("unpack Debian's Prometheus: %w", err)
	}
	return command(ctx, work, "cp", filepath.Join(work, "usr/bin/prometheus"), dir)
}

// fetchPackage downloads the package into dir, with lists of packages of its own,
// which needs no rights.
func fetchPackage(ctx context.Context, dir string) (string, error) {
	for _, name := range []string{"lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			return "", err
		}
	}
	// Root would become a user that cannot write to dir.
	apt := []string{"-q", "-o", "APT::Sandbox::User=root", "-o", "Dir::State::Lists=" + filepath.Join(dir, "lists"), "-o", "Dir::Cache=" + filepath.Join(dir, "cache")}
	for _, args := range [][]string{{"update"}, {"download", "prometheus=" + DebianVersion + ".*"}} {
		if err := command(ctx, dir, "apt-get", slices.Concat(apt, args)...); err != nil {
			return "", err
		}
	}
	found, err := filepath.Glob(filepath.Join(dir, "prometheus_*.deb"))
	if err == nil && len(found) != 1 {
		err = fmt.Errorf("apt-get has left %d packages, want 1: %q", len(found), found)
	}
	return strings.Join(found, " "), err
}

func command(ctx context.Context, dir, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, said)
	}
	return nil
}
