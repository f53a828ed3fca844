package command

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cairn-build/cairn/builder/sandbox"
)

// capabilities has the values of --cap-add and --cap-drop: names without CAP_.
type capabilities struct{ add, drop []string }

const allCapabilities = "ALL"

// parseCapabilities parses a list of names, which may have the prefix CAP_.
func parseCapabilities(s string) (names []string, err error) {
	for name := range strings.SplitSeq(s, ",") {
		name = strings.TrimPrefix(strings.ToUpper(name), "CAP_")
		if name != allCapabilities && !slices.Contains(sandbox.Capabilities(), name) {
			return nil, fmt.Errorf("there is no capability %q", name)
		}
		names = append(names, name)
	}
	return names, nil
}

// addCapabilities adds capabilities that a step may have.
func addCapabilities(b *buildCommand, s string) error {
	names, err := parseCapabilities(s)
	for _, name := range names {
		if !slices.Contains(sandbox.StepCapabilities(), name) {
			return fmt.Errorf("a step can't have %s: use --allow security.insecure with RUN --security=insecure", name)
		}
	}
	b.peer.capabilities.add = append(b.peer.capabilities.add, names...)
	return err
}

func dropCapabilities(b *buildCommand, s string) error {
	names, err := parseCapabilities(s)
	b.peer.capabilities.drop = append(b.peer.capabilities.drop, names...)
	return err
}

// dropped returns the sorted names of the capabilities that no step has.
func (c *capabilities) dropped() ([]string, error) {
	drop := slices.Clone(c.drop)
	if slices.Contains(drop, allCapabilities) {
		drop = slices.DeleteFunc(sandbox.Capabilities(), func(name string) bool { return slices.Contains(c.add, name) })
	}
	for _, name := range c.add {
		if slices.Contains(drop, name) {
			return nil, usagef("--cap-add and --cap-drop both name %s", name)
		}
	}
	slices.Sort(drop)
	return slices.Compact(drop), nil
}

// addGroup adds a group of the user of each step.
func addGroup(b *buildCommand, s string) error {
	for name := range strings.SplitSeq(s, ",") {
		switch name {
		case "":
			return errors.New("want the name or number of a group")
		case "keep-groups":
			return errors.New("steps can't keep the groups of the user who builds: name a group of the image")
		}
		b.options.Groups = append(b.options.Groups, name)
	}
	return nil
}

// applyStepFlags applies the flags of other builders for each RUN.
func (b *buildCommand) applyStepFlags() (err error) {
	o := &b.options
	if o.NoHosts && len(o.AddHosts) > 0 {
		return usagef("--no-hosts and --add-host exclude each other")
	}
	if o.DropCaps, err = b.peer.capabilities.dropped(); err != nil {
		return err
	}
	o.ResolvConf, err = b.peer.dns.file()
	return err
}
