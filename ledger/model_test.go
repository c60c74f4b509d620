package ledger

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
)

// model is the ledger's contract in the plainest form: a map, and the moment
// at which everything happened instead of flags that are reset.
type model struct {
	moment  int
	objects map[uint64]*modelObject
	claims  map[uint64]*modelClaim
	// deleted has when an object that does not exist was deleted.
	deleted        map[uint64]int
	list           *modelList
	faults, healed int
}

type modelObject struct {
	sent          int // the value
	met, written  int // moments
	lost, refused bool
}

type modelClaim struct {
	// number is the moment of the last claim, asked the time at which it was due.
	number int
	asked  time.Time
	again  bool
	fresh  bool
	// states are what was claimed and not shown yet, before the value before
	// them, or none.
	states []modelState
	before int
	// object is the object before the last claim, deleted when it was deleted.
	object  *modelObject
	deleted int
}

type modelState struct {
	value int
	at    time.Time
	sent  bool
}

// none is no value.
const none = -1

func (c *modelClaim) newest() *modelState { return &c.states[len(c.states)-1] }

// sent are the states that were sent.
func (c *modelClaim) sent() int {
	n := 0
	for _, s := range c.states {
		if s.sent {
			n++
		}
	}
	return n
}

type modelList struct {
	began, faults int
	at            time.Time
	all           bool
}

func newModel() *model {
	return &model{
		objects: make(map[uint64]*modelObject),
		claims:  make(map[uint64]*modelClaim),
		deleted: make(map[uint64]int),
	}
}

// meet is what list items, events and answers to claims have in common.
func (m *model) meet(id uint64, value int, written bool) Verdict {
	o := m.objects[id]
	send := o == nil || o.lost || o.sent != value
	if !send && m.list != nil && m.list.all && o.met < m.list.began && !o.refused {
		send = true
	}
	if o == nil {
		o = &modelObject{}
		m.objects[id] = o
	}
	o.met = m.moment
	if written {
		o.written = m.moment
	}
	if send {
		o.sent, o.lost, o.refused = value, false, false
	}
	return Verdict(send)
}

// settle ends an object's first claims.
func (m *model) settle(id uint64, states, shown int) {
	claim := m.claims[id]
	claim.states, claim.fresh, claim.before = claim.states[states:], false, shown
	if len(claim.states) == 0 {
		delete(m.claims, id)
	}
}

func (m *model) begin(all bool, now time.Time) {
	m.list = &modelList{began: m.moment, faults: m.faults, at: now, all: all || m.list != nil && m.list.all}
}

// newer tells whether the object was claimed after what the list reads.
func (m *model) newer(id uint64) bool {
	claim := m.claims[id]
	return claim != nil && m.list.at.Sub(claim.newest().at) < 40*time.Second
}

func (m *model) item(id uint64, value int) Verdict {
	o := m.objects[id]
	if o != nil && o.written > m.list.began || m.deleted[id] > m.list.began {
		return Skip
	}
	if m.newer(id) {
		if o == nil || o.sent != value {
			return Skip
		}
		return m.meet(id, value, false)
	}
	delete(m.claims, id)
	return m.meet(id, value, false)
}

func (m *model) end() (gone int) {
	for id, o := range m.objects {
		if o.met < m.list.began && !m.newer(id) {
			delete(m.objects, id)
			delete(m.claims, id)
			gone++
		}
	}
	m.healed, m.list = m.list.faults, nil
	return gone
}

func (m *model) event(id uint64, value int) Verdict {
	if claim := m.claims[id]; claim != nil {
		sent := claim.sent()
		i := slices.IndexFunc(claim.states, func(s modelState) bool { return s.value == value })
		switch {
		case claim.before == value && sent > 0:
			return Skip
		case claim.before == value:
		case i < 0:
			m.settle(id, sent, value)
		case i < sent-1:
			m.settle(id, i+1, value)
			return Skip
		default:
			m.settle(id, i+1, value)
		}
	}
	delete(m.deleted, id)
	return m.meet(id, value, true)
}

