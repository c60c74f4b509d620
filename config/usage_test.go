// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"regexp"
	"strings"
	"testing"
)

// TestUsage wants every setting described, and nothing of what is set, which may be
// secret.
func TestUsage(t *testing.T) {
	setenv(t, with(map[string]string{"HEADERS": "a=c4nary", "DESTINATION": "http://u:c4nary@host/?t=c4nary", "BASIC_USERNAME": "c4nary"}))
	var out strings.Builder
	if err := Usage(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`
LABELSTREAM_DESTINATION
    remote_write URL to send to; required, except with --dry-run
    accepted: an absolute http or https URL, such as https://collector.example.com/api/v1/write
`, `
LABELSTREAM_RESYNC_INTERVAL (default: 3h; 4m with PRESET=prometheus, mimir, victoriametrics)
    how often all is read and sent again, up to a tenth sooner; 0 for never
    accepted: 0, or a duration from 1s to 168h
`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the usage is without%s", want)
		}
	}
	if got, want := strings.Count(out.String(), "\n"+prefix+"_"), len(settingNames()); got != want {
		t.Errorf("%d settings in the usage, want %d", got, want)
	}
	if regexp.MustCompile(`(?m)^    (accepted: )?$`).MatchString(out.String()) {
		t.Error("a setting has no description, or accepts nothing")
	}
	if strings.Contains(out.String(), "c4nary") {
		t.Error("the usage shows what is set")
	}
	if err := Usage(fullDisk{}); !errors.Is(err, errDisk) {
		t.Errorf("Usage = %v, want %v", err, errDisk)
	}
}

type fullDisk struct{}

var errDisk = errors.New("no space left on device")

func (fullDisk) Write([]byte) (int, error) { return 0, errDisk }
