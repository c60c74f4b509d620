// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
)

type mode int

const (
	once    mode = iota // a backfill by --once
	daemon              // a life of watching
	webhook             // admission reviews
)

// steps are what a scenario of each mode goes through.
var steps = [...][]string{
	once: {""},
	daemon: {
		"backfill", "relist after an expired watch, nothing is new", "events of objects whose labels are as they were",
		"events of new objects", stageReplace: "relist after all objects were replaced by others",
	},
	webhook: {stepSaturated: "32 connections", stepPaced: "1,000 a second"},
}

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

// scenario is a row of the table below: what the API server holds, how the
// receiver behaves, how labelstream is set and runs, and what is promised of it.
type scenario struct {
	section, name string
	mode          mode
	objects       int
	profile       string   // of the objects: alike or mixed
	series        int      // that each object becomes
	server        []string // further flags of synthetic
	sink          []string // further flags of sink
	settings      []string // further environment of labelstream
	reference     reference
	promises      []promise
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

var withAnnotations = []string{"LABELSTREAM_ANNOTATIONS_ENABLED=true", "LABELSTREAM_ANNOTATIONS_RESOURCES=pods"}

// scenarios are all that there are. The largest number of objects bounds each,
// but for the huge one, which the backfills of labels have in addition.
func scenarios(objects []int, huge int) []scenario {
	largest := slices.Max(objects)
	conditions := min(conditionObjects, largest)
	all := backfills(objects, huge)
	all = append(all, []scenario{
		{section: "Large annotations", name: "250 KiB each, values cut at 2,048 bytes", objects: min(largeObjects, largest), series: 2,
			settings: withAnnotations, server: []string{"--annotation-bytes", strconv.Itoa(largeBytes)}, reference: clientGo, promises: []promise{promisedHardRSS}},
		{section: "Large annotations", name: "250 KiB each, sent whole", objects: min(largeObjects, largest), series: 2,
			settings: append([]string{"LABELSTREAM_VALUE_MAX_BYTES=262144"}, withAnnotations...),
			server:   []string{"--annotation-bytes", strconv.Itoa(largeBytes)}, reference: clientGo, promises: []promise{promisedHardRSS}},
		{section: "Other conditions", name: "receiver takes 200 ms a batch", objects: conditions,
			sink: []string{"--delay", "200ms"}, promises: []promise{promisedHardRSS}},
		{section: "Other conditions", name: "receiver is down for 3 s after each 100 batches", objects: conditions,
			sink: []string{"--down-every", "100", "--down-for", "3s"}, promises: []promise{promisedHardRSS}},
		{section: "Other conditions", name: "as many Deployments, two lists at a time", objects: conditions, series: 2,
			server:   []string{"--deployments", strconv.Itoa(conditions)},
			settings: []string{"LABELSTREAM_LABELS_RESOURCES=pods,deployments.apps"}, promises: []promise{promisedRSS}},
		{section: "Other conditions", name: "server speaks JSON only", objects: conditions, server: []string{"--json-only"}, reference: clientGo},
		{section: "Other conditions", name: "TLS and HTTP/2 to the server", objects: conditions, server: []string{"--tls"}, reference: clientGo},
		{section: "Daemon", name: fmt.Sprintf("%s objects", thousands(largest)), mode: daemon, objects: largest, promises: at(largest, daemonPromises...)},
		{section: "Webhook", name: "", mode: webhook, objects: webhookObjects, reference: bare, promises: webhookPromises},
	}...)
	for _, profile := range []string{"alike", "mixed"} {
		all = append(all, scenario{section: "Form of kube-state-metrics", name: profile, objects: largest, profile: profile,
			settings: []string{"LABELSTREAM_SERIES=kube-state-metrics"}, reference: defaults, promises: append(at(largest, promisedFormCPU), promisedRSS)})
	}
	for _, setting := range []string{
		"LABELSTREAM_PAGE_SIZE=250", "LABELSTREAM_PAGE_SIZE=1000", "LABELSTREAM_BATCH_SIZE=250", "LABELSTREAM_BATCH_SIZE=1000",
		"LABELSTREAM_SENDERS=2", "LABELSTREAM_SENDERS=4", "LABELSTREAM_PROTOCOL=1.0", "GOGC=25", "GOGC=100", "GOGC=200",
	} {
		all = append(all, scenario{section: "Settings", name: "`" + setting + "`", objects: largest, settings: []string{setting}, reference: defaults})
	}
	for i := range all {
		all[i].profile = cmp.Or(all[i].profile, "alike")
		all[i].series = max(all[i].series, 1)
	}
	return all
}

// backfills are those of all numbers of objects.
func backfills(objects []int, huge int) (all []scenario) {
	for _, profile := range []string{"alike", "mixed"} {
		numbers := objects
		if huge > 0 {
			numbers = append(slices.Clip(objects), huge)
		}
		for _, n := range numbers {
			all = append(all, scenario{section: "Labels", name: fmt.Sprintf("%s, %s objects", profile, thousands(n)), objects: n, profile: profile,
				reference: clientGo, promises: append(at(n, promisedCPU), promisedRSS)})
		}
	}
	for _, profile := range []string{"alike", "mixed"} {
		for _, n := range objects {
			all = append(all, scenario{section: "Labels and annotations", name: fmt.Sprintf("%s, %s objects", profile, thousands(n)), objects: n, profile: profile,
				series: 2, settings: withAnnotations, reference: clientGo, promises: append(at(n, promisedAnnotationsCPU), promisedRSS)})
		}
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
