package ledger

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// dueNames takes what is due at most 10 at a time.
func dueNames(table *Table, after time.Duration) []string {
	var names []string
	for _, c := range table.Due(noon.Add(after), 10) {
		names = append(names, c.Namespace+"/"+c.Name)
	}
	return names
}

func TestClaimsAreDueAfterAMinute(t *testing.T) {
	table := newTable(t)
	for id := range uint64(3) {
		if got := table.Claim(recordOf(id, 1), 0, noon.Add(time.Duration(id)*time.Second)); got != Send {
			t.Errorf("claim of %d: %v", id, got)
		}
	}
	for _, c := range []struct {
		after time.Duration
		want  []string
	}{
		{time.Minute - 1, nil},
		{time.Minute, []string{"production/web-0"}},
		{time.Minute, nil}, // asked for
		{time.Minute + 2*time.Second, []string{"production/web-1", "production/web-2"}},
		{2*time.Minute - 1, nil},
		{2 * time.Minute, []string{"production/web-0"}}, // no answer came
	} {
		if diff := cmp.Diff(c.want, dueNames(table, c.after)); diff != "" {
			t.Errorf("due after %v (-want +got):\n%s", c.after, diff)
		}
	}
	if got := table.Due(noon.Add(time.Hour), 2); len(got) != 2 {
		t.Errorf("%d claims due, asked for 2", len(got))
	}
}

