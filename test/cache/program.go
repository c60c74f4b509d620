// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// Program is one of another project, as the package of a Go module.
type Program struct{ Name, Module, Version, Package string }

// Path returns that of the binary, which is built first if no run before did.
func (p *Program) Path(ctx context.Context) (string, error) {
	dir, err := Dir(ctx, Entry{
		Key:   fmt.Sprintf("%s-%s-%s-%s-%s", p.Name, p.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH),
		Holds: p.Name + " " + p.Version,
		Fill:  p.build,
	})
	return filepath.Join(dir, p.Name), err
}

// build builds the program in the directory of its module, with the dependencies that
// its own go.sum has.
func (p *Program) build(ctx context.Context, dir string) error {
	fmt.Fprintln(os.Stderr, "building", p.Name, p.Version, "from its Go module (once, some minutes)")
	source, err := Module(ctx, p.Module, p.Version)
	if err != nil {
		return err
	}
	build := exec.CommandContext(ctx, "go", "build", "-mod=readonly", "-ldflags=-s -w", "-o", filepath.Join(dir, p.Name), p.Package)
	build.Dir = source
	if said, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s %s: %w\n%s", p.Name, p.Version, err, said)
	}
	return nil
}

// Module returns the directory with a module's source, which go keeps. It is no
// dependency of this module.
func Module(ctx context.Context, module, version string) (string, error) {
	download := exec.CommandContext(ctx, "go", "mod", "download", "-json", module+"@"+version)
	download.Dir = os.TempDir()
	out, err := download.Output()
	var source struct{ Dir string }
	if err := errors.Join(err, json.Unmarshal(out, &source)); err != nil {
		return "", fmt.Errorf("download %s %s: %w\n%s", module, version, err, out)
	}
	return source.Dir, nil
}
