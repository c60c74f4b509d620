// SPDX-License-Identifier: Apache-2.0

// Package docs has no code. Its tests check what the documents say of the
// program, and of each other.
package docs

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

const root = ".."

// walk calls visit with each file of the repository that ends in suffix.
func walk(t *testing.T, suffix string, visit func(path, text string)) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != root && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "bin" || entry.Name() == "dist"):
			return filepath.SkipDir
		case entry.IsDir() || !strings.HasSuffix(path, suffix):
			return nil
		}
		text, err := os.ReadFile(path)
		if err == nil {
			visit(path, string(text))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

var (
	link   = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	scheme = regexp.MustCompile(`^[a-z]+:`)
)

// TestLinks wants that links between documents lead somewhere.
func TestLinks(t *testing.T) {
	walk(t, ".md", func(path, text string) {
		for _, match := range link.FindAllStringSubmatch(prose(text), -1) {
			if err := follow(path, match[1]); err != nil {
				t.Errorf("%s: the link to %s: %v", path, match[1], err)
			}
		}
	})
}

// follow returns an error where a link within the repository leads nowhere.
func follow(from, target string) error {
	if scheme.MatchString(target) {
		return nil
	}
	path, anchor, _ := strings.Cut(target, "#")
	if path == "" {
		path = from
	} else {
		path = filepath.Join(filepath.Dir(from), path)
	}
	if anchor == "" {
		_, err := os.Stat(path)
		return err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	for line := range strings.Lines(prose(string(text))) {
		if heading, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); ok && line[0] == '#' && slug(heading) == anchor {
			return nil
		}
	}
	return fmt.Errorf("%s has no heading #%s", path, anchor)
}

var fenced = regexp.MustCompile("(?ms)^```.*?^```$")

// prose is a document without what stands between fences.
func prose(text string) string { return fenced.ReplaceAllString(text, "") }

// slug is the anchor that GitHub gives a heading.
func slug(heading string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-', r == '_', unicode.IsLetter(r), unicode.IsDigit(r):
			return unicode.ToLower(r)
		}
		return -1
	}, strings.TrimSpace(heading))
}

var (
	metric = regexp.MustCompile(`\b(labelstream_[a-z_]+[a-z])\b`)
	// derived are the endings of what a histogram is made of.
	derived = regexp.MustCompile(`_(bucket|count|sum)$`)
)

// TestMetrics wants each metric that a document, a rule or a dashboard names to be
// one, and docs/operations.md to name all.
func TestMetrics(t *testing.T) {
	code := literals(t)
	for _, suffix := range []string{".md", ".yaml", ".json"} {
		walk(t, suffix, func(path, text string) {
			for _, name := range metric.FindAllString(text, -1) {
				if !code[name] && !code[derived.ReplaceAllString(name, "")] {
					t.Errorf("%s names the metric %s, which there is not", path, name)
				}
			}
		})
	}
	documented, metrics := names(t, "docs/operations.md", metric), 0
	for name := range code {
		if name == "" || metric.FindString(name) != name {
			continue
		}
		metrics++
		if !documented[name] {
			t.Errorf("docs/operations.md lacks the metric %s", name)
		}
	}
	if metrics == 0 {
		t.Error("the code has no metrics: the test does not find them")
	}
}

var (
	symptom = regexp.MustCompile(`(?m)^\| (.*?) \|`)
	quoted  = regexp.MustCompile("`([^`]*)`")
)

// TestMessages wants the messages in the first column of the troubleshooting
// tables to be those of the program. What differs each time is written as …
func TestMessages(t *testing.T) {
	text, err := os.ReadFile("troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for literal := range literals(t) {
		all.WriteString(literal + "\n")
	}
	messages := 0
	for _, row := range symptom.FindAllStringSubmatch(string(text), -1) {
		for _, message := range quoted.FindAllStringSubmatch(row[1], -1) {
			if !strings.Contains(message[1], " ") {
				continue // a name
			}
			messages++
			for part := range strings.SplitSeq(message[1], "…") {
				if !strings.Contains(all.String(), strings.Trim(part, " :;,")) {
					t.Errorf("the program does not say %q, of %q", part, message[1])
				}
			}
		}
	}
	if messages == 0 {
		t.Error("troubleshooting.md quotes no message: the test does not find them")
	}
}

