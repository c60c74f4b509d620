// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"labelstream/test/receiver"
)

// judge holds what arrives against what there is: the newest sample of each object
// must be of the series of its last state.
type judge struct {
	mu      sync.Mutex
	wanted  map[string]change
	arrived map[string]arrival
	// waiting are the objects whose last state has not arrived.
	waiting map[string]bool
	// lags are of the states that have arrived since they were taken.
	lags []time.Duration
	// late counts samples older than one of the same object that had arrived before.
	late int
}

type change struct {
	series string
	at     time.Time
}

type arrival struct {
	series    string
	timestamp int64
}

func newJudge() *judge {
	return &judge{wanted: map[string]change{}, arrived: map[string]arrival{}, waiting: map[string]bool{}}
}

// want says that an object has this state now.
func (j *judge) want(singular string, meta metav1.ObjectMeta) {
	s := expected(singular, meta)
	key := objectOf(s)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.wanted[key] = change{s.String(), time.Now()}
	j.waiting[key] = true
}

// forget says that an object was deleted. What arrives of it is not held against
// anything: its last state may wait for the receiver.
func (j *judge) forget(singular string, meta metav1.ObjectMeta) {
	key := objectOf(expected(singular, meta))
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.wanted, key)
	delete(j.waiting, key)
	delete(j.arrived, key)
}

// see is a fault that never happens: it lets each request pass.
func (j *judge) see(_ http.ResponseWriter, _ *http.Request, request *receiver.Request) bool {
	now := time.Now()
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, s := range request.Series {
		for _, sample := range s.Samples {
			j.add(now, s, sample)
		}
	}
	return false
}

func (j *judge) add(now time.Time, s receiver.Series, sample receiver.Sample) {
	key := objectOf(s)
	wanted, exists := j.wanted[key]
	switch {
	case !exists || math.IsNaN(sample.Value):
		return
	case sample.Timestamp < j.arrived[key].timestamp:
		j.late++
		return
	}
	j.arrived[key] = arrival{s.String(), sample.Timestamp}
	if j.arrived[key].series != wanted.series {
		// An older state after the last one would be wrong, and stays so.
		j.waiting[key] = true
	} else if j.waiting[key] {
		delete(j.waiting, key)
		j.lags = append(j.lags, now.Sub(wanted.at))
	}
}

// lag tells how many states have not arrived and how old the oldest of them is, and
// the median of those that have arrived since it was called last, NaN if none has;
// both in seconds.
func (j *judge) lag(now time.Time) (waiting int, oldest, median float64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for key := range j.waiting {
		oldest = max(oldest, now.Sub(j.wanted[key].at).Seconds())
	}
	slices.Sort(j.lags)
	median = math.NaN()
	if n := len(j.lags); n > 0 {
		median = j.lags[n/2].Seconds()
	}
	j.lags = j.lags[:0]
	return len(j.waiting), oldest, median
}

// missing is an error where the last state of some object has not arrived.
func (j *judge) missing() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.waiting) == 0 {
		return nil
	}
	var some strings.Builder
	for key := range j.waiting {
		fmt.Fprintf(&some, "\nwant %s\n got %s", j.wanted[key].series, cmp.Or(j.arrived[key].series, "nothing"))
		if some.Len() > 5000 {
			break
		}
	}
	return fmt.Errorf("the last states of %d of %d objects are missing at the receiver, such as:%s", len(j.waiting), len(j.wanted), &some)
}

func (j *judge) counts() (objects, late int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.wanted), j.late
}

// expected is the series of a pod or a namespace by the README.
func expected(singular string, meta metav1.ObjectMeta) (s receiver.Series) {
	s.Labels = []receiver.Label{{Name: "__name__", Value: "cloudzero_" + singular + "_labels"}, {Name: singular, Value: meta.Name}, {Name: "resource_type", Value: singular}}
	if meta.Namespace != "" {
		s.Labels = append(s.Labels, receiver.Label{Name: "namespace", Value: meta.Namespace})
	}
	for key, value := range meta.Labels {
		s.Labels = append(s.Labels, receiver.Label{Name: "label_" + key, Value: value})
	}
	slices.SortFunc(s.Labels, func(a, b receiver.Label) int { return cmp.Compare(a.Name, b.Name) })
	return s
}

// objectOf names the object of a series.
func objectOf(s receiver.Series) string {
	return s.Get("resource_type") + " " + s.Get("namespace") + " " + s.Get("pod")
}
