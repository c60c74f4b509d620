package main

import (
	"bytes"
	_ "embed" // the review
	"slices"
)

// What differs from one review to the next are digits, and these are in their
// places until then. No other text of a review has as many of these letters in
// a row.
const (
	uidMark   = "UUUUUUUUUUUU"
	nameMark  = "NNNNN"
	valueMark = "VVVVVVVVVVVV"
)

// uidLength is that of a whole uid, whose end is the mark.
const uidLength = 36

// reviewTemplate is a review of the creation of a pod, with the marks.
type reviewTemplate struct {
	text             []byte
	uid, name, value []int
}

// reviewText is as kube-apiserver writes a review: in one line, with a new line
// at its end, and the object with its defaults and the name that was made for it.
//
//go:embed review.json
var reviewText []byte

func newReviewTemplate() *reviewTemplate {
	return &reviewTemplate{
		text: reviewText,
		uid:  places(reviewText, uidMark), name: places(reviewText, nameMark), value: places(reviewText, valueMark),
	}
}

// places are where a mark stands in a text.
func places(text []byte, mark string) []int {
	var all []int
	for at := 0; ; at += len(mark) {
		next := bytes.Index(text[at:], []byte(mark))
		if next < 0 {
			return all
		}
		at += next
		all = append(all, at)
	}
}

// fill writes a review over one that was made from the template: of this pod,
// with this number as its uid, and as a label's value. Numbers that are too long
// lose their first digits.
func (t *reviewTemplate) fill(text []byte, pod, number int) {
	for _, at := range t.name {
		putDigits(text[at:at+len(nameMark)], pod)
	}
	for _, at := range t.uid {
		putDigits(text[at:at+len(uidMark)], number)
	}
	for _, at := range t.value {
		putDigits(text[at:at+len(valueMark)], number)
	}
}

// uidOf is the uid in a review that was made from the template.
func (t *reviewTemplate) uidOf(text []byte) []byte {
	end := t.uid[0] + len(uidMark)
	return text[end-uidLength : end]
}

func putDigits(dst []byte, n int) {
	for i := range slices.Backward(dst) {
		dst[i] = byte('0' + n%10)
		n /= 10
	}
}
