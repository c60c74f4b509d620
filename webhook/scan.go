package webhook

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth is how deep a JSON text may nest: as deep as encoding/json reads,
// and so as deep as the API server does.
const maxDepth = 10_000

// scanner reads one JSON text from its beginning to its end, and accepts what
// encoding/json accepts. It builds nothing: the caller takes the values that it
// wants, and skips the others. Its methods do nothing once failed is set.
type scanner struct {
	text []byte
	// at is where the next byte is read.
	at int
	// failed says that the text is no JSON, or has ended too early.
	failed bool
	// first says that the innermost open object has had no key yet.
	first bool
	// tooMany says that an object had more tags than are taken.
	tooMany bool
	// depth is how many objects have been entered.
	depth int
	// unquoted holds the strings that stand in the text in another form.
	unquoted []byte
	// objects has a bit for each value that skip has open: set for an object.
	objects [maxDepth/64 + 1]uint64
}

// begin takes a text. The strings given before are not valid any more.
func (s *scanner) begin(text []byte) {
	s.text, s.at = text, 0
	s.failed, s.first, s.tooMany, s.depth = false, false, false, 0
	s.unquoted = s.unquoted[:0]
}

// end tells whether the whole text was one value.
func (s *scanner) end() bool {
	s.peek()
	return !s.failed && s.at == len(s.text)
}

func (s *scanner) fail() { s.failed = true }

// peek returns the next byte that is no white space, 0 at the end.
func (s *scanner) peek() byte {
	s.at = afterSpace(s.text, s.at)
	return byteAt(s.text, s.at)
}

// enter opens an object. Where the next value is none, it is skipped and enter
// returns false; else key must be called until it returns false.
func (s *scanner) enter() bool {
	if s.failed {
		return false
	}
	if s.peek() != '{' {
		s.skip()
		return false
	}
	s.at++
	s.depth++
	s.first = true
	return true
}

// key returns the next key of the innermost open object, whose value must be
// read or skipped then. False means that the object has ended, or the text is
// bad.
func (s *scanner) key() ([]byte, bool) {
	if s.failed {
		return nil, false
	}
	c := s.peek()
	if c == '}' {
		s.at++
		s.depth--
		s.first = false
		return nil, false
	}
	if !s.first {
		if c != ',' {
			s.fail()
			return nil, false
		}
		s.at++
		c = s.peek()
	}
	s.first = false
	if c != '"' {
		s.fail()
		return nil, false
	}
	key := s.unquote()
	s.colon()
	return key, !s.failed
}

func (s *scanner) colon() {
	if s.peek() != ':' {
		s.fail()
		return
	}
	s.at++
}

// string reads a string. It returns nil for any other value. The string is
// valid UTF-8 and remains valid until the next begin.
func (s *scanner) string() []byte {
	if s.failed {
		return nil
	}
	if s.peek() != '"' {
		s.skip()
		return nil
	}
	return s.unquote()
}

// isTrue reads a value and tells whether it is true.
func (s *scanner) isTrue() bool {
	if s.failed {
		return false
	}
	is := s.peek() == 't'
	s.skip()
	return is && !s.failed
}

// skip reads a value of any kind. It does not recurse: what is nested deeply
// costs a bit a level. Most of a review is read here.
func (s *scanner) skip() {
	if s.failed {
		return
	}
	text, i := s.text, s.at
	// open values are around the next, and object says that the innermost is one.
	open, object := 0, false
value:
	for {
		i = afterSpace(text, i)
		switch c := byteAt(text, i); {
		case c == '"':
			i, _ = afterString(text, i)
		case c == '{' || c == '[':
			if s.depth+open >= maxDepth {
				s.fail()
				return
			}
			object = c == '{'
			s.setObject(open, object)
			open++
			if i = afterSpace(text, i+1); byteAt(text, i) == c+2 { // the bracket that closes
				break
			}
			if object {
				i = afterKey(text, i)
			}
			continue value
		default:
			i = afterScalar(text, i)
		}
		for open > 0 {
			i = afterSpace(text, i)
			c := byteAt(text, i)
			i++
			if c == ',' {
				if object {
					i = afterKey(text, afterSpace(text, i))
				}
				continue value
			}
			if c != '}' && object || c != ']' && !object {
				s.fail()
				return
			}
			open--
			object = open > 0 && s.isObject(open-1)
		}
		break
	}
	if s.at = i; i < 0 {
		s.fail()
	}
}

// setObject notes whether the value at a level is an object or an array.
func (s *scanner) setObject(level int, object bool) {
	if bit := uint64(1) << (level % 64); object {
		s.objects[level/64] |= bit
	} else {
		s.objects[level/64] &^= bit
	}
}

func (s *scanner) isObject(level int) bool { return s.objects[level/64]&(1<<(level%64)) != 0 }

// bad is where a text goes on that is no JSON. The functions named after... give
// the place after what stands at i, or bad. That may be i itself, but for
// afterString and afterWord, whose callers have looked at what begins there.
const bad = -1

// byteAt is 0 where the text has no byte.
func byteAt(text []byte, i int) byte {
	if uint(i) < uint(len(text)) {
		return text[i]
	}
	return 0
}

