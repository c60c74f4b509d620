package decode

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"labelstream/record"
)

// jsonReader reads a JSON text from its beginning to its end, and understands
// it as apimachinery does: names are compared exactly, of equal ones the last
// counts, null leaves a field as it is, and what is no UTF-8 becomes U+FFFD.
// Beyond the value in hand it keeps the text of one object. Its methods do
// nothing once err is set.
type jsonReader struct {
	in *jsontext.Decoder
	// memory is what in reads where the text is in memory.
	memory bytes.Buffer
	// said is what the strings that were read say. It grows by appending, so
	// that a string is valid until said is emptied and written to again.
	said []byte
	err  error
}

var jsonOptions = []jsontext.Options{jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)}

// stream begins to read a stream.
func (r *jsonReader) stream(in io.Reader) {
	r.in, r.said, r.err = newJSONDecoder(in), r.said[:0], nil
}

// newJSONDecoder returns a decoder of a stream in which no value is larger than an
// object may be: a value is held as a whole.
func newJSONDecoder(in io.Reader) *jsontext.Decoder {
	b := &bounded{in: in}
	b.decoder = jsontext.NewDecoder(b, jsonOptions...)
	return b.decoder
}

// bounded is the input of a decoder, up to a value that is too large.
type bounded struct {
	in      io.Reader
	decoder *jsontext.Decoder
	given   int64
}

// Read implements io.Reader.
func (b *bounded) Read(p []byte) (int, error) {
	if b.given-b.decoder.InputOffset() > maxObjectBytes {
		return 0, fmt.Errorf("a value of more than %d bytes", maxObjectBytes)
	}
	n, err := b.in.Read(p)
	b.given += int64(n)
	return n, err
}

// value begins to read a text in memory, which must stay as it is meanwhile.
func (r *jsonReader) value(text []byte) {
	r.memory = *bytes.NewBuffer(text)
	if r.in == nil {
		r.in = jsontext.NewDecoder(&r.memory, jsonOptions...)
	} else {
		r.in.Reset(&r.memory, jsonOptions...)
	}
	r.said, r.err = r.said[:0], nil
}

// fail takes an error of in. The end of the text is never a good one here.
func (r *jsonReader) fail(err error) { r.err = noEOF(err) }

// open reads the beginning of an object or array. It returns false for null.
func (r *jsonReader) open(kind jsontext.Kind) bool {
	if r.err != nil {
		return false
	}
	token, err := r.in.ReadToken()
	switch {
	case err != nil:
		r.fail(err)
	case token.Kind() == kind:
		return true
	case token.Kind() != jsontext.KindNull:
		r.unexpected(token.Kind(), kind)
	}
	return false
}

// more tells whether there is one more value in the innermost open object or
// array; else it reads the end.
func (r *jsonReader) more() bool {
	if r.err != nil {
		return false
	}
	if kind := r.in.PeekKind(); kind != jsontext.KindEndObject && kind != jsontext.KindEndArray {
		return true
	}
	if _, err := r.in.ReadToken(); err != nil {
		r.fail(err)
	}
	return false
}

// first opens an object, and returns the name of its first member as next does.
// Null is an object without members.
func (r *jsonReader) first() ([]byte, bool) {
	if !r.open(jsontext.KindBeginObject) {
		return nil, false
	}
	return r.next()
}

// next returns the name of the next member of the innermost open object, whose
// value must be read or skipped then. False means that there is none.
func (r *jsonReader) next() ([]byte, bool) {
	if !r.more() {
		return nil, false
	}
	name := r.string(nil)
	return name, r.err == nil
}

// string reads a string. It returns before where it is null.
func (r *jsonReader) string(before []byte) []byte {
	value := r.raw()
	switch value.Kind() {
	case jsontext.KindInvalid, jsontext.KindNull:
		return before
	case jsontext.KindString:
		from := len(r.said)
		// The only possible error is that something is no UTF-8.
		r.said, _ = jsontext.AppendUnquote(r.said, value)
		return r.said[from:len(r.said):len(r.said)]
	}
	r.unexpected(value.Kind(), jsontext.KindString)
	return before
}

// raw reads a value of any kind, which is valid until the next is read; nil
// after an error.
func (r *jsonReader) raw() jsontext.Value {
	if r.err != nil {
		return nil
	}
	value, err := r.in.ReadValue()
	if err != nil {
		r.fail(err)
		return nil
	}
	return value
}

