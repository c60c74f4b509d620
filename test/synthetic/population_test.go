package synthetic

import (
	"regexp"
	"testing"
)

func TestPopulationIsSortedAndUnique(t *testing.T) {
	name := regexp.MustCompile(`^[a-z-]+-[2456789bcdfghjklmnpqrstvwxz]{10}-[2456789bcdfghjklmnpqrstvwxz]{5}$`)
	for _, p := range []pods{{count: 0, namespaces: 300}, {count: 1, namespaces: 300}, {count: 7, namespaces: 3}, {count: 299, namespaces: 300}, {count: 20_011, namespaces: 7}, {count: 30_000, namespaces: 300}} {
		seen := map[string]bool{}
		var last string
		var v values
		for i := range p.count {
			p.fill(i, &v)
			meta := podMeta(p.shape(i), &v, 0)
			if !name.MatchString(meta.Name) {
				t.Fatalf("%v: pod %d is called %q", p, i, meta.Name)
			}
			key := meta.Namespace + "/" + meta.Name
			if key <= last {
				t.Fatalf("%v: pod %d is %q, the one before %q", p, i, key, last)
			}
			last = key
			if seen[string(meta.UID)] {
				t.Fatalf("%v: pod %d has another's UID %q", p, i, meta.UID)
			}
			seen[string(meta.UID)] = true
		}
	}
}

func TestNamespacesPartitionThePods(t *testing.T) {
	for _, p := range []pods{{count: 0, namespaces: 5}, {count: 3, namespaces: 5}, {count: 12_345, namespaces: 300}} {
		next := 0
		var v values
		for n := range int(p.namespaces) {
			p.namespaces.name(n, &v)
			name := v.text(fieldNamespace)
			from, to := p.within(name)
			if from != next || to < from {
				t.Fatalf("%v: %q has pods %d to %d, want from %d", p, name, from, to, next)
			}
			for i := from; i < to; i++ {
				if p.fill(i, &v); v.text(fieldNamespace) != name {
					t.Fatalf("%v: pod %d is in %q, want %q", p, i, v.text(fieldNamespace), name)
				}
			}
			next = to
		}
		if next != p.count {
			t.Fatalf("%v: the namespaces have %d pods", p, next)
		}
		if from, to := p.within("nowhere-000"); from != to {
			t.Fatalf("%v: an unknown namespace has pods %d to %d", p, from, to)
		}
	}
}

func TestMetadataIsOfRealisticSize(t *testing.T) {
	p := pods{count: 1000, namespaces: 300}
	var v values
	size, unknown := 0, map[int]bool{}
	for i := range p.count {
		p.fill(i, &v)
		meta := podMeta(p.shape(i), &v, 0)
		size += meta.Size()
		if n := len(meta.Labels); n < 8 || n > 10 {
			unknown[n] = true
		}
		if n := len(meta.Annotations); n < 3 || n > 4 {
			unknown[n] = true
		}
	}
	if mean := size / p.count; mean < 1200 || mean > 1400 {
		t.Errorf("the metadata of a pod has %d bytes, want about 1,300", mean)
	}
	if len(unknown) > 0 {
		t.Errorf("pods have %v labels or annotations", unknown)
	}
}

func TestAnnotationBytes(t *testing.T) {
	for _, want := range []int{0, 100, fillerBytes, 200 << 10} {
		annotations, got := map[string]string{}, 0
		addFiller(annotations, want)
		for key, value := range annotations {
			got += len(key) + len(value)
		}
		if got != want {
			t.Errorf("%d bytes of annotations asked for, %d made", want, got)
		}
	}
}

func TestNewRefusesWhatItHasNoDigitsFor(t *testing.T) {
	for _, options := range []Options{{Pods: -1}, {Pods: 1_000_000_000}, {Namespaces: -1}, {Namespaces: 1001}} {
		if _, err := New(options); err == nil {
			t.Errorf("New(%+v) gave no error", options)
		}
	}
}
