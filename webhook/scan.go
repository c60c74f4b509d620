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
	// An API server writes no white space.
	if s.at < len(s.text) && s.text[s.at] > ' ' {
		return s.text[s.at]
	}
	return s.peekPast()
}

// peekPast is peek where there may be white space.
func (s *scanner) peekPast() byte {
	for s.at < len(s.text) {
		switch c := s.text[s.at]; c {
		case ' ', '\t', '\r', '\n':
			s.at++
		default:
			return c
		}
	}
	return 0
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
// costs a bit a level.
func (s *scanner) skip() {
	for open := 0; !s.failed; {
		switch c := s.peek(); c {
		case '{', '[':
			if open = s.open(open, c == '{'); open < 0 {
				s.fail()
				return
			}
			if s.peek() == c+2 { // the bracket that closes
				break
			}
			if c == '{' {
				s.skipKey()
			}
			continue
		default:
			s.scalar(c)
		}
		if open = s.close(open); open == 0 {
			return
		}
	}
}

// open opens an object or array within so many others, and returns how many
// are open then, or -1 where these are too many.
func (s *scanner) open(open int, object bool) int {
	if s.depth+open >= maxDepth {
		return -1
	}
	s.at++
	if bit := uint64(1) << (open % 64); object {
		s.objects[open/64] |= bit
	} else {
		s.objects[open/64] &^= bit
	}
	return open + 1
}

// close reads what follows a value in so many open ones, up to the next value,
// and returns how many are open then.
func (s *scanner) close(open int) int {
	for open > 0 && !s.failed {
		last := open - 1
		object := s.objects[last/64]&(1<<(last%64)) != 0
		switch c := s.peek(); {
		case c == ',':
			s.at++
			if object {
				s.skipKey()
			}
			return open
		case c == '}' && object, c == ']' && !object:
			s.at++
			open = last
		default:
			s.fail()
		}
	}
	return open
}

func (s *scanner) skipKey() {
	if s.peek() != '"' {
		s.fail()
		return
	}
	s.skipString()
	s.colon()
}

// scalar reads a value that begins with c and is neither object nor array.
func (s *scanner) scalar(c byte) {
	switch {
	case c == '"':
		s.skipString()
	case c == 't':
		s.word("true")
	case c == 'f':
		s.word("false")
	case c == 'n':
		s.word("null")
	default:
		s.number()
	}
}

func (s *scanner) word(word string) {
	if end := s.at + len(word); end <= len(s.text) && string(s.text[s.at:end]) == word {
		s.at = end
		return
	}
	s.fail()
}

// number reads a number of any size.
func (s *scanner) number() {
	if s.take('-', '-'); !s.take('0', '0') && !s.digits() {
		s.fail()
		return
	}
	if s.take('.', '.') && !s.digits() {
		s.fail()
		return
	}
	if s.take('e', 'e') || s.take('E', 'E') {
		if !s.take('+', '+') {
			s.take('-', '-')
		}
		if !s.digits() {
			s.fail()
		}
	}
}

// take reads a byte of the range, if that is the next.
func (s *scanner) take(low, high byte) bool {
	if s.at < len(s.text) && low <= s.text[s.at] && s.text[s.at] <= high {
		s.at++
		return true
	}
	return false
}

func (s *scanner) digits() bool {
	begin := s.at
	for s.take('0', '9') {
	}
	return s.at > begin
}

const (
	ones  = 0x0101010101010101
	highs = 0x80 * ones
)

// skipString reads a string and tells whether it stands in the text as it is:
// without escapes, and in ASCII.
func (s *scanner) skipString() (plain bool) {
	plain = true
	text := s.text
	for i := s.at + 1; i < len(text); {
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
		if i == len(text) {
			break
		}
		switch c := text[i]; {
		case c == '"':
			s.at = i + 1
			return plain
		case c == '\\':
			plain = false
			n := escapeLength(text[i:])
			if n == 0 {
				s.fail()
				return false
			}
			i += n
		case c < ' ':
			s.fail()
			return false
		default:
			plain = plain && c < utf8.RuneSelf
			i++
		}
	}
	s.fail()
	return false
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
	plain := s.skipString()
	if s.failed {
		return nil
	}
	quoted := s.text[begin : s.at-1 : s.at-1]
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
