// SPDX-License-Identifier: Apache-2.0

package check

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"time"

	"labelstream/config"
	"labelstream/emitter"
	"labelstream/status/outage"
)

const noDestination = "look whether a receiver of remote_write runs there and can be reached from here, and at the URL's scheme and port"

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
	if older, newer := answers[1].Err, answers[0].Err; older != nil && newer != nil && older.Error() == newer.Error() {
		// Nothing that one version would mend.
		c.fail(destination, newer, noDestination)
		answers = answers[:1]
	} else {
		c.versions(name, answers)
	}
	if a := answers[0]; a.TLS != nil {
		c.destinationTLS(a.TLS)
	}
	if ahead := answers[0].Ahead; ahead.Abs() > maxSkew {
		c.warn(destination, "let NTP set both clocks: receivers drop samples of another time", "its clock and this one are %s apart", ahead.Abs().Round(5*time.Second))
	}
}

// versions reports what each version gave. It fails where none of those that a run
// may use is accepted.
func (c *checker) versions(name string, answers []emitter.CheckAnswer) {
	var used, other config.Protocol
	for _, a := range answers {
		switch {
		case a.Err != nil:
		case c.mayUse(a.Protocol):
			used = cmp.Or(used, a.Protocol)
		default:
			other = a.Protocol
		}
	}
	for _, a := range answers {
		switch {
		case a.Protocol == used:
			c.ok(destination, "%s accepts remote_write %s, which is used", name, a.Protocol)
		case a.Err == nil:
			c.ok(destination, "%s accepts remote_write %s", name, a.Protocol)
		case used != "" || !c.mayUse(a.Protocol):
			c.ok(destination, "remote_write %s is not needed: %v", a.Protocol, a.Err)
		default:
			err := fmt.Errorf("remote_write %s: %w", a.Protocol, a.Err)
			if other != "" {
				err = outage.WithHint(err, "set LABELSTREAM_PROTOCOL to auto or "+string(other))
			}
			c.fail(destination, err, noDestination)
		}
	}
}

// mayUse reports whether a run may send in a version.
func (c *checker) mayUse(version config.Protocol) bool {
	return c.Config.Protocol == config.ProtocolAuto || c.Config.Protocol == version
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
