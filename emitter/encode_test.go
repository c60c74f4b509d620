package emitter

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	"labelstream/record"
)

// at is what the records of a batch in a test are stamped with.
const at = 1700000000000

// batchOf stamps the records with ticks, one after the other where there are more
// records than ticks.
func batchOf(records []*record.Record, ticks ...int32) *batch {
	b := &batch{}
	for i, rec := range records {
		b.add(rec, recordSize(rec), 1, 1<<30)
		if i < len(ticks) {
			b.entries[i].tick = ticks[i]
		}
	}
	return b
}

func timesOf(b *batch, p part) []int64 {
	var times []int64
	for _, e := range b.of(p) {
		times = append(times, at+int64(e.tick))
	}
	return times
}

// reference builds the request of the records with prompb's own types.
func reference(records []*record.Record, times []int64) *prompb.WriteRequest {
	req := &prompb.WriteRequest{}
	for i, rec := range records {
		series := record.Cursor(rec.Series)
		for range rec.Count {
			ts := prompb.TimeSeries{Samples: []prompb.Sample{{Value: 1, Timestamp: times[i]}}}
			for range series.Count() {
				name, value := series.Label()
				ts.Labels = append(ts.Labels, prompb.Label{Name: string(name), Value: string(value)})
			}
			req.Timeseries = append(req.Timeseries, ts)
		}
	}
	return req
}

// referenceV2 builds the 2.0 request of the records with its own types.
func referenceV2(records []*record.Record, times []int64) *writev2.Request {
	table := writev2.NewSymbolTable()
	helpRef := table.Symbolize(string(help))
	req := &writev2.Request{}
	for i, rec := range records {
		series := record.Cursor(rec.Series)
		for range rec.Count {
			ts := writev2.TimeSeries{
				Samples:  []writev2.Sample{{Value: 1, Timestamp: times[i]}},
				Metadata: writev2.Metadata{Type: writev2.Metadata_METRIC_TYPE_GAUGE, HelpRef: helpRef},
			}
			for range series.Count() {
				name, value := series.Label()
				ts.LabelsRefs = append(ts.LabelsRefs, table.Symbolize(string(name)), table.Symbolize(string(value)))
			}
			req.Timeseries = append(req.Timeseries, ts)
		}
	}
	req.Symbols = table.Symbols()
	return req
}

// checkEncoding compares a body with what the reference implementation and
// snappy make of the same records: all bytes, and what it reads back.
func checkEncoding(t *testing.T, v version, body []byte, records []*record.Record, times []int64) {
	t.Helper()
	type message interface{ Marshal() ([]byte, error) }
	var want, got message
	var err error
	if v == v1 {
		want = reference(records, times)
		got, err = decode(body)
	} else {
		want = referenceV2(records, times)
		got, err = decodeV2(body)
	}
	if err != nil {
		t.Fatal(err)
	}
	plain, err := want.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if want := snappy.Encode(nil, plain); !bytes.Equal(want, body) {
		t.Errorf("%v: body of %d bytes is not the %d bytes of the reference", v, len(body), len(want))
	}
	// Compared in full only where they differ: that takes long.
	if !reflect.DeepEqual(want, got) {
		t.Errorf("%v: decoded (-want +got):\n%s", v, cmp.Diff(want, got))
	}
}

var versions = []version{v1, v2}

func TestEncodeGolden(t *testing.T) {
	body := newEncoder(1<<20).encode(batchOf(records("up")), part{0, 1}, v1, at)
	plain, err := snappy.Decode(nil, body)
	if err != nil {
		t.Fatal(err)
	}
	const want = "0a2d" + // timeseries, 45 bytes
		"0a0e" + "0a085f5f6e616d655f5f" + "12027570" + // __name__=up
		"0a09" + "0a03706f64" + "12027031" + // pod=p1
		"1210" + "09000000000000f03f" + "1080d095ffbc31" // 1 at 1700000000000
	expect(t, "plain", hex.EncodeToString(plain), want)
}

