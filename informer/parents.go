// SPDX-License-Identifier: Apache-2.0

package informer

import (
	"bytes"
	"context"
	"hash/maphash"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"labelstream/config"
	"labelstream/record"
)

const (
	// maxParentBytes bounds what is kept of all parents of a kind. It is enough for
	// some ten thousand namespaces.
	maxParentBytes = 4 << 20
	// parentBytes is what a parent without labels takes, its place in the map included.
	parentBytes = 160
	// parentsKept is how long a parent is kept after its end: what takes from it is
	// deleted after it, and its last series must be as they were.
	parentsKept = 5 * time.Minute
	// sweepInterval is how often those whose time is over are looked for, at most.
	sweepInterval = time.Minute
)

var (
	namespacesResource = schema.GroupResource{Resource: "namespaces"}
	jobsResource       = schema.GroupResource{Group: "batch", Resource: "jobs"}
	podsResource       = schema.GroupResource{Resource: "pods"}
)

// IsParent reports whether objects of other kinds take something from those of the kind.
func (k *Kind) IsParent(cfg *config.Config) bool {
	switch k.GVR.GroupResource() {
	case namespacesResource:
		return cfg.ReadsNamespaces()
	case jobsResource:
		return cfg.OwnerLabels
	}
	return false
}

// parents are the objects of one kind, as far as others take something from them: from
// a Namespace its labels, from a Job its controller. They are read before the kinds that
// take from them. Its methods are safe for concurrent use.
type parents struct {
	// unknown is what is taken from a parent that is not known.
	unknown parent
	// delay is how long after a change relist is called, once for all changes meanwhile.
	delay  time.Duration
	relist func()
	log    logrus.FieldLogger

	// settled is closed, once, when no source of the kind is awaited any more: each was
	// listed, or cannot be.
	settled chan struct{}
	close   sync.Once

	mu      sync.RWMutex
	known   map[uint64]*parent
	bytes   int
	awaited map[*Source]bool
	// due says that relist will be called.
	due, isFull bool
	swept       time.Time
}

// parent is what is taken from one object. labels, owner and unselected never change.
type parent struct {
	labels []record.KeyValue
	owner  *record.Owner
	// unselected says that nothing of the namespace is sent.
	unselected bool

	// source has shown it, nil where it was only asked for; seen says that it has since
	// its list began.
	source *Source
	seen   bool
	// ended is when it was deleted, or was asked for in vain.
	ended time.Time
}

func newParents(unknown parent, delay time.Duration, relist func(), log logrus.FieldLogger) *parents {
	return &parents{
		unknown: unknown, delay: delay, relist: relist, log: log,
		settled: make(chan struct{}), known: make(map[uint64]*parent), awaited: make(map[*Source]bool),
	}
}

// register adds a metric of the memory that the parents of a kind take.
func (p *parents) register(resource string, registerer prometheus.Registerer) {
	registerer.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "labelstream_parents_bytes", Help: "Memory for what objects take from others: from namespaces their labels, from jobs their controllers.",
		ConstLabels: prometheus.Labels{"resource": resource},
	}, func() float64 {
		p.mu.RLock()
		defer p.mu.RUnlock()
		return float64(p.bytes)
	}))
}

var parentSeed = maphash.MakeSeed()

func parentKey(namespace, name []byte) uint64 {
	return maphash.Bytes(parentSeed, namespace)*31 + maphash.Bytes(parentSeed, name)
}

