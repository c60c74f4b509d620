package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// writeSBOM writes which modules a binary is made of, by the binary's own word, as
// CycloneDX. Without a time and a serial number, which differ from run to run.
func (r *release) writeSBOM(ctx context.Context, platform v1.Platform) error {
	cmd := exec.CommandContext(ctx, "go", "tool", "cyclonedx-gomod", "bin", "-json", "-std", "-licenses", "-noserial", "-notimestamp",
		"-version", r.version, "-output", r.file(platform.OS+"-"+platform.Architecture+".cdx.json"),
		filepath.Join(r.tree(platform), product))
	// The tool names itself by its checksum.
	cmd.Env = append(os.Environ(), "GOFLAGS=-trimpath -buildvcs=false")
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", cmd, err, said)
	}
	return nil
}