func TestEncodeGoldenV2(t *testing.T) {
	b := batchOf([]*record.Record{newRecord(1, "up", "up"), newRecord(2, "up")}, 0, 1)
	plain, err := snappy.Decode(nil, newEncoder(1<<20).encode(b, b.all(), v2, at))
	if err != nil {
		t.Fatal(err)
	}
	const (
		sample = "1210" + "09000000000000f03f" + "10"
		gauge  = "2a04" + "0802" + "1801" // type gauge, help in symbol 1
	)
	want := "2200" + "2248" + hex.EncodeToString(help) +
		"22085f5f6e616d655f5f" + "22027570" + "2203706f64" + "22027031" + "22027032" + // __name__ up pod p1 p2
		"2a1e" + "0a0402030405" + sample + "80d095ffbc31" + gauge +
		"2a1e" + "0a0402030405" + sample + "80d095ffbc31" + gauge +
		"2a1e" + "0a0402030406" + sample + "81d095ffbc31" + gauge
	expect(t, "plain", hex.EncodeToString(plain), want)
}

func TestEncodeRanges(t *testing.T) {
	records := []*record.Record{newRecord(1, "a", "b"), newRecord(2), newRecord(3, "c"), newRecord(4, "d")}
	b := batchOf(records, 0, 1, 1, 70000)
	e := newEncoder(1 << 20)
	for from := range len(records) {
		for to := from + 1; to <= len(records); to++ {
			for _, v := range versions {
				t.Run(fmt.Sprint(from, to, v), func(t *testing.T) {
					p := part{from, to}
					checkEncoding(t, v, e.encode(b, p, v, at), records[from:to], timesOf(b, p))
				})
			}
		}
	}
}

// Records that have much in common with the one before, at other places, in more
// series and labels than are remembered, in one batch after the other.
func TestEncodeRemembers(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	text := func(prefix string, of int) string { return fmt.Sprint(prefix, random.IntN(of)) }
	e := newEncoder(1 << 20)
	for range 50 {
		var records []*record.Record
		for range 20 {
			rec := &record.Record{Kind: pods, Count: random.IntN(4)}
			for range rec.Count {
				labels := []int{0, 3, 3, 3, maxPlaces + 3}[random.IntN(5)]
				rec.Series = record.AppendCount(rec.Series, labels)
				for range labels {
					rec.Series = record.AppendLabel(rec.Series, text("n", 3), text("v", 3))
				}
			}
			records = append(records, rec)
		}
		b := batchOf(records)
		for _, v := range versions {
			checkEncoding(t, v, e.encode(b, b.all(), v, at), records, timesOf(b, b.all()))
		}
	}
}

// Sizes around the blocks that are compressed one by one.
func TestEncodeBlocks(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, size := range []int{0, 1, snappyBlock - 100, snappyBlock, snappyBlock + 1, 5*snappyBlock + 3} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			value := make([]byte, size)
			for i := range value {
				value[i] = byte('a' + random.IntN(26))
			}
			fat := &record.Record{Kind: pods, Count: 1}
			fat.Series = record.AppendCount(nil, 1)
			fat.Series = record.AppendLabel(fat.Series, "annotation", append(value, '.'))
			records := []*record.Record{newRecord(1, "a"), fat, newRecord(2, "b"), fat}
			b := batchOf(records, 1, 2, 3, 4)
			for _, v := range versions {
				checkEncoding(t, v, newEncoder(1<<20).encode(b, b.all(), v, at), records, timesOf(b, b.all()))
			}
		})
	}
}

func TestEncoderBuffers(t *testing.T) {
	e := newEncoder(1 << 16)
	small := batchOf(records("a"))
	first := e.encode(small, part{0, 1}, v1, at)
	if again := e.encode(small, part{0, 1}, v1, at); &first[0] != &again[0] {
		t.Error("a buffer that nobody reads was not used again")
	}
	e.reading.Add(1)
	want := slices.Clone(first)
	other := batchOf(records("b"))
	if got := e.encode(other, part{0, 1}, v1, at); &first[0] == &got[0] || !bytes.Equal(first, want) {
		t.Error("a buffer that a request still reads was used again")
	}
	e.reading.Add(-1)

	value := make([]byte, 1<<20)
	for i := range value {
		value[i] = byte(rand.Uint32())
	}
	fat := &record.Record{Kind: pods, Count: 1}
	fat.Series = record.AppendLabel(record.AppendCount(nil, 1), "annotation", value)
	for _, v := range versions {
		e.encode(batchOf([]*record.Record{fat}), part{0, 1}, v, at)
		e.encode(small, part{0, 1}, v, at)
	}
	if held := cap(e.wire) + cap(e.out) + cap(e.v2.series); held > 2*e.limit {
		t.Errorf("holds %d bytes after a record larger than the limit, at most %d are allowed", held, 2*e.limit)
	}
}