// find returns a parent. Where it is not known, it is remembered that it was asked for:
// those who take from it are due when it is shown.
func (p *parents) find(namespace, name []byte) *parent {
	key := parentKey(namespace, name)
	p.mu.RLock()
	found := p.known[key]
	p.mu.RUnlock()
	if found != nil {
		return found
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known[key] == nil {
		asked := p.unknown
		asked.ended = time.Now()
		p.put(key, &asked)
	}
	return &p.unknown
}

// show takes what an object is now.
func (p *parents) show(s *Source, o *record.Object, is parent) {
	key := parentKey(o.Namespace, o.Name)
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.known[key]
	if before != nil && before.source != nil {
		if before.gives(&is) {
			before.source, before.seen, before.ended = s, true, time.Time{}
			return
		}
		if is.unselected {
			// What was sent is ended as it was sent.
			is.labels = before.labels
		}
	}
	is.labels, is.source, is.seen = cloneLabels(is.labels), s, true
	p.put(key, &is)
	if before != nil && !before.gives(&is) && !p.due {
		p.due = true
		time.AfterFunc(p.delay, func() {
			p.mu.Lock()
			p.due = false
			p.mu.Unlock()
			p.relist()
		})
	}
}

// gives reports whether what is taken from a parent is the same as from another.
func (e *parent) gives(other *parent) bool {
	if e.unselected || other.unselected {
		return e.unselected == other.unselected
	}
	if e.owner == nil || other.owner == nil {
		return e.owner == other.owner && sameLabels(e.labels, other.labels)
	}
	return bytes.Equal(e.owner.Kind, other.owner.Kind) && bytes.Equal(e.owner.Name, other.owner.Name)
}

func sameLabels(a, b []record.KeyValue) bool {
	return slices.EqualFunc(a, b, func(a, b record.KeyValue) bool { return bytes.Equal(a.Key, b.Key) && bytes.Equal(a.Value, b.Value) })
}

func cloneLabels(labels []record.KeyValue) []record.KeyValue {
	cloned := slices.Clone(labels)
	for i, l := range cloned {
		cloned[i] = record.KeyValue{Key: bytes.Clone(l.Key), Value: bytes.Clone(l.Value)}
	}
	return cloned
}

// put replaces a parent, if there is room.
func (p *parents) put(key uint64, e *parent) {
	p.remove(key)
	size := e.size()
	if p.bytes+size > maxParentBytes {
		p.sweep()
	}
	if p.bytes+size > maxParentBytes {
		if !p.isFull {
			p.isFull = true
			p.log.WithField("bytes", p.bytes).Warn("There are more parents than can be kept; nothing is taken from the others")
		}
		return
	}
	p.known[key] = e
	p.bytes += size
}

func (p *parents) remove(key uint64) {
	if e := p.known[key]; e != nil {
		p.bytes -= e.size()
		delete(p.known, key)
	}
}

func (e *parent) size() int {
	size := parentBytes
	for _, l := range e.labels {
		size += 48 + len(l.Key) + len(l.Value)
	}
	if e.owner != nil {
		size += 64 + len(e.owner.Kind) + len(e.owner.Name)
	}
	return size
}

// end takes that an object was deleted.
func (p *parents) end(o *record.Object) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.known[parentKey(o.Namespace, o.Name)]; e != nil && e.ended.IsZero() {
		e.ended = time.Now()
	}
	p.sweep()
}

// sweep forgets what has ended a while ago. It looks at all, so seldom: a full table is
// swept for each object that asks.
func (p *parents) sweep() {
	if time.Since(p.swept) < sweepInterval {
		return
	}
	p.swept = time.Now()
	for key, e := range p.known {
		if !e.ended.IsZero() && p.swept.Sub(e.ended) > parentsKept {
			p.remove(key)
		}
	}
}

// beginList begins a list of a source.
func (p *parents) beginList(s *Source) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.known {
		if e.source == s {
			e.seen = false
		}
	}
}

// endList ends what a list has not shown.
func (p *parents) endList(s *Source) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.known {
		if e.source == s && !e.seen && e.ended.IsZero() {
			e.ended = time.Now()
		}
	}
	p.sweep()
}

// await adds a source that others wait for.
func (p *parents) await(s *Source) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.awaited[s] = true
}

// settle says that a source was listed, or cannot be, or has ended.
func (p *parents) settle(s *Source) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.awaited, s)
	if len(p.awaited) == 0 {
		p.close.Do(func() { close(p.settled) })
	}
}

// wait waits until the parents are settled. The error is the context's.
func (p *parents) wait(ctx context.Context) error {
	select {
	case <-p.settled:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Workload implements [record.Parents].
func (p *parents) Workload(namespace, job []byte) *record.Owner { return p.find(namespace, job).owner }