func (m *model) delete(id uint64) bool {
	_, known := m.objects[id]
	delete(m.objects, id)
	if claim := m.claims[id]; claim != nil {
		m.settle(id, claim.sent(), none)
	}
	m.deleted[id] = m.moment
	return known
}

// wait adds a state that waits.
func (m *model) wait(id uint64, s modelState, most int) {
	claim := m.claims[id]
	o := m.objects[id]
	if claim == nil {
		if len(m.claims) == most {
			m.faults++
			return
		}
		claim = &modelClaim{fresh: o == nil && s.sent, before: none}
		if o != nil && o.sent != s.value {
			claim.before = o.sent
		}
		m.claims[id] = claim
	}
	if claim.states = append(claim.states, s); len(claim.states) > maxStates {
		claim.states[1].at = claim.states[0].at
		claim.states = claim.states[1:]
	}
	claim.number, claim.asked, claim.again = m.moment, time.Time{}, false
	claim.object, claim.deleted = nil, m.deleted[id]
	if o != nil {
		claim.object = new(*o)
	}
}

func (m *model) claim(id uint64, value int, now time.Time, most int) (v Verdict, left bool) {
	if claim := m.claims[id]; claim != nil && !claim.newest().sent {
		m.leave(id, value, now, most)
		return Skip, true
	}
	if o := m.objects[id]; o != nil && !o.lost && o.sent == value {
		return Skip, false
	}
	m.wait(id, modelState{value, now, true}, most)
	delete(m.deleted, id)
	m.meet(id, value, true)
	return Send, false
}

func (m *model) leave(id uint64, value int, now time.Time, most int) {
	if claim := m.claims[id]; claim != nil && claim.newest().value == value {
		return
	}
	m.wait(id, modelState{value, now, false}, most)
}

// unsent takes the last claim back.
func (m *model) unsent(id uint64) {
	m.faults++
	claim, o := m.claims[id], m.objects[id]
	if claim == nil {
		o.lost = true
		return
	}
	claim.newest().sent = false
	claim.fresh = claim.fresh && claim.sent() > 0
	if claim.object == nil {
		delete(m.objects, id)
		m.deleted[id] = claim.deleted
		return
	}
	o.sent, o.lost, o.refused = claim.object.sent, claim.object.lost, claim.object.refused
}

// due returns the objects of the claims that are due, the oldest first.
func (m *model) due(now time.Time, most int) []uint64 {
	var due []uint64
	for id, claim := range m.claims {
		if now.Sub(claim.states[0].at) >= 40*time.Second && (claim.asked.IsZero() || claim.again || now.Sub(claim.asked) >= 40*time.Second) {
			due = append(due, id)
		}
	}
	slices.SortFunc(due, func(a, b uint64) int {
		one, other := m.claims[a], m.claims[b]
		return cmp.Or(one.asked.Compare(other.asked), one.states[0].at.Compare(other.states[0].at), one.number-other.number)
	})
	due = append([]uint64(nil), due[:min(most, len(due))]...)
	for _, id := range due {
		m.claims[id].asked, m.claims[id].again = now, false
	}
	return due
}

// answer takes the value that a GET shows, or none.
func (m *model) answer(id uint64, value int) {
	claim := m.claims[id]
	done := claim.sent()
	for i, s := range claim.states {
		if s.value == value {
			done = i + 1
		}
	}
	for done < len(claim.states) && claim.asked.Sub(claim.states[done].at) >= 40*time.Second {
		done++
	}
	m.settle(id, done, value)
}

func (m *model) confirm(id uint64, value int) Verdict {
	m.answer(id, value)
	if claim := m.claims[id]; claim != nil && claim.sent() > 0 {
		return Skip
	}
	return m.meet(id, value, true)
}

func (m *model) forget(id uint64) (phantom bool) {
	phantom = m.claims[id].fresh
	m.answer(id, none)
	if phantom {
		delete(m.objects, id)
	}
	return phantom
}

