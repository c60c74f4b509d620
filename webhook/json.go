// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"
)

// reader picks values out of JSON that json.Valid accepts, each byte once. A
// decoder into a struct scans all of it again with the same care, which takes
// more time than the rest of a review. Its methods read the next value; nothing
// may follow the end of the text.
type reader struct {
	data []byte
	at   int
}

// next returns the byte that the next key, value or end begins with.
func (r *reader) next() byte {
	for {
		switch c := r.data[r.at]; c {
		case ' ', '\t', '\r', '\n', ',', ':':
			r.at++
		default:
			return c
		}
	}
}

// object calls member with each key of an object. A value that member does not
// read is skipped. What is no object has no keys.
func (r *reader) object(member func(key []byte)) {
	if r.next() != '{' {
		r.skip()
		return
	}
	for r.at++; r.next() != '}'; {
		key := r.text()
		r.next()
		value := r.at
		member(key)
		if r.at == value {
			r.skip()
		}
	}
	r.at++
}

// text returns what a string says, mostly a part of the text; nil where the
// value is no string.
func (r *reader) text() []byte {
	isString := r.next() == '"'
	quoted := r.skip()
	if !isString {
		return nil
	}
	if bytes.IndexByte(quoted, '\\') < 0 && utf8.Valid(quoted) {
		return quoted[1 : len(quoted)-1]
	}
	var s string
	_ = json.Unmarshal(quoted, &s) // it is valid
	return []byte(s)
}

// skip returns the JSON of a value.
func (r *reader) skip() []byte {
	r.next()
	begin := r.at
	for depth := 0; ; {
		switch r.next() {
		case '{', '[':
			depth++
			r.at++
		case '}', ']':
			depth--
			r.at++
		case '"':
			r.skipString()
		default:
			r.skipLiteral()
		}
		if depth == 0 {
			return r.data[begin:r.at]
		}
	}
}

func (r *reader) skipString() {
	at := r.at + 1
	for ; r.data[at] != '"'; at++ {
		if r.data[at] == '\\' {
			at++
		}
	}
	r.at = at + 1
}

// skipLiteral skips a number, true, false or null.
func (r *reader) skipLiteral() {
	if n := bytes.IndexAny(r.data[r.at:], ",]} \t\r\n"); n >= 0 {
		r.at += n
	} else {
		r.at = len(r.data)
	}
}
