// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"labelstream/test/synthetic"
)

type mode int

const (
	once     mode = iota // a backfill by --once
	daemon               // a life of watching
	webhook              // admission reviews
	changing             // a daemon whose objects change faster with each step
)

// steps are what a scenario of each mode goes through.
var steps = [...][]string{
	once: {""},
	daemon: {
		"backfill", "relist after an expired watch, nothing is new", "events of objects whose labels are as they were",
		"events of new objects", stageReplace: "relist after all objects were replaced by others",
	},
	webhook:  {stepSaturated: "32 connections", stepPaced: "1,000 a second"},
	changing: {"1,000 changes a second", "5,000 changes a second", "10,000 changes a second", "20,000 changes a second", "50,000 changes a second"},
}

// changeRates are those of the steps.
var changeRates = []int{1_000, 5_000, 10_000, 20_000, 50_000}

const (
	stageReplace  = 4
	stepSaturated = 0
	stepPaced     = 1
)

// reference is what labelstream is compared with, in turns.
type reference string

const (
	clientGo reference = "client-go's list"
	defaults reference = "default settings"
	bare     reference = "bare TLS server"
)

// population is what the objects are: pods, or custom resources of some kinds.
type population struct {
	name, profile string
	kinds         int
}

// populations are all that promises are measured on.
var populations = []population{{"alike", "alike", 0}, {"mixed", "mixed", 0}, {"custom resources", "mixed", 1}, {"50 kinds", "mixed", 50}}

const (
	alike = iota
	mixed
)

// resources names the kinds, for labelstream.
func (p population) resources() string {
	if p.kinds > 0 {
		return "*.example.com"
	}
	return "pods"
}

// lists names each kind, for client-go's list.
func (p population) lists() string {
	if p.kinds == 0 {
		return "pods"
	}
	all := make([]string, p.kinds)
	for i := range all {
		all[i] = fmt.Sprintf("things%03d.example.com", i)
	}
	return strings.Join(all, ",")
}

// scenario is a row of the table below: what the API server holds, how the
// receiver behaves, how labelstream is set and runs, and what is promised of it.
type scenario struct {
	section, name string
	mode          mode
	objects       int
	held          int // objects at the API server, if not all are read
	of            population
	series        int      // that each object becomes
	server        []string // further flags of synthetic
	sink          []string // further flags of sink
	settings      []string // further environment of labelstream
	reference     reference
	promises      []promise
	axis          string // what grows to size from row to row; there is one run of each
	size          int
}

// promise is a limit of a figure of one of the scenario's steps.
type promise struct {
	step   int
	figure figure
	limit  float64
	least  bool // the limit is the least that is promised, not the most
}

// The limits of "Promises in numbers". Of small numbers of objects the start of
// the process takes most of the time, so processor time is promised of a million.
var (
	promisedCPU            = promise{figure: cpuRatio, limit: 0.25}
	promisedAnnotationsCPU = promise{figure: cpuRatio, limit: 0.35}
	promisedFormCPU        = promise{figure: cpuRatio, limit: 1.15}
	promisedRSS            = promise{figure: peakRSS, limit: 36}
	promisedHardRSS        = promise{figure: peakRSS, limit: 48}
	daemonPromises         = []promise{{step: stageReplace, figure: residentRSS, limit: 72}, {step: stageReplace, figure: peakRSS, limit: 80}}
	webhookPromises        = []promise{
		{step: stepSaturated, figure: rateRatio, limit: 0.45, least: true},
		{step: stepPaced, figure: cpuRatio, limit: 1.3},
		{step: stepPaced, figure: p99Ratio, limit: 1.3},
	}
)

const (
	// promisedObjects is the number that promises about processor time and the
	// daemon are about.
	promisedObjects = 1_000_000
	// conditionObjects is enough where the condition matters, not the number.
	conditionObjects = 100_000
	largeObjects     = 2000
	largeBytes       = 250 << 10
	webhookObjects   = 1000
)

var withAnnotations = []string{"LABELSTREAM_ANNOTATIONS_ENABLED=true", "LABELSTREAM_ANNOTATIONS_RESOURCES=${RESOURCES}"}

