// SPDX-License-Identifier: Apache-2.0

package decode

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"labelstream/record"
)

// Field numbers of k8s.io/apimachinery/pkg/apis/meta/v1/generated.proto.
const (
	metaName            = 1
	metaNamespace       = 3
	metaUID             = 5
	metaResourceVersion = 6
	metaLabels          = 11
	metaAnnotations     = 12
	metaOwners          = 13

	ownerKind       = 1
	ownerName       = 3
	ownerController = 6
)

// fields is a set of field numbers below 64, the number n as bit n.
type fields uint64

const (
	objectFields fields = 1 << 1
	metaFields   fields = 1<<metaName | 1<<metaNamespace | 1<<metaUID | 1<<metaResourceVersion | 1<<metaLabels | 1<<metaAnnotations
	pairFields   fields = 1<<1 | 1<<2
)

// parseObject reads a PartialObjectMetadata in place of what o was. What it gives
// points into encoded; all that nobody needs (managed fields) is passed over, and so
// are the owners unless they are asked for.
func parseObject(encoded []byte, o *Object, owners bool) error {
	*o = Object{Object: record.Object{Labels: o.Labels[:0], Annotations: o.Annotations[:0], Owners: o.Owners[:0]}}
	for m := message(encoded); ; {
		num, value, err := m.next(objectFields)
		if num == 0 || err != nil {
			return err
		}
		if num == 1 {
			if err := parseObjectMeta(value, o, owners); err != nil {
				return err
			}
		}
	}
}

func parseObjectMeta(encoded []byte, o *Object, owners bool) error {
	for m := message(encoded); ; {
		num, value, err := m.next(metaFields)
		if num == 0 || err != nil {
			return err
		}
		switch num {
		case metaName:
			o.Name = value
		case metaNamespace:
			o.Namespace = value
		case metaUID:
			o.UID = value
		case metaResourceVersion:
			o.ResourceVersion = value
		case metaLabels:
			o.Labels, err = appendPair(o.Labels, value)
		case metaAnnotations:
			o.Annotations, err = appendPair(o.Annotations, value)
		case metaOwners:
			if owners {
				o.Owners, err = appendOwner(o.Owners, value)
			}
		}
		if err != nil {
			return err
		}
	}
}

// appendOwner reads one owner reference.
func appendOwner(owners []record.Owner, encoded []byte) ([]record.Owner, error) {
	var owner record.Owner
	for m := message(encoded); len(m) > 0; {
		if m[0]&7 == byte(protowire.BytesType) {
			num, value, err := m.next(0)
			switch {
			case err != nil:
				return owners, err
			case num == ownerKind:
				owner.Kind = value
			case num == ownerName:
				owner.Name = value
			}
			continue
		}
		num, typ, n := protowire.ConsumeTag(m)
		if n < 0 {
			return owners, protowire.ParseError(n)
		}
		value := m[n:]
		if n = protowire.ConsumeFieldValue(num, typ, value); n < 0 {
			return owners, protowire.ParseError(n)
		}
		if num == ownerController && typ == protowire.VarintType {
			is, _ := protowire.ConsumeVarint(value)
			owner.IsController = is != 0
		}
		m = value[n:]
	}
	return append(owners, owner), nil
}

// appendPair reads one entry of a map.
func appendPair(pairs []record.KeyValue, entry []byte) ([]record.KeyValue, error) {
	// Nearly every entry is a short key and a short value, in this order.
	const key, value = 1<<3 | byte(protowire.BytesType), 2<<3 | byte(protowire.BytesType)
	if n := len(entry); n >= 4 && entry[0] == key && entry[1] < 0x80 {
		if at := 2 + int(entry[1]); at+2 <= n && entry[at] == value && entry[at+1] < 0x80 && at+2+int(entry[at+1]) == n {
			return append(pairs, record.KeyValue{Key: entry[2:at:at], Value: entry[at+2:]}), nil
		}
	}
	var pair record.KeyValue
	for m := message(entry); ; {
		num, value, err := m.next(pairFields)
		switch {
		case err != nil:
			return pairs, err
		case num == 0:
			return append(pairs, pair), nil
		case num == 1:
			pair.Key = value
		case num == 2:
			pair.Value = value
		}
	}
}

// message is what is still to be read of a protobuf message.
type message []byte

// next returns the number and value of the next length-delimited field, and
// passes over the others. The number is 0 at the end. A field that is wanted and
// is not length-delimited is an error.
func (m *message) next(wanted fields) (protowire.Number, []byte, error) {
	// Nearly every tag and length here takes a single byte.
	if b := *m; len(b) >= 2 && b[0] < 0x80 && b[0]&7 == byte(protowire.BytesType) && b[0] > 7 && b[1] < 0x80 {
		if end := 2 + int(b[1]); end <= len(b) {
			*m = b[end:]
			return protowire.Number(b[0] >> 3), b[2:end:end], nil
		}
	}
	return m.nextOfAny(wanted)
}

// last returns the value of the field at the end of a path, nil where there is
// none. Where a field is repeated, the last counts.
func (m message) last(path ...protowire.Number) ([]byte, error) {
	var found []byte
	for {
		num, value, err := m.next(1 << path[0])
		switch {
		case err != nil:
			return nil, err
		case num == 0 && len(path) > 1:
			return message(found).last(path[1:]...)
		case num == 0:
			return found, nil
		case num == path[0]:
			found = value
		}
	}
}

func (m *message) nextOfAny(wanted fields) (protowire.Number, []byte, error) {
	for len(*m) > 0 {
		num, typ, n := protowire.ConsumeTag(*m)
		if n < 0 {
			return 0, nil, protowire.ParseError(n)
		}
		*m = (*m)[n:]
		if typ == protowire.BytesType {
			value, n := protowire.ConsumeBytes(*m)
			if n < 0 {
				return 0, nil, protowire.ParseError(n)
			}
			*m = (*m)[n:]
			return num, value, nil
		}
		if num < 64 && wanted&(1<<num) != 0 {
			return 0, nil, fmt.Errorf("field %d has wire type %d", num, typ)
		}
		if n = protowire.ConsumeFieldValue(num, typ, *m); n < 0 {
			return 0, nil, protowire.ParseError(n)
		}
		*m = (*m)[n:]
	}
	return 0, nil, nil
}
