// SPDX-License-Identifier: Apache-2.0

package decode

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Field numbers of runtime.Unknown, which says what the message in it is, and of
// its TypeMeta (k8s.io/apimachinery/pkg/runtime/generated.proto).
const (
	envelopeType = 1
	envelopeRaw  = 2
	typeKind     = 2
)

// ListDecoder reads list responses as a stream and holds one object at a time. It
// is used again for page after page.
type ListDecoder struct {
	in      *bufio.Reader
	counter countingReader
	scratch []byte
	object  Object
	owners  bool
}

// readBuffer holds most objects whole, so that they are parsed in place.
const readBuffer = 64 << 10

// NewListDecoder returns a decoder. owners says whether it reads owner references.
func NewListDecoder(owners bool) *ListDecoder {
	d := &ListDecoder{owners: owners}
	d.in = bufio.NewReaderSize(&d.counter, readBuffer)
	return d
}

type countingReader struct {
	io.Reader
	n int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += int64(n)
	return n, err
}

// Decode reads one list response, in protobuf or JSON, and hands each object to
// each as soon as it has been read. An error of each ends it and is returned
// as it is. A response that is cut off is an error, never a short page.
func (d *ListDecoder) Decode(body io.Reader, each func(*Object) error) (Page, error) {
	d.counter = countingReader{Reader: body}
	d.in.Reset(&d.counter)
	defer d.release()
	head, err := d.in.Peek(len(protobufMagic))
	if err != nil {
		return Page{}, fmt.Errorf("read the beginning of the list: %w", unexpectedEOF(err))
	}
	p := Page{Remaining: -1}
	if string(head) == protobufMagic {
		err = d.envelope(&p, each)
	} else {
		err = (&jsonList{in: json.NewDecoder(d.in), page: &p, each: each, owners: d.owners}).read()
	}
	p.Bytes = d.counter.n
	if err == nil {
		// What is left of the body is a few bytes; reading them lets the
		// connection be used again. The page is complete all the same.
		_, _ = d.in.Discard(readBuffer)
	}
	return p, err
}

// release lets go of the body, and of the memory for an unusually large object.
func (d *ListDecoder) release() {
	d.counter.Reader = nil
	if cap(d.scratch) > 1<<20 {
		d.scratch, d.object = nil, Object{}
	}
}

// envelope reads a runtime.Unknown and the list in it. The list's length is
// announced: once that much has been read, the page is complete, and what
// happens to the connection afterwards does not matter.
func (d *ListDecoder) envelope(p *Page, each func(*Object) error) error {
	if _, err := d.in.Discard(len(protobufMagic)); err != nil {
		return unexpectedEOF(err)
	}
	kind := ""
	for {
		num, typ, err := d.tag()
		if errors.Is(err, io.EOF) {
			return errors.New("decode the list: the response has no body")
		}
		switch {
		case err != nil:
		case num == envelopeType && typ == protowire.BytesType:
			kind, err = d.kind()
		case num == envelopeRaw && typ == protowire.BytesType:
			var length int64
			if length, err = d.length(); err != nil {
				break
			}
			if err := mustBeList(kind); err != nil {
				return err
			}
			return d.items(length, p, each)
		default:
			err = d.skip(typ)
		}
		if err != nil {
			return fmt.Errorf("decode the list's envelope: %w", err)
		}
	}
}

// kind reads a TypeMeta.
func (d *ListDecoder) kind() (string, error) {
	encoded, err := d.message(d.position() + readBuffer)
	if err != nil {
		return "", err
	}
	kind, err := message(encoded).last(typeKind)
	if err != nil {
		return "", err
	}
	return string(kind), d.discard(len(encoded))
}

// mustBeList refuses an answer of another kind, such as a Status, which would be
// taken for a list without objects.
func mustBeList(kind string) error {
	if !strings.HasSuffix(kind, "List") {
		return fmt.Errorf("decode the list: the response is of kind %q, which is no list", kind)
	}
	return nil
}

