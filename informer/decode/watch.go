package decode

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/go-json-experiment/json/jsontext"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
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
	in    *bufio.Reader
	frame []byte
	// json reads the stream where it is JSON, from rest, and text an event of it.
	// large says that both have grown for the last event.
	json   *jsontext.Decoder
	rest   io.Reader
	text   jsonReader
	large  bool
	object Object
}

// NewWatchDecoder returns a decoder of a watch's stream.
func NewWatchDecoder(body io.Reader) *WatchDecoder {
	return &WatchDecoder{in: bufio.NewReaderSize(body, watchBuffer)}
}

// Next reads one event. The object is valid until the next call; for an event
// of type Error it is the status instead. The end of the stream between two
// events is io.EOF.
func (r *WatchDecoder) Next() (watch.EventType, *Object, *metav1.Status, error) {
	if r.json != nil {
		return r.nextJSON()
	}
	head, err := r.in.Peek(1)
	if err != nil {
		return "", nil, nil, err
	}
	// A frame begins with its length in four bytes, and none is as long as
	// one that began with a brace.
	if head[0] == '{' {
		r.rest = r.in
		r.json = newJSONDecoder(r.rest)
		return r.nextJSON()
	}
	return r.nextFrame()
}

// nextFrame reads a frame: the length in four bytes, big-endian, and a
// WatchEvent in protobuf.
func (r *WatchDecoder) nextFrame() (watch.EventType, *Object, *metav1.Status, error) {
	head, err := r.in.Peek(4)
	if err != nil {
		return "", nil, nil, noEOF(err)
	}
	length := binary.BigEndian.Uint32(head)
	if length > maxObjectBytes {
		return "", nil, nil, fmt.Errorf("decode the watch: a frame of %d bytes", length)
	}
	if cap(r.frame) < int(length) || cap(r.frame) > readBuffer {
		r.frame = make([]byte, length)
	}
	if _, err := r.in.Discard(len(head)); err != nil {
		return "", nil, nil, noEOF(err)
	}
	r.frame = r.frame[:length]
	if _, err := io.ReadFull(r.in, r.frame); err != nil {
		return "", nil, nil, noEOF(err)
	}
	return r.parse(r.frame)
}

// parse takes a WatchEvent, whose object is a RawExtension around an envelope.
func (r *WatchDecoder) parse(frame []byte) (watch.EventType, *Object, *metav1.Status, error) {
	typ, err := message(frame).last(eventType)
	if err != nil {
		return "", nil, nil, fmt.Errorf("decode a watch event: %w", err)
	}
	raw, err := message(frame).last(eventObject, extensionRaw)
	if err != nil {
		return "", nil, nil, fmt.Errorf("decode a watch event: %w", err)
	}
	envelope, ok := bytes.CutPrefix(raw, []byte(protobufMagic))
	if !ok {
		return "", nil, nil, errors.New("decode a watch event: its object is not in protobuf")
	}
	if string(typ) == string(watch.Error) {
		status, err := parseStatus(envelope)
		return watch.Error, nil, status, err
	}
	r.object.reset()
	encoded, err := message(envelope).last(envelopeRaw)
	if err == nil {
		err = parseObject(encoded, &r.object)
	}
	if err != nil {
		return "", nil, nil, fmt.Errorf("decode a watch event's object: %w", err)
	}
	return typeOf(typ), &r.object, nil, nil
}

// typeOf is watch.EventType(text), without memory for those that there are.
func typeOf(text []byte) watch.EventType {
	for _, typ := range [...]watch.EventType{watch.Added, watch.Modified, watch.Deleted, watch.Bookmark, watch.Error} {
		if string(text) == string(typ) {
			return typ
		}
	}
	return watch.EventType(text)
}

func parseStatus(envelope []byte) (*metav1.Status, error) {
	var unknown runtime.Unknown
	var status metav1.Status
	if err := unknown.Unmarshal(envelope); err != nil {
		return nil, fmt.Errorf("decode the watch's error: %w", err)
	}
	if err := status.Unmarshal(unknown.Raw); err != nil {
		return nil, fmt.Errorf("decode the watch's error: %w", err)
	}
	return &status, nil
}

// nextJSON reads an event as a whole: its type may stand after its object.
func (r *WatchDecoder) nextJSON() (watch.EventType, *Object, *metav1.Status, error) {
	if r.large {
		r.rest = io.MultiReader(bytes.NewReader(bytes.Clone(r.json.UnreadBuffer())), r.rest)
		r.json, r.text = newJSONDecoder(r.rest), jsonReader{}
	}
	event, err := r.json.ReadValue()
	if err != nil {
		return "", nil, nil, err
	}
	r.large = len(event) > readBuffer
	typ, encoded, err := r.parts(event)
	if err != nil {
		return "", nil, nil, fmt.Errorf("decode a watch event: %w", err)
	}
	if typ == watch.Error {
		var status metav1.Status
		if err := json.Unmarshal(encoded, &status); err != nil {
			return "", nil, nil, fmt.Errorf("decode the watch's error: %w", err)
		}
		return typ, nil, &status, nil
	}
	r.text.value(encoded)
	if r.text.object(&r.object); r.text.err != nil {
		return "", nil, nil, fmt.Errorf("decode a watch event's object: %w", r.text.err)
	}
	return typ, &r.object, nil, nil
}

// parts finds the type and the object of an event in JSON.
func (r *WatchDecoder) parts(event []byte) (typ watch.EventType, encoded []byte, err error) {
	var text []byte
	r.text.value(event)
	for name, ok := r.text.first(); ok; name, ok = r.text.next() {
		switch string(name) {
		case "type":
			text = r.text.string(text)
		case "object":
			// Null is none.
			if value := r.text.raw(); value.Kind() != jsontext.KindNull {
				encoded = value
			}
		default:
			r.text.raw()
		}
	}
	if r.text.err == nil && encoded == nil {
		return "", nil, errors.New("it has no object")
	}
	return typeOf(text), encoded, r.text.err
}
