package ledger

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// mustClaim takes a claim that is not left to the watch.
func mustClaim(t *testing.T, table *Table, id uint64, value int, now time.Time) Verdict {
	t.Helper()
	v, left := table.Claim(recordOf(id, value), now)
	if left {
		t.Fatalf("the claim of %d, %d is left to the watch", id, value)
	}
	return v
}

// ask asks for what is due.
func ask(table *Table, now time.Time, most int) []Claim {
	due := table.Due(now, most)
	for _, c := range due {
		if !table.Ask(c, now) {
			panic("what is due does not wait")
		}
	}
	return due
}

// dueNames asks for what is due, at most 10 at a time.
func dueNames(table *Table, after time.Duration) []string {
	var names []string
	for _, c := range ask(table, noon.Add(after), 10) {
		names = append(names, c.Namespace+"/"+c.Name)
	}
	return names
}

func TestClaimsAreDue(t *testing.T) {
	table := newTable(t)
	for id := range uint64(3) {
		if got := mustClaim(t, table, id, 1, noon.Add(time.Duration(id)*time.Second)); got != Send {
			t.Errorf("claim of %d: %v", id, got)
		}
	}
	for _, c := range []struct {
		after time.Duration
		want  []string
	}{
		{40*time.Second - 1, nil},
		{40 * time.Second, []string{"production/web-0"}},
		{40 * time.Second, nil}, // asked for
		{42 * time.Second, []string{"production/web-1", "production/web-2"}},
		{80*time.Second - 1, nil},
		{80 * time.Second, []string{"production/web-0"}}, // no answer came
	} {
		if diff := cmp.Diff(c.want, dueNames(table, c.after)); diff != "" {
			t.Errorf("due after %v (-want +got):\n%s", c.after, diff)
		}
	}
	if got := table.Due(noon.Add(time.Hour), 2); len(got) != 2 {
		t.Errorf("%d claims due, asked for 2", len(got))
	}
}

// A claim is due by its oldest state, however many newer there are.
func TestNewerClaimsDoNotPutOffTheOldest(t *testing.T) {
	for name, c := range map[string]struct {
		claims int
		// settled is how many of them events bring.
		settled int
		due     time.Duration
	}{
		"one":              {1, 0, 40 * time.Second},
		"many":             {maxStates, 0, 40 * time.Second},
		"the first came":   {maxStates, 1, 41 * time.Second},
		"more than wait":   {maxStates + 5, 0, 40 * time.Second},
		"all but one came": {maxStates, maxStates - 1, (40 + maxStates - 1) * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			table := newTable(t)
			for n := range c.claims {
				mustClaim(t, table, 1, n, noon.Add(time.Duration(n)*time.Second))
			}
			for n := range c.settled {
				table.Event(recordOf(1, n))
			}
			if got := dueNames(table, c.due-1); got != nil {
				t.Errorf("due before its time: %v", got)
			}
			if got := dueNames(table, c.due); len(got) != 1 {
				t.Errorf("due at its time: %v", got)
			}
		})
	}
}

// One that was asked for in vain may be due at once. One that has been settled is
// not asked for.
func TestAsk(t *testing.T) {
	table := newTable(t)
	mustClaim(t, table, 1, 1, noon)
	claim := ask(table, noon.Add(claimAge), 1)[0]
	table.Again(claim)
	mustClaim(t, table, 2, 1, noon.Add(time.Second))
	want := []string{"production/web-2", "production/web-1"}
	if diff := cmp.Diff(want, dueNames(table, claimAge+time.Second)); diff != "" {
		t.Errorf("due (-want +got):\n%s", diff)
	}
	table.Event(recordOf(1, 1))
	if table.Ask(claim, noon.Add(claimAge)) {
		t.Error("a settled claim is asked for")
	}
	table.Again(claim)
}

