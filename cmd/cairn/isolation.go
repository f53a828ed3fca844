package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cairn-build/cairn/builder/sandbox"
)

const autoIsolation = "auto"

// isolations are the values of --isolation.
func isolations() []string {
	out := []string{autoIsolation}
	for _, r := range sandbox.Rungs() {
		out = append(out, string(r))
	}
	return out
}

// isolationFlag adds a flag for all commands that open the store: the files in it
// belong to the rung that made them.
func (a *app) isolationFlag(c *cobra.Command) {
	c.PersistentFlags().Var(&parsed{kind: strings.Join(isolations(), "|"), set: func(s string) error {
		_, err := rungOf(s)
		a.rung = s
		return err
	}}, "isolation", "keep steps apart from the machine in this way and no other (default $CAIRN_ISOLATION, or auto: the best there is)")
	_ = c.RegisterFlagCompletionFunc("isolation", cobra.FixedCompletions(isolations(), cobra.ShellCompDirectiveNoFileComp))
}

// rungOf reads a value of --isolation; auto is "".
func rungOf(s string) (sandbox.Rung, error) {
	if s == autoIsolation || s == "" {
		return "", nil
	}
	for _, r := range sandbox.Rungs() {
		if s == string(r) {
			return r, nil
		}
	}
	return "", fmt.Errorf("want one of %s", strings.Join(isolations(), ", "))
}

// enter takes the rung of isolation that was asked for, once.
func (a *app) enter() (sandbox.Isolation, error) {
	if a.at != nil {
		return *a.at, nil
	}
	text := a.rung
	if text == "" {
		text = os.Getenv("CAIRN_ISOLATION")
	}
	rung, err := rungOf(text)
	if err != nil { // the flag has been looked at
		return sandbox.Isolation{}, usagef("$CAIRN_ISOLATION %q: %w", text, err)
	}
	at, err := sandbox.Enter(rung)
	if err == nil && at.Rung == sandbox.Chroot {
		err = a.sweep()
	}
	if err == nil {
		a.at = &at
	}
	return at, err
}

// sweep ends what steps of a build that was killed have left running.
func (a *app) sweep() error {
	dir, err := a.storeDir()
	if err != nil {
		return err
	}
	return sandbox.SweepStrays(dir)
}
