// SPDX-License-Identifier: Apache-2.0

package app

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"labelstream/app/inspect"
	"labelstream/config"
)

// Flags is what the command line says.
type Flags struct {
	// Command is the one of the table, "" for the daemon.
	Command string
	// Once reads and sends everything once. DryRun does too, but prints instead
	// of sending.
	Once, DryRun bool
	// Version asks for the version.
	Version bool
	// NoSend leaves out the check that sends a sample.
	NoSend bool
	// Output is the format of a command that has several.
	Output string
	// Kubeconfig is a file, or "" for the usual places. Context is one of the file's,
	// or "" for its current one.
	Kubeconfig, Context string
	// Settings are those that flags give.
	Settings []config.Flag
	// Inspect are the flags of that command.
	Inspect inspect.Options
}

// once reports whether the run ends by itself.
func (f *Flags) once() bool { return f.Once || f.DryRun || f.Command == "inspect" }

// SendsNothing reports whether a destination is not needed.
func (f *Flags) SendsNothing() bool {
	return f.DryRun || f.NoSend || f.Command == "rbac" || f.Command == "inspect"
}

// settingFlags set what people type. One may set two settings.
var settingFlags = []struct {
	name, short, usage string
	settings           []string
}{
	{"destination", "", "remote_write `URL` to send to", []string{"DESTINATION"}},
	{"preset", "", "`receiver` whose limits and habits are the defaults", []string{"PRESET"}},
	// Resources of annotations are not read while annotations are off.
	{"resources", "", "`kinds` whose labels, and annotations if enabled, are sent", []string{"LABELS_RESOURCES", "ANNOTATIONS_RESOURCES"}},
	{"include", "", "`keys` of labels to send, as regular expressions", []string{"LABELS_FILTERS"}},
	{"exclude", "", "`keys` of labels to leave out, as regular expressions", []string{"LABELS_EXCLUDE"}},
	{"namespaces", "n", "`namespaces` to read; all without it", []string{"NAMESPACES"}},
}

// presetNames are the values of the flag preset.
var presetNames = []string{
	string(config.PresetCloudZero), string(config.PresetPrometheus), string(config.PresetMimir), string(config.PresetVictoriaMetrics),
}

// clusterFlags say how to reach the API server.
var clusterFlags = []string{"kubeconfig", "context"}

// newFlags returns the flags of all commands, which write to f.
func newFlags(f *Flags) *pflag.FlagSet {
	set := pflag.NewFlagSet("labelstream", pflag.ContinueOnError)
	set.SortFlags = false
	set.BoolVar(&f.Once, "once", false, "read and send everything once, then end; of rbac and check, what such a run needs")
	set.BoolVar(&f.DryRun, "dry-run", false, "send nothing; print each series of one backfill on standard output")
	set.BoolVar(&f.Version, "version", false, "print the version and end")
	set.BoolVar(&f.NoSend, "no-send", false, "leave out the destination, to which a sample of labelstream_check is sent")
	set.StringVarP(&f.Output, "output", "o", "", "`format` of the output")
	set.StringVar(&f.Inspect.Kind, "kind", "", "show the keys of this `kind` alone")
	set.StringVar(&f.Inspect.Key, "key", "", "show the `keys` that match this regular expression")
	set.Float64Var(&f.Inspect.MinCoverage, "min-coverage", 0, "show the keys that so many `percent` of the objects have")
	set.BoolVar(&f.Inspect.NoExamples, "no-examples", false, "show no values")
	set.BoolVar(&f.Inspect.ShowAnnotations, "show-annotations", false, "show values of annotations, which may hold what is nobody's business")
	set.BoolP("help", "h", false, "print the help and end")
	for _, row := range settingFlags {
		set.StringArrayP(row.name, row.short, nil, row.usage+" (LABELSTREAM_"+strings.Join(row.settings, ", LABELSTREAM_")+")")
	}
	set.StringVar(&f.Kubeconfig, "kubeconfig", "", "`file` that says how to reach the API server; without it KUBECONFIG, the pod's service account, ~/.kube/config")
	set.StringVar(&f.Context, "context", "", "`name` of a context of that file; without it the current one")
	return set
}

