package ledger

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"labelstream/record"
)

// scene is a table, and the list that runs, if one does.
type scene struct {
	*Table
	list *List
	now  time.Time
}

// The operations of a scene's steps. Each returns what there is to see.
type operation func(s *scene) any

func event(id uint64, value int) operation {
	return func(s *scene) any { return s.Event(recordOf(id, value)).String() }
}

func item(id uint64, value int) operation {
	return func(s *scene) any { return s.list.Item(recordOf(id, value)).String() }
}

func claim(id uint64, value int) operation {
	return func(s *scene) any {
		v, left := s.Claim(recordOf(id, value), s.now)
		if left {
			return "left"
		}
		return v.String()
	}
}

// leave is a review that meets a held turn, unsent one whose record finds no room.
func leave(id uint64, value int) operation {
	return func(s *scene) any { s.Leave(recordOf(id, value), s.now); return nil }
}

func unsent(id uint64) operation {
	return func(s *scene) any { s.Unsent(keyOf(id)); return nil }
}

// confirm and forget are the answers to what is asked of one object that is due.
func confirm(id uint64, value int) operation {
	return func(s *scene) any { return s.Confirm(s.dueOf(id), recordOf(id, value)).String() }
}

func forget(id uint64) operation { return func(s *scene) any { return s.Forget(s.dueOf(id)) } }

// dueOf is the claim of the object that is due; a test that has none fails by
// what comes of it.
func (s *scene) dueOf(id uint64) Claim {
	for _, c := range ask(s.Table, s.now, 100) {
		if c.Key == keyOf(id) {
			return c
		}
	}
	return Claim{}
}

func later(d time.Duration) operation {
	return func(s *scene) any { s.now = s.now.Add(d); return nil }
}

func waits(s *scene) any { return s.Claims() }

func remove(id uint64) operation { return func(s *scene) any { return s.Delete(keyOf(id)) } }
func lose(id uint64) operation   { return func(s *scene) any { return s.Lost(keyOf(id)) } }

func refuse(id uint64) operation {
	return func(s *scene) any { s.Refused(keyOf(id)); return nil }
}

func accept(id uint64) operation {
	return func(s *scene) any { s.Accepted(keyOf(id)); return nil }
}

func begin(all bool) operation {
	return func(s *scene) any { s.list = s.Begin(all, s.now); return nil }
}

func end(s *scene) any {
	gone, ok := s.list.End()
	if !ok {
		return "not the list that runs"
	}
	return gone
}

func abandon(s *scene) any { s.list.Abandon(); return nil }
func objects(s *scene) any { return s.Len() }
func changes(s *scene) any { return s.Changes() }
func ill(s *scene) any     { return s.NeedsHealing() }
func clean(s *scene) any   { s.Clear(); return nil }

type step struct {
	do   operation
	want any
}