// One that was asked for and claimed again meanwhile is due at once.
func TestClaimedWhileAskedFor(t *testing.T) {
	table := newTable(t)
	mustClaim(t, table, 1, 1, noon)
	asked := ask(table, noon.Add(claimAge), 1)[0]
	mustClaim(t, table, 1, 2, noon.Add(claimAge))
	if table.Forget(asked) || table.Claims() != 1 {
		t.Error("the answer from before the second claim counts")
	}
	if got := dueNames(table, claimAge); len(got) != 1 {
		t.Errorf("due: %v", got)
	}
}

// Whatever says more of the object ends a claim, and outlives its answer.
func TestClaimIsSettled(t *testing.T) {
	for name, c := range map[string]struct {
		settle func(*Table) any
		want   any
	}{
		"by an equal event":     {func(t *Table) any { return t.Event(recordOf(1, 2)) }, Skip},
		"by another event":      {func(t *Table) any { return t.Event(recordOf(1, 3)) }, Send},
		"by a delete":           {func(t *Table) any { return t.Delete(keyOf(1)) }, true},
		"by an equal list item": {func(t *Table) any { return t.Begin(false, noon.Add(claimAge)).Item(recordOf(1, 2)) }, Skip},
		"by another list item":  {func(t *Table) any { return t.Begin(false, noon.Add(claimAge)).Item(recordOf(1, 1)) }, Send},
		"by a list without it": {func(t *Table) any {
			gone, _ := t.Begin(false, noon.Add(claimAge)).End()
			return gone
		}, 1},
	} {
		for first, known := range map[string]bool{"known": true, "unknown": false} {
			t.Run(name+"/"+first, func(t *testing.T) {
				table := newTable(t)
				if known {
					table.Event(recordOf(1, 1))
				}
				if got := mustClaim(t, table, 1, 2, noon); got != Send || table.Claims() != 1 {
					t.Fatalf("claim: %v, %d claims", got, table.Claims())
				}
				asked := ask(table, noon.Add(claimAge), 1)[0]
				if got := c.settle(table); got != c.want {
					t.Errorf("got %v, want %v", got, c.want)
				}
				if n := table.Claims(); n != 0 {
					t.Errorf("%d claims are left", n)
				}
				// The answer comes too late.
				before := table.Len()
				if got := table.Confirm(asked, recordOf(1, 3)); got != Skip {
					t.Errorf("late answer: %v", got)
				}
				if table.Forget(asked); table.Len() != before {
					t.Errorf("%d objects after a late answer, want %d", table.Len(), before)
				}
			})
		}
	}
}

// Where an object changes faster than its events come, these are of older claims.
func TestEventsOfOlderClaims(t *testing.T) {
	type event struct {
		value int
		want  Verdict
		// left is how many claims wait then.
		left int
	}
	for name, c := range map[string]struct {
		claims []int
		events []event
	}{
		"each":                {[]int{2, 3, 4}, []event{{2, Skip, 1}, {3, Skip, 1}, {4, Skip, 0}, {4, Skip, 0}}},
		"and back":            {[]int{2, 1, 2}, []event{{2, Skip, 1}, {1, Skip, 1}, {2, Skip, 0}, {1, Send, 0}}},
		"one was refused":     {[]int{2, 3, 4}, []event{{2, Skip, 1}, {4, Skip, 0}}},
		"the last was":        {[]int{2, 3}, []event{{2, Skip, 1}, {1, Send, 0}}},
		"another on top":      {[]int{2, 3}, []event{{5, Send, 0}, {2, Send, 0}}},
		"one was not shown":   {[]int{2, 4}, []event{{2, Skip, 1}, {3, Send, 0}, {4, Send, 0}}},
		"shown at once":       {[]int{2, 3, 4}, []event{{4, Skip, 0}, {3, Send, 0}}},
		"shown a second time": {[]int{2, 3}, []event{{2, Skip, 1}, {2, Skip, 1}, {3, Skip, 0}}},
		"what was before":     {[]int{2}, []event{{1, Skip, 1}, {2, Skip, 0}, {1, Send, 0}}},
		"between two":         {[]int{2, 3}, []event{{1, Skip, 1}, {2, Skip, 1}, {1, Send, 0}}},
		"there and back":      {[]int{2, 1}, []event{{1, Skip, 1}, {2, Skip, 1}, {1, Skip, 0}}},
	} {
		t.Run(name, func(t *testing.T) {
			table := newTable(t)
			table.Event(recordOf(1, 1))
			for _, value := range c.claims {
				if got := mustClaim(t, table, 1, value, noon); got != Send {
					t.Fatalf("claim of %d: %v", value, got)
				}
			}
			for _, e := range c.events {
				if got := table.Event(recordOf(1, e.value)); got != e.want || table.Claims() != e.left {
					t.Errorf("event of %d: %v, %d claims; want %v, %d", e.value, got, table.Claims(), e.want, e.left)
				}
			}
		})
	}
}

