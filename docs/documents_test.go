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
	metric = regexp.MustCompile(`\blabelstream_[a-z_]+[a-z]\b`)
	// derived are the endings of what a histogram is made of.
	derived = regexp.MustCompile(`_(bucket|count|sum)$`)
)

// TestMetrics wants each metric that a document names to be one.
func TestMetrics(t *testing.T) {
	code := literals(t)
	walk(t, ".md", func(path, text string) {
		for _, name := range metric.FindAllString(text, -1) {
			if !code[derived.ReplaceAllString(name, "")] {
				t.Errorf("%s names the metric %s, which there is not", path, name)
			}
		}
	})
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
