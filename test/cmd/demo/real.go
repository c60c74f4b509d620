// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"labelstream/test/controlplane"
	"labelstream/test/receiver"
)

// account is the user that examples/access.yaml gives rights to.
const account = "labelstream"

// realSettings are those of the backfill. The destination comes last, since its
// port is another each time.
var realSettings = []string{
	"LABELSTREAM_LABELS_RESOURCES=pods,namespaces,nodes,services,deployments,cronjobs,rollouts.argoproj.io",
	"LABELSTREAM_LABELS_FILTERS=^app$,^team$,^environment$,^topology",
	"LABELSTREAM_ANNOTATIONS_ENABLED=true",
	"LABELSTREAM_ANNOTATIONS_RESOURCES=pods,namespaces",
	"LABELSTREAM_ANNOTATIONS_FILTERS=^owner$",
	"LABELSTREAM_NAMESPACES_EXCLUDE=default,kube-system,kube-public,kube-node-lease",
	"LABELSTREAM_ONCE_TIMEOUT=1m",
	"LABELSTREAM_STATUS_ADDRESS=127.0.0.1:0",
	"LABELSTREAM_LOG_FORMAT=text",
}

// showReal shows a backfill of a real control plane, which it starts and stops.
func (d *demo) showReal(ctx context.Context) (err error) {
	begun := time.Now()
	d.say("starting etcd and kube-apiserver %s on loopback", controlplane.Version)
	plane, err := controlplane.Start(ctx, controlplane.Options{Users: []string{account}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, plane.Stop()) }()
	r, err := receiver.Start(receiver.New(receiver.Options{}))
	if err != nil {
		return err
	}
	defer r.Down()

	d.say("creating the cluster that examples/ describes")
	config, err := plane.Config(controlplane.Admin)
	if err != nil {
		return err
	}
	if _, err := d.populate(ctx, config); err != nil {
		return err
	}
	kubeconfig := filepath.Join(d.dir, "kubeconfig")
	if err := plane.WriteKubeconfig(kubeconfig, account); err != nil {
		return err
	}
	if err := d.backfill(ctx, kubeconfig, r); err != nil {
		return err
	}
	d.say("done in %v; stopping the control plane", time.Since(begun).Round(100*time.Millisecond))
	return nil
}

func (d *demo) backfill(ctx context.Context, kubeconfig string, r *receiver.Server) error {
	d.say("running labelstream --once")
	chosen := append(realSettings[:len(realSettings):len(realSettings)], "LABELSTREAM_DESTINATION="+r.URL())
	for _, setting := range chosen {
		fmt.Fprintln(d.stdout, "   ", setting)
	}
	fmt.Fprintln(d.stdout)
	if err := d.execute(d.command(ctx, d.environment(append(chosen, "KUBECONFIG="+kubeconfig)), d.binary, "--once")); err != nil {
		return err
	}
	if err := mustBeValid(r); err != nil {
		return err
	}
	d.say("received: %d series in %d requests", len(r.Series()), r.Accepted())
	return r.Print(d.stdout)
}