// FuzzEncode makes records of the input, by taking lengths from it.
func FuzzEncode(f *testing.F) {
	f.Add([]byte("\x02\x02\x03\x05abcdefgh\x01\x01xy\x01\x04\x04namevalu"))
	f.Add(bytes.Repeat([]byte("\x03\x09\xff\xfe\x80"), 90))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		var records []*record.Record
		var ticks []int32
		for len(data) > 0 {
			rec := &record.Record{Kind: pods}
			for range takeInt(&data, 3) {
				rec.Count++
				labels := takeInt(&data, 12)
				rec.Series = record.AppendCount(rec.Series, labels)
				for range labels {
					rec.Series = record.AppendLabel(rec.Series, takeText(&data), takeText(&data))
				}
			}
			records, ticks = append(records, rec), append(ticks, int32(takeInt(&data, 200)))
		}
		b := batchOf(records, ticks...)
		e := newEncoder(1 << 20)
		for _, v := range versions {
			checkEncoding(t, v, e.encode(b, b.all(), v, at), records, timesOf(b, b.all()))
		}
		if len(b.arena) > b.size {
			t.Errorf("flat form has %d bytes, more than the encoded form's %d", len(b.arena), b.size)
		}
	})
}

func takeInt(data *[]byte, below int) int {
	if len(*data) == 0 {
		return 0
	}
	n := int((*data)[0]) % below
	*data = (*data)[1:]
	return n
}

// takeText is never empty: no record has empty names or values. Some are long
// enough for lengths of two and three bytes.
func takeText(data *[]byte) []byte {
	n := min(takeInt(data, 200), len(*data))
	text := append([]byte{'x'}, (*data)[:n]...)
	*data = (*data)[n:]
	switch n {
	case 7:
		return bytes.Repeat(text, 40)
	case 8:
		return bytes.Repeat(text, 4000)
	}
	return text
}

// A table is right when it grew, and when it is used again.
func TestSymbols(t *testing.T) {
	table := newSymbols()
	for _, n := range []int{10, 5000, 700} {
		table.reset(noText)
		size := 2
		for i := range n {
			text := []byte(fmt.Sprint(i))
			size += 2 + len(text)
			if ref := table.ref(text); ref != uint32(i)+1 {
				t.Fatalf("symbol %d has reference %d", i+1, ref)
			}
		}
		for i := range n {
			if ref := table.ref([]byte(fmt.Sprint(i))); ref != uint32(i)+1 {
				t.Fatalf("symbol %d has reference %d when it comes again", i+1, ref)
			}
		}
		expect(t, "size", table.size, size)
	}
}

// Encoding allocates nothing, once the buffers have grown.
func TestEncodeDoesNotAllocate(t *testing.T) {
	b := benchBatch()
	e := newEncoder(1 << 20)
	for _, v := range versions {
		e.encode(b, b.all(), v, at)
		expect(t, "allocations", testing.AllocsPerRun(10, func() { e.encode(b, b.all(), v, at) }), 0)
	}
}

func benchBatch() *batch {
	var records []*record.Record
	for key := range uint64(500) {
		records = append(records, benchRecord(key))
	}
	return batchOf(records)
}

func BenchmarkEncode(b *testing.B) {
	for _, v := range versions {
		b.Run(fmt.Sprintf("v%d", v), func(b *testing.B) {
			batch := benchBatch()
			e := newEncoder(1 << 20)
			_, samples, _ := batch.totals(batch.all())
			b.SetBytes(int64(batch.size))
			b.ReportAllocs()
			n, body := 0, []byte(nil)
			for b.Loop() {
				body = e.encode(batch, batch.all(), v, at)
				n += samples
			}
			raw, _ := binary.Uvarint(body)
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "series/s")
			b.ReportMetric(float64(raw)/float64(samples), "bytes/series")
			b.ReportMetric(float64(len(body))/float64(samples), "compressed-bytes/series")
		})
	}
}

func BenchmarkStamp(b *testing.B) {
	batch := benchBatch()
	for i := range batch.entries {
		batch.entries[i].key = uint64(i) * 0x9e3779b97f4a7c15
	}
	c := newClock(time.Now, nil)
	for b.Loop() {
		c.stamp(batch.entries)
	}
}
