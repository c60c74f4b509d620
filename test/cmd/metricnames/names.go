package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var (
	// wholeName is a string that is a metric's name and nothing else.
	wholeName = regexp.MustCompile(`^labelstream_[a-z0-9_]*[a-z0-9]$`)
	// anyName is a name in a text. The prefix alone is that of all.
	anyName = regexp.MustCompile(`\blabelstream_[a-z0-9_]+`)
)

// histogramSuffixes are what a histogram's series have behind its name.
var histogramSuffixes = []string{"_bucket", "_sum", "_count"}

// declared are the metrics of the code: where each is, and whether it is a
// histogram.
type declared struct {
	at        string
	histogram bool
}

// reference is the document that promises all metrics.
const reference = "docs/operations.md"

// compare returns a line for each name that is used and not declared, and for
// each that is declared and that the reference does not name.
func compare(root string) ([]string, error) {
	code, err := declarations(root)
	if err != nil {
		return nil, err
	}
	known := make(map[string]bool)
	for name, d := range code {
		known[name] = true
		for _, suffix := range histogramSuffixes {
			known[name+suffix] = d.histogram
		}
	}
	var mistakes []string
	documented := make(map[string]bool)
	err = texts(root, func(path, text string) {
		for i, line := range strings.Split(text, "\n") {
			for _, name := range anyName.FindAllString(line, -1) {
				if !known[name] {
					mistakes = append(mistakes, fmt.Sprintf("%s:%d: %s is no metric of the code", path, i+1, name))
				}
				if path == reference {
					documented[name] = true
				}
			}
		}
	})
	for _, name := range slices.Sorted(maps.Keys(code)) {
		if !documented[name] {
			mistakes = append(mistakes, fmt.Sprintf("%s: %s is not in %s", code[name].at, name, reference))
		}
	}
	return mistakes, err
}

// declarations finds the names in the code, but not in tests and in other
// modules.
func declarations(root string) (map[string]declared, error) {
	found := make(map[string]declared)
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != root && isModule(path), entry.IsDir() && entry.Name() == ".git":
			return filepath.SkipDir
		case entry.IsDir(), filepath.Ext(path) != ".go", strings.HasSuffix(path, "_test.go"):
			return nil
		}
		return declarationsIn(root, path, found)
	})
	if err != nil {
		return nil, fmt.Errorf("read the code: %w", err)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("read the code: %s has none with metrics; run this with the repository's root", root)
	}
	return found, nil
}

func isModule(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "go.mod"))
	return err == nil
}

func declarationsIn(root, path string, found map[string]declared) error {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	histograms := make(map[*ast.BasicLit]bool)
	ast.Inspect(file, func(node ast.Node) bool {
		switch n := node.(type) {
		case *ast.CompositeLit:
			if isHistogram(n) {
				// The name is found below, after this.
				ast.Inspect(n, func(inner ast.Node) bool {
					if text, ok := inner.(*ast.BasicLit); ok {
						histograms[text] = true
					}
					return true
				})
			}
		case *ast.BasicLit:
			name, err := strconv.Unquote(n.Value)
			if n.Kind != token.STRING || err != nil || !wholeName.MatchString(name) {
				break
			}
			at := files.Position(n.Pos())
			short, err := filepath.Rel(root, path)
			if err != nil {
				short = path
			}
			found[name] = declared{at: fmt.Sprintf("%s:%d", short, at.Line), histogram: histograms[n]}
		}
		return true
	})
	return nil
}

func isHistogram(literal *ast.CompositeLit) bool {
	selector, ok := literal.Type.(*ast.SelectorExpr)
	return ok && selector.Sel.Name == "HistogramOpts"
}

// texts reads the documents and manifests, but not CHANGELOG.md, which is about
// names that were.
func texts(root string, read func(path, text string)) error {
	for _, top := range []string{"README.md", "docs", "manifests"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !slices.Contains([]string{".md", ".yaml", ".json"}, filepath.Ext(path)) {
				return err
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			short, err := filepath.Rel(root, path)
			if err != nil {
				return err
			}
			read(short, string(text))
			return nil
		})
		if err != nil {
			return fmt.Errorf("read the documents: %w", err)
		}
	}
	return nil
}
