package ledger

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newLedger returns a ledger that ends with the test.
func newLedger(t testing.TB) *Ledger {
	l := New()
	t.Cleanup(l.Close)
	return l
}

// keyOf spreads small numbers over all keys, as a hash does. No two numbers have
// the same key.
func keyOf(id uint64) uint64 {
	id += 0x9e3779b97f4a7c15
	id = (id ^ id>>30) * 0xbf58476d1ce4e5b9
	id = (id ^ id>>27) * 0x94d049bb133111eb
	return id ^ id>>31
}

// hashOf is the hash of an object's state of that number.
func hashOf(state int) uint64 { return keyOf(uint64(state) << 32) }