// An event of an older claim shows that the object is, so no answer that it is
// not makes it a phantom.
func TestOvertakenIsNoPhantom(t *testing.T) {
	table := newTable(t)
	mustClaim(t, table, 1, 1, noon)
	mustClaim(t, table, 1, 2, noon)
	table.Event(recordOf(1, 1))
	if got := table.Changes(); got != 1 {
		t.Errorf("%d changes, want 1", got)
	}
	due := ask(table, noon.Add(claimAge), 2)
	if len(due) != 1 || table.Forget(due[0]) || table.Len() != 1 {
		t.Errorf("%d claims due, %d objects; want 1 and 1", len(due), table.Len())
	}
}

// The oldest of too many states of one object are given up, and nothing else.
func TestStatesAreBounded(t *testing.T) {
	table := newTable(t)
	for value := range maxStates + 2 {
		mustClaim(t, table, 1, value, noon)
	}
	if got := table.Event(recordOf(1, 2)); got != Skip || table.Claims() != 1 {
		t.Errorf("the oldest of %d states: %v, %d claims", maxStates, got, table.Claims())
	}
	if got := table.Event(recordOf(1, 1)); got != Send || table.Claims() != 0 {
		t.Errorf("one that was given up: %v, %d claims", got, table.Claims())
	}
}

// A review that changes nothing is no claim: nothing was sent.
func TestEqualReviewIsNoClaim(t *testing.T) {
	table := newTable(t)
	table.Event(recordOf(1, 1))
	if got := mustClaim(t, table, 1, 1, noon); got != Skip || table.Claims() != 0 {
		t.Errorf("%v, %d claims", got, table.Claims())
	}
}

func TestConfirm(t *testing.T) {
	for name, c := range map[string]struct {
		value int
		want  Verdict
	}{
		"the write happened":  {2, Skip},
		"it was refused":      {1, Send},
		"another came on top": {3, Send},
	} {
		t.Run(name, func(t *testing.T) {
			table := newTable(t)
			table.Event(recordOf(1, 1))
			mustClaim(t, table, 1, 2, noon)
			asked := ask(table, noon.Add(claimAge), 1)[0]
			if got := table.Confirm(asked, recordOf(1, c.value)); got != c.want {
				t.Errorf("confirm: %v, want %v", got, c.want)
			}
			if got := table.Event(recordOf(1, c.value)); got != Skip || table.Claims() != 0 {
				t.Errorf("the same event then: %v, %d claims left", got, table.Claims())
			}
		})
	}
}

// An object that only a review has shown never was; one that was known is
// gone only when its delete has been told, with its last tags.
func TestForget(t *testing.T) {
	for name, known := range map[string]bool{"known": true, "unknown": false} {
		t.Run(name, func(t *testing.T) {
			table := newTable(t)
			if known {
				table.Event(recordOf(1, 1))
			}
			mustClaim(t, table, 1, 2, noon)
			mustClaim(t, table, 1, 3, noon) // of the same object
			claim := ask(table, noon.Add(claimAge), 1)[0]
			if got := table.Forget(claim); got != !known {
				t.Errorf("a phantom: %v, want %v", got, !known)
			}
			if table.Forget(claim) {
				t.Error("a phantom twice")
			}
			if table.Claims() != 0 {
				t.Errorf("%d claims are left", table.Claims())
			}
			if got := table.Delete(keyOf(1)); got != known {
				t.Errorf("known to a delete: %v, want %v", got, known)
			}
		})
	}
}

