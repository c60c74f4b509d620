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
	// json reads the stream where it is JSON, and rest is what it reads from.
	json *json.Decoder
	rest io.Reader
}

// NewWatchDecoder returns a decoder of a watch's stream.
func NewWatchDecoder(body io.Reader) *WatchDecoder {
	return &WatchDecoder{in: bufio.NewReaderSize(body, watchBuffer)}
}

// Next reads one event. The object is valid until the next call; for an event
// of type Error it is the status instead. The end of the stream between two
// events is io.EOF.
func (d *WatchDecoder) Next() (watch.EventType, *Object, *metav1.Status, error) {
	if d.json != nil {
		return d.nextJSON()
	}
	if cap(d.frame) > readBuffer {
		// The next event may be long in coming.
		d.frame, d.object = nil, Object{}
	}
	head, err := d.in.Peek(1)
	if err != nil {
		return "", nil, nil, err
	}
	// A frame begins with its length in four bytes, and none is as long as
	// one that began with a brace.
	if head[0] == '{' {
		d.rest = d.in
		d.json = json.NewDecoder(d.rest)
		return d.nextJSON()
	}
	return d.nextFrame()
}

// nextFrame reads a frame: the length in four bytes, big-endian, and a
// WatchEvent in protobuf.
func (d *WatchDecoder) nextFrame() (watch.EventType, *Object, *metav1.Status, error) {
	head, err := d.in.Peek(4)
	if err != nil {
		return "", nil, nil, unexpectedEOF(err)
	}
	length := binary.BigEndian.Uint32(head)
	if length > maxObjectBytes {
		return "", nil, nil, fmt.Errorf("decode the watch: a frame of %d bytes", length)
	}
	if cap(d.frame) < int(length) {
		d.frame = make([]byte, length)
	}
	if _, err := d.in.Discard(len(head)); err != nil {
		return "", nil, nil, unexpectedEOF(err)
	}
	d.frame = d.frame[:length]
	if _, err := io.ReadFull(d.in, d.frame); err != nil {
		return "", nil, nil, unexpectedEOF(err)
	}
	return d.parse(d.frame)
}

// parse reads a WatchEvent, whose object is a RawExtension around an envelope.
func (d *WatchDecoder) parse(frame []byte) (watch.EventType, *Object, *metav1.Status, error) {
	typ, err := message(frame).last(eventType)
	var raw, encoded []byte
	if err == nil {
		raw, err = message(frame).last(eventObject, extensionRaw)
	}
	envelope, ok := bytes.CutPrefix(raw, []byte(protobufMagic))
	if err == nil && !ok {
		err = errors.New("its object is not in protobuf")
	}
	if err == nil {
		encoded, err = message(envelope).last(envelopeRaw)
	}
	if err != nil {
		return "", nil, nil, fmt.Errorf("decode a watch event: %w", err)
	}
	if string(typ) == string(watch.Error) {
		return parseStatus(encoded, (*metav1.Status).Unmarshal)
	}
	d.object.reset()
	if err := parseObject(encoded, &d.object); err != nil {
		return "", nil, nil, fmt.Errorf("decode a watch event's object: %w", err)
	}
	return internType(typ), &d.object, nil, nil
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

func parseStatus(encoded []byte, unmarshal func(*metav1.Status, []byte) error) (watch.EventType, *Object, *metav1.Status, error) {
	var status metav1.Status
	if err := unmarshal(&status, encoded); err != nil {
		return "", nil, nil, fmt.Errorf("decode the watch's error: %w", err)
	}
	return watch.Error, nil, &status, nil
}

// nextJSON reads an event as a whole: its type may stand after its object.
func (d *WatchDecoder) nextJSON() (watch.EventType, *Object, *metav1.Status, error) {
	begin := d.json.InputOffset()
	var event metav1.WatchEvent
	if err := d.json.Decode(&event); errors.Is(err, io.EOF) {
		return "", nil, nil, io.EOF
	} else if err != nil {
		return "", nil, nil, fmt.Errorf("decode the watch: %w", err)
	}
	if d.json.InputOffset()-begin > readBuffer {
		// A decoder keeps the memory for its largest value.
		d.rest = io.MultiReader(d.json.Buffered(), d.rest)
		d.json = json.NewDecoder(d.rest)
	}
	if len(event.Object.Raw) == 0 {
		return "", nil, nil, errors.New("decode a watch event: it has no object")
	}
	if event.Type == string(watch.Error) {
		return parseStatus(event.Object.Raw, func(s *metav1.Status, raw []byte) error { return json.Unmarshal(raw, s) })
	}
	var o jsonObject
	if err := json.Unmarshal(event.Object.Raw, &o); err != nil {
		return "", nil, nil, fmt.Errorf("decode a watch event's object: %w", err)
	}
	return watch.EventType(event.Type), o.object(), nil, nil
}