var (
	shell  = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")
	inline = regexp.MustCompile("`([^`\n]+)`")
	// joints are what stands between the commands of a line.
	joints = regexp.MustCompile(`\\?\||&&|;`)
	remark = regexp.MustCompile(`(^|\s)#.*`)
	target = regexp.MustCompile(`(?m)^([a-z0-9]+):`)
	option = regexp.MustCompile("(?m)^\\| `(?:--|labelstream )([a-z-]+)")
	inTree = regexp.MustCompile(`^(manifests|base|components|overlays|docs|examples)/[\w./-]+$`)
)

// TestCommands wants the targets of make, the flags and commands of labelstream
// and the files that documents name to be there.
func TestCommands(t *testing.T) {
	all := map[string]map[string]bool{
		"make":        names(t, "Makefile", target),
		"labelstream": names(t, "docs/configuration.md", option),
	}
	// What it names is tested in main_test.go. The arguments of its commands have no row.
	for _, argument := range []string{"settings", "bash", "zsh", "fish"} {
		all["labelstream"][argument] = true
	}
	checked := make(map[string]int)
	walk(t, ".md", func(path, text string) {
		if filepath.Base(path) == "CHANGELOG.md" {
			return // it tells of what was, too
		}
		var commands []string
		for _, block := range shell.FindAllStringSubmatch(text, -1) {
			commands = append(commands, strings.Split(block[1], "\n")...)
		}
		for _, span := range inline.FindAllStringSubmatch(prose(text), -1) {
			if word, _, _ := strings.Cut(span[1], " "); word == span[1] && !inTree.MatchString(word) {
				continue // a name
			}
			commands = append(commands, span[1])
		}
		for _, line := range commands {
			for _, command := range joints.Split(remark.ReplaceAllString(line, ""), -1) {
				words := strings.Fields(command)
				for _, word := range words {
					if inTree.MatchString(word) {
						checked["path"]++
						mustExist(t, path, word)
					}
				}
				if len(words) == 0 {
					continue
				}
				program := filepath.Base(words[0])
				for _, word := range words[1:] {
					if all[program] == nil || strings.HasPrefix(word, ">") {
						break
					}
					if strings.Contains(word, "=") && !strings.HasPrefix(word, "-") {
						continue // a variable
					}
					checked[program]++
					name, _, _ := strings.Cut(strings.TrimLeft(word, "-"), "=")
					if !all[program][name] {
						t.Errorf("%s has the command %q, and there is no %s", path, strings.TrimSpace(command), word)
					}
				}
			}
		}
	})
	for _, what := range []string{"make", "labelstream", "path"} {
		if checked[what] == 0 {
			t.Errorf("no document has a command with a %s: the test does not find them", what)
		}
	}
}

func names(t *testing.T, path string, expression *regexp.Regexp) map[string]bool {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]bool)
	for _, match := range expression.FindAllStringSubmatch(string(text), -1) {
		found[match[1]] = true
	}
	return found
}

// mustExist wants a file that a document names from the repository's root or from
// the manifests, as both are where commands are run.
func mustExist(t *testing.T, document, name string) {
	t.Helper()
	for _, dir := range []string{root, filepath.Join(root, "manifests")} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return
		}
	}
	t.Errorf("%s names %s, which is not there", document, name)
}

// literals are the strings in the program's code.
func literals(t *testing.T) map[string]bool {
	t.Helper()
	found := make(map[string]bool)
	walk(t, ".go", func(path, text string) {
		if strings.HasSuffix(path, "_test.go") || strings.HasPrefix(path, filepath.Join(root, "test")+string(filepath.Separator)) {
			return
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, text, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(node ast.Node) bool {
			if literal, ok := node.(*ast.BasicLit); ok && literal.Kind == token.STRING {
				if value, err := strconv.Unquote(literal.Value); err == nil {
					found[value] = true
				}
			}
			return true
		})
	})
	return found
}
