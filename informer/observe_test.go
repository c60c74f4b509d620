// SPDX-License-Identifier: Apache-2.0

package informer

import (
	"fmt"
	"regexp"
	"testing"

	"labelstream/config"
	"labelstream/record"
)

// TestObserve shows each object that is chosen once, though a page is cut, with all
// that it has and what is made of it.
func TestObserve(t *testing.T) {
	inBubble(t, once, func(t *testing.T, b *bench) {
		b.cfg.NamespacesExclude = config.List{"system"}
		b.cfg.Labels.Filters = config.Patterns{{Regexp: regexp.MustCompile("^team$")}}
		unsafe := podB
		unsafe.Labels = map[string]string{"team": "<x>"}
		unsafe.Annotations = map[string]string{"note": "n"}
		b.api.objects[podsPath] = objects{podA, unsafe, podC, named("system", "a")}
		b.api.script[podsPath] = []answer{cutAt("uid-c")}
		var seen []string
		b.options.Observe = func(o *record.Object, r *record.Record, dropped record.Drops) {
			seen = append(seen, fmt.Sprintf("%s %s %s %s: %d series, %d unsafe", r.Kind.Resource, o.Name, o.Labels, o.Annotations, r.Count, dropped.Unsafe))
		}
		b.backfill(t, podsKind())
		expect(t, "observed", []string{
			"pods a [{app a}] []: 1 series, 0 unsafe",
			"pods b [{team <x>}] [{note n}]: 1 series, 1 unsafe",
			"pods c [{app c}] []: 1 series, 0 unsafe",
		}, seen)
	})
}