func TestNewerClaimOutlivesTheAnswerToTheOlder(t *testing.T) {
	table := newTable(t)
	table.Event(recordOf(1, 1))
	mustClaim(t, table, 1, 2, noon)
	asked := ask(table, noon.Add(claimAge), 1)[0]
	if got := mustClaim(t, table, 1, 3, noon.Add(claimAge)); got != Send {
		t.Fatalf("second claim: %v", got)
	}
	if got := table.Confirm(asked, recordOf(1, 1)); got != Skip {
		t.Errorf("the answer from before the second claim: %v", got)
	}
	table.Forget(asked)
	if diff := cmp.Diff([]string{"production/web-1"}, dueNames(table, 2*claimAge)); diff != "" {
		t.Errorf("due (-want +got):\n%s", diff)
	}
}

// More claims than are remembered are for a list to settle, one that begins
// later.
func TestTooManyClaims(t *testing.T) {
	table := newTable(t)
	for id := range uint64(maxClaims) {
		mustClaim(t, table, id, 1, noon)
	}
	if table.NeedsHealing() {
		t.Error("needs healing while there is room")
	}
	list := table.Begin(false, noon.Add(claimAge))
	if got := mustClaim(t, table, maxClaims, 1, noon); got != Send {
		t.Errorf("one more: %v", got)
	}
	if table.Claims() != maxClaims || !table.NeedsHealing() {
		t.Errorf("%d claims, needs healing: %v", table.Claims(), table.NeedsHealing())
	}
	if gone, _ := list.End(); gone != maxClaims || !table.NeedsHealing() {
		t.Errorf("%d gone with the list that ran, needs healing: %v", gone, table.NeedsHealing())
	}
	if gone, _ := table.Begin(false, noon.Add(claimAge)).End(); gone != 1 || table.NeedsHealing() {
		t.Errorf("%d gone with the next, needs healing: %v", gone, table.NeedsHealing())
	}
}

