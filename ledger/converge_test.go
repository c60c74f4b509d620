package ledger

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// cluster is an API server and a receiver with a table between them, all of
// which take their steps in an order that chance decides.
type cluster struct {
	rng   *rand.Rand
	table *Table
	now   time.Time
	// objects is the present, history how it came about. Value 0 is none.
	objects map[uint64]int
	history []change
	// watched is how much of history the watch has brought.
	watched int
	list    *List
	// page is what the list has still to bring, version the history's length
	// when it was read. A relist stands in for a watch that has expired.
	page    []change
	version int
	relist  bool
	// queue has what was sent and has no outcome.
	queue    []change
	received map[uint64]int
	// pending are the writes of reviews that the API server still holds.
	pending []pendingWrite
	// hand is what the watch brought, or nil: its turn is held. decided says that
	// the table has been asked about it.
	hand    *change
	decided bool
	// faultless clusters refuse and lose nothing, delete nothing, show each write,
	// and have a watch that is never far behind.
	faultless bool
	asks      int
	// resting says that no changes are made any more.
	resting bool
	// sent is all that was.
	sent map[uint64][]int
}

// pendingWrite happens at some time, unless it is refused.
type pendingWrite struct {
	change
	begun   time.Time
	refused bool
}

type change struct {
	id    uint64
	value int
}

func (c *cluster) send(v Verdict, id uint64, value int) {
	if v == Send {
		c.queue = append(c.queue, change{id, value})
		c.sent[id] = append(c.sent[id], value)
	}
}

func (c *cluster) write(id uint64, value int) {
	if c.objects[id] == value {
		return
	}
	if c.objects[id] = value; value == 0 {
		delete(c.objects, id)
	}
	c.history = append(c.history, change{id, value})
}

// review is followed by a write, or by none.
func (c *cluster) review(id uint64, value int) {
	if slices.ContainsFunc(c.pending, func(w pendingWrite) bool { return w.id == id }) {
		return // of one object, a write is tried when the one before has been made
	}
	r := recordOf(id, value)
	switch v := Skip; {
	case c.hand != nil && c.hand.id == id:
		c.table.Leave(r, c.now)
	default:
		if v, _ = c.table.Claim(r, c.now); v == Send && c.rng.IntN(4) == 0 {
			c.table.Unsent(r.Key) // no room
			break
		}
		c.send(v, id, value)
	}
	c.pending = append(c.pending, pendingWrite{change{id, value}, c.now, !c.faultless && c.rng.IntN(3) == 0})
}

// commit makes one of the writes that are held, and all that have been for as
// long as may be.
func (c *cluster) commit() {
	most := 30 * time.Second
	if c.faultless {
		most = 20 * time.Second
	}
	for i := 0; i < len(c.pending); i++ {
		w := c.pending[i]
		if c.now.Sub(w.begun) >= most || c.rng.IntN(2) == 0 {
			c.pending = slices.Delete(c.pending, i, i+1)
			i--
			if !w.refused {
				c.write(w.id, w.value)
			}
		}
	}
}

// touch changes something else of an object.
func (c *cluster) touch(id uint64) {
	if value := c.objects[id]; value != 0 {
		c.history = append(c.history, change{id, value})
	}
}

func (c *cluster) watch() {
	if c.hand != nil || c.watched == len(c.history) || c.relist {
		return
	}
	e := c.history[c.watched]
	c.watched++
	c.hand = &e
}

// decide asks the table about what is in hand.
func (c *cluster) decide() {
	if c.hand == nil || c.decided {
		return
	}
	c.decided = true
	e := *c.hand
	if e.value == 0 {
		if c.table.Delete(keyOf(e.id)) {
			c.queue = append(c.queue, change{e.id, c.last(e.id)})
		}
		return
	}
	c.send(c.table.Event(recordOf(e.id, e.value)), e.id, e.value)
}

// handle ends what is in hand.
func (c *cluster) handle() {
	c.decide()
	c.hand, c.decided = nil, false
}

// acquire waits for the turn of an object.
func (c *cluster) acquire(id uint64) {
	if c.hand != nil && c.hand.id == id {
		c.handle()
	}
}

