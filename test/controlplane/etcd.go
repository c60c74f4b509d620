// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"

	"labelstream/test/loopback"
	"labelstream/test/process"
)

func (c *ControlPlane) spawnEtcd() (*process.Process, error) {
	client, peer := address("http", c.etcdPort), address("http", c.peerPort)
	return process.Start(c.logPath(etcdName), filepath.Join(c.bin, etcdName),
		"--name=labelstream",
		"--data-dir="+c.path("etcd"),
		"--listen-client-urls="+client, "--advertise-client-urls="+client,
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer,
		"--initial-cluster=labelstream="+peer,
		// Nothing here outlives the machine.
		"--unsafe-no-fsync",
		"--log-level=warn",
	)
}

func (c *ControlPlane) awaitEtcd(ctx context.Context) error {
	return c.etcd.Await(ctx, func(ctx context.Context) error {
		_, err := loopback.Ask(ctx, http.DefaultClient, http.MethodGet, address("http", c.etcdPort)+"/health", nil)
		return err
	})
}

// compactedKey is where API servers tell each other up to which revision they
// have compacted etcd, and learn which versions their caches must forget.
const compactedKey = "compact_rev_key"

// Compact makes etcd forget all but the present version of everything, as API
// servers do every five minutes. A list that was begun before can only be
// continued from the API server's cache then, which follows within 15 s.
func (c *ControlPlane) Compact(ctx context.Context) error {
	var now struct{ Header struct{ Revision string } }
	key := []byte(compactedKey)
	if err := c.callEtcd(ctx, "range", map[string]any{"key": key}, &now); err != nil {
		return err
	}
	revision := now.Header.Revision
	if _, err := strconv.ParseInt(revision, 10, 64); err != nil {
		return fmt.Errorf("read etcd's revision: %w", err)
	}
	compaction := map[string]any{"revision": revision, "physical": true}
	if err := c.callEtcd(ctx, "compaction", compaction, &struct{}{}); err != nil {
		return err
	}
	return c.callEtcd(ctx, "put", map[string]any{"key": key, "value": []byte(revision)}, &struct{}{})
}

// callEtcd calls a method of etcd's KV service over its JSON gateway.
func (c *ControlPlane) callEtcd(ctx context.Context, method string, request map[string]any, response any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("etcd: %s: %w", method, err)
	}
	said, err := loopback.Ask(ctx, http.DefaultClient, http.MethodPost, address("http", c.etcdPort)+"/v3/kv/"+method, body)
	if err == nil {
		err = json.Unmarshal(said, response)
	}
	if err != nil {
		return fmt.Errorf("etcd: %s: %w", method, err)
	}
	return nil
}