func TestTable(t *testing.T) {
	for name, steps := range map[string][]step{
		"what is equal is skipped, whoever brings it": {
			{begin(false), nil}, {item(1, 1), "send"}, {end, 0},
			{event(1, 1), "skip"}, {event(1, 2), "send"}, {claim(1, 2), "skip"},
			{begin(false), nil}, {item(1, 2), "skip"}, {end, 0},
			{event(1, 1), "send"}, {objects, 1},
		},
		"an event wins over an older item": {
			{event(1, 1), "send"},
			{begin(false), nil}, {event(1, 2), "send"}, {item(1, 1), "skip"}, {end, 0},
			{event(1, 2), "skip"},
			// The next list is newer than that event.
			{begin(false), nil}, {item(1, 1), "send"}, {end, 0},
		},
		"an event that changes nothing wins too": {
			{event(1, 2), "send"},
			{begin(false), nil}, {event(1, 2), "skip"}, {item(1, 1), "skip"}, {end, 0},
		},
		"a review wins over an older item": {
			{begin(false), nil}, {claim(1, 2), "send"}, {item(1, 1), "skip"}, {end, 0}, {objects, 1},
		},
		"a deleted object is not brought back by an older item": {
			{event(1, 1), "send"},
			{begin(false), nil}, {remove(1), true}, {objects, 0}, {item(1, 1), "skip"}, {remove(1), false}, {end, 0},
			{begin(false), nil}, {item(1, 1), "send"}, {end, 0},
		},
		"nor one that was never known": {
			{begin(false), nil}, {remove(1), false}, {item(1, 1), "skip"}, {end, 0}, {objects, 0},
		},
		"but by an event": {
			{event(1, 1), "send"},
			{begin(false), nil}, {remove(1), true}, {event(1, 1), "send"}, {item(1, 1), "skip"}, {end, 0}, {objects, 1},
		},
		"or a review": {
			{event(1, 1), "send"},
			{begin(false), nil}, {remove(1), true}, {claim(1, 1), "send"}, {end, 0}, {objects, 1},
		},
		"or the list after one that failed": {
			{begin(false), nil}, {event(1, 1), "send"}, {remove(1), true}, {abandon, nil},
			{begin(false), nil}, {item(1, 1), "send"}, {end, 0}, {objects, 1},
		},
		"a delete is sent once": {
			{event(1, 1), "send"}, {remove(1), true}, {remove(1), false}, {event(1, 1), "send"},
		},
		"an event that confirms a claim is of a change, and no other that is equal": {
			{claim(1, 1), "send"}, {changes, uint64(0)},
			{event(1, 1), "skip"}, {changes, uint64(1)}, {event(1, 1), "skip"}, {changes, uint64(1)},
			{claim(1, 2), "send"}, {event(1, 3), "send"}, {changes, uint64(2)}, {event(1, 3), "skip"}, {changes, uint64(2)},
			{remove(1), true}, {changes, uint64(3)}, {remove(1), false}, {changes, uint64(3)},
			{clean, nil}, {changes, uint64(0)},
		},
		"an event that is sent since all is, or since what was sent is lost, is of none": {
			{event(1, 1), "send"}, {changes, uint64(1)},
			{begin(true), nil}, {event(1, 1), "send"}, {item(1, 1), "skip"}, {end, 0}, {changes, uint64(1)},
			{lose(1), true}, {event(1, 1), "send"}, {changes, uint64(1)},
			{begin(false), nil}, {remove(1), true}, {event(1, 1), "send"}, {changes, uint64(3)}, {end, 0},
		},
		"a complete list forgets what nothing has met": {
			{event(1, 1), "send"}, {event(2, 1), "send"}, {event(3, 1), "send"}, {event(4, 1), "send"},
			{begin(false), nil}, {item(1, 1), "skip"}, {event(2, 1), "skip"}, {event(3, 2), "send"}, {end, 1},
			{objects, 3}, {remove(4), false},
		},
		"one that failed forgets nothing": {
			{event(1, 1), "send"}, {begin(false), nil}, {abandon, nil}, {objects, 1}, {event(1, 1), "skip"},
			{end, "not the list that runs"}, {objects, 1},
		},
		"nothing is left of lists that failed, however many": {
			{event(1, 1), "send"}, {event(2, 1), "send"},
			{begin(false), nil}, {item(1, 1), "skip"}, {event(2, 2), "send"}, {begin(false), nil},
			{begin(false), nil}, {begin(false), nil}, {begin(false), nil}, {begin(false), nil},
			{item(2, 1), "send"}, {end, 1},
		},
		"a list that sends all sends each once": {
			{event(1, 1), "send"}, {event(2, 1), "send"}, {event(3, 1), "send"},
			{begin(true), nil}, {item(1, 1), "send"}, {event(1, 1), "skip"}, {item(1, 1), "skip"},
			{event(2, 1), "send"}, {item(2, 1), "skip"}, {event(3, 2), "send"}, {item(3, 1), "skip"}, {end, 0},
			{event(1, 1), "skip"}, {event(2, 1), "skip"},
		},
		"also where another list takes over": {
			{event(1, 1), "send"}, {begin(true), nil}, {begin(false), nil}, {item(1, 1), "send"}, {end, 0},
			{begin(false), nil}, {item(1, 1), "skip"}, {end, 0},
		},
		"what was refused is not sent until it changes": {
			{event(1, 1), "send"}, {refuse(1), nil}, {event(1, 1), "skip"}, {ill, false},
			{begin(true), nil}, {event(1, 1), "skip"}, {item(1, 1), "skip"}, {end, 0},
			{begin(true), nil}, {item(1, 1), "skip"}, {end, 0}, {objects, 1},
			{event(1, 2), "send"},
			{begin(true), nil}, {item(1, 2), "send"}, {end, 0},
		},
		"a refusal of what has changed since is none": {
			{event(1, 1), "send"}, {event(1, 2), "send"}, {refuse(1), nil}, {accept(1), nil},
			{begin(true), nil}, {item(1, 2), "send"}, {end, 0},
		},
		"what was lost is sent by the next list": {
			{event(1, 1), "send"}, {event(2, 1), "send"}, {lose(1), true}, {ill, true},
			{begin(false), nil}, {item(1, 1), "send"}, {item(2, 1), "skip"}, {ill, true}, {end, 0}, {ill, false},
			{event(1, 1), "skip"},
		},
		"or the next event, or review": {
			{event(1, 1), "send"}, {lose(1), true}, {event(1, 1), "send"}, {lose(1), true}, {claim(1, 1), "send"},
		},
		"a list does not heal what was lost while it ran": {
			{begin(false), nil}, {item(1, 1), "send"}, {lose(1), true}, {end, 0}, {ill, true},
			{begin(false), nil}, {item(1, 1), "send"}, {end, 0}, {ill, false},
		},
		"a lost event wins over an older item too": {
			{begin(false), nil}, {event(1, 2), "send"}, {lose(1), true}, {item(1, 1), "skip"}, {end, 0}, {ill, true},
			{begin(false), nil}, {item(1, 2), "send"}, {end, 0}, {ill, false},
		},
		"a list that failed heals nothing": {
			{event(1, 1), "send"}, {lose(1), true}, {begin(false), nil}, {item(1, 1), "send"}, {abandon, nil}, {ill, true},
		},
		"nothing can heal a deleted object": {
			{event(1, 1), "send"}, {remove(1), true}, {lose(1), false}, {ill, false},
			{begin(false), nil}, {event(1, 1), "send"}, {remove(1), true}, {lose(1), false}, {end, 0}, {ill, false},
		},
		"a cleared table is as new": {
			{event(1, 1), "send"}, {lose(1), true}, {begin(true), nil}, {remove(1), true}, {event(2, 1), "send"},
			{clean, nil}, {objects, 0}, {ill, false},
			{item(1, 1), "skip"}, {end, "not the list that runs"}, {objects, 0}, {event(2, 1), "send"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := scene{Table: newTable(t), now: time.Unix(0, 0)}
			var got, want []any
			for _, step := range steps {
				got = append(got, step.do(&s))
				want = append(want, step.want)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("steps (-want +got):\n%s", diff)
			}
		})
	}
}

