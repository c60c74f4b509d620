// Command metricnames holds the names of metrics that labelstream's code
// declares against those that its documentation, rules and dashboards use, and
// fails where either has one that the other lacks. Its argument is the
// repository's root.
package main

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

func main() {
	root := "."
	if len(os.Args) > 1 {
		root = os.Args[1]
	}
	mistakes, err := compare(root)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	for _, mistake := range mistakes {
		fmt.Fprintln(os.Stderr, mistake)
	}
	if len(mistakes) > 0 {
		os.Exit(1)
	}
}

var (
	// wholeName is a string of the code that is a metric's name and nothing else.
	wholeName = regexp.MustCompile(`"(labelstream_[a-z0-9_]*[a-z0-9])"`)
	// anyName is a name in a text, with what a histogram's series have behind it. The
	// prefix alone is that of all.
	anyName   = regexp.MustCompile(`\blabelstream_[a-z0-9_]+`)
	histogram = regexp.MustCompile(`_(bucket|sum|count)$`)
)

// reference is the document that promises all metrics.
const reference = "docs/operations.md"

// compare returns a line for each name that is used and not declared, and for
// each that is declared and that the reference does not name.
func compare(root string) (mistakes []string, err error) {
	code := make(map[string]string) // to where each is
	err = lines(root, ".", []string{".go"}, func(at, line string) {
		for _, found := range wholeName.FindAllStringSubmatch(line, -1) {
			code[found[1]] = at
		}
	})
	if err != nil {
		return nil, err
	}
	if len(code) == 0 {
		return nil, fmt.Errorf("read the code: %s has none with metrics; run this with the repository's root", root)
	}
	documented := make(map[string]bool)
	// Not CHANGELOG.md, which is about names that were.
	for _, top := range []string{"README.md", "docs", "manifests"} {
		err := lines(root, top, []string{".md", ".yaml", ".json"}, func(at, line string) {
			for _, name := range anyName.FindAllString(line, -1) {
				if code[name] == "" && code[histogram.ReplaceAllString(name, "")] == "" {
					mistakes = append(mistakes, fmt.Sprintf("%s: %s is no metric of the code", at, name))
				}
				if strings.HasPrefix(at, reference+":") {
					documented[name] = true
				}
			}
		})
		if err != nil {
			return nil, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(code)) {
		if !documented[name] {
			mistakes = append(mistakes, fmt.Sprintf("%s: %s is not in %s", code[name], name, reference))
		}
	}
	return mistakes, nil
}

// lines reads the files below a top directory whose names end so, but no tests and
// no other modules, line by line.
func lines(root, top string, extensions []string, read func(at, line string)) error {
	return filepath.WalkDir(filepath.Join(root, top), func(path string, entry fs.DirEntry, err error) error {
		short, _ := filepath.Rel(root, path)
		switch {
		case err != nil:
			return fmt.Errorf("read the repository: %w", err)
		case entry.IsDir() && short != "." && isModule(path), entry.IsDir() && entry.Name() == ".git":
			return filepath.SkipDir
		case entry.IsDir(), !slices.Contains(extensions, filepath.Ext(path)), strings.HasSuffix(path, "_test.go"):
			return nil
		}
		text, err := os.ReadFile(path)
		for i, line := range strings.Split(string(text), "\n") {
			read(fmt.Sprintf("%s:%d", short, i+1), line)
		}
		return err
	})
}

func isModule(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "go.mod"))
	return err == nil
}
