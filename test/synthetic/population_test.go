// SPDX-License-Identifier: Apache-2.0

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

func TestPodsAreOfRealisticSize(t *testing.T) {
	const count = 10_000
	for profile, want := range map[Profile]string{
		Alike: "8 to 10 labels, 3 to 4 annotations, 1.4 KB",
		Mixed: "5 to 40 labels, 2 to 9 annotations, 2.2 KB",
	} {
		pod, size := podsOf(Options{Pods: count, Profile: profile}), 0
		var labels, annotations []int
		for i := range count {
			meta := pod(i)
			size += meta.Size()
			labels, annotations = append(labels, len(meta.Labels)), append(annotations, len(meta.Annotations))
		}
		got := fmt.Sprintf("%d to %d labels, %d to %d annotations, %.1f KB", slices.Min(labels), slices.Max(labels),
			slices.Min(annotations), slices.Max(annotations), float64(size)/count/1000)
		if got != want {
			t.Errorf("%s pods have %s, want %s", profile, got, want)
		}
	}
}

// TestMixedPodsAreMixed holds the population to what it is for: keys, places and
// values that differ from one pod to the next.
func TestMixedPodsAreMixed(t *testing.T) {
	const count = 2000
	pod := podsOf(Options{Pods: count, Profile: Mixed})
	owners, keys, places, values := map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]int{}
	all, sameKeys := 0, 0
	var last []string
	for i := range count {
		meta := pod(i)
		for _, owner := range meta.OwnerReferences {
			owners[owner.Kind] = true
		}
		sorted := slices.Sorted(maps.Keys(meta.Labels))
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
	if len(owners) != 4 || len(keys) < 400 || len(places) < 10*len(keys) || sameKeys > count/100 {
		t.Errorf("%d kinds of owners, %d keys at %d places, %d pods with their neighbour's keys", len(owners), len(keys), len(places), sameKeys)
	}
	if share := float64(len(values)) / float64(all); share < 0.4 || share > 0.6 {
		t.Errorf("%.2f of the values are unique, want about half", share)
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
