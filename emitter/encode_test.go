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

	"github.com/golang/snappy"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/prompb"

	"labelstream/record"
)

// unlimited lets a batch in a test take whatever it is given.
var unlimited = queueSize{records: 1 << 30, bytes: 1 << 30}

func batchOf(records []*record.Record, times []int64) *batch {
	b := &batch{}
	for i, rec := range records {
		b.add(rec, times[i], recordSize(rec, times[i]), unlimited)
	}
	return b
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

// checkEncoding compares a body with what prompb and snappy make of the same
// records: all bytes.
func checkEncoding(t *testing.T, body []byte, records []*record.Record, times []int64) {
	t.Helper()
	want, err := reference(records, times).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if want := snappy.Encode(nil, want); !bytes.Equal(want, body) {
		t.Errorf("body of %d bytes is not the %d bytes of the reference", len(body), len(want))
	}
	got, err := decode(body)
	if err != nil {
		t.Fatal(err)
	}
	// Compared in full only where they differ: that takes long.
	if want := reference(records, times); !reflect.DeepEqual(want, got) {
		t.Errorf("decoded (-want +got):\n%s", cmp.Diff(want, got))
	}
}

func TestEncodeGolden(t *testing.T) {
	body := newEncoder(1<<20).encode(batchOf([]*record.Record{newRecord(1, "up")}, []int64{1700000000000}), 0, 1)
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

func TestEncodeRanges(t *testing.T) {
	records := []*record.Record{newRecord(1, "a", "b"), newRecord(2), newRecord(3, "c"), newRecord(4, "d")}
	times := []int64{1, 127, 128, 1700000000000}
	b := batchOf(records, times)
	e := newEncoder(1 << 20)
	for from := range len(records) {
		for to := from + 1; to <= len(records); to++ {
			t.Run(fmt.Sprint(from, to), func(t *testing.T) {
				checkEncoding(t, e.encode(b, from, to), records[from:to], times[from:to])
			})
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
			times := []int64{1, 2, 3, 4}
			checkEncoding(t, newEncoder(1<<20).encode(batchOf(records, times), 0, 4), records, times)
		})
	}
}

func TestEncoderBuffers(t *testing.T) {
	e := newEncoder(1 << 16)
	small := batchOf([]*record.Record{newRecord(1, "a")}, []int64{1})
	first := e.encode(small, 0, 1)
	if again := e.encode(small, 0, 1); &first[0] != &again[0] {
		t.Error("a buffer that nobody reads was not used again")
	}
	e.reading.Add(1)
	want := slices.Clone(first)
	other := batchOf([]*record.Record{newRecord(2, "b")}, []int64{2})
	if got := e.encode(other, 0, 1); &first[0] == &got[0] || !bytes.Equal(first, want) {
		t.Error("a buffer that a request still reads was used again")
	}
	e.reading.Add(-1)

	value := make([]byte, 1<<20)
	for i := range value {
		value[i] = byte(rand.Uint32())
	}
	fat := &record.Record{Kind: pods, Count: 1}
	fat.Series = record.AppendLabel(record.AppendCount(nil, 1), "annotation", value)
	e.encode(batchOf([]*record.Record{fat}, []int64{1}), 0, 1)
	e.encode(small, 0, 1)
	if held := cap(e.wire) + cap(e.out); held > 2*e.limit {
		t.Errorf("holds %d bytes after a record larger than the limit, at most %d are allowed", held, 2*e.limit)
	}
}

// FuzzEncode makes records of the input, by taking lengths from it.
func FuzzEncode(f *testing.F) {
	f.Add([]byte("\x02\x02\x03\x05abcdefgh\x01\x01xy\x01\x04\x04namevalu"), int64(1700000000000))
	f.Add(bytes.Repeat([]byte("\x03\x09\xff\xfe\x80"), 90), int64(1))
	f.Add([]byte{}, int64(0))
	f.Fuzz(func(t *testing.T, data []byte, at int64) {
		at = max(at, 1)
		var records []*record.Record
		var times []int64
		for len(data) > 0 && at > 0 {
			rec := &record.Record{Kind: pods}
			for range takeInt(&data, 3) {
				rec.Count++
				labels := takeInt(&data, 12)
				rec.Series = record.AppendCount(rec.Series, labels)
				for range labels {
					rec.Series = record.AppendLabel(rec.Series, takeText(&data), takeText(&data))
				}
			}
			records, times = append(records, rec), append(times, at)
			at += at >> 1
		}
		b := batchOf(records, times)
		checkEncoding(t, newEncoder(1<<20).encode(b, 0, len(records)), records, times)
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

func BenchmarkEncode(b *testing.B) {
	var records []*record.Record
	for key := range uint64(500) {
		records = append(records, benchRecord(key))
	}
	batch := batchOf(records, slices.Repeat([]int64{1700000000000}, len(records)))
	e := newEncoder(1 << 20)
	b.SetBytes(int64(batch.size))
	b.ReportAllocs()
	n, compressed := 0, 0
	for b.Loop() {
		compressed = len(e.encode(batch, 0, len(records)))
		n += batch.series()
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "series/s")
	b.ReportMetric(float64(batch.size)/float64(batch.series()), "bytes/series")
	b.ReportMetric(float64(compressed)/float64(batch.series()), "compressed-bytes/series")
}

// TestVarintLen holds it against the library that writes varints.
func TestVarintLen(t *testing.T) {
	for shift := range 63 {
		for _, n := range []int{1<<shift - 1, 1 << shift, 1<<shift + 1} {
			if got, want := varintLen(n), len(binary.AppendUvarint(nil, uint64(n))); got != want {
				t.Errorf("varintLen(%d) = %d, want %d", n, got, want)
			}
		}
	}
}