func TestItemOfASupersededListIsSkipped(t *testing.T) {
	table := newTable(t)
	first := table.Begin(false, noon)
	second := table.Begin(false, noon)
	if got := first.Item(recordOf(1, 1)); got != Skip {
		t.Errorf("the first list's item: %v", got)
	}
	if _, ok := first.End(); ok {
		t.Error("the first list ended as complete")
	}
	first.Abandon()
	if got := second.Item(recordOf(1, 1)); got != Send {
		t.Errorf("the second list's item: %v", got)
	}
	if gone, ok := second.End(); gone != 0 || !ok {
		t.Errorf("the second list ended with %d, %v", gone, ok)
	}
}

func TestHeal(t *testing.T) {
	table := newTable(t)
	table.Heal()
	if !table.NeedsHealing() {
		t.Error("does not need healing")
	}
	table.Begin(false, noon).End()
	if table.NeedsHealing() {
		t.Error("needs healing after a complete list")
	}
}

func TestHashIsOfAllSeries(t *testing.T) {
	series := func(labels, annotations string) *record.Record {
		r := &record.Record{Key: 1, Count: 2}
		for _, value := range []string{labels, annotations} {
			r.Series = record.AppendLabel(record.AppendCount(r.Series, 1), "label_team", value)
		}
		return r
	}
	table := newTable(t)
	var got []Verdict
	for _, r := range []*record.Record{
		series("a", "b"), series("a", "b"), series("a", "c"), series("b", "c"), series("c", "b"), series("", "cb"),
	} {
		got = append(got, table.Event(r))
	}
	if want := []Verdict{Send, Skip, Send, Send, Send, Send}; !slices.Equal(got, want) {
		t.Errorf("verdicts %v, want %v", got, want)
	}
}

func TestBytes(t *testing.T) {
	table := newTable(t)
	if got := table.Bytes(); got != 0 {
		t.Errorf("an empty table takes %d bytes", got)
	}
	for id := range uint64(150) {
		table.Event(recordOf(id, 1))
	}
	if got := table.Bytes(); got != 4096 {
		t.Errorf("150 objects take %d bytes, want a page of 4096", got)
	}
	table.Clear()
	if got := table.Bytes(); got != 0 {
		t.Errorf("a cleared table takes %d bytes", got)
	}
}
