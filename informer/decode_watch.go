package informer

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"

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

// eventReader reads a watch's stream, an event at a time.
type eventReader struct {
	in     *bufio.Reader
	json   *json.Decoder
	frame  []byte
	object object
}

func newEventReader(body io.Reader) *eventReader {
	return &eventReader{in: bufio.NewReaderSize(body, watchBuffer)}
}

// next reads one event. The object is valid until the next call; for an event
// of type Error it is the status instead. The end of the stream between two
// events is io.EOF.
func (r *eventReader) next() (watch.EventType, *object, *metav1.Status, error) {
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
		r.json = json.NewDecoder(r.in)
		return r.nextJSON()
	}
	return r.nextFrame()
}

// nextFrame reads a frame: the length in four bytes, big-endian, and a
// WatchEvent in protobuf.
func (r *eventReader) nextFrame() (watch.EventType, *object, *metav1.Status, error) {
	var head [4]byte
	if _, err := io.ReadFull(r.in, head[:]); err != nil {
		return "", nil, nil, err
	}
	length := binary.BigEndian.Uint32(head[:])
	if length > maxObjectBytes {
		return "", nil, nil, fmt.Errorf("decode the watch: a frame of %d bytes", length)
	}
	if cap(r.frame) < int(length) || cap(r.frame) > readBuffer {
		r.frame = make([]byte, length)
	}
	r.frame = r.frame[:length]
	if _, err := io.ReadFull(r.in, r.frame); err != nil {
		return "", nil, nil, noEOF(err)
	}
	return r.parse(r.frame)
}

// parse takes a WatchEvent, whose object is a RawExtension around an envelope.
func (r *eventReader) parse(frame []byte) (watch.EventType, *object, *metav1.Status, error) {
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
	if typ := watch.EventType(typ); typ == watch.Error {
		status, err := parseStatus(envelope)
		return typ, nil, status, err
	}
	r.object.reset()
	encoded, err := message(envelope).last(envelopeRaw)
	if err == nil {
		err = parseObject(encoded, &r.object)
	}
	if err != nil {
		return "", nil, nil, fmt.Errorf("decode a watch event's object: %w", err)
	}
	return watch.EventType(typ), &r.object, nil, nil
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

func (r *eventReader) nextJSON() (watch.EventType, *object, *metav1.Status, error) {
	var event struct {
		Type   watch.EventType `json:"type"`
		Object json.RawMessage `json:"object"`
	}
	if err := r.json.Decode(&event); err != nil {
		return "", nil, nil, err
	}
	if event.Type == watch.Error {
		var status metav1.Status
		if err := json.Unmarshal(event.Object, &status); err != nil {
			return "", nil, nil, fmt.Errorf("decode the watch's error: %w", err)
		}
		return event.Type, nil, &status, nil
	}
	var item jsonObject
	if err := json.Unmarshal(event.Object, &item); err != nil {
		return "", nil, nil, fmt.Errorf("decode a watch event's object: %w", err)
	}
	item.into(&r.object)
	return event.Type, &r.object, nil, nil
}
