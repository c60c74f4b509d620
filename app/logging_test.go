// SPDX-License-Identifier: Apache-2.0

package app

import (
	"fmt"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
)

// TestUncoloured aligns, and leaves what a value has of escapes as it was quoted.
func TestUncoloured(t *testing.T) {
	f := uncoloured{&logrus.TextFormatter{FullTimestamp: true, ForceColors: true, TimestampFormat: time.TimeOnly}}
	line, err := f.Format(&logrus.Entry{Logger: logrus.New(), Level: logrus.WarnLevel, Message: "Cannot send", Data: logrus.Fields{"b": 2, "a": "\x1b[31m"}})
	if want := fmt.Sprintf("WARN[00:00:00] %-44s  ", "Cannot send") + `a="\x1b[31m" b=2` + "\n"; err != nil || string(line) != want {
		t.Errorf("formats %q, %v, want %q", line, err, want)
	}
}
