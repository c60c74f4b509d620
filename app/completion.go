// SPDX-License-Identifier: Apache-2.0

package app

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// bashCompletion offers words for what stands before: a flag that has certain values,
// or else the command. No words are files. zsh runs it, too.
const bashCompletion = `_labelstream() {
  local before=" ${COMP_WORDS[*]:1:$((COMP_CWORD-1))} " offer
  case "${before/%% = / }" in
%s  esac
  COMPREPLY=($(compgen -W "$offer" -- "${COMP_WORDS[COMP_CWORD]#=}"))
}
complete -o default -F _labelstream labelstream
`

const zshHeader = "autoload -U +X compinit bashcompinit && compinit && bashcompinit\n"

// printCompletion writes the script of a shell.
func printCompletion(w io.Writer, shell string) error {
	script := bashScript()
	switch shell {
	case "zsh":
		script = zshHeader + script
	case "fish":
		script = fishScript()
	}
	_, err := io.WriteString(w, script)
	return err
}

func bashScript() string {
	var cases strings.Builder
	set := newFlags(new(Flags))
	for _, c := range slices.Concat(commands[1:], commands[:1]) {
		begin, words := "*", c.accepts()
		if c.name != "" {
			begin = "*' " + c.name + "'*"
		}
		for _, name := range c.flagNames() {
			words = append(words, "--"+name)
			flag := set.Lookup(name)
			if flag.NoOptDefVal != "" {
				continue // it takes no value
			}
			pattern := begin + "' --" + name + " '"
			if flag.Shorthand != "" {
				pattern += "|" + begin + "' -" + flag.Shorthand + " '"
			}
			fmt.Fprintf(&cases, "  %s) offer='%s' ;;\n", pattern, strings.Join(c.values(name), " "))
		}
		fmt.Fprintf(&cases, "  %s) offer='%s' ;;\n", strings.Replace(begin, "'*", " '*", 1), strings.Join(words, " "))
	}
	return fmt.Sprintf(bashCompletion, &cases)
}

var fishQuote = strings.NewReplacer(`\`, `\\`, `'`, `\'`)

func fishScript() string {
	var text strings.Builder
	set := newFlags(new(Flags))
	for _, c := range commands {
		condition := "__fish_use_subcommand"
		if c.name != "" {
			fmt.Fprintf(&text, "complete -c labelstream -n %s -fa %s -d '%s'\n", condition, c.name, fishQuote.Replace(c.summary))
			condition = "'__fish_seen_subcommand_from " + c.name + "'"
			if c.accepts() != nil {
				fmt.Fprintf(&text, "complete -c labelstream -n %s -fa '%s'\n", condition, strings.Join(c.accepts(), " "))
			}
		}
		for _, name := range c.flagNames() {
			flag := set.Lookup(name)
			fmt.Fprintf(&text, "complete -c labelstream -n %s -l %s", condition, name)
			if flag.Shorthand != "" {
				fmt.Fprintf(&text, " -s %s", flag.Shorthand)
			}
			switch values := c.values(name); {
			case values != nil:
				fmt.Fprintf(&text, " -xa '%s'", strings.Join(values, " "))
			case flag.NoOptDefVal == "":
				text.WriteString(" -r")
			}
			_, usage := pflag.UnquoteUsage(flag)
			fmt.Fprintf(&text, " -d '%s'\n", fishQuote.Replace(usage))
		}
	}
	return text.String()
}
