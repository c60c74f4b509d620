// SPDX-License-Identifier: Apache-2.0

package app

import (
	"fmt"
	"slices"
	"strings"

	"labelstream/app/inspect"
	"labelstream/config"
)

// command is a row of the table that parsing, help and completion come from.
type command struct {
	name, group, summary string
	// settings says that it runs with the settings, and takes their flags too.
	settings bool
	// flags are the names of its own flags, args the arguments of which it takes one,
	// outputs its formats, with the default one first.
	flags, args, outputs []string
	examples             string
}

const (
	beforeSending = "Before you send"
	sending       = "Send"
	other         = "Other commands"
)

// commands has the daemon first, which has no name.
var commands = []command{
	{summary: "labelstream sends the labels and annotations of a cluster's objects as Prometheus remote_write.\n" +
		"Without a command it stays: it sends everything, and then what changes.",
		settings: true, flags: []string{"once", "dry-run", "version"}, examples: `
  # Which series would be sent?
  labelstream --dry-run | head

  # Send those of pods and deployments to a Prometheus, and stay
  labelstream --preset=prometheus --destination=http://localhost:9090/api/v1/write --resources=pods,deployments`},
	{name: "inspect", group: beforeSending, summary: "show which keys there are, and which are worth sending; nothing is sent",
		settings: true, flags: []string{"output", "kind", "key", "min-coverage", "no-examples", "show-annotations"},
		outputs: inspect.Outputs, examples: `
  # Which keys have most of the deployments?
  labelstream inspect --resources=deployments --min-coverage=50

  # A page for colleagues
  labelstream inspect --preset=mimir -o html >keys.html`},
	{name: "check", group: beforeSending, summary: "tell whether it will work here: API server, resources, rights, destination, webhook",
		settings: true, flags: []string{"output", "no-send", "once"}, outputs: []string{"text", "json"}, examples: `
  # Everything, with one sample of labelstream_check for the destination
  labelstream check --destination=http://localhost:9090/api/v1/write

  # What a run with --once needs, without the destination, for a script
  labelstream check --once --no-send -o json`},
	{name: "rbac", group: beforeSending, summary: "print the roles that a run with the same settings and flags needs, for kubectl apply",
		settings: true, flags: []string{"once", "dry-run"}, examples: `
  # Grant the rights of the daemon
  labelstream rbac | kubectl apply -f -

  # Those of a run with --once, in one namespace
  labelstream rbac --once --namespaces=shop`},
	{name: "once", group: sending, summary: "read and send everything once, then end", settings: true, flags: []string{"once", "dry-run"}, examples: `
  # Send the labels team and owner of all namespaces and pods
  labelstream once --destination=http://localhost:9090/api/v1/write --include='^team$' --include='^owner$'`},
	{name: "completion", group: other, summary: "print the script that completes commands and flags in a shell", args: []string{"bash", "zsh", "fish"}, examples: `
  # For this shell
  source <(labelstream completion bash)

  # For each fish from now on
  labelstream completion fish >~/.config/fish/completions/labelstream.fish`},
	{name: "help", group: other, summary: "describe a command, or the settings in the environment", args: []string{"settings"}, examples: `
  # All settings of the environment, with their defaults
  labelstream help settings`},
	{name: "version", group: other, summary: "print the version"},
}

// findCommand returns the command that the words name, and its argument. The
// command is there with the error of an argument, too.
func findCommand(words []string) (c *command, arg string, err error) {
	if len(words) == 0 {
		return &commands[0], "", nil
	}
	names := commandNames()
	if !slices.Contains(names, words[0]) {
		return nil, "", fmt.Errorf("unknown command %q; the closest is %s, and --help lists all", words[0], config.Closest(words[0], names))
	}
	c, words = named(words[0]), words[1:]
	switch accepted := c.accepts(); {
	case len(words) == 0 && c.name != "completion":
		return c, "", nil
	case accepted == nil:
		return c, "", fmt.Errorf("%s takes no argument, and %q is one", c.line(), words[0])
	case len(words) != 1 || !slices.Contains(accepted, words[0]):
		return c, "", fmt.Errorf("%s: want one of %s", strings.Join(append([]string{c.line()}, words...), " "), strings.Join(accepted, ", "))
	}
	return c, words[0], nil
}

// accepts are the arguments of which the command takes one; for the daemon, a command.
func (c *command) accepts() []string {
	if c.name == "" || c.name == "help" {
		return slices.Concat(commandNames(), c.args)
	}
	return slices.Clone(c.args)
}

// values are the ones that a flag of the command accepts, nil where it is any.
func (c *command) values(flag string) []string {
	switch flag {
	case "output":
		return c.outputs
	case "preset":
		return presetNames
	}
	return nil
}

// named returns the command of a name, nil where none has it.
func named(name string) *command {
	for i := range commands {
		if commands[i].name == name {
			return &commands[i]
		}
	}
	return nil
}

func commandNames() []string {
	var names []string
	for _, c := range commands[1:] {
		names = append(names, c.name)
	}
	return names
}

// line is how the command begins.
func (c *command) line() string { return strings.TrimSpace("labelstream " + c.name) }
