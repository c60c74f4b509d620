package main

import (
	"fmt"
	"slices"
	"strconv"
)

// scenario is one line of the results: what the server holds, how the receiver
// behaves, how labelstream is set.
type scenario struct {
	group, name string
	pods        int
	server      []string // further arguments of synthetic
	sink        []string // further arguments of sink
	environment []string
	// seriesPerPod is what labelstream has to deliver.
	seriesPerPod int
	// alone says that client-go's list is not measured beside it.
	alone bool
	// maxCPU and maxRSS are what is promised of it: processor time by client-go's,
	// and peak memory in MiB; 0 where nothing is.
	maxCPU, maxRSS float64
}

const (
	groupLabels      = "Labels"
	groupAnnotations = "Labels and annotations"
	groupLarge       = "Large annotations"
	groupConditions  = "Other conditions"
	groupSettings    = "Settings"
)

// largePods pods have largeBytes of annotations each.
const (
	largePods  = 2000
	largeBytes = 250 << 10
)

// conditionPods is the size for the conditions that are not about size.
const conditionPods = 100_000

var withAnnotations = []string{"LABELSTREAM_ANNOTATIONS_ENABLED=true", "LABELSTREAM_ANNOTATIONS_RESOURCES=pods"}

// scenarios are all that there are for these numbers of pods, and with labels
// only for a huge number, if that is not zero.
func scenarios(sizes []int, huge int) []scenario {
	var all []scenario
	labels := sizes
	if huge > 0 {
		labels = append(labels[:len(labels):len(labels)], huge)
	}
	for _, pods := range labels {
		all = append(all, scenario{
			group: groupLabels, name: fmt.Sprintf("labels, %s pods", thousands(pods)), pods: pods,
			seriesPerPod: 1, maxCPU: promised(pods, promisedCPU), maxRSS: promisedRSS,
		})
	}
	for _, pods := range sizes {
		all = append(all, scenario{
			group: groupAnnotations, name: fmt.Sprintf("annotations, %s pods", thousands(pods)), pods: pods,
			environment: withAnnotations, seriesPerPod: 2, maxCPU: promised(pods, promisedAnnotationsCPU), maxRSS: promisedRSS,
		})
	}
	large := []string{"--annotation-bytes", strconv.Itoa(largeBytes)}
	return append(append(all,
		scenario{
			group: groupLarge, name: "250 KiB annotations, values cut at 2,048 bytes", pods: largePods, server: large,
			environment: withAnnotations, seriesPerPod: 2, maxRSS: promisedHardRSS,
		},
		scenario{
			group: groupLarge, name: "250 KiB annotations, sent whole", pods: largePods, server: large,
			environment: append([]string{"LABELSTREAM_VALUE_MAX_BYTES=262144"}, withAnnotations...), seriesPerPod: 2, maxRSS: promisedHardRSS,
		},
		scenario{group: groupConditions, name: "receiver takes 200 ms a batch", pods: conditionPods, sink: []string{"--delay", "200ms"}, seriesPerPod: 1, maxRSS: promisedHardRSS},
		scenario{
			group: groupConditions, name: "receiver is down for 3 s after each 100 batches", pods: conditionPods,
			sink: []string{"--down-every", "100", "--down-for", "3s"}, seriesPerPod: 1, alone: true, maxRSS: promisedHardRSS,
		},
		scenario{
			group: groupConditions, name: "as many Deployments, two lists at a time", pods: conditionPods, server: []string{"--deployments", strconv.Itoa(conditionPods)},
			environment: []string{"LABELSTREAM_LABELS_RESOURCES=pods,deployments.apps"}, seriesPerPod: 2, alone: true, maxRSS: promisedRSS,
		},
		scenario{group: groupConditions, name: "server speaks JSON only", pods: conditionPods, server: []string{"--json-only"}, seriesPerPod: 1},
		scenario{group: groupConditions, name: "TLS and HTTP/2 to the server", pods: conditionPods, server: []string{"--tls"}, seriesPerPod: 1},
	), settingScenarios(slices.Max(sizes))...)
}

// settingScenarios are what the defaults were chosen by: the first is with them.
func settingScenarios(pods int) []scenario {
	all := []scenario{{group: groupSettings, name: "as they are", pods: pods, seriesPerPod: 1, alone: true}}
	for _, setting := range []string{
		"LABELSTREAM_PAGE_SIZE=250", "LABELSTREAM_PAGE_SIZE=1000",
		"LABELSTREAM_BATCH_SIZE=250", "LABELSTREAM_BATCH_SIZE=1000", "LABELSTREAM_BATCH_SIZE=2000",
		"LABELSTREAM_SENDERS=1", "LABELSTREAM_SENDERS=4",
		"LABELSTREAM_PROTOCOL=1.0",
		"GOGC=25", "GOGC=100", "GOGC=200",
	} {
		all = append(all, scenario{
			group: groupSettings, name: "`" + setting + "`", pods: pods, environment: []string{setting}, seriesPerPod: 1, alone: true,
		})
	}
	return all
}

// promised is the limit where it is promised for so many pods, else 0.
func promised(pods int, limit float64) float64 {
	if pods != promisedPods {
		return 0
	}
	return limit
}

// thousands writes a number with commas.
func thousands(n int) string {
	text := strconv.Itoa(n)
	for at := len(text) - 3; at > 0; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}
