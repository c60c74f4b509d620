// Command metricnames holds the names of metrics that labelstream's code
// declares against those that its documentation, rules and dashboards use, and
// fails where either has one that the other lacks. Its argument is the
// repository's root.
package main

import (
	"fmt"
	"os"
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
