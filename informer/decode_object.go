package informer

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"labelstream/record"
)

// Field numbers of k8s.io/apimachinery/pkg/apis/meta/v1/generated.proto.
const (
	metaName              = 1
	metaNamespace         = 3
	metaUID               = 5
	metaResourceVersion   = 6
	metaDeletionTimestamp = 9
	metaLabels            = 11
	metaAnnotations       = 12
)

func (o *object) reset() {
	*o = object{Object: record.Object{Labels: o.Labels[:0], Annotations: o.Annotations[:0]}}
}

// parseObject reads a PartialObjectMetadata. What it gives points into
// message; all that nobody needs (owners, managed fields) is passed over.
func parseObject(message []byte, o *object) error {
	return fields(message, func(num protowire.Number, value []byte) error {
		if num == 1 {
			return fields(value, o.field)
		}
		return nil
	})
}

// field takes one field of an ObjectMeta.
func (o *object) field(num protowire.Number, value []byte) error {
	var err error
	switch num {
	case metaName:
		o.Name = value
	case metaNamespace:
		o.Namespace = value
	case metaUID:
		o.UID = value
	case metaResourceVersion:
		o.ResourceVersion = value
	case metaDeletionTimestamp:
		o.Deleting = true
	case metaLabels:
		o.Labels, err = appendTag(o.Labels, value)
	case metaAnnotations:
		o.Annotations, err = appendTag(o.Annotations, value)
	}
	return err
}

func appendTag(tags []record.Tag, entry []byte) ([]record.Tag, error) {
	var tag record.Tag
	err := fields(entry, func(num protowire.Number, value []byte) error {
		switch num {
		case 1:
			tag.Key = value
		case 2:
			tag.Value = value
		}
		return nil
	})
	return append(tags, tag), err
}

// parseListMeta reads a ListMeta.
func parseListMeta(message []byte, p *page) error {
	for len(message) > 0 {
		num, typ, n := protowire.ConsumeTag(message)
		if n < 0 {
			return fmt.Errorf("decode the list's metadata: %w", protowire.ParseError(n))
		}
		message = message[n:]
		switch {
		case num == 2 && typ == protowire.BytesType:
			var text []byte
			text, n = protowire.ConsumeBytes(message)
			p.ResourceVersion = string(text)
		case num == 3 && typ == protowire.BytesType:
			var text []byte
			text, n = protowire.ConsumeBytes(message)
			p.Continue = string(text)
		case num == 4 && typ == protowire.VarintType:
			var remaining uint64
			remaining, n = protowire.ConsumeVarint(message)
			p.Remaining = int64(remaining)
		default:
			n = protowire.ConsumeFieldValue(num, typ, message)
		}
		if n < 0 {
			return fmt.Errorf("decode the list's metadata: %w", protowire.ParseError(n))
		}
		message = message[n:]
	}
	return nil
}

// fields calls take with each length-delimited field of a message and passes
// over the others.
func fields(message []byte, take func(protowire.Number, []byte) error) error {
	for len(message) > 0 {
		num, typ, n := protowire.ConsumeTag(message)
		if n < 0 {
			return protowire.ParseError(n)
		}
		message = message[n:]
		if typ != protowire.BytesType {
			// Fields 1 and 2 are length-delimited in all that is read here.
			if num <= 2 {
				return fmt.Errorf("field %d has wire type %d", num, typ)
			}
			if n = protowire.ConsumeFieldValue(num, typ, message); n < 0 {
				return protowire.ParseError(n)
			}
			message = message[n:]
			continue
		}
		value, n := protowire.ConsumeBytes(message)
		if n < 0 {
			return protowire.ParseError(n)
		}
		message = message[n:]
		if err := take(num, value); err != nil {
			return err
		}
	}
	return nil
}
