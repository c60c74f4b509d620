package ledger

import (
	"encoding/binary"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"labelstream/record"
)

func TestMain(m *testing.M) {
	if workload := os.Getenv(workloadVariable); workload != "" {
		runWorkload(workload)
		return
	}
	goleak.VerifyTestMain(m)
}

// newTable returns a table that ends with the test.
func newTable(t testing.TB) *Table {
	table := New()
	t.Cleanup(table.Clear)
	return table
}

// keyOf spreads small numbers over all keys, as a hash does. No two numbers
// have the same key.
func keyOf(id uint64) uint64 {
	id += 0x9e3779b97f4a7c15
	id = (id ^ id>>30) * 0xbf58476d1ce4e5b9
	id = (id ^ id>>27) * 0x94d049bb133111eb
	return id ^ id>>31
}

// recordOf is object number id with the tags that value stands for.
func recordOf(id uint64, value int) *record.Record {
	return &record.Record{
		Namespace: []byte("production"),
		Name:      fmt.Appendf(nil, "web-%d", id),
		Key:       keyOf(id),
		Series:    binary.AppendVarint(nil, int64(value)),
	}
}
