package check

import (
	"context"
	"crypto/tls"
	"fmt"
	"time"

	"labelstream/config"
	"labelstream/emitter"
)

const noDestination = "look whether it runs and can be reached from here: a run would try again"

// maxSkew is how far clocks may be apart before receivers drop or misplace samples.
const maxSkew = 30 * time.Second

// destination sends a sample in each version of remote_write.
func (c *checker) destination(ctx context.Context) {
	name := c.Config.Destination.Redacted()
	c.Log.WithField("destination", name).Info("Sending a sample of " + emitter.CheckMetric)
	answers, err := emitter.Check(ctx, &c.Config.Delivery, c.UserAgent)
	if err != nil {
		c.fail(destination, err, "")
		return
	}
	used := c.used(answers)
	if older, newer := answers[1].Err, answers[0].Err; older != nil && newer != nil && older.Error() == newer.Error() {
		// Nothing that one version would mend.
		c.fail(destination, newer, noDestination)
		answers = answers[:1]
	} else {
		for _, a := range answers {
			c.answer(name, a, used)
		}
	}
	if a := answers[0]; a.TLS != nil {
		c.destinationTLS(a.TLS)
	}
	if ahead := answers[0].Ahead; ahead.Abs() > maxSkew {
		c.warn(destination, "let NTP set both clocks: receivers drop samples of another time", "its clock and this one are %s apart", ahead.Abs().Round(5*time.Second))
	}
}

// used is the version that a run would send in, "" for none.
func (c *checker) used(answers []emitter.CheckAnswer) config.Protocol {
	for _, a := range answers {
		if a.Err == nil && (c.Config.Protocol == config.ProtocolAuto || c.Config.Protocol == a.Protocol) {
			return a.Protocol
		}
	}
	return ""
}

// answer reports what one version gave. It fails where that version is needed.
func (c *checker) answer(name string, a emitter.CheckAnswer, used config.Protocol) {
	switch {
	case a.Protocol == used:
		c.ok(destination, "%s accepts remote_write %s, which is used", name, a.Protocol)
	case a.Err == nil:
		c.ok(destination, "%s accepts remote_write %s", name, a.Protocol)
	case used == "" && (c.Config.Protocol == config.ProtocolAuto || c.Config.Protocol == a.Protocol):
		c.fail(destination, fmt.Errorf("remote_write %s: %w", a.Protocol, a.Err), noDestination)
	default:
		c.ok(destination, "remote_write %s is not needed: %v", a.Protocol, a.Err)
	}
}

func (c *checker) destinationTLS(state *tls.ConnectionState) {
	leaf := state.PeerCertificates[0]
	ends := leaf.NotAfter.Format(time.DateOnly)
	if time.Until(leaf.NotAfter) < endsSoon {
		c.warn(destination, "let it be renewed", "its certificate ends on %s", ends)
		return
	}
	c.ok(destination, "%s, and its certificate ends on %s", tls.VersionName(state.Version), ends)
}