func afterSpace(text []byte, i int) int {
	// An API server writes no white space.
	if uint(i) < uint(len(text)) && text[i] > ' ' {
		return i
	}
	return afterSpaces(text, i)
}

func afterSpaces(text []byte, i int) int {
	for {
		switch byteAt(text, i) {
		case ' ', '\t', '\r', '\n':
			i++
		default:
			return i
		}
	}
}

// afterKey is the place after a key and its colon.
func afterKey(text []byte, i int) int {
	if byteAt(text, i) != '"' {
		return bad
	}
	i, _ = afterString(text, i)
	if i = afterSpace(text, i); byteAt(text, i) != ':' {
		return bad
	}
	return i + 1
}

// afterScalar is the place after a value that is neither string, object nor array.
func afterScalar(text []byte, i int) int {
	switch byteAt(text, i) {
	case 't':
		return afterWord(text, i, "true")
	case 'f':
		return afterWord(text, i, "false")
	case 'n':
		return afterWord(text, i, "null")
	}
	return afterNumber(text, i)
}

func afterWord(text []byte, i int, word string) int {
	if end := i + len(word); end <= len(text) && string(text[i:end]) == word {
		return end
	}
	return bad
}

// afterNumber is the place after a number of any size.
func afterNumber(text []byte, i int) int {
	if byteAt(text, i) == '-' {
		i++
	}
	if byteAt(text, i) == '0' {
		i++
	} else {
		i = afterDigits(text, i)
	}
	if byteAt(text, i) == '.' {
		i = afterDigits(text, i+1)
	}
	if c := byteAt(text, i); c == 'e' || c == 'E' {
		i++
		if c := byteAt(text, i); c == '+' || c == '-' {
			i++
		}
		i = afterDigits(text, i)
	}
	return i
}

// afterDigits is the place after at least one digit.
func afterDigits(text []byte, i int) int {
	begin := i
	for isDigit(byteAt(text, i)) {
		i++
	}
	if i == begin {
		return bad
	}
	return i
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

const (
	ones  = 0x0101010101010101
	highs = 0x80 * ones
)

// afterString is the place after the string that begins at i. The string is
// plain where it stands in the text as it is: without escapes, and in ASCII.
func afterString(text []byte, i int) (after int, plain bool) {
	plain = true
	for i++; ; {
		// Eight bytes at a time, up to the first that is a control character, a
		// quote, a backslash or beyond ASCII. A borrow only ever follows one.
		for i+8 <= len(text) {
			w := binary.LittleEndian.Uint64(text[i:])
			quotes, escapes := w^'"'*ones, w^'\\'*ones
			if found := (w | (w - ' '*ones) | (quotes - ones) | (escapes - ones)) & highs; found != 0 {
				i += bits.TrailingZeros64(found) / 8
				break
			}
			i += 8
		}
		if i >= len(text) {
			return bad, false
		}
		switch c := text[i]; {
		case c == '"':
			return i + 1, plain
		case c == '\\':
			plain = false
			n := escapeLength(text[i:])
			if n == 0 {
				return bad, false
			}
			i += n
		case c < ' ':
			return bad, false
		default:
			plain = plain && c < utf8.RuneSelf
			i++
		}
	}
}

// escapeLength is the length of the escape that text begins with, 0 where it
// is none.
func escapeLength(text []byte) int {
	if len(text) < 2 {
		return 0
	}
	switch text[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if _, ok := hexRune(text); ok {
			return 6
		}
	}
	return 0
}

// hexRune reads the escape that text begins with, if it is \u and four digits.
func hexRune(text []byte) (r rune, ok bool) {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return 0, false
	}
	for _, c := range text[2:6] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// unquote reads a string and returns what it says.
func (s *scanner) unquote() []byte {
	begin := s.at + 1
	after, plain := afterString(s.text, s.at)
	if after < 0 {
		s.fail()
		return nil
	}
	s.at = after
	quoted := s.text[begin : after-1 : after-1]
	if plain {
		return quoted
	}
	from := len(s.unquoted)
	s.unquoted = appendUnquoted(s.unquoted, quoted)
	return s.unquoted[from:len(s.unquoted):len(s.unquoted)]
}

// appendUnquoted appends what a string says whose escapes are known to be
// good. What is no UTF-8, and a surrogate without its other half, becomes
// U+FFFD, as with encoding/json.
func appendUnquoted(dst, quoted []byte) []byte {
	for len(quoted) > 0 {
		if quoted[0] != '\\' {
			r, n := utf8.DecodeRune(quoted)
			dst = utf8.AppendRune(dst, r)
			quoted = quoted[n:]
			continue
		}
		if r, ok := hexRune(quoted); ok {
			quoted = quoted[6:]
			if utf16.IsSurrogate(r) {
				low, _ := hexRune(quoted)
				if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
					quoted = quoted[6:]
				}
			}
			dst = utf8.AppendRune(dst, r)
			continue
		}
		dst = append(dst, unescaped(quoted[1]))
		quoted = quoted[2:]
	}
	return dst
}

// unescaped is what a backslash and c stand for.
func unescaped(c byte) byte {
	switch c {
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	}
	return c
}