// Whatever says more of the object ends a claim, and outlives its answer.
func TestClaimIsSettled(t *testing.T) {
	for name, c := range map[string]struct {
		settle func(*Table) any
		want   any
	}{
		"by an equal event":     {func(t *Table) any { return t.Event(recordOf(1, 2), 0) }, Skip},
		"by another event":      {func(t *Table) any { return t.Event(recordOf(1, 1), 0) }, Send},
		"by a delete":           {func(t *Table) any { return t.Delete(keyOf(1), 0) }, true},
		"by an equal list item": {func(t *Table) any { return t.Begin(false).Item(recordOf(1, 2)) }, Skip},
		"by another list item":  {func(t *Table) any { return t.Begin(false).Item(recordOf(1, 1)) }, Send},
		"by a list without it": {func(t *Table) any {
			gone, _ := t.Begin(false).End()
			return gone
		}, 1},
	} {
		for first, known := range map[string]bool{"known": true, "unknown": false} {
			t.Run(name+"/"+first, func(t *testing.T) {
				table := newTable(t)
				if known {
					table.Event(recordOf(1, 1), 0)
				}
				if got := table.Claim(recordOf(1, 2), 0, noon); got != Send || table.Claims() != 1 {
					t.Fatalf("claim: %v, %d claims", got, table.Claims())
				}
				asked := table.Due(noon.Add(time.Minute), 1)[0]
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

// An event of the state that a claimed write replaces, or of an older one, is
// older than the claim.
func TestClaimIsNewer(t *testing.T) {
	const replaces = 7
	for name, c := range map[string]struct {
		event   func(*Table) any
		want    any
		settled bool
	}{
		"an older state":       {func(t *Table) any { return t.Event(recordOf(1, 3), replaces-1) }, Skip, false},
		"the state before":     {func(t *Table) any { return t.Event(recordOf(1, 1), replaces) }, Skip, false},
		"the state":            {func(t *Table) any { return t.Event(recordOf(1, 2), replaces+1) }, Skip, true},
		"another state":        {func(t *Table) any { return t.Event(recordOf(1, 3), replaces+1) }, Send, true},
		"an unknown version":   {func(t *Table) any { return t.Event(recordOf(1, 1), 0) }, Send, true},
		"an older end":         {func(t *Table) any { return t.Delete(keyOf(1), replaces) }, false, false},
		"the end":              {func(t *Table) any { return t.Delete(keyOf(1), replaces+1) }, true, true},
		"an end of no version": {func(t *Table) any { return t.Delete(keyOf(1), 0) }, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			table := newTable(t)
			table.Event(recordOf(1, 1), 1)
			table.Claim(recordOf(1, 4), 1, noon)
			if got := table.Claim(recordOf(1, 2), replaces, noon); got != Send {
				t.Fatalf("claim: %v", got)
			}
			changes := table.Changes()
			if got := c.event(table); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
			if settled := table.Claims() == 0; settled != c.settled {
				t.Errorf("settled: %v, want %v", settled, c.settled)
			}
			if got := table.Changes() - changes; got != 1 {
				t.Errorf("%d changes, want 1", got)
			}
		})
	}
}

// A review that changes nothing is no claim: nothing was sent.
func TestEqualReviewIsNoClaim(t *testing.T) {
	table := newTable(t)
	table.Event(recordOf(1, 1), 0)
	if got := table.Claim(recordOf(1, 1), 0, noon); got != Skip || table.Claims() != 0 {
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
			table.Event(recordOf(1, 1), 0)
			table.Claim(recordOf(1, 2), 0, noon)
			asked := table.Due(noon.Add(time.Minute), 1)[0]
			if got := table.Confirm(asked, recordOf(1, c.value)); got != c.want {
				t.Errorf("confirm: %v, want %v", got, c.want)
			}
			if got := table.Event(recordOf(1, c.value), 0); got != Skip || table.Claims() != 0 {
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
				table.Event(recordOf(1, 1), 0)
			}
			table.Claim(recordOf(1, 2), 0, noon)
			table.Claim(recordOf(1, 3), 0, noon) // of the same object
			claim := table.Due(noon.Add(time.Minute), 1)[0]
			if got := table.Forget(claim); got != !known {
				t.Errorf("a phantom: %v, want %v", got, !known)
			}
			if table.Forget(claim) {
				t.Error("a phantom twice")
			}
			if table.Claims() != 0 {
				t.Errorf("%d claims are left", table.Claims())
			}
			if got := table.Delete(keyOf(1), 0); got != known {
				t.Errorf("known to a delete: %v, want %v", got, known)
			}
		})
	}
}

func TestNewerClaimOutlivesTheAnswerToTheOlder(t *testing.T) {
	table := newTable(t)
	table.Event(recordOf(1, 1), 0)
	table.Claim(recordOf(1, 2), 0, noon)
	asked := table.Due(noon.Add(time.Minute), 1)[0]
	if got := table.Claim(recordOf(1, 3), 0, noon.Add(time.Minute)); got != Send {
		t.Fatalf("second claim: %v", got)
	}
	if got := table.Confirm(asked, recordOf(1, 1)); got != Skip {
		t.Errorf("the answer from before the second claim: %v", got)
	}
	table.Forget(asked)
	if diff := cmp.Diff([]string{"production/web-1"}, dueNames(table, 2*time.Minute)); diff != "" {
		t.Errorf("due (-want +got):\n%s", diff)
	}
}

// More claims than are remembered are for a list to settle, one that begins
// later.
func TestTooManyClaims(t *testing.T) {
	table := newTable(t)
	for id := range uint64(maxClaims) {
		table.Claim(recordOf(id, 1), 0, noon)
	}
	if table.NeedsHealing() {
		t.Error("needs healing while there is room")
	}
	list := table.Begin(false)
	if got := table.Claim(recordOf(maxClaims, 1), 0, noon); got != Send {
		t.Errorf("one more: %v", got)
	}
	if table.Claims() != maxClaims || !table.NeedsHealing() {
		t.Errorf("%d claims, needs healing: %v", table.Claims(), table.NeedsHealing())
	}
	if gone, _ := list.End(); gone != maxClaims || !table.NeedsHealing() {
		t.Errorf("%d gone with the list that ran, needs healing: %v", gone, table.NeedsHealing())
	}
	if gone, _ := table.Begin(false).End(); gone != 1 || table.NeedsHealing() {
		t.Errorf("%d gone with the next, needs healing: %v", gone, table.NeedsHealing())
	}
}