// last is the value of the object that was deleted by the event just watched.
func (c *cluster) last(id uint64) int {
	for _, e := range slices.Backward(c.history[:c.watched-1]) {
		if e.id == id {
			return e.value
		}
	}
	return 0
}

func (c *cluster) begin() {
	if c.list != nil {
		return
	}
	c.handle()
	c.relist = !c.faultless && c.rng.IntN(2) == 0
	c.list = c.table.Begin(!c.faultless && c.rng.IntN(4) == 0, c.now)
	for range c.rng.IntN(3) {
		c.change() // while the first page is on its way
	}
	c.version = len(c.history)
	c.page = nil
	for _, id := range slices.Sorted(maps.Keys(c.objects)) {
		c.page = append(c.page, change{id, c.objects[id]})
	}
}

// read brings one item, or the list's end.
func (c *cluster) read() {
	switch {
	case c.list == nil:
	case len(c.page) == 0:
		c.list.End()
		c.list = nil
		if c.relist {
			c.watched, c.relist = c.version, false
		}
	case c.rng.IntN(100) == 0 && !c.relist:
		c.list.Abandon()
		c.list = nil
	default:
		item := c.page[0]
		c.page = c.page[1:]
		c.acquire(item.id)
		c.send(c.list.Item(recordOf(item.id, item.value)), item.id, item.value)
	}
}

// ask answers what is due by a GET.
func (c *cluster) ask() {
	most := 30
	if c.faultless {
		most = 5
		if c.asks++; c.asks%3 == 0 {
			c.catchUp()
		}
	}
	c.now = c.now.Add(time.Duration(c.rng.IntN(most)) * time.Second)
	c.commit()
	for _, claim := range ask(c.table, c.now, 2) {
		var id uint64
		if _, err := fmt.Sscanf(claim.Name, "web-%d", &id); err != nil {
			panic(err)
		}
		value := c.objects[id]
		if c.change(); c.faultless {
			c.change() // while the answer is on its way
		}
		c.acquire(id)
		if value != 0 {
			c.send(c.table.Confirm(claim, recordOf(id, value)), id, value)
		} else {
			c.table.Forget(claim)
		}
	}
}

func (c *cluster) deliver(lose bool) {
	if len(c.queue) == 0 {
		return
	}
	sent := c.queue[0]
	c.queue = c.queue[1:]
	if lose {
		c.table.Lost(keyOf(sent.id))
		return
	}
	c.received[sent.id] = sent.value
	c.table.Accepted(keyOf(sent.id))
}

// objectsOfCluster is few, so that everything happens to the same ones.
const objectsOfCluster = 12

func (c *cluster) change() {
	if c.resting {
		return
	}
	id, value := c.rng.Uint64N(objectsOfCluster), c.rng.IntN(4)
	switch {
	case c.faultless:
		c.review(id, value+1)
	case value == 0 || c.rng.IntN(2) == 0:
		c.write(id, value)
	default:
		c.review(id, value)
	}
	if c.rng.IntN(4) == 0 {
		c.touch(id)
	}
}

// catchUp has the watch bring all that there is.
func (c *cluster) catchUp() {
	for c.handle(); c.watched < len(c.history); c.handle() {
		c.watch()
	}
}

func (c *cluster) step() {
	switch c.rng.IntN(16) {
	case 0, 1:
		c.change()
	case 2, 3:
		c.watch()
	case 12:
		c.decide()
	case 13, 14:
		c.handle()
	case 15:
		c.commit()
	case 4:
		if c.rng.IntN(10) == 0 {
			c.begin()
		}
	case 5, 6, 7:
		c.read()
	case 8:
		c.ask()
	default:
		c.deliver(!c.faultless && c.rng.IntN(10) == 0)
	}
}

// settle lets the cluster rest until nothing is left to do, and fails where
// that does not come.
func (c *cluster) settle(t *testing.T) {
	t.Helper()
	for len(c.pending) > 0 {
		c.commit()
	}
	c.resting = true
	for round := range 10 * objectsOfCluster {
		for c.list != nil {
			c.read()
		}
		c.catchUp()
		for len(c.queue) > 0 {
			c.deliver(false)
		}
		if c.table.Claims() == 0 && !c.table.NeedsHealing() {
			return
		}
		if c.now = c.now.Add(time.Minute); round%2 == 0 {
			c.ask()
		} else if c.table.NeedsHealing() {
			c.begin()
		}
	}
	t.Fatalf("%d claims left, needs healing: %v", c.table.Claims(), c.table.NeedsHealing())
}

