package controlplane

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
)

// compactedKey is where API servers tell each other up to which revision they
// have compacted etcd, and learn which versions their caches must forget.
const compactedKey = "compact_rev_key"

// Compact makes etcd forget all but the present version of everything, as API
// servers do every five minutes. A list that was begun before can only be
// continued from the API server's cache then, which follows within 15 s.
func (c *ControlPlane) Compact(ctx context.Context) error {
	var now struct {
		Header struct {
			Revision string `json:"revision"`
		} `json:"header"`
	}
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
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	said, err := ask(ctx, client, http.MethodPost, loopback("http", c.etcdPort)+"/v3/kv/"+method, body)
	if err == nil {
		err = json.Unmarshal(said, response)
	}
	if err != nil {
		return fmt.Errorf("etcd: %s: %w", method, err)
	}
	return nil
}
