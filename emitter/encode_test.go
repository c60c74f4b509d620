// SPDX-License-Identifier: Apache-2.0

package emitter

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/golang/snappy"
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
		b.add(rec, newEntry(rec, true), 1, 1<<30)
		if i < len(ticks) {
			b.entries[i].tick = ticks[i]
		}
	}
	return b
}

// fatRecord has so many random bytes.
func fatRecord(random *rand.Rand, size int) *record.Record {
	value := make([]byte, size)
	for i := range value {
		value[i] = byte(random.Uint32())
	}
	rec := &record.Record{Kind: pods, Count: 1}
	rec.Series = record.AppendLabel(record.AppendCount(nil, 1), "annotation", append(value, '.'))
	return rec
}

// reference builds the 1.0 request of a part with prompb's own types.
func reference(p *part) *prompb.WriteRequest {
	req := &prompb.WriteRequest{}
	for i := range p.entries {
		e := &p.entries[i]
		series := p.series(e)
		at, stale := at+int64(e.tick), math.Float64frombits(0x7ff0000000000002)
		for nth := range e.series + e.ended {
			ts := prompb.TimeSeries{Samples: []prompb.Sample{{Value: 1, Timestamp: at}}}
			switch {
			case nth >= e.series:
				ts.Samples[0].Value = stale
			case e.deleted:
				ts.Samples = append(ts.Samples, prompb.Sample{Value: stale, Timestamp: at + 1})
			}
			for range series.Count() {
				name, value := series.Label()
				ts.Labels = append(ts.Labels, prompb.Label{Name: string(name), Value: string(value)})
			}
			req.Timeseries = append(req.Timeseries, ts)
		}
	}
	return req
}

// referenceV2 makes the 2.0 request of it.
func referenceV2(older *prompb.WriteRequest) *writev2.Request {
	table := writev2.NewSymbolTable()
	metadata := writev2.Metadata{Type: writev2.Metadata_METRIC_TYPE_GAUGE, HelpRef: table.Symbolize(string(help))}
	req := &writev2.Request{}
	for _, series := range older.Timeseries {
		ts := writev2.TimeSeries{Metadata: metadata}
		for _, s := range series.Samples {
			ts.Samples = append(ts.Samples, writev2.Sample{Value: s.Value, Timestamp: s.Timestamp})
		}
		for _, label := range series.Labels {
			ts.LabelsRefs = append(ts.LabelsRefs, table.Symbolize(label.Name), table.Symbolize(label.Value))
		}
		req.Timeseries = append(req.Timeseries, ts)
	}
	req.Symbols = table.Symbols()
	return req
}

// checkEncoding compares both versions' bodies with what the reference
// implementation and snappy make of the same records: all bytes.
func checkEncoding(t *testing.T, e *encoder, p part) {
	t.Helper()
	older := reference(&p)
	for v, message := range map[version]interface{ Marshal() ([]byte, error) }{v1: older, v2: referenceV2(older)} {
		plain, err := message.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		body := e.encode(&p, v, at)
		if want := snappy.Encode(nil, plain); !bytes.Equal(want, body) {
			t.Errorf("%v: body of %d bytes is not the %d bytes of the reference", v, len(body), len(want))
		}
	}
}

var versions = []version{v1, v2}

func TestEncodeGolden(t *testing.T) {
	p := batchOf([]*record.Record{newRecord(1, "up", "up"), deleted(newRecord(2, "up")), ended(newRecord(1), "up")}, 0, 1, 3).all()
	const (
		up, name, value    = "0a0e" + "0a085f5f6e616d655f5f" + "12027570", "0a03706f64", "120270" // __name__=up, pod=p…
		sample, stale      = "1210" + "09000000000000f03f" + "10", "1210" + "09020000000000f07f" + "10"
		now, later, marked = "80d095ffbc31", "81d095ffbc31", "82d095ffbc31"
		last               = "83d095ffbc31"
		gauge              = "2a04" + "0802" + "1801" // type gauge, help in symbol 1
	)
	for v, want := range map[version]string{
		v1: "0a2d" + up + "0a09" + name + value + "31" + sample + now +
			"0a2d" + up + "0a09" + name + value + "31" + sample + now +
			"0a3f" + up + "0a09" + name + value + "32" + sample + later + stale + marked +
			"0a2d" + up + "0a09" + name + value + "31" + stale + last,
		v2: "2200" + "2248" + hex.EncodeToString([]byte(help)) +
			"22085f5f6e616d655f5f" + "22027570" + "2203706f64" + "22027031" + "22027032" + // __name__ up pod p1 p2
			"2a1e" + "0a0402030405" + sample + now + gauge +
			"2a1e" + "0a0402030405" + sample + now + gauge +
			"2a30" + "0a0402030406" + sample + later + stale + marked + gauge +
			"2a1e" + "0a0402030405" + stale + last + gauge,
	} {
		plain, err := snappy.Decode(nil, newEncoder(1<<20).encode(&p, v, at))
		expect(t, "error", err, nil)
		expect(t, "plain", hex.EncodeToString(plain), want)
	}
}