// Whatever the order in which reviews, events and lists bring them: each state
// is sent once, and none after a newer one.
func TestReviewsBesideEventsAndLists(t *testing.T) {
	for name, steps := range map[string][]step{
		"what follows a review that was left is left too": {
			{event(1, 1), "send"}, {leave(1, 2), nil}, {claim(1, 3), "left"}, {claim(1, 3), "left"}, {waits, 1},
			{event(1, 1), "skip"}, {event(1, 2), "send"}, {claim(1, 4), "left"}, {event(1, 3), "send"},
			{event(1, 4), "send"}, {waits, 0}, {claim(1, 5), "send"}, {event(1, 5), "skip"},
		},
		"one that was left waits for those that were sent": {
			{event(1, 1), "send"}, {claim(1, 2), "send"}, {claim(1, 3), "send"}, {leave(1, 4), nil},
			{event(1, 1), "skip"}, {event(1, 2), "skip"}, {event(1, 3), "skip"}, {waits, 1}, {event(1, 4), "send"}, {waits, 0},
		},
		"the event of one that was left settles those before it": {
			{event(1, 1), "send"}, {claim(1, 2), "send"}, {leave(1, 3), nil}, {leave(1, 4), nil},
			{event(1, 3), "send"}, {claim(1, 5), "left"}, {event(1, 4), "send"}, {event(1, 5), "send"}, {waits, 0},
		},
		"a write without a review comes before what was left": {
			{event(1, 1), "send"}, {leave(1, 2), nil}, {event(1, 9), "send"}, {claim(1, 3), "left"},
			{event(1, 9), "skip"}, {event(1, 2), "send"}, {event(1, 3), "send"}, {waits, 0},
		},
		"back to what it was, while an event is in hand": {
			{event(1, 1), "send"}, {leave(1, 1), nil}, {event(1, 2), "send"}, {claim(1, 3), "left"},
			{event(1, 1), "send"}, {event(1, 3), "send"}, {waits, 0},
		},
		"there and back, both left": {
			{event(1, 1), "send"}, {leave(1, 2), nil}, {claim(1, 1), "left"}, {event(1, 1), "skip"},
			{event(1, 2), "send"}, {event(1, 1), "send"}, {waits, 0},
		},
		"what was left and never written is settled by asking": {
			{event(1, 1), "send"}, {leave(1, 2), nil}, {later(claimAge), nil}, {confirm(1, 1), "skip"},
			{waits, 0}, {claim(1, 3), "send"},
		},
		"what was left and written is sent by asking": {
			{event(1, 1), "send"}, {leave(1, 2), nil}, {later(claimAge), nil}, {confirm(1, 2), "send"}, {event(1, 2), "skip"},
		},
		"asking does not settle what was left since": {
			{event(1, 1), "send"}, {leave(1, 2), nil}, {later(claimAge - 1), nil}, {claim(1, 3), "left"}, {later(1), nil},
			{confirm(1, 1), "skip"}, {waits, 1}, {claim(1, 4), "left"}, {event(1, 3), "send"}, {event(1, 4), "send"}, {waits, 0},
		},
		"nor what was sent since": {
			{event(1, 1), "send"}, {claim(1, 2), "send"}, {later(claimAge - 1), nil}, {claim(1, 3), "send"}, {later(1), nil},
			{confirm(1, 2), "skip"}, {waits, 1}, {event(1, 3), "skip"}, {waits, 0},
		},
		"asking corrects what was sent last": {
			{event(1, 1), "send"}, {claim(1, 2), "send"}, {claim(1, 3), "send"}, {later(claimAge), nil},
			{confirm(1, 2), "send"}, {waits, 0},
		},
		"what was left of an object that never was is no phantom": {
			{leave(1, 1), nil}, {objects, 0}, {later(claimAge), nil}, {forget(1), false}, {waits, 0}, {objects, 0},
		},
		"what was left outlives the object before it": {
			{event(1, 1), "send"}, {leave(1, 2), nil}, {remove(1), true}, {claim(1, 3), "left"},
			{event(1, 2), "send"}, {event(1, 3), "send"}, {waits, 0},
		},
		"what was sent does not": {
			{event(1, 1), "send"}, {claim(1, 2), "send"}, {remove(1), true}, {waits, 0}, {event(1, 2), "send"},
		},

		"no room: the review is left, and a list will bring it": {
			{event(1, 1), "send"}, {claim(1, 2), "send"}, {unsent(1), nil}, {ill, true}, {claim(1, 3), "left"},
			{event(1, 1), "skip"}, {event(1, 2), "send"}, {event(1, 3), "send"}, {waits, 0},
		},
		"no room for a new object": {
			{claim(1, 1), "send"}, {unsent(1), nil}, {objects, 0}, {waits, 1}, {event(1, 1), "send"}, {objects, 1},
		},
		"no room for a new object's second state": {
			{claim(1, 1), "send"}, {claim(1, 2), "send"}, {unsent(1), nil}, {objects, 1},
			{event(1, 1), "skip"}, {event(1, 2), "send"}, {waits, 0},
		},
		"no room for a phantom": {
			{claim(1, 1), "send"}, {claim(1, 2), "send"}, {unsent(1), nil}, {later(claimAge), nil}, {forget(1), true},
			{objects, 0}, {waits, 0},
		},
		"no room while a list runs": {
			{event(1, 1), "send"}, {begin(false), nil}, {claim(1, 2), "send"}, {unsent(1), nil},
			{item(1, 1), "skip"}, {end, 0}, {event(1, 2), "send"},
		},
		"no room for what follows a deletion while a list runs": {
			{event(1, 1), "send"}, {begin(false), nil}, {remove(1), true}, {claim(1, 2), "send"}, {unsent(1), nil}, {objects, 0},
			{item(1, 1), "skip"}, {end, 0}, {objects, 0}, {event(1, 2), "send"},
		},
		"no room, and what was sent before is lost": {
			{event(1, 1), "send"}, {claim(1, 2), "send"}, {lose(1), true}, {unsent(1), nil}, {event(1, 1), "send"},
		},

		"a list that is read before the write": {
			{event(1, 1), "send"}, {claim(1, 2), "send"}, {later(claimAge - 1), nil}, {begin(false), nil},
			{item(1, 1), "skip"}, {end, 0}, {waits, 1}, {event(1, 2), "skip"}, {waits, 0},
		},
		"before the object is created": {
			{claim(1, 1), "send"}, {later(claimAge - 1), nil}, {begin(false), nil}, {end, 0}, {objects, 1}, {waits, 1},
			{event(1, 1), "skip"},
		},
		"after the first of two writes": {
			{event(1, 1), "send"}, {claim(1, 2), "send"}, {claim(1, 3), "send"}, {begin(false), nil},
			{item(1, 2), "skip"}, {end, 0}, {event(1, 2), "skip"}, {event(1, 3), "skip"}, {waits, 0},
		},
		"after both, which the watch has still to bring": {
			{event(1, 1), "send"}, {claim(1, 2), "send"}, {claim(1, 3), "send"}, {begin(false), nil},
			{item(1, 3), "skip"}, {end, 0}, {event(1, 2), "skip"}, {event(1, 3), "skip"}, {waits, 0},
		},
		"one that sends all, after both": {
			{event(1, 1), "send"}, {claim(1, 2), "send"}, {claim(1, 3), "send"}, {begin(true), nil},
			{item(1, 3), "send"}, {end, 0}, {event(1, 2), "skip"}, {event(1, 3), "skip"}, {waits, 0},
		},
		"after what was left": {
			{event(1, 1), "send"}, {leave(1, 2), nil}, {leave(1, 3), nil}, {begin(false), nil},
			{item(1, 3), "skip"}, {end, 0}, {event(1, 2), "send"}, {event(1, 3), "send"}, {waits, 0},
		},
		"a claim that is due is the list's to settle": {
			{event(1, 1), "send"}, {claim(1, 2), "send"}, {later(claimAge), nil}, {begin(false), nil},
			{item(1, 1), "send"}, {end, 0}, {waits, 0},
		},
		"one that is not, although another of the object is": {
			{event(1, 1), "send"}, {claim(1, 2), "send"}, {later(claimAge), nil}, {claim(1, 3), "send"}, {begin(false), nil},
			{item(1, 1), "skip"}, {end, 0}, {waits, 1}, {confirm(1, 3), "skip"}, {waits, 0},
		},
		"nor is one that was lost": {
			{event(1, 1), "send"}, {claim(1, 2), "send"}, {lose(1), true}, {begin(false), nil},
			{item(1, 1), "skip"}, {end, 0}, {event(1, 2), "send"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := scene{Table: newTable(t), now: noon}
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

// What somebody makes up does not stay for ever: a list has the last word.
func TestTooManyObjectsOfReviews(t *testing.T) {
	table := newTable(t)
	table.Event(recordOf(0, 1))
	review := func(from, to uint64) {
		for id := from; id < to; id++ {
			table.Review(recordOf(id, 1))
			table.Review(recordOf(id, 2))
		}
	}
	review(0, maxShown)
	if table.NeedsHealing() {
		t.Errorf("needs healing with %d objects that only reviews have shown", maxShown-1)
	}
	table.Begin(false, noon).Abandon()
	review(maxShown, maxShown+1)
	if !table.NeedsHealing() {
		t.Errorf("needs no healing with %d objects that only reviews have shown", maxShown)
	}
	list := table.Begin(false, noon)
	list.Item(recordOf(0, 1))
	list.Item(recordOf(1, 1))
	review(maxShown+1, maxShown+10)
	if gone, _ := list.End(); gone != maxShown-1 || table.NeedsHealing() {
		t.Errorf("%d gone, needs healing: %v", gone, table.NeedsHealing())
	}
	// Those that were added while the list ran count on.
	review(2, maxShown-7)
	if !table.NeedsHealing() {
		t.Errorf("needs no healing with %d objects more", table.Len())
	}
}
