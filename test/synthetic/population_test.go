package synthetic

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPopulationIsSortedAndUnique(t *testing.T) {
	const random = `[2456789bcdfghjklmnpqrstvwxz]`
	name := regexp.MustCompile(`^([a-z-]+-` + random + `{10}|` + random + `{10}-[a-z]+)-` + random + `{5}$`)
	for _, p := range []pods{{count: 0, namespaces: 300}, {count: 1, namespaces: 300}, {count: 7, namespaces: 3}, {count: 299, namespaces: 300}, {count: 20_011, namespaces: 7}, {count: 30_000, namespaces: 300}, {count: 5_000, namespaces: 7, mixed: true}} {
		seen := map[string]bool{}
		var last string
		var v values
		for i := range p.count {
			p.fill(i, &v)
			shape := p.shape(i)
			meta := podMeta(shape%len(workloads), &v, 0)
			if p.mixed {
				meta = newMixedShape(shape).meta(&v, 0)
			}
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

// TestMixedPodsAreMixed holds the population to what it is for: keys, places and
// values that differ from one pod to the next.
func TestMixedPodsAreMixed(t *testing.T) {
	const count = 2000
	pod := podsOf(Options{Pods: count, Profile: Mixed})
	owners, keys, places, values := map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]int{}
	all, sameKeys, fewest, most, size := 0, 0, 99, 0, 0
	var last string
	for i := range count {
		meta := pod(i)
		size += meta.Size()
		for _, owner := range meta.OwnerReferences {
			owners[owner.Kind] = true
		}
		sorted := slices.Sorted(maps.Keys(meta.Labels))
		fewest, most = min(fewest, len(sorted)), max(most, len(sorted))
		for place, key := range sorted {
			keys[key] = true
			places[fmt.Sprint(key, place)] = true
			values[meta.Labels[key]]++
			if n := len(meta.Labels[key]); n < 3 || n > 60 {
				t.Errorf("a value of %d bytes", n)
			}
			all++
		}
		if now := strings.Join(sorted, " "); now == last {
			sameKeys++
		} else {
			last = now
		}
	}
	unique := 0
	for _, n := range values {
		if n == 1 {
			unique++
		}
	}
	if fewest != 5 || most != 40 || len(owners) != 4 || len(keys) < 400 || len(places) < 10*len(keys) || sameKeys > count/100 {
		t.Errorf("%d to %d labels, %d kinds of owners, %d keys at %d places, %d pods with their neighbour's keys", fewest, most, len(owners), len(keys), len(places), sameKeys)
	}
	if share := float64(unique) / float64(all); share < 0.4 || share > 0.6 {
		t.Errorf("%.2f of the values are unique, want about half", share)
	}
	if mean := size / count; mean < 2000 || mean > 3500 {
		t.Errorf("the metadata of a pod has %d bytes", mean)
	}
	if diff := cmp.Diff(pod(17), podsOf(Options{Pods: count, Profile: Mixed})(17)); diff != "" {
		t.Errorf("a pod is not the same twice:\n%s", diff)
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
	for _, options := range []Options{{Pods: -1}, {Pods: 1_000_000_000}, {Namespaces: -1}, {Namespaces: 1001}, {Profile: "other"}} {
		if _, err := New(options); err == nil {
			t.Errorf("New(%+v) gave no error", options)
		}
	}
}
