package synthetic

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"
)

func TestPopulationIsSortedAndUnique(t *testing.T) {
	const random = `[2456789bcdfghjklmnpqrstvwxz]`
	name := regexp.MustCompile(`^([a-z-]+-` + random + `{10}|` + random + `{10}-[a-z]+)-` + random + `{5}$`)
	for _, options := range []Options{{Pods: 0}, {Pods: 1}, {Pods: 299}, {Pods: 20_011}, {Pods: 5_000, Profile: Mixed}} {
		pod := podsOf(options)
		seen := map[types.UID]bool{}
		last := ""
		for i := range options.Pods {
			meta := pod(i)
			key := meta.Namespace + "/" + meta.Name
			if !name.MatchString(meta.Name) || key <= last || seen[meta.UID] {
				t.Fatalf("%+v: pod %d is %q with the UID %s, the one before %q", options, i, key, meta.UID, last)
			}
			last, seen[meta.UID] = key, true
		}
	}
}

func TestAlikePodsAreOfRealisticSize(t *testing.T) {
	const count = 1000
	pod := podsOf(Options{Pods: count})
	size := 0
	for i := range count {
		meta := pod(i)
		size += meta.Size()
		if labels, annotations := len(meta.Labels), len(meta.Annotations); labels < 8 || labels > 10 || annotations < 3 || annotations > 4 {
			t.Errorf("pod %d has %d labels and %d annotations", i, labels, annotations)
		}
	}
	if mean := size / count; mean < 1200 || mean > 1400 {
		t.Errorf("the metadata of a pod has %d bytes, want about 1,300", mean)
	}
}

// TestMixedPodsAreMixed holds the population to what it is for: keys, places and
// values that differ from one pod to the next.
func TestMixedPodsAreMixed(t *testing.T) {
	const count = 2000
	pod := podsOf(Options{Pods: count, Profile: Mixed})
	owners, keys, places, values := map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]int{}
	all, sameKeys, fewest, most, size := 0, 0, 99, 0, 0
	var last []string
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
		if slices.Equal(sorted, last) {
			sameKeys++
		}
		last = sorted
	}
	maps.DeleteFunc(values, func(_ string, n int) bool { return n > 1 })
	if fewest != 5 || most != 40 || len(owners) != 4 || len(keys) < 400 || len(places) < 10*len(keys) || sameKeys > count/100 {
		t.Errorf("%d to %d labels, %d kinds of owners, %d keys at %d places, %d pods with their neighbour's keys", fewest, most, len(owners), len(keys), len(places), sameKeys)
	}
	if share := float64(len(values)) / float64(all); share < 0.4 || share > 0.6 {
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