// Parts of batches, one after the other, whose records have much in common with the
// one before, at other places, in more series and labels than are remembered.
func TestEncodeParts(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	text := func(prefix string, of int) string { return fmt.Sprint(prefix, random.IntN(of)) }
	e := newEncoder(1 << 20)
	for range 100 {
		var records []*record.Record
		var ticks []int32
		for range 1 + random.IntN(20) {
			series := func(count int) (all []byte) {
				for range count {
					labels := []int{1, 3, 3, 3, maxPlaces + 3}[random.IntN(5)]
					all = record.AppendCount(all, labels)
					for range labels {
						all = record.AppendLabel(all, text("n", 3), text("v", 3))
					}
				}
				return all
			}
			rec := &record.Record{Kind: pods, Count: random.IntN(4), EndedCount: max(0, random.IntN(6)-3), Deleted: random.IntN(4) == 0}
			rec.Series, rec.Ended = series(rec.Count), series(rec.EndedCount)
			records, ticks = append(records, rec), append(ticks, random.Int32N(70000))
		}
		p := batchOf(records, ticks...).all()
		left, right := p.cut(random.IntN(len(records)), false)
		for _, p := range []part{p, left, right} {
			checkEncoding(t, e, p)
		}
	}
}

// Sizes around the blocks that are compressed one by one.
func TestEncodeBlocks(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, size := range []int{0, 1, snappyBlock - 100, snappyBlock, snappyBlock + 1, 5*snappyBlock + 3} {
		fat := fatRecord(random, size)
		checkEncoding(t, newEncoder(1<<20), batchOf([]*record.Record{newRecord(1, "a"), fat, newRecord(2, "b"), fat}).all())
	}
}

func TestEncoderBuffers(t *testing.T) {
	e := newEncoder(1 << 16)
	small, other := batchOf(records("a")).all(), batchOf(records("b")).all()
	first := e.encode(&small, v1, at)
	if again := e.encode(&small, v1, at); &first[0] != &again[0] {
		t.Error("a buffer that nobody reads was not used again")
	}
	e.reading.Add(1)
	want := slices.Clone(first)
	if got := e.encode(&other, v1, at); &first[0] == &got[0] || !bytes.Equal(first, want) {
		t.Error("a buffer that a request still reads was used again")
	}
	e.reading.Add(-1)
	fat := batchOf([]*record.Record{fatRecord(rand.New(rand.NewPCG(1, 2)), 1<<20)}).all()
	for _, v := range versions {
		e.encode(&fat, v, at)
		e.encode(&small, v, at)
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
				labels := 1 + takeInt(&data, 11)
				rec.Series = record.AppendCount(rec.Series, labels)
				for range labels {
					rec.Series = record.AppendLabel(rec.Series, string(takeText(&data)), takeText(&data))
				}
			}
			records, ticks = append(records, rec), append(ticks, int32(takeInt(&data, 200)))
		}
		b := batchOf(records, ticks...)
		checkEncoding(t, newEncoder(1<<20), b.all())
		if len(b.arena) > b.size {
			t.Errorf("a record's encoding has %d bytes, more than the %d of a WriteRequest", len(b.arena), b.size)
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

// Encoding allocates nothing, once the buffers have grown.
func TestEncodeDoesNotAllocate(t *testing.T) {
	p, e := benchBatch().all(), newEncoder(1<<20)
	for _, v := range versions {
		e.encode(&p, v, at)
		expect(t, "allocations", testing.AllocsPerRun(10, func() { e.encode(&p, v, at) }), 0)
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
			p, e := benchBatch().all(), newEncoder(1<<20)
			samples, size := p.totals()
			b.SetBytes(int64(size))
			b.ReportAllocs()
			n, body := 0, []byte(nil)
			for b.Loop() {
				body = e.encode(&p, v, at)
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
	entries := benchBatch().entries
	for i := range entries {
		entries[i].key = uint64(i) * 0x9e3779b97f4a7c15
	}
	c, now := newClock(nil), time.Now()
	c.now = func() time.Time { now = now.Add(time.Second); return now }
	for b.Loop() {
		c.stamp(entries)
	}
}
