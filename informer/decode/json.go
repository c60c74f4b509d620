// SPDX-License-Identifier: Apache-2.0

package decode

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"labelstream/record"
)

// jsonObject is the part of an object in JSON that is read. As everywhere in
// encoding/json, the case of names does not matter.
type jsonObject struct {
	Metadata struct {
		Name            string            `json:"name"`
		UID             string            `json:"uid"`
		Namespace       string            `json:"namespace"`
		ResourceVersion string            `json:"resourceVersion"`
		Labels          map[string]string `json:"labels"`
		Annotations     map[string]string `json:"annotations"`
		// Owners are decoded only where they are asked for.
		Owners json.RawMessage `json:"ownerReferences"`
	} `json:"metadata"`
}

func (o *jsonObject) object(owners bool) (Object, error) {
	meta := &o.Metadata
	object := Object{
		Object: record.Object{
			Namespace: []byte(meta.Namespace), Name: []byte(meta.Name), UID: []byte(meta.UID),
			Labels: sorted(meta.Labels), Annotations: sorted(meta.Annotations),
		},
		ResourceVersion: []byte(meta.ResourceVersion),
	}
	if owners && len(meta.Owners) > 0 {
		return object, ParseOwners(meta.Owners, &object.Object)
	}
	return object, nil
}

// ParseOwners reads owner references in JSON.
func ParseOwners(encoded []byte, o *record.Object) error {
	var owners []struct {
		Kind       string `json:"kind"`
		Name       string `json:"name"`
		Controller bool   `json:"controller"`
	}
	err := json.Unmarshal(encoded, &owners)
	for _, owner := range owners {
		o.Owners = append(o.Owners, record.Owner{Kind: []byte(owner.Kind), Name: []byte(owner.Name), IsController: owner.Controller})
	}
	return err
}

func parseObjectJSON(encoded []byte, o *Object, owners bool) error {
	var parsed jsonObject
	if err := json.Unmarshal(encoded, &parsed); err != nil {
		return err
	}
	var err error
	*o, err = parsed.object(owners)
	return err
}

func parseStatusJSON(s *metav1.Status, encoded []byte) error { return json.Unmarshal(encoded, s) }

// sorted gives equal maps in an equal order, which keeps records equal.
func sorted(m map[string]string) []record.KeyValue {
	pairs := make([]record.KeyValue, 0, len(m))
	for _, key := range slices.Sorted(maps.Keys(m)) {
		pairs = append(pairs, record.KeyValue{Key: []byte(key), Value: []byte(m[key])})
	}
	return pairs
}

// jsonList reads one list in JSON, which API servers without protobuf answer. Its
// decoder's memory, which the largest object has determined, is not kept.
type jsonList struct {
	in   *json.Decoder
	page *Page
	each func(*Object) error
	// owners says whether owner references are read.
	owners bool
	kind   string
	meta   metav1.ListMeta
	// found says that the list has the member items.
	found bool
}

func (l *jsonList) read() error {
	err := l.delim('{')
	for err == nil && l.in.More() {
		err = l.member()
	}
	if err == nil {
		err = l.delim('}')
	}
	if err == nil && l.kind != "" {
		err = mustBeList(l.kind)
	}
	if err == nil && !l.found {
		err = errors.New("decode the list: the response has no items")
	}
	return err
}

// delim reads one of the delimiters between values.
func (l *jsonList) delim(want json.Delim) error {
	token, err := l.in.Token()
	switch {
	case err != nil:
		return fmt.Errorf("decode the list: %w", unexpectedEOF(err))
	case token != want:
		return fmt.Errorf("decode the list: the response has %v where %v is expected", token, want)
	}
	return nil
}

// member reads a member of the list.
func (l *jsonList) member() error {
	name, err := l.in.Token()
	if err == nil {
		switch name {
		case "items":
			return l.items()
		case "kind":
			err = l.in.Decode(&l.kind)
		case "metadata":
			err = l.in.Decode(&l.meta)
			l.page.setMeta(&l.meta)
		default:
			err = l.in.Decode(new(json.RawMessage))
		}
	}
	if err != nil {
		return fmt.Errorf("decode the list's %v: %w", name, unexpectedEOF(err))
	}
	return nil
}

// items reads the objects. An error of each is returned as it is.
func (l *jsonList) items() error {
	if l.found {
		return errors.New("decode the list: the response has items twice")
	}
	l.found = true
	begin, err := l.in.Token()
	switch {
	case err != nil:
		return fmt.Errorf("decode the list's items: %w", unexpectedEOF(err))
	case begin == nil:
		return nil
	case begin != json.Delim('['):
		return fmt.Errorf("decode the list's items: %v where an array is expected", begin)
	}
	for l.in.More() {
		var item jsonObject
		if err := l.in.Decode(&item); err != nil {
			return fmt.Errorf("decode object %d of the list: %w", l.page.Items+1, unexpectedEOF(err))
		}
		l.page.Items++
		o, err := item.object(l.owners)
		if err != nil {
			return fmt.Errorf("decode the owners of object %d of the list: %w", l.page.Items, err)
		}
		if err := l.each(&o); err != nil {
			return err
		}
	}
	return l.delim(']')
}
