package command

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

// attributeFlags adds the flags that stand for an attribute of all targets.
func (b *bakeCommand) attributeFlags(c *cobra.Command) {
	f := c.Flags()
	for _, flag := range []struct{ name, usage string }{
		{"push", "Push the images: shorthand for --set=*.push=true"},
		{"no-cache", "Do not use cache when building the images"},
		{"pull", "Resolve base images in their registry even if the store has them"},
	} {
		b.attributeFlag(c, flag.name, "bool", flag.usage, "true", func(s string) (string, error) {
			on, err := strconv.ParseBool(s)
			if err != nil {
				return "", errors.New("want true or false")
			}
			return flag.name + "=" + strconv.FormatBool(on), nil
		})
	}
	engines := engineNames()
	b.attributeFlag(c, "load", strings.Join(engines, "|"), "Load the images into Docker, Podman or containerd: shorthand for --set=*.load=true", engines[0], func(s string) (string, error) {
		on, err := strconv.ParseBool(s)
		if err != nil && !slices.Contains(engines, s) {
			return "", fmt.Errorf("want true, false or one of %s", strings.Join(engines, ", "))
		}
		if err != nil {
			b.engine = s
		}
		return "load=" + strconv.FormatBool(on || err != nil), nil
	})
	b.attributeFlag(c, "call", "METHOD[,format=json]", "Set method for evaluating targets: build, check (lint warnings), outline (parameters) or targets (stages)", "", func(s string) (string, error) {
		return "call=" + s, nil
	})
	b.attributeFlag(c, "check", "bool", "Shorthand for --call=check", "true", func(s string) (string, error) {
		on, err := strconv.ParseBool(s)
		if err != nil {
			return "", errors.New("want true or false")
		}
		if !on {
			return "call=build", nil
		}
		return "call=lint", nil
	})
	for _, name := range []string{"provenance", "sbom"} {
		b.attributeFlag(c, name, "bool", "Attestations are not supported yet: only false is accepted", "true", func(s string) (string, error) {
			on, err := strconv.ParseBool(s)
			switch {
			case err != nil:
				return "attest=type=" + name + "," + s, nil
			case on:
				return "attest=type=" + name, nil
			}
			return "attest=type=" + name + ",disabled=true", nil
		})
		f.Lookup(name).Hidden = true
	}
	repeatedFlag(f, "builder", "", "NAME", "cairn builds by itself and has no builder instances", func(string) error {
		return errors.New("cairn builds by itself and has no builder instances: leave it out")
	})
	f.Lookup("builder").Hidden = true
}

// attributeFlag adds a flag that overrides an attribute of all targets.
func (b *bakeCommand) attributeFlag(c *cobra.Command, name, kind, usage, noValue string, override func(string) (string, error)) {
	repeatedFlag(c.Flags(), name, "", kind, usage, func(s string) error {
		text, err := override(s)
		if err == nil {
			b.attributes = append(b.attributes, "*."+text)
		}
		return err
	})
	c.Flags().Lookup(name).NoOptDefVal = noValue
}
