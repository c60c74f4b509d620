// SPDX-License-Identifier: Apache-2.0

// Package check tells before a start whether labelstream will work with its settings:
// each thing that it needs is asked for, and a line says what came of it.
package check

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"labelstream/config"
	"labelstream/informer"
	"labelstream/status/outage"
	"labelstream/webhook"
)

// Level is how a check came out.
type Level string

// The levels. What is Warn works now, or could not be asked for.
const (
	OK   Level = "ok"
	Warn Level = "warn"
	Fail Level = "fail"
)

// What is checked.
const (
	apiServer   = "API server"
	resources   = "resources"
	rights      = "rights"
	destination = "destination"
	webhooks    = "webhook"
)

// Result is what came of one check.
type Result struct {
	Level Level `json:"level"`
	// Check is what was checked, such as "rights".
	Check   string `json:"check"`
	Message string `json:"message"`
	// Hint says what to do.
	Hint string `json:"hint,omitempty"`
}

// String is the result as a line, its hint as another.
func (r Result) String() string {
	const format = "%-4s  %-11s  %s\n"
	text := fmt.Sprintf(format, r.Level, r.Check, strings.ReplaceAll(r.Message, "\n", "; "))
	if r.Hint != "" {
		text += fmt.Sprintf(format, "", "", r.Hint)
	}
	return text
}

// Options say what is checked.
type Options struct {
	Config *config.Config
	// Once says that it is for a run that ends by itself, which needs less.
	Once bool
	// NoSend leaves out the destination.
	NoSend bool
	// Connect returns how to reach the API server.
	Connect func() (*rest.Config, error)
	// Rules returns what a run must be allowed: by namespace, and under "" in all of
	// them.
	Rules func([]*informer.Kind) map[string][]rbacv1.PolicyRule
	// Namespace is the pod's.
	Namespace string
	UserAgent string
	Log       logrus.FieldLogger
}

type checker struct {
	Options
	client kubernetes.Interface
	report func(Result)
}

// Run checks everything and reports each result as it comes.
func Run(ctx context.Context, options Options, report func(Result)) {
	c := &checker{Options: options, report: report}
	c.cluster(ctx)
	if !c.NoSend {
		c.destination(ctx)
	}
}

// cluster checks what the API server has and allows. What needs an earlier check
// is left out where that has failed.
func (c *checker) cluster(ctx context.Context) {
	cluster, err := c.Connect()
	if err == nil {
		c.client, err = webhook.JSONClient(cluster)
	}
	if err != nil {
		c.fail(apiServer, err, noServer)
		return
	}
	if !c.reach(ctx, cluster.Host) {
		return
	}
	kinds := c.resources(ctx, cluster)
	c.rights(ctx, kinds)
	if c.Config.Changes == config.ChangesWebhook && !c.Once {
		c.webhook(ctx, kinds)
	}
}

func (c *checker) ok(check, format string, args ...any) {
	c.report(Result{Level: OK, Check: check, Message: fmt.Sprintf(format, args...)})
}

// fail reports an error. The hint is for one that has none of its own.
func (c *checker) fail(check string, err error, hint string) {
	c.report(Result{Level: Fail, Check: check, Message: err.Error(), Hint: cmp.Or(outage.Hint(err), hint)})
}

func (c *checker) warn(check, hint, format string, args ...any) {
	c.report(Result{Level: Warn, Check: check, Message: fmt.Sprintf(format, args...), Hint: hint})
}

// endsSoon is how long before its end a certificate should have been replaced.
const endsSoon = 14 * 24 * time.Hour
