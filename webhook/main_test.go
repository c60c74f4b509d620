package webhook

import (
	"testing"

	"github.com/go-logr/logr"
	"go.uber.org/goleak"
	crlog "sigs.k8s.io/controller-runtime/pkg/log"
)

func TestMain(m *testing.M) {
	// It complains after 30 s where nobody has said where to log to.
	crlog.SetLogger(logr.Discard())
	goleak.VerifyTestMain(m)
}
