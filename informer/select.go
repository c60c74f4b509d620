// SPDX-License-Identifier: Apache-2.0

package informer

import "labelstream/record"

// give shows an object to what keeps the parents, where its kind is one of these.
func (s *Source) give(b *builder, o *record.Object, deleted bool) {
	k := s.kind
	switch {
	case k.gives == nil:
	case deleted:
		k.gives.end(o)
	case k.gives == s.in.jobs:
		is := parent{}
		if controller := o.Controller(); controller != nil {
			is.owner = controller.Clone()
		}
		k.gives.show(s, o, is)
	default:
		k.gives.show(s, o, parent{labels: b.Inheritable(o), unselected: !s.selectsNamespace(o)})
	}
}

// enrich returns an object with what it takes from others, valid until the builder is
// used again.
func (s *Source) enrich(b *builder, o *record.Object) *record.Object {
	var inherited []record.KeyValue
	if s.kind.Namespaced && len(s.in.cfg.InheritNamespaceLabels) > 0 {
		inherited = s.in.namespaces.find(nil, o.Namespace).labels
	}
	return b.Enrich(o, inherited)
}

// selects tells whether the settings select an object. The selector of its kind is for
// the API server to evaluate, unless here says that it does not.
func (s *Source) selects(o *record.Object, here bool) bool {
	k := s.kind
	if here && !k.selector.Matches((*objectLabels)(o)) {
		return false
	}
	switch {
	case s.in.cfg.NamespaceSelector.Empty():
		return true
	case k.Namespaced:
		return !s.in.namespaces.find(nil, o.Namespace).unselected
	}
	return k.gives != s.in.namespaces || s.selectsNamespace(o)
}

// selectsNamespace tells whether what is in a Namespace is sent.
func (s *Source) selectsNamespace(o *record.Object) bool {
	return s.in.cfg.NamespaceSelector.Matches((*objectLabels)(o))
}

// objectLabels are an object's labels for a selector.
type objectLabels record.Object

// Has implements labels.Labels.
func (l *objectLabels) Has(key string) bool { _, ok := l.Lookup(key); return ok }

// Get implements labels.Labels.
func (l *objectLabels) Get(key string) string { value, _ := l.Lookup(key); return value }

// Lookup implements labels.Labels. Where a key is there twice, the last counts.
func (l *objectLabels) Lookup(key string) (value string, exists bool) {
	for i := range l.Labels {
		if string(l.Labels[i].Key) == key {
			value, exists = string(l.Labels[i].Value), true
		}
	}
	return value, exists
}
