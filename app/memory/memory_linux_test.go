// SPDX-License-Identifier: Apache-2.0

package memory

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCleanRegions(t *testing.T) {
	const smaps = `00400000-019ee000 r-xp 00000000 fe:00 1 /app/labelstream
Size:              22456 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
019ee000-034f2000 r--p 015ee000 fe:00 1 /app/labelstream
Anonymous:             0 kB
034f2000-03500000 r--p 030f2000 fe:00 1 /app/labelstream
Anonymous:            56 kB
03500000-03600000 rw-p 03100000 fe:00 1 /app/labelstream
Anonymous:             0 kB
2821ad400000-2821af400000 rw-p 00000000 00:00 0
Anonymous:             0 kB
7f38fd960000-7f38fdd00000 r--p 00000000 fe:00 2 /lib/libc.so.6
Anonymous:             0 kB
`
	got, err := cleanRegions(strings.NewReader(smaps), "/app/labelstream")
	if err != nil {
		t.Fatal(err)
	}
	want := []region{{0x400000, 0x19ee000}, {0x19ee000, 0x34f2000}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(region{})); diff != "" {
		t.Errorf("regions (-want +got):\n%s", diff)
	}
	if _, err := cleanRegions(strings.NewReader("x-y r--p 0 0 1 /app/labelstream\n"), "/app/labelstream"); err == nil {
		t.Error("a line that is no range is no error")
	}
}

// TestPositionIndependent builds a small position-independent binary, whose
// constants hold addresses that its loader wrote, and which needs them after it
// has given pages back.
func TestPositionIndependent(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "pie")
	build := exec.Command("go", "build", "-buildmode=pie", "-o", binary, "./testdata/pie")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	output, err := exec.Command(binary).CombinedOutput()
	if want := "labelstream 2\n"; err != nil || string(output) != want {
		t.Errorf("the binary ended with %v and wrote %q, want %q", err, output, want)
	}
}
