package command

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cairn-build/cairn/registry/reference"
)

// exactArgs requires the named arguments.
func exactArgs(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return usagef("%s is missing: want %s", names[len(args)], strings.Join(names, " "))
		case len(args) > len(names) && len(names) == 0:
			return usagef("unexpected argument %q: the command has no arguments", args[0])
		case len(args) > len(names):
			return usagef("unexpected argument %q: want only %s", args[len(names)], strings.Join(names, " "))
		}
		return nil
	}
}

// optionalArg allows the named argument.
func optionalArg(name string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) > 1 {
			return usagef("unexpected argument %q: want only %s", args[1], name)
		}
		return nil
	}
}

// nameAndArgs requires NAME, an image reference, and one or more of the named
// arguments, which are images.
func nameAndArgs(name string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) < 2 {
			return usagef("%s is missing: want NAME %s...", []string{"NAME", name}[len(args)], name)
		}
		if err := checkReferenceArg(args[0]); err != nil {
			return err
		}
		for _, arg := range args[1:] {
			if err := checkImageArg(strings.TrimPrefix(arg, "docker://")); err != nil {
				return err
			}
		}
		return nil
	}
}

// imageArgs requires one or more images of the store.
func imageArgs(_ *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usagef("IMAGE is missing")
	}
	for _, arg := range args {
		if err := checkImageArg(arg); err != nil {
			return err
		}
	}
	return nil
}

// checkImageArg returns a usage error if the argument is neither an image reference nor
// the beginning of an image's ID.
func checkImageArg(s string) error {
	if isID(s) {
		return nil
	}
	return checkReferenceArg(s)
}

// isID reports whether a word can be the beginning of an image's ID.
func isID(s string) bool {
	s = strings.TrimPrefix(s, "sha256:")
	return len(s) >= 6 && strings.Trim(s, "0123456789abcdef") == ""
}

// checkReferenceArg returns a usage error if the argument is not an image reference.
func checkReferenceArg(s string) error {
	if _, err := reference.Normalize(s); err != nil {
		return &UsageError{err}
	}
	return nil
}

// subcommandArg rejects the argument of a command that only has subcommands.
func subcommandArg(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	err := fmt.Errorf("unknown command %q for %q", args[0], c.CommandPath())
	if suggestions := c.SuggestionsFor(args[0]); len(suggestions) > 0 {
		err = fmt.Errorf("%w (did you mean %s?)", err, suggestions[0])
	}
	return &UsageError{err}
}

// checkOptionalValues makes the commands below c refuse a value of --history or --load that
// is a word of its own: it would be taken for an argument.
func checkOptionalValues(c *cobra.Command) {
	for _, sub := range c.Commands() {
		checkOptionalValues(sub)
	}
	check := c.Args
	if check == nil || c.Flags().Lookup("history") == nil && c.Flags().Lookup("load") == nil {
		return
	}
	c.Args = func(c *cobra.Command, args []string) error {
		if len(args) > 1 {
			if _, err := strconv.Atoi(args[0]); err == nil {
				if err := misplacedValue(c, "history", args[0]); err != nil {
					return err
				}
			}
			if slices.Contains(engineNames(), args[0]) {
				if err := misplacedValue(c, "load", args[0]); err != nil {
					return err
				}
			}
		}
		return check(c, args)
	}
}

// misplacedValue returns an error if a flag was given without its optional value.
func misplacedValue(c *cobra.Command, name, value string) error {
	f := c.Flags().Lookup(name)
	if f == nil || !f.Changed || f.Value.String() != f.NoOptDefVal {
		return nil
	}
	return usagef("--%s takes its value with a sign: --%s=%s", name, name, value)
}
