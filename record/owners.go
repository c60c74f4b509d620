// SPDX-License-Identifier: Apache-2.0

package record

import (
	"bytes"

	"labelstream/config"
)

// The keys of the labels that say whose an object is.
var (
	ownerKind    = []byte(config.OwnerKind)
	ownerName    = []byte(config.OwnerName)
	workloadKind = []byte(config.WorkloadKind)
	workloadName = []byte(config.WorkloadName)
)

// The labels of an owner's series, as series have them.
var (
	isController     = AppendLabel(nil, "owner_is_controller", "true")
	isNoController   = AppendLabel(nil, "owner_is_controller", "false")
	encodedOwnerKind = appendName(nil, config.OwnerKind)
	encodedOwnerName = appendName(nil, config.OwnerName)
)

// templateHashes are the labels that a controller of ReplicaSets puts on what it makes.
// The name of such a ReplicaSet is the controller's, a dash, and the label's value.
var templateHashes = []struct{ label, kind []byte }{
	{[]byte("rollouts-pod-template-hash"), []byte("Rollout")},
	{[]byte("pod-template-hash"), []byte("Deployment")},
}

// Clone returns a copy of what the owner is called.
func (o *Owner) Clone() *Owner {
	return &Owner{Kind: bytes.Clone(o.Kind), Name: bytes.Clone(o.Name), IsController: o.IsController}
}

// Controller returns the owner that has made the object, nil where none has.
func (o *Object) Controller() *Owner {
	for i := range o.Owners {
		if owner := &o.Owners[i]; owner.IsController && len(owner.Kind) > 0 && len(owner.Name) > 0 {
			return owner
		}
	}
	return nil
}

// workload returns the top of the chain of owners that begins with the object's
// controller, as far as the object's own metadata tells it.
func (o *Object) workload(controller *Owner) (kind, name []byte) {
	if string(controller.Kind) != "ReplicaSet" {
		return controller.Kind, controller.Name
	}
	for _, of := range templateHashes {
		hash := o.label(of.label)
		if name, ok := bytes.CutSuffix(controller.Name, hash); ok && len(hash) > 0 && len(name) > 1 && name[len(name)-1] == '-' {
			return of.kind, name[:len(name)-1]
		}
	}
	return controller.Kind, controller.Name
}

// label returns the value of a label, nil where the object has none of that key.
func (o *Object) label(key []byte) []byte {
	for i := range o.Labels {
		if bytes.Equal(o.Labels[i].Key, key) {
			return o.Labels[i].Value
		}
	}
	return nil
}

// addOwners appends one series for each owner, or one for none, as kube-state-metrics
// does: its labels without a value are none here. What two owners have in common is one
// series.
func (b *Builder) addOwners(o *Object) {
	first := len(b.record.Series)
	if len(o.Owners) == 0 {
		b.addOwner(o, nil)
	}
	for i := range o.Owners {
		start := len(b.record.Series)
		b.addOwner(o, &o.Owners[i])
		for before := Cursor(b.record.Series[first:start]); len(before) > 0; {
			if bytes.Equal(before.series(), b.record.Series[start:]) {
				b.record.Series = b.record.Series[:start]
				b.record.Count--
				break
			}
		}
	}
}

// addOwner appends the series of one owner, of none where it is nil.
func (b *Builder) addOwner(o *Object, owner *Owner) {
	b.record.Count++
	dst := appendFixed(AppendCount(b.record.Series, b.owners.count()), b.owners.before, o)
	count := len(b.record.Series)
	if owner != nil {
		is := isNoController
		if owner.IsController {
			is = isController
		}
		dst = append(dst, is...)
		dst[count]++
		for _, label := range []struct{ encodedName, value []byte }{{encodedOwnerKind, owner.Kind}, {encodedOwnerName, owner.Name}} {
			if value, ok := b.value(label.value); ok {
				dst = appendText(append(dst, label.encodedName...), value)
				dst[count]++
			}
		}
	}
	b.record.Series = appendFixed(dst, b.owners.after, o)
}
