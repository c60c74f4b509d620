package ledger

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
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
	due   time.Time
	order int
	fresh bool
	// replaces is the version that the claimed write replaces.
	replaces uint64
}

type modelList struct {
	began, faults int
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
	delete(m.claims, id)
	o.met = m.moment
	if written {
		o.written = m.moment
	}
	if send {
		o.sent, o.lost, o.refused = value, false, false
	}
	return Verdict(send)
}

func (m *model) begin(all bool) {
	m.list = &modelList{began: m.moment, faults: m.faults, all: all || m.list != nil && m.list.all}
}

func (m *model) item(id uint64, value int) Verdict {
	if o := m.objects[id]; o != nil && o.written > m.list.began || m.deleted[id] > m.list.began {
		return Skip
	}
	return m.meet(id, value, false)
}

func (m *model) end() (gone int) {
	for id, o := range m.objects {
		if o.met < m.list.began {
			delete(m.objects, id)
			delete(m.claims, id)
			gone++
		}
	}
	m.healed, m.list = m.list.faults, nil
	return gone
}

// overtaken tells whether a claim is newer than the version.
func (m *model) overtaken(id, version uint64) bool {
	claim, waits := m.claims[id]
	return waits && version != 0 && version <= claim.replaces
}

func (m *model) event(id uint64, value int, version uint64) Verdict {
	if m.overtaken(id, version) {
		return Skip
	}
	delete(m.deleted, id)
	return m.meet(id, value, true)
}

func (m *model) delete(id, version uint64) bool {
	if m.overtaken(id, version) {
		return false
	}
	_, known := m.objects[id]
	delete(m.objects, id)
	delete(m.claims, id)
	m.deleted[id] = m.moment
	return known
}

func (m *model) claim(id uint64, value int, replaces uint64, now time.Time, most int) Verdict {
	o := m.objects[id]
	if o != nil && !o.lost && o.sent == value {
		return Skip
	}
	claim := &modelClaim{due: now.Add(time.Minute), order: m.moment, fresh: o == nil, replaces: replaces}
	before, waits := m.claims[id]
	if waits {
		claim.fresh = before.fresh
	}
	room := waits || len(m.claims) < most
	delete(m.deleted, id)
	m.meet(id, value, true)
	if room {
		m.claims[id] = claim
	} else {
		m.faults++
	}
	return Send
}

// due returns the objects of the claims that are due, the oldest first.
func (m *model) due(now time.Time, most int) []uint64 {
	var due []uint64
	for id, claim := range m.claims {
		if !claim.due.After(now) {
			due = append(due, id)
		}
	}
	slices.SortFunc(due, func(a, b uint64) int { return m.claims[a].order - m.claims[b].order })
	due = append([]uint64(nil), due[:min(most, len(due))]...)
	for _, id := range due {
		m.moment++
		m.claims[id].due, m.claims[id].order = now.Add(time.Minute), m.moment
	}
	return due
}

func (m *model) forget(id uint64) {
	if m.claims[id].fresh {
		delete(m.objects, id)
	}
	delete(m.claims, id)
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
	log   []string
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
	version := p.version(op)
	switch op % 16 {
	case 0, 1, 2:
		p.same("event", id, value, p.table.Event(r, version), m.event(id, value, version))
	case 3, 4, 5, 6:
		if p.list != nil {
			p.same("item", id, value, p.list.Item(r), m.item(id, value))
		}
		if p.ended != nil {
			p.same("item of an ended list", id, value, p.ended.Item(r), Skip)
		}
	case 7, 8:
		p.same("delete", id, value, p.table.Delete(r.Key, version), m.delete(id, version))
	case 9:
		p.stepList(id, value)
	case 10, 11:
		p.same("claim", id, value, p.table.Claim(r, version, p.now), m.claim(id, value, version, p.now, modelClaims))
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

// version is none, the present one, or one that is older by 1 to 14.
func (p *pair) version(op byte) uint64 {
	behind := int(op / 16)
	if behind == 15 || behind >= p.model.moment {
		return 0
	}
	return uint64(p.model.moment - behind)
}

// stepList begins, ends or abandons a list.
func (p *pair) stepList(id uint64, value int) {
	switch {
	case p.list == nil || value == 0:
		if p.list != nil {
			p.ended = p.list
		}
		p.list = p.table.Begin(id%2 == 0)
		p.model.begin(id%2 == 0)
	case value == 1:
		p.list.Abandon()
		p.model.list = nil
		p.ended, p.list = p.list, nil
	default:
		gone, ok := p.list.End()
		p.same("end", id, value, []any{gone, ok}, []any{p.model.end(), true})
		p.ended, p.list = p.list, nil
		for _, o := range p.model.objects {
			if o.lost && !p.table.NeedsHealing() {
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
	due := p.table.Due(p.now, value)
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
	waits := p.table.claims.has(c)
	if waits && p.model.claims[asked] == nil {
		p.t.Fatalf("claim of %d waits in the table alone, after %q", asked, p.log)
	}
	if value%2 == 0 {
		p.table.Forget(c)
		if waits {
			p.model.forget(asked)
		}
		return
	}
	want := Skip
	if waits {
		want = p.model.meet(asked, value, true)
	}
	p.same("confirm", asked, value, p.table.Confirm(c, recordOf(asked, value)), want)
}

func (p *pair) same(what string, id uint64, value int, got, want any) {
	p.log = append(p.log[max(0, len(p.log)-30):], fmt.Sprintf("%s(%d, %d)=%v", what, id, value, want))
	if diff := cmp.Diff(want, got); diff != "" {
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
		got := []bool{e.state&claimed != 0, e.state&lost != 0, e.state&refused != 0, e.state&deleted != 0}
		want := []bool{p.model.claims[id] != nil, o.lost, o.refused, false}
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
				op := byte(rng.UintN(16))
				if op == 9 && rng.Uint64N(c.objects/4) > 0 {
					op = 0 // with many objects a list takes long
				}
				p.step(op, rng.Uint64N(c.objects), rng.IntN(4))
			}
			p.finish()
		})
	}
}