func (m *model) lose(id uint64) bool {
	o := m.objects[id]
	if o == nil {
		return false
	}
	o.lost = true
	m.faults++
	return true
}

// pair runs the same operations on a table and on the model.
type pair struct {
	t     testing.TB
	table *Table
	model *model
	list  *List
	// ended is a list that has ended.
	ended *List
	now   time.Time
	// asked are claims that were due; some are settled by now.
	asked []Claim
	ids   map[uint64]uint64
	// claims is how many there were.
	claims int
	log    []string
}

const modelClaims = 3

func newPair(t testing.TB) *pair {
	table := newTable(t)
	table.claims.most = modelClaims
	return &pair{t: t, table: table, model: newModel(), now: time.Unix(0, 0), ids: make(map[uint64]uint64)}
}

// step runs one operation, chosen by op. The value is one of four.
func (p *pair) step(op byte, id uint64, value int) {
	m := p.model
	m.moment++
	p.ids[keyOf(id)] = id
	r := recordOf(id, value)
	switch op % 17 {
	case 0, 1, 2:
		p.same("event", id, value, p.table.Event(r), m.event(id, value))
	case 3, 4, 5, 6:
		if p.list != nil {
			p.same("item", id, value, p.list.Item(r), m.item(id, value))
		}
		if p.ended != nil {
			p.same("item of an ended list", id, value, p.ended.Item(r), Skip)
		}
	case 7, 8:
		p.same("delete", id, value, p.table.Delete(r.Key), m.delete(id))
	case 9:
		p.stepList(id, value)
	case 10, 11:
		p.stepReview(id, value)
	case 16:
		p.table.Leave(r, p.now)
		m.leave(id, value, p.now, modelClaims)
	case 12:
		p.stepDue(id, value)
	case 13:
		p.same("lost", id, value, p.table.Lost(r.Key), m.lose(id))
	case 14:
		p.table.Refused(r.Key)
		if o := m.objects[id]; o != nil {
			o.refused = true
		}
	case 15:
		p.table.Accepted(r.Key)
		if o := m.objects[id]; o != nil {
			o.refused = false
		}
	}
	p.same("objects", id, value, p.table.Len(), len(m.objects))
	p.same("needs healing", id, value, p.table.NeedsHealing(), m.faults != m.healed)
}

// stepReview takes a review, and sometimes finds no room for its record.
func (p *pair) stepReview(id uint64, value int) {
	v, left := p.table.Claim(recordOf(id, value), p.now)
	want, wantLeft := p.model.claim(id, value, p.now, modelClaims)
	p.same("claim", id, value, []any{v, left}, []any{want, wantLeft})
	if v == Send && (p.claims+int(id))%4 == 0 {
		p.table.Unsent(keyOf(id))
		p.model.unsent(id)
		p.log = append(p.log, "unsent")
	}
	p.claims++
}

// stepList begins, ends or abandons a list.
func (p *pair) stepList(id uint64, value int) {
	switch {
	case p.list == nil || value == 0:
		if p.list != nil {
			p.ended = p.list
		}
		p.list = p.table.Begin(id%2 == 0, p.now)
		p.model.begin(id%2 == 0, p.now)
	case value == 1:
		p.list.Abandon()
		p.model.list = nil
		p.ended, p.list = p.list, nil
	default:
		gone, ok := p.list.End()
		p.same("end", id, value, []any{gone, ok}, []any{p.model.end(), true})
		p.ended, p.list = p.list, nil
		for id, o := range p.model.objects {
			if o.lost && !p.table.NeedsHealing() && p.model.claims[id] == nil {
				p.t.Fatalf("a lost object is left that nothing will heal, after %q", p.log)
			}
		}
	}
	if p.ended != nil {
		gone, ok := p.ended.End()
		p.same("end of an ended list", id, value, []any{gone, ok}, []any{0, false})
		p.ended.Abandon()
	}
}