func newCluster(t *testing.T, seed uint64) *cluster {
	return &cluster{
		rng: rand.New(rand.NewPCG(seed, 5)), table: newTable(t), now: time.Unix(0, 0),
		objects: make(map[uint64]int), received: make(map[uint64]int), sent: make(map[uint64][]int),
	}
}

// Where every write is shown, none is refused and nothing is lost: each change
// is sent once, and in order, however reviews, events and lists meet.
func TestEachChangeOnceAndInOrder(t *testing.T) {
	for seed := range uint64(150) {
		c := newCluster(t, seed)
		c.faultless = true
		for range 1500 {
			c.step()
		}
		c.settle(t)
		want := make(map[uint64][]int)
		for _, e := range c.history {
			if w := want[e.id]; len(w) == 0 || w[len(w)-1] != e.value {
				want[e.id] = append(w, e.value)
			}
		}
		if diff := cmp.Diff(want, c.sent); diff != "" {
			t.Fatalf("seed %d: sent (-want +got):\n%s", seed, diff)
		}
	}
}

// Whatever is refused, lost, missed by the watch or brought too late by a list:
// in the end the receiver has the state of every object, and the table no
// other.
func TestReceiverConverges(t *testing.T) {
	for seed := range uint64(150) {
		c := newCluster(t, seed)
		c.table.claims.most = 4
		for range 1500 {
			c.step()
		}
		c.settle(t)
		got := make(map[uint64]int)
		for id := range c.objects {
			got[id] = c.received[id]
		}
		if diff := cmp.Diff(c.objects, got); diff != "" {
			t.Errorf("seed %d: the receiver's state of the objects (-want +got):\n%s", seed, diff)
		}
		if c.table.Len() != len(c.objects) {
			t.Errorf("seed %d: the table has %d objects, the cluster %d", seed, c.table.Len(), len(c.objects))
		}
	}
}

// A list brings value 1 of each object while a watch brings value 2, a
// reviewer value 2 of some, and outcomes come in. With the turn held until a
// record is put, the last that is put of each is the watch's.
func TestOlderNeverOvertakesNewer(t *testing.T) {
	const objects = 3000
	table := newTable(t)
	var mu sync.Mutex
	put := make(map[uint64]int)
	hand := func(id uint64, value int, ask func() Verdict) {
		mustAcquire(t, table, keyOf(id))
		defer table.Release(keyOf(id))
		if ask() == Send {
			runtime.Gosched() // where a full queue would make it wait
			mu.Lock()
			put[id] = value
			mu.Unlock()
		}
	}
	list := table.Begin(false, noon)
	var wg sync.WaitGroup
	wg.Go(func() {
		for id := range uint64(objects) {
			hand(id, 1, func() Verdict { return list.Item(recordOf(id, 1)) })
		}
	})
	wg.Go(func() {
		for id := range uint64(objects) {
			hand(id, 2, func() Verdict { return table.Event(recordOf(id, 2)) })
		}
	})
	wg.Go(func() {
		for id := range uint64(objects / 3) {
			hand(3*id, 2, func() Verdict { return first(table.Claim(recordOf(3*id, 2), noon)) })
			table.Due(noon, 10)
			table.Bytes()
		}
	})
	wg.Go(func() {
		for id := range uint64(objects) {
			table.Accepted(keyOf(id))
			table.Refused(keyOf(id))
			table.NeedsHealing()
		}
	})
	wg.Wait()
	list.End()
	if table.Len() != objects {
		t.Errorf("%d objects are known, want %d", table.Len(), objects)
	}
	for id := range uint64(objects) {
		if put[id] != 2 {
			t.Errorf("value %d of object %d was put last, want 2", put[id], id)
		}
	}
	checkStore(t, &table.entries)
}

func first(v Verdict, _ bool) Verdict { return v }
