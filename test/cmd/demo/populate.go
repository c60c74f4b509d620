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

	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/restmapper"

	"labelstream/test/controlplane"
)

// pollInterval is how often the API server is asked whether it has taken in
// what was created, and patience how long.
const (
	pollInterval = 50 * time.Millisecond
	patience     = 30 * time.Second
)

// populate creates the objects of all manifests, and returns when the account
// may read them.
func (d *demo) populate(ctx context.Context, plane *controlplane.ControlPlane) error {
	config, err := plane.Config(controlplane.Admin)
	if err != nil {
		return err
	}
	objects, err := manifests(examples)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	applier := &applier{mapper: restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(client.Discovery()))}
	if applier.client, err = dynamic.NewForConfig(config); err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	for _, object := range objects {
		if err := applier.apply(ctx, object); err != nil {
			return fmt.Errorf("create %s: %w", title(object), err)
		}
		fmt.Fprintln(d.stdout, "   ", title(object))
	}
	return awaitAccess(ctx, plane)
}

// title is how an object is called in the output.
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

// applier creates objects of any kind that the server has.
type applier struct {
	client *dynamic.DynamicClient
	mapper *restmapper.DeferredDiscoveryRESTMapper
}

func (a *applier) apply(ctx context.Context, object *unstructured.Unstructured) error {
	mapping, err := a.mapping(ctx, object)
	if err != nil {
		return err
	}
	_, err = a.client.Resource(mapping.Resource).Namespace(object.GetNamespace()).
		Apply(ctx, object.GetName(), object, metav1.ApplyOptions{FieldManager: "labelstream-demo"})
	return err
}

// mapping finds the resource of an object, and waits for it where the kind has
// just been defined.
func (a *applier) mapping(ctx context.Context, object *unstructured.Unstructured) (*meta.RESTMapping, error) {
	kind := object.GroupVersionKind()
	var mapping *meta.RESTMapping
	err := poll(ctx, func() (done bool, err error) {
		mapping, err = a.mapper.RESTMapping(kind.GroupKind(), kind.Version)
		if meta.IsNoMatchError(err) {
			a.mapper.Reset()
			return false, nil
		}
		return true, err
	})
	return mapping, err
}

// awaitAccess waits until the API server has heard of the account's role.
func awaitAccess(ctx context.Context, plane *controlplane.ControlPlane) error {
	config, err := plane.Config(account)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
		ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: "list", Resource: "pods"},
	}}
	err = poll(ctx, func() (bool, error) {
		answer, err := client.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
		return err == nil && answer.Status.Allowed, err
	})
	if err != nil {
		return fmt.Errorf("wait for the rights of the user %s: %w", account, err)
	}
	return nil
}

// poll asks until it is done, for patience at most.
func poll(ctx context.Context, ask func() (done bool, err error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		done, err := ask()
		if done || err != nil {
			return err
		}
		select {
		case <-time.After(pollInterval):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
