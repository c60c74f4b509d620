package app

import (
	"io"
	"os"

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
		log.SetFormatter(&logrus.TextFormatter{FullTimestamp: true})
	}
	routeLibraries(log)
	return log
}

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
