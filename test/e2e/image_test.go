package e2e

import (
	"crypto/sha256"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// assemble makes what the image holds, of the sources in a directory, and returns
// where it is. The variables are make's.
func assemble(t *testing.T, source string, variables ...string) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "rootfs")
	args := []string{"-C", source, "rootfs", "ROOTFS=" + root, "VERSION=v1.2.3", "COMMIT=0123abc", "DATE=2026-01-02T03:04:05Z"}
	cmd := exec.CommandContext(t.Context(), "make", append(args, variables...)...)
	// What the make that runs the tests was told is not meant for this one.
	cmd.Env = slices.DeleteFunc(os.Environ(), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return slices.Contains([]string{"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES"}, name)
	})
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, said)
	}
	return root
}

// TestImageIsReproducible makes the image's content of the same sources in two
// directories, for each processor.
func TestImageIsReproducible(t *testing.T) {
	t.Parallel()
	elsewhere := copySources(t, "../..")
	for processor, machine := range map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64} {
		t.Run(processor, func(t *testing.T) {
			root := assemble(t, "../..", "GOARCH="+processor)
			one, other := contents(t, root), contents(t, assemble(t, elsewhere, "GOARCH="+processor))
			if !slices.Equal(one, other) {
				t.Errorf("two directories give\n%s\nand\n%s", strings.Join(one, "\n"), strings.Join(other, "\n"))
			}
			binary, err := elf.Open(filepath.Join(root, "labelstream"))
			if err != nil {
				t.Fatal(err)
			}
			defer binary.Close()
			if binary.Machine != machine {
				t.Errorf("the binary is for %v, want %v", binary.Machine, machine)
			}
			libraries, err := binary.ImportedLibraries()
			if err != nil || len(libraries) > 0 {
				t.Errorf("the binary needs the libraries %v (%v), want none", libraries, err)
			}
		})
	}
}

// copySources copies the product's sources, as the image's build has them: without
// the repository's history and without this module.
func copySources(t *testing.T, from string) string {
	t.Helper()
	to := t.TempDir()
	entries, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if slices.Contains([]string{".git", "bin", "dist", "test"}, entry.Name()) {
			continue
		}
		if said, err := exec.CommandContext(t.Context(), "cp", "-R", filepath.Join(from, entry.Name()), to).CombinedOutput(); err != nil {
			t.Fatalf("copy %s: %v\n%s", entry.Name(), err, said)
		}
	}
	return to
}

// contents are the files below a directory, with their modes and sums.
func contents(t *testing.T, root string) []string {
	t.Helper()
	var all []string
	tree := os.DirFS(root)
	err := fs.WalkDir(tree, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		sum := ""
		if !entry.IsDir() {
			content, err := fs.ReadFile(tree, path)
			if err != nil {
				return err
			}
			sum = fmt.Sprintf(" %x", sha256.Sum256(content))
		}
		all = append(all, info.Mode().String()+" "+path+sum)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
