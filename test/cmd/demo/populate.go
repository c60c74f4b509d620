// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

// populate creates the objects of examples/, and returns the client that did so.
func (d *demo) populate(ctx context.Context, config *rest.Config) (*dynamic.DynamicClient, error) {
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	objects, err := manifests(examples)
	if err != nil {
		return nil, err
	}
	for _, object := range objects {
		if err := apply(ctx, client, object); err != nil {
			return nil, fmt.Errorf("create %s: %w", title(object), err)
		}
		fmt.Fprintln(d.stdout, "   ", title(object))
	}
	return client, nil
}

// apply creates an object. Where the server does not have its kind, that may just
// have been defined, so it is tried again for half a minute.
func apply(ctx context.Context, client *dynamic.DynamicClient, object *unstructured.Unstructured) error {
	// No kind of the examples has an irregular plural.
	plural, _ := meta.UnsafeGuessKindToResource(object.GroupVersionKind())
	resource := client.Resource(plural).Namespace(object.GetNamespace())
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		_, err := resource.Apply(ctx, object.GetName(), object, metav1.ApplyOptions{FieldManager: "labelstream-demo"})
		if !apierrors.IsNotFound(err) {
			return err
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}

func title(object *unstructured.Unstructured) string {
	if object.GetNamespace() == "" {
		return object.GetKind() + " " + object.GetName()
	}
	return object.GetKind() + " " + object.GetNamespace() + "/" + object.GetName()
}

// manifests reads the objects of all YAML files of a directory, in the order of
// the files' names.
func manifests(dir string) ([]*unstructured.Unstructured, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		return nil, fmt.Errorf("find the manifests: %w", err)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("find the manifests: none in %s; run this in the directory test", dir)
	}
	var objects []*unstructured.Unstructured
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read a manifest: %w", err)
		}
		decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
		for {
			object := &unstructured.Unstructured{}
			err := decoder.Decode(object)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return nil, fmt.Errorf("read the manifest %s: %w", file, err)
			}
			objects = append(objects, object)
		}
	}
	return objects, nil
}
