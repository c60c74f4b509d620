// SPDX-License-Identifier: Apache-2.0

package app

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/pflag"

	"labelstream/config"
)

// printHelp writes the help of a command, and without one that of the settings.
func (c *command) printHelp(w io.Writer) error {
	if c == nil {
		return config.Usage(w)
	}
	var text strings.Builder
	usage := c.line()
	switch {
	case c.name == "" || c.name == "help":
		usage += " [command]"
	case c.args != nil:
		usage += " " + strings.Join(c.args, "|")
	}
	fmt.Fprintf(&text, "%s\n\nUsage:\n  %s [flags]\n", c.summary, usage)
	if c.name == "" || c.name == "help" {
		printCommands(&text)
	}
	if c.examples != "" {
		fmt.Fprintf(&text, "\nExamples:%s\n", c.examples)
	}
	own, settings, cluster := c.flagGroups()
	c.printFlags(&text, "Flags", own)
	c.printFlags(&text, "Flags for settings, before the environment and the preset", settings)
	c.printFlags(&text, "Flags for the API server", cluster)
	text.WriteString("\nlabelstream help settings lists the settings in the environment, labelstream COMMAND --help a command's flags.\n")
	_, err := io.WriteString(w, text.String())
	return err
}

func printCommands(text *strings.Builder) {
	group := ""
	for _, c := range commands[1:] {
		if c.group != group {
			group = c.group
			fmt.Fprintf(text, "\n%s:\n", group)
		}
		fmt.Fprintf(text, "  %-12s%s\n", c.name, c.summary)
	}
}

// printFlags writes those of a group, with the command's formats.
func (c *command) printFlags(text *strings.Builder, title string, names []string) {
	all, group := newFlags(new(Flags)), pflag.NewFlagSet("", pflag.ContinueOnError)
	group.SortFlags = false
	for _, name := range names {
		flag := all.Lookup(name)
		if values := c.values(name); values != nil {
			flag.Usage, flag.DefValue = flag.Usage+": "+strings.Join(values, ", "), values[0]
		}
		group.AddFlag(flag)
	}
	if names != nil {
		fmt.Fprintf(text, "\n%s:\n%s", title, group.FlagUsages())
	}
}