// scenarios are all that there are. The largest number of objects bounds each, but
// for the huge one, which the backfills of labels have in addition, and for the
// growth, which goes on to ten times as many.
func scenarios(objects []int, huge int) []scenario {
	largest := slices.Max(objects)
	conditions := min(conditionObjects, largest)
	all := backfills(objects, huge)
	for _, p := range populations[:mixed+1] {
		large := scenario{section: "Large annotations", objects: min(largeObjects, largest), of: p, series: 2, settings: withAnnotations,
			server: []string{"--annotation-bytes", strconv.Itoa(largeBytes)}, reference: clientGo, promises: []promise{promisedHardRSS}}
		large.name = p.name + ", 250 KiB each, values cut at 2,048 bytes"
		all = append(all, large)
		large.name = p.name + ", 250 KiB each, sent whole"
		large.settings = append([]string{"LABELSTREAM_VALUE_MAX_BYTES=262144"}, withAnnotations...)
		all = append(all, large)
	}
	for _, p := range populations {
		under := []scenario{
			{name: "receiver is down for 3 s after each 100 batches", sink: []string{"--down-every", "100", "--down-for", "3s"}, promises: []promise{promisedHardRSS}},
			{name: "receiver takes 200 ms a batch", sink: []string{"--delay", "200ms"}, promises: []promise{promisedHardRSS}},
			{name: "server speaks JSON only", server: []string{"--json-only"}, reference: clientGo},
			{name: "server speaks JSON only, and the receiver 1.0", server: []string{"--json-only"}, settings: []string{"LABELSTREAM_PROTOCOL=1.0"}, reference: clientGo},
			{name: "TLS and HTTP/2 to the server", server: []string{"--tls"}, reference: clientGo},
			{name: "TLS to the server and to the receiver", server: []string{"--tls"}, sink: []string{"--tls", "${DIRECTORY}/sink.crt"},
				settings: []string{"LABELSTREAM_TLS_CA_FILE=${DIRECTORY}/sink.crt"}, reference: clientGo},
		}
		if p.kinds > 0 {
			// Of what else there is, the kind of an object makes no difference.
			under = under[:1]
		}
		for _, s := range under {
			s.section, s.name, s.objects, s.of = "Other conditions", p.name+", "+s.name, conditions, p
			all = append(all, s)
		}
	}
	all = append(all, scenario{section: "Other conditions", name: "as many Deployments, two lists at a time", objects: conditions, series: 2,
		server: []string{"--deployments", strconv.Itoa(conditions)}, settings: []string{"LABELSTREAM_LABELS_RESOURCES=pods,deployments.apps"}, promises: []promise{promisedRSS}})
	for _, p := range populations[:mixed+1] {
		all = append(all, scenario{section: "Daemon", name: fmt.Sprintf("%s, %s objects", p.name, thousands(largest)), mode: daemon, objects: largest, of: p,
			promises: at(largest, daemonPromises...)})
	}
	all = append(all, scenario{section: "Webhook", mode: webhook, objects: webhookObjects, reference: bare, promises: webhookPromises})
	for _, p := range populations {
		all = append(all, scenario{section: "Form of kube-state-metrics", name: p.name, objects: largest, of: p,
			settings: []string{"LABELSTREAM_SERIES=kube-state-metrics"}, reference: defaults, promises: append(at(largest, promisedFormCPU), promisedRSS)})
	}
	for _, setting := range []string{
		"LABELSTREAM_PAGE_SIZE=250", "LABELSTREAM_PAGE_SIZE=1000", "LABELSTREAM_BATCH_SIZE=250", "LABELSTREAM_BATCH_SIZE=1000",
		"LABELSTREAM_SENDERS=2", "LABELSTREAM_SENDERS=4", "LABELSTREAM_PROTOCOL=1.0", "GOGC=25", "GOGC=100", "GOGC=200",
	} {
		all = append(all, scenario{section: "Settings", name: "`" + setting + "`", objects: largest, settings: []string{setting}, reference: defaults})
	}
	all = append(all, growing(largest, conditions)...)
	for i := range all {
		all[i].of = cmp.Or(all[i].of, populations[alike])
		all[i].series = max(all[i].series, 1)
		all[i].held = max(all[i].held, all[i].objects)
	}
	return all
}

// backfills are those of all numbers of pods, and of the largest of custom resources.
func backfills(objects []int, huge int) (all []scenario) {
	for _, annotations := range []bool{false, true} {
		for _, p := range populations {
			numbers := objects
			if huge > 0 && !annotations {
				numbers = append(slices.Clip(objects), huge)
			}
			if p.kinds > 0 {
				numbers = []int{slices.Max(objects)}
			}
			for _, n := range numbers {
				s := scenario{section: "Labels", name: fmt.Sprintf("%s, %s objects", p.name, thousands(n)), objects: n, of: p,
					reference: clientGo, promises: append(at(n, promisedCPU), promisedRSS)}
				if annotations {
					s.section, s.series, s.settings, s.promises = "Labels and annotations", 2, withAnnotations, append(at(n, promisedAnnotationsCPU), promisedRSS)
				}
				all = append(all, s)
			}
		}
	}
	return all
}

const (
	growthSection  = "Growth"
	changesSection = "Changes"
)

// growing are backfills of ever more objects, of some of them by ever more
// namespaces, and of ever more kinds; and a daemon with ever more changes.
func growing(largest, conditions int) (all []scenario) {
	for n := 1000; n <= 10*largest; n *= 10 {
		all = append(all, scenario{axis: "objects", size: n, objects: n})
	}
	for n := 1; n <= 10_000; n *= 10 {
		names, inside := synthetic.FirstNamespaces(n, conditions)
		all = append(all, scenario{axis: "names in NAMESPACES", size: n, objects: inside, held: conditions,
			settings: []string{"LABELSTREAM_NAMESPACES=" + strings.Join(names, ",")}})
	}
	for _, n := range []int{1, 10, 50, 200} {
		all = append(all, scenario{axis: "kinds", size: n, objects: conditions, of: population{"", "mixed", n}})
	}
	for i := range all {
		all[i].section, all[i].name = growthSection, thousands(all[i].size)+" "+all[i].axis
	}
	for _, p := range populations[:mixed+1] {
		all = append(all, scenario{section: changesSection, name: fmt.Sprintf("%s, %s objects", p.name, thousands(largest)), mode: changing, objects: largest, of: p})
	}
	return all
}

// at gives the promises where they are made for so many objects.
func at(objects int, promises ...promise) []promise {
	if objects < promisedObjects {
		return nil
	}
	return promises
}

func thousands(n int) string {
	text := strconv.Itoa(n)
	for at := len(text) - 3; at > 0; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}