// items reads a PartialObjectMetadataList of length bytes.
func (d *ListDecoder) items(length int64, p *Page, each func(*Object) error) error {
	end := d.position() + length
	for d.position() < end {
		num, typ, err := d.tag()
		if err != nil {
			return fmt.Errorf("decode the list: %w", unexpectedEOF(err))
		}
		if num > 2 {
			if err := d.skip(typ); err != nil {
				return fmt.Errorf("decode the list: %w", err)
			}
			continue
		}
		if typ != protowire.BytesType {
			return fmt.Errorf("decode the list: field %d has wire type %d", num, typ)
		}
		message, err := d.message(end)
		if err != nil {
			return fmt.Errorf("decode the list after %d objects: %w", p.Items, err)
		}
		if num == 1 {
			err = parseListMeta(message, p)
		} else {
			err = d.item(message, p, each)
		}
		if err == nil {
			err = d.discard(len(message))
		}
		if err != nil {
			return err
		}
	}
	if d.position() != end {
		return errors.New("decode the list: a field is longer than the list")
	}
	return nil
}

func parseListMeta(encoded []byte, p *Page) error {
	var meta metav1.ListMeta
	if err := meta.Unmarshal(encoded); err != nil {
		return fmt.Errorf("decode the list's metadata: %w", err)
	}
	p.setMeta(&meta)
	return nil
}

func (d *ListDecoder) item(message []byte, p *Page, each func(*Object) error) error {
	if err := parseObject(message, &d.object, d.owners); err != nil {
		return fmt.Errorf("decode object %d of the list: %w", p.Items+1, err)
	}
	p.Items++
	return each(&d.object)
}

// position is how many bytes of the body have been consumed.
func (d *ListDecoder) position() int64 { return d.counter.n - int64(d.in.Buffered()) }

// message returns the length-delimited field that follows, to be given back
// with discard. It is read in place where it fits the buffer.
func (d *ListDecoder) message(end int64) ([]byte, error) {
	length, err := d.length()
	if err != nil {
		return nil, err
	}
	if length > end-d.position() || length > maxObjectBytes {
		return nil, fmt.Errorf("a message of %d bytes is longer than what holds it", length)
	}
	if length <= readBuffer {
		message, err := d.in.Peek(int(length))
		return message, unexpectedEOF(err)
	}
	if int64(cap(d.scratch)) < length {
		d.scratch = make([]byte, length)
	}
	message := d.scratch[:length]
	_, err = io.ReadFull(d.in, message)
	return message, unexpectedEOF(err)
}

// discard moves past a message that was read in place.
func (d *ListDecoder) discard(length int) error {
	if length > readBuffer {
		return nil
	}
	_, err := d.in.Discard(length)
	return unexpectedEOF(err)
}

func (d *ListDecoder) tag() (protowire.Number, protowire.Type, error) {
	v, err := binary.ReadUvarint(d.in)
	if err != nil {
		return 0, 0, err
	}
	num, typ := protowire.DecodeTag(v)
	if !num.IsValid() {
		return 0, 0, fmt.Errorf("field number %d is not valid", num)
	}
	return num, typ, nil
}

func (d *ListDecoder) length() (int64, error) {
	v, err := binary.ReadUvarint(d.in)
	if err != nil {
		return 0, unexpectedEOF(err)
	}
	if v > 1<<62 {
		return 0, fmt.Errorf("a length of %d bytes is not valid", v)
	}
	return int64(v), nil
}

// skip passes over the value of a field that is not wanted.
func (d *ListDecoder) skip(typ protowire.Type) (err error) {
	var length int64
	switch typ {
	case protowire.VarintType:
		_, err = binary.ReadUvarint(d.in)
	case protowire.Fixed32Type:
		length = 4
	case protowire.Fixed64Type:
		length = 8
	case protowire.BytesType:
		length, err = d.length()
	default:
		err = fmt.Errorf("wire type %d is not valid here", typ)
	}
	if err == nil {
		_, err = d.in.Discard(int(length))
	}
	return unexpectedEOF(err)
}