// skip reads a value of any kind, however large, without keeping it.
func (r *jsonReader) skip() {
	if r.err != nil {
		return
	}
	if err := r.in.SkipValue(); err != nil {
		r.fail(err)
	}
}

func (r *jsonReader) unexpected(kind, want jsontext.Kind) {
	r.err = fmt.Errorf("there is %v where %v is expected, at %q", kind, want, r.in.StackPointer())
}

// object reads an object of the API.
func (r *jsonReader) object(o *Object) {
	o.reset()
	for name, ok := r.first(); ok; name, ok = r.next() {
		if string(name) == "metadata" {
			r.objectMeta(o)
		} else {
			r.raw()
		}
	}
}

func (r *jsonReader) objectMeta(o *Object) {
	for name, ok := r.first(); ok; name, ok = r.next() {
		switch string(name) {
		case "name":
			o.Name = r.string(o.Name)
		case "namespace":
			o.Namespace = r.string(o.Namespace)
		case "uid":
			o.UID = r.string(o.UID)
		case "resourceVersion":
			o.ResourceVersion = r.string(o.ResourceVersion)
		case "deletionTimestamp":
			o.Deleting = r.string(nil) != nil
		case "labels":
			o.Labels = r.tags(o.Labels)
		case "annotations":
			o.Annotations = r.tags(o.Annotations)
		default:
			r.raw()
		}
	}
}

// tags appends the members of an object of strings. Of equal keys all are
// there: a record takes the last. Null empties the map.
func (r *jsonReader) tags(tags []record.KeyValue) []record.KeyValue {
	if r.err == nil && r.in.PeekKind() == jsontext.KindNull {
		tags = tags[:0]
	}
	for key, ok := r.first(); ok; key, ok = r.next() {
		tags = append(tags, record.KeyValue{Key: key, Value: r.string(nil)})
	}
	return tags
}

func (r *jsonReader) listMeta(p *Page) {
	for name, ok := r.first(); ok; name, ok = r.next() {
		switch string(name) {
		case "resourceVersion":
			p.ResourceVersion = string(r.string([]byte(p.ResourceVersion)))
		case "continue":
			p.Continue = string(r.string([]byte(p.Continue)))
		case "remainingItemCount":
			p.Remaining = r.count()
		default:
			r.skip()
		}
	}
}

// count reads a whole number. It returns -1 where it is null.
func (r *jsonReader) count() int64 {
	value := r.raw()
	if r.err != nil || value.Kind() == jsontext.KindNull {
		return -1
	}
	n, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil {
		r.err = fmt.Errorf("no whole number at %q: %w", r.in.StackPointer(), err)
	}
	return n
}

// json reads a list in JSON, which API servers without protobuf speak. Like
// the protobuf reader it holds one object at a time.
func (d *ListDecoder) json(p *Page, each func(*Object) error) error {
	r := &d.text
	r.stream(d.in)
	found, kind := false, ""
	for name, ok := r.first(); ok; name, ok = r.next() {
		switch string(name) {
		case "kind":
			kind = string(r.string([]byte(kind)))
		case "metadata":
			r.listMeta(p)
		case "items":
			if found {
				return errors.New("decode the list: the response has items twice")
			}
			found = true
			if err := d.jsonItems(p, each); err != nil {
				return err
			}
		default:
			r.skip()
		}
	}
	switch {
	case r.err != nil:
		return fmt.Errorf("decode the list: %w", r.err)
	case !found:
		// An answer of something in between; an empty list has items too.
		return errors.New("decode the list: the response has no items")
	}
	if kind != "" {
		return mustBeList(kind)
	}
	return nil
}

// jsonItems reads the objects. Its errors are those of objects and of each;
// the reader has any other.
func (d *ListDecoder) jsonItems(p *Page, each func(*Object) error) error {
	r := &d.text
	if !r.open(jsontext.KindBeginArray) {
		return nil
	}
	for r.more() {
		r.said = r.said[:0]
		if r.object(&d.object); r.err != nil {
			return fmt.Errorf("decode object %d of the list: %w", p.Items+1, r.err)
		}
		p.Items++
		if err := each(&d.object); err != nil {
			return err
		}
	}
	return nil
}
