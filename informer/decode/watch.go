// SPDX-License-Identifier: Apache-2.0

package decode

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// watchBuffer is small: every kind keeps a watch open, and most are silent.
const watchBuffer = 4 << 10

// Field numbers of WatchEvent and RawExtension.
const (
	eventType    = 1
	eventObject  = 2
	extensionRaw = 1
)

// WatchDecoder reads a watch's stream, an event at a time.
type WatchDecoder struct {
	in     *bufio.Reader
	frame  []byte
	object Object
	owners bool
	// json reads the stream where it is JSON, and rest is what it reads from.
	json *json.Decoder
	rest io.Reader
}

// NewWatchDecoder returns a decoder of a watch's stream. owners says whether it reads
// owner references.
func NewWatchDecoder(body io.Reader, owners bool) *WatchDecoder {
	return &WatchDecoder{owners: owners, in: bufio.NewReaderSize(body, watchBuffer)}
}

// Next reads one event. The object is valid until the next call; for an event
// of type Error it is the status instead. The end of the stream between two
// events is io.EOF.
func (d *WatchDecoder) Next() (watch.EventType, *Object, *metav1.Status, error) {
	typ, raw, err := d.event()
	if err != nil {
		return "", nil, nil, err
	}
	parseStatus, parse := (*metav1.Status).Unmarshal, parseObject
	if d.json != nil {
		parseStatus, parse = parseStatusJSON, parseObjectJSON
	}
	if typ == watch.Error {
		status := new(metav1.Status)
		if err := parseStatus(status, raw); err != nil {
			return "", nil, nil, fmt.Errorf("decode the watch's error: %w", err)
		}
		return typ, nil, status, nil
	}
	if err := parse(raw, &d.object, d.owners); err != nil {
		return "", nil, nil, fmt.Errorf("decode a watch event's object: %w", err)
	}
	return typ, &d.object, nil, nil
}

// event reads an event's type, and its object or status as it is encoded.
func (d *WatchDecoder) event() (watch.EventType, []byte, error) {
	if cap(d.frame) > readBuffer { // the next event may be long in coming
		d.frame, d.object = nil, Object{}
	}
	if d.json == nil {
		head, err := d.in.Peek(1)
		if err != nil {
			return "", nil, err
		}
		// A frame begins with its length in four bytes, and none is as long as
		// one that began with a brace.
		if head[0] != '{' {
			return d.nextFrame()
		}
		d.rest = d.in
		d.json = json.NewDecoder(d.rest)
	}
	return d.nextJSON()
}

// nextFrame reads a frame: the length in four bytes, big-endian, and a
// WatchEvent in protobuf.
func (d *WatchDecoder) nextFrame() (watch.EventType, []byte, error) {
	head, err := d.in.Peek(4)
	if err != nil {
		return "", nil, unexpectedEOF(err)
	}
	length := binary.BigEndian.Uint32(head)
	if length > maxObjectBytes {
		return "", nil, fmt.Errorf("decode the watch: a frame of %d bytes", length)
	}
	_, _ = d.in.Discard(len(head)) // it is in the buffer
	if cap(d.frame) < int(length) {
		d.frame = make([]byte, length)
	}
	d.frame = d.frame[:length]
	if _, err := io.ReadFull(d.in, d.frame); err != nil {
		return "", nil, unexpectedEOF(err)
	}
	return parseEvent(d.frame)
}

// parseEvent reads a WatchEvent, whose object is a RawExtension around an envelope.
func parseEvent(frame []byte) (typ watch.EventType, object []byte, err error) {
	text, err := message(frame).last(eventType)
	if err == nil {
		object, err = message(frame).last(eventObject, extensionRaw)
	}
	envelope, ok := bytes.CutPrefix(object, []byte(protobufMagic))
	if err == nil && !ok {
		err = errors.New("its object is not in protobuf")
	}
	if err == nil {
		object, err = message(envelope).last(envelopeRaw)
	}
	if err != nil {
		return "", nil, fmt.Errorf("decode a watch event: %w", err)
	}
	return internType(text), object, nil
}

// internType is watch.EventType(text), without an allocation for those that exist.
func internType(text []byte) watch.EventType {
	for _, typ := range [...]watch.EventType{watch.Added, watch.Modified, watch.Deleted, watch.Bookmark, watch.Error} {
		if string(text) == string(typ) {
			return typ
		}
	}
	return watch.EventType(text)
}

// nextJSON reads an event as a whole: its type may stand after its object.
func (d *WatchDecoder) nextJSON() (watch.EventType, []byte, error) {
	begin := d.json.InputOffset()
	d.object = Object{}
	var event metav1.WatchEvent
	if err := d.json.Decode(&event); errors.Is(err, io.EOF) {
		return "", nil, io.EOF
	} else if err != nil {
		return "", nil, fmt.Errorf("decode the watch: %w", err)
	}
	if d.json.InputOffset()-begin > readBuffer {
		// A decoder keeps the memory for its largest value.
		d.rest = io.MultiReader(d.json.Buffered(), d.rest)
		d.json = json.NewDecoder(d.rest)
	}
	if len(event.Object.Raw) == 0 {
		return "", nil, errors.New("decode a watch event: it has no object")
	}
	return watch.EventType(event.Type), event.Object.Raw, nil
}
