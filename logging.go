package main

import (
	"io"
	"os"

	"github.com/go-logr/logr/funcr"
	"github.com/sirupsen/logrus"
	"golang.org/x/term"
	"k8s.io/klog/v2"

	"labelstream/config"
)

func newLogger(cfg *config.Config, w io.Writer) *logrus.Logger {
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
	return log
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// routeKlog sends what client-go logs to our log, at debug: what an operator
// would act on, the informers say themselves.
func routeKlog(log logrus.FieldLogger) {
	klog.SetLogger(funcr.New(func(prefix, args string) {
		log.WithField("from", "client-go").Debug(prefix, " ", args)
	}, funcr.Options{}))
}

// logErrors writes a line for each of the errors that were joined.
func logErrors(log logrus.FieldLogger, err error) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, err := range joined.Unwrap() {
			logErrors(log, err)
		}
		return
	}
	log.Error(err)
}
