package memory

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReadOnlyRegions(t *testing.T) {
	const maps = `00400000-019ee000 r-xp 00000000 fe:00 1 /app/labelstream
019ee000-034f2000 r--p 015ee000 fe:00 1 /app/labelstream
034f2000-03600000 rw-p 030f2000 fe:00 1 /app/labelstream
2821ad400000-2821af400000 rw-p 00000000 00:00 0
7f38fd960000-7f38fdd00000 r--p 00000000 fe:00 2 /lib/libc.so.6
`
	got, err := readOnlyRegions(strings.NewReader(maps), "/app/labelstream")
	if err != nil {
		t.Fatal(err)
	}
	want := []region{{0x400000, 0x19ee000}, {0x19ee000, 0x34f2000}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(region{})); diff != "" {
		t.Errorf("regions (-want +got):\n%s", diff)
	}
	if _, err := readOnlyRegions(strings.NewReader("x-y r--p 0 0 1 /app/labelstream\n"), "/app/labelstream"); err == nil {
		t.Error("a line that is no range is no error")
	}
}

func TestReleaseStartupLeavesTheProcessRunning(t *testing.T) {
	if err := releaseStartup(); err != nil {
		t.Fatal(err)
	}
}