// ParseFlags reads the arguments. Where they ask for help or completion, it is
// written to stdout, and the error is [pflag.ErrHelp].
func ParseFlags(args []string, stdout io.Writer) (Flags, error) {
	var f Flags
	set := newFlags(&f)
	if err := set.Parse(longFlags(set, args)); err != nil {
		return f, explain(set, err)
	}
	c, arg, err := findCommand(set.Args())
	if c != nil && set.Changed("help") {
		return f, errors.Join(pflag.ErrHelp, c.printHelp(stdout))
	}
	if err == nil {
		err = c.checkFlags(set, &f)
	}
	switch {
	case err != nil:
		return f, err
	case c.name == "help":
		return f, errors.Join(pflag.ErrHelp, named(arg).printHelp(stdout))
	case c.name == "completion":
		return f, errors.Join(pflag.ErrHelp, printCompletion(stdout, arg))
	}
	f.Command = c.name
	f.Once = f.Once || c.name == "once"
	f.Version = f.Version || c.name == "version"
	f.Settings = settingsOf(set)
	return f, nil
}

// longFlags gives long flags with one dash, as they could be written before, the
// second one.
func longFlags(set *pflag.FlagSet, args []string) []string {
	args = slices.Clone(args)
	for i, arg := range args {
		name, _, _ := strings.Cut(strings.TrimPrefix(arg, "-"), "=")
		if arg == "--" {
			break
		}
		if len(name) > 1 && name[0] != '-' && arg[0] == '-' && set.Lookup(name) != nil {
			args[i] = "-" + arg
		}
	}
	return args
}

// explain names the flag that was meant.
func explain(set *pflag.FlagSet, err error) error {
	unknown, ok := errors.AsType[*pflag.NotExistError](err)
	if !ok || unknown.GetSpecifiedShortnames() != "" {
		return fmt.Errorf("%w; --help lists the flags", err)
	}
	var names []string
	set.VisitAll(func(flag *pflag.Flag) { names = append(names, flag.Name) })
	return fmt.Errorf("unknown flag --%s; the closest is --%s, and --help lists all", unknown.GetSpecifiedName(), config.Closest(unknown.GetSpecifiedName(), names))
}

// flagGroups are the flags of a command in the order of its help.
func (c *command) flagGroups() (own, settings, cluster []string) {
	own = append(slices.Clone(c.flags), "help")
	if !c.settings {
		return own, nil, nil
	}
	for _, row := range settingFlags {
		settings = append(settings, row.name)
	}
	return own, settings, clusterFlags
}

func (c *command) flagNames() []string { return slices.Concat(c.flagGroups()) }

// checkFlags refuses flags that the command does not take, and chooses the format.
func (c *command) checkFlags(set *pflag.FlagSet, f *Flags) (err error) {
	set.Visit(func(flag *pflag.Flag) {
		if err == nil && !slices.Contains(c.flagNames(), flag.Name) {
			err = fmt.Errorf("%s does not take --%s; %[1]s --help lists its flags", c.line(), flag.Name)
		}
	})
	if err != nil || c.outputs == nil {
		return err
	}
	if !set.Changed("output") {
		f.Output = c.outputs[0]
	}
	if !slices.Contains(c.outputs, f.Output) {
		return fmt.Errorf("--output=%q; %s has %s", f.Output, c.name, strings.Join(c.outputs, ", "))
	}
	f.Inspect.Output = f.Output
	if c.name != "inspect" {
		return nil
	}
	return f.Inspect.Validate()
}

// settingsOf are those that were given. A flag that is repeated gives a list.
func settingsOf(set *pflag.FlagSet) (given []config.Flag) {
	for _, row := range settingFlags {
		if !set.Changed(row.name) {
			continue
		}
		// It fails for no flag of this type.
		values, _ := set.GetStringArray(row.name)
		for _, setting := range row.settings {
			given = append(given, config.Flag{Name: row.name, Setting: setting, Value: strings.Join(values, ",")})
		}
	}
	return given
}
