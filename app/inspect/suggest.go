// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strings"
)

const (
	// maxSuggested bounds how many filters are suggested.
	maxSuggested = 30
	// ownerCoverage is the least coverage in percent of an owner-like key that is
	// suggested, goodCoverage that of any other.
	ownerCoverage, goodCoverage = 1, 50
	// lowCardinality is how many values a key may have that is suggested.
	lowCardinality = 100
)

// ownerWords are what keys are called that say whom an object belongs to, in lower
// case and without - _ and dots. A row is one meaning, named by its first word.
var ownerWords = [][]string{
	{"team", "teams"}, {"squad"}, {"owner", "owners", "ownedby"}, {"cost-center", "costcenter", "costcentre", "costcode"},
	{"app", "application", "k8sapp"}, {"project"}, {"product"}, {"service", "svc"}, {"department", "dept"}, {"business-unit", "businessunit", "bu"},
	{"environment", "env"}, {"tenant"}, {"customer"},
}

var separators = strings.NewReplacer("-", "", "_", "", ".", "")

// meaning is what an owner-like key says, "" for other keys. The name in
// team.example.com/name says as little as id does: the prefix counts.
func meaning(key string) string {
	prefix, name, hasPrefix := strings.Cut(key, "/")
	if !hasPrefix {
		name = key
	}
	word := strings.ToLower(separators.Replace(name))
	if first, _, _ := strings.Cut(prefix, "."); hasPrefix && (word == "name" || word == "id") {
		word = strings.ToLower(separators.Replace(first))
	}
	for _, words := range ownerWords {
		for _, spelling := range []string{word, strings.TrimSuffix(word, "name"), strings.TrimSuffix(word, "id")} {
			if slices.Contains(words, spelling) {
				return words[0]
			}
		}
	}
	return ""
}

// perObject are keys that controllers write: they tell objects apart, and say
// nothing about whose they are.
var perObject = regexp.MustCompile(`(hash|uid|generation|revision|pod-name|pod-index|job-name)$`)

// suggestFilters returns filters for the labels that are worth sending: owner-like
// keys first, then those of good coverage and low cardinality. Those of more
// coverage come first, which keep their place where a series may have few labels.
func suggestFilters(keys []Key) string {
	var owners, others []string
	for i := range keys {
		k := &keys[i]
		filter := "^" + regexp.QuoteMeta(k.Key) + "$"
		switch isOwner := meaning(k.Key) != ""; {
		case k.Source != "label" || k.Reason == Excluded || k.Reason == Added || k.NameTooLong || slices.Contains(owners, filter) || slices.Contains(others, filter):
		case isOwner && k.Coverage >= ownerCoverage:
			owners = append(owners, filter)
		case !isOwner && k.Coverage >= goodCoverage && k.Exactness == Exact && k.Distinct > 1 && k.Distinct <= lowCardinality && !perObject.MatchString(k.Key):
			others = append(others, filter)
		}
	}
	all := append(owners, others...)
	return strings.Join(all[:min(len(all), maxSuggested)], ",")
}

// Spelling is a meaning, and the keys that are used for it.
type Spelling struct {
	Meaning string       `json:"meaning"`
	Keys    []SpelledKey `json:"keys"`
}

// SpelledKey is a spelling of a meaning, and how many labels and annotations use it.
type SpelledKey struct {
	Key  string `json:"key"`
	Uses int64  `json:"uses"`
}

// spellings returns the meanings for which there are several keys, by their
// names.
func spellings(keys []Key) []Spelling {
	uses := make(map[string]map[string]int64)
	for i := range keys {
		if word := meaning(keys[i].Key); word != "" && keys[i].Reason != Added {
			if uses[word] == nil {
				uses[word] = make(map[string]int64)
			}
			uses[word][keys[i].Key] += keys[i].Objects
		}
	}
	all := []Spelling{}
	for _, word := range slices.Sorted(maps.Keys(uses)) {
		s := Spelling{Meaning: word}
		for key, n := range uses[word] {
			s.Keys = append(s.Keys, SpelledKey{key, n})
		}
		slices.SortFunc(s.Keys, func(a, b SpelledKey) int {
			return cmp.Or(cmp.Compare(b.Uses, a.Uses), strings.Compare(a.Key, b.Key))
		})
		if len(s.Keys) > 1 {
			all = append(all, s)
		}
	}
	return all
}
