// SPDX-License-Identifier: Apache-2.0

package record

import (
	"bytes"

	"labelstream/config"
)

// Parents tells what the objects of a kind take from the Jobs that have made them.
type Parents interface {
	// Workload is the controller of a Job, nil where it has none or is not known.
	Workload(namespace, job []byte) *Owner
}

// Enricher makes the keys of an object one, and gives it labels that follow from its
// owners and its namespace. It uses its memory again and is not safe for concurrent use.
type Enricher struct {
	jobs Parents
	// owner and workload say which labels of the owner there are.
	owner, workload     bool
	inherit             config.Patterns
	marker              []byte
	labels, annotations *rewriter

	object Object
	pairs  []KeyValue
	// owned, inherited and marked are the labels after each step.
	owned, inherited, marked []KeyValue
	taken                    []byte
}

// NewEnricher returns an enricher, nil where the settings need none. jobs may be nil.
func NewEnricher(cfg *config.Config, jobs Parents) *Enricher {
	if !cfg.OwnerLabels && len(cfg.InheritNamespaceLabels) == 0 && len(cfg.Rename) == 0 && len(cfg.LowercaseValues) == 0 {
		return nil
	}
	return &Enricher{
		jobs: jobs,
		// kube-state-metrics has the owner in a series of its own.
		owner: cfg.OwnerLabels && cfg.Series != config.FormKubeStateMetrics, workload: cfg.OwnerLabels,
		inherit: cfg.InheritNamespaceLabels, marker: []byte(cfg.InheritedLabel),
		labels: newRewriter(cfg), annotations: newRewriter(cfg),
	}
}

// Enrich returns the object as it is sent, valid until the next call. The one that it is
// given stays as it is. inherited are the labels that the object takes from its
// namespace, sorted by key. A label that the object has itself is never replaced.
func (e *Enricher) Enrich(o *Object, inherited []KeyValue) *Object {
	if e == nil {
		return o
	}
	e.object = *o
	e.object.Annotations = e.annotations.rewrite(o.Annotations)
	labels := e.labels.rewrite(o.Labels)
	if controller := o.Controller(); controller != nil && e.workload {
		e.pairs = e.appendOwner(e.pairs[:0], o, controller)
		e.owned = merge(e.owned[:0], labels, e.pairs)
		labels = e.owned
	}
	if len(inherited) > 0 {
		labels = e.addInherited(labels, inherited)
	}
	e.object.Labels = labels
	return &e.object
}

// Inheritable returns the labels that a namespace gives to what is in it, sorted by key
// and valid until the next call.
func (e *Enricher) Inheritable(namespace *Object) []KeyValue {
	if e == nil {
		return nil
	}
	e.pairs = e.pairs[:0]
	for _, l := range e.labels.rewrite(namespace.Labels) {
		if e.inherit.Match(string(l.Key)) {
			e.pairs = append(e.pairs, l)
		}
	}
	return e.pairs
}

// appendOwner appends whose the object is, sorted by key.
func (e *Enricher) appendOwner(pairs []KeyValue, o *Object, controller *Owner) []KeyValue {
	if e.owner {
		pairs = append(pairs, KeyValue{ownerKind, controller.Kind}, KeyValue{ownerName, controller.Name})
	}
	kind, name := o.workload(controller)
	if e.jobs != nil && string(kind) == "Job" {
		if above := e.jobs.Workload(o.Namespace, name); above != nil {
			kind, name = above.Kind, above.Name
		}
	}
	return append(pairs, KeyValue{workloadKind, kind}, KeyValue{workloadName, name})
}

// addInherited adds the labels of the namespace, and the one that names them.
func (e *Enricher) addInherited(labels, inherited []KeyValue) []KeyValue {
	e.inherited = merge(e.inherited[:0], labels, inherited)
	if len(e.marker) == 0 || len(e.inherited) == len(labels) {
		return e.inherited
	}
	e.taken = e.taken[:0]
	for _, l := range inherited {
		if !hasKey(labels, l.Key) {
			e.taken = append(append(e.taken, l.Key...), ',')
		}
	}
	marker := KeyValue{e.marker, e.taken[:len(e.taken)-1]}
	e.marked = merge(e.marked[:0], e.inherited, []KeyValue{marker})
	return e.marked
}

func hasKey(labels []KeyValue, key []byte) bool {
	for i := range labels {
		if bytes.Equal(labels[i].Key, key) {
			return true
		}
	}
	return false
}

// merge appends own and more, both sorted by key, to dst. Where both have a key, it is
// own's label that counts.
func merge(dst, own, more []KeyValue) []KeyValue {
	for i := range own {
		order := 1
		for len(more) > 0 && order > 0 {
			if order = bytes.Compare(own[i].Key, more[0].Key); order > 0 {
				dst = append(dst, more[0])
			}
			if order >= 0 {
				more = more[1:]
			}
		}
		dst = append(dst, own[i])
	}
	return append(dst, more...)
}