// stepDue lets time pass, takes what is due, and answers a claim.
func (p *pair) stepDue(id uint64, value int) {
	p.now = p.now.Add(time.Duration(id%3) * 20 * time.Second)
	due := ask(p.table, p.now, value)
	var ids []uint64
	for _, c := range due {
		ids = append(ids, p.ids[c.Key])
	}
	p.same("due", id, value, ids, p.model.due(p.now, value))
	p.asked = append(p.asked, due...)
	if len(p.asked) == 0 {
		return
	}
	c := p.asked[int(id)%len(p.asked)]
	asked := p.ids[c.Key]
	waits := p.table.claims.waiting(c) != nil
	if waits && p.model.claims[asked] == nil {
		p.t.Fatalf("claim of %d waits in the table alone, after %q", asked, p.log)
	}
	if id%5 == 0 {
		p.table.Again(c)
		if waits {
			p.model.claims[asked].again = true
		}
		return
	}
	if value%2 == 0 {
		phantom := p.table.Forget(c)
		if waits {
			p.same("forget", asked, value, phantom, p.model.forget(asked))
		}
		return
	}
	want := Skip
	if waits {
		want = p.model.confirm(asked, value)
	}
	p.same("confirm", asked, value, p.table.Confirm(c, recordOf(asked, value)), want)
}

func (p *pair) same(what string, id uint64, value int, got, want any) {
	p.log = append(p.log[max(0, len(p.log)-30):], fmt.Sprintf("%s(%d, %d)=%v", what, id, value, want))
	if diff := gocmp.Diff(want, got); diff != "" {
		p.t.Fatalf("after %q (-want +got):\n%s", p.log, diff)
	}
}

// finish compares what no single operation shows.
func (p *pair) finish() {
	checkStore(p.t, &p.table.entries)
	p.same("claims", 0, 0, p.table.Claims(), len(p.model.claims))
	for id, o := range p.model.objects {
		e := p.table.entries.find(keyOf(id))
		if e == nil {
			p.t.Fatalf("object %d is not in the table", id)
		}
		claim := p.model.claims[id]
		got := []bool{e.state&claimed != 0, e.state&lost != 0, e.state&refused != 0, e.state&deleted != 0}
		want := []bool{claim != nil && claim.sent() > 0, o.lost, o.refused, false}
		p.same("claimed, lost, refused, deleted", id, 0, got, want)
	}
}

func FuzzLedger(f *testing.F) {
	f.Add([]byte{0, 1, 1, 9, 0, 1, 3, 1, 2, 9, 0, 2, 9, 1, 3})
	f.Add([]byte{10, 1, 1, 12, 2, 1, 12, 2, 1, 12, 2, 2, 12, 2, 3, 0, 1, 1})
	f.Add([]byte{0, 1, 1, 13, 1, 0, 9, 1, 0, 3, 1, 1, 9, 0, 3, 14, 1, 0, 9, 0, 0, 3, 1, 1, 7, 1, 0, 3, 1, 1})
	f.Fuzz(func(t *testing.T, ops []byte) {
		p := newPair(t)
		for ; len(ops) >= 3; ops = ops[3:] {
			p.step(ops[0], uint64(ops[1]%8), int(ops[2]%4))
		}
		p.finish()
	})
}

func TestLedgerIsLikeItsModel(t *testing.T) {
	for _, c := range []struct {
		objects uint64
		steps   int
	}{{4, 20_000}, {40, 20_000}, {1000, 30_000}, {20_000, 60_000}} {
		t.Run(fmt.Sprint(c.objects), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, c.objects))
			p := newPair(t)
			for range c.steps {
				op := byte(rng.UintN(17))
				if op == 9 && rng.Uint64N(c.objects/4) > 0 {
					op = 0 // with many objects a list takes long
				}
				p.step(op, rng.Uint64N(c.objects), rng.IntN(4))
			}
			p.finish()
		})
	}
}
