// SPDX-License-Identifier: Apache-2.0

package app

import (
	"io"
	"os"
	"regexp"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"github.com/sirupsen/logrus"
	"golang.org/x/term"
	"k8s.io/klog/v2"
	crlog "sigs.k8s.io/controller-runtime/pkg/log"

	"labelstream/config"
	"labelstream/status/outage"
)

// NewLogger returns a logger that writes as the settings say, also what libraries
// log. It is called once.
func NewLogger(cfg *config.Config, w io.Writer) *logrus.Logger {
	log := logrus.New()
	log.SetOutput(w)
	if level, err := logrus.ParseLevel(cfg.LogLevel); err == nil {
		log.SetLevel(level)
	}
	if cfg.LogFormat == "json" || cfg.LogFormat == "" && !isTerminal(w) {
		log.SetFormatter(&logrus.JSONFormatter{})
	} else {
		log.SetFormatter(newTextFormatter(w))
	}
	routeLibraries(log)
	return log
}

// newTextFormatter aligns lines for a terminal, in colours unless NO_COLOR is set.
func newTextFormatter(w io.Writer) logrus.Formatter {
	text := &logrus.TextFormatter{FullTimestamp: true}
	if !isTerminal(w) {
		return text
	}
	text.ForceColors, text.TimestampFormat = true, time.TimeOnly
	if os.Getenv("NO_COLOR") != "" || !canDraw(w) {
		return uncoloured{text}
	}
	return text
}

// uncoloured aligns as logrus does only with colours.
type uncoloured struct{ *logrus.TextFormatter }

var colour = regexp.MustCompile("\x1b\\[[0-9;]*m")

// Format implements [logrus.Formatter]. What a value has of escapes is quoted.
func (u uncoloured) Format(entry *logrus.Entry) ([]byte, error) {
	line, err := u.TextFormatter.Format(entry)
	return colour.ReplaceAll(line, nil), err
}

// canDraw tells whether w is a terminal that obeys escape sequences.
func canDraw(w io.Writer) bool { return isTerminal(w) && os.Getenv("TERM") != "dumb" }

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// routeLibraries writes what libraries log at debug level: the code that uses one
// logs what an operator can act on.
func routeLibraries(log logrus.FieldLogger) {
	klog.SetLogger(atDebug(log, "client-go"))
	crlog.SetLogger(atDebug(log, "controller-runtime"))
}

func atDebug(log logrus.FieldLogger, from string) logr.Logger {
	return funcr.New(func(prefix, args string) {
		log.WithField("from", from).Debug(prefix, " ", args)
	}, funcr.Options{})
}

// LogErrors writes a line for each of the errors that are joined in err.
func LogErrors(log logrus.FieldLogger, err error) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, err := range joined.Unwrap() {
			LogErrors(log, err)
		}
		return
	}
	if hint := outage.Hint(err); hint != "" {
		log = log.WithField("hint", hint)
	}
	log.Error(err)
}

// logPreset says what came of the settings that follow the preset, and what of them
// the receiver is known not to keep.
func (a *app) logPreset() {
	log := a.log.WithField("preset", string(a.cfg.Preset))
	log.WithFields(a.cfg.PresetValues).Info("Settings that follow the preset")
	for _, text := range a.cfg.Discarded() {
		log.WithField("hint", text).Warn("The receiver discards what these settings make")
	}
}
