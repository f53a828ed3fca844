package command

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cairn-build/cairn/builder/sandbox"
)

const autoIsolation = "auto"

// isolations lists the values of --isolation.
func isolations() []string {
	list := []string{autoIsolation}
	for _, mode := range sandbox.Modes() {
		list = append(list, string(mode))
	}
	return list
}

// isolationFlag adds --isolation, which applies to all commands that open the
// store: the owners of its files depend on the mode.
func isolationFlag(c *cobra.Command, to *string) {
	parsedFlag(c.PersistentFlags(), "isolation", "", strings.Join(isolations(), "|"), "Isolation mode of steps (default $CAIRN_ISOLATION, or auto: the strongest available)", func(s string) error {
		_, err := parseIsolation(s)
		*to = s
		return err
	})
	completeFlag(c, "isolation", isolations()...)
}

// parseIsolation parses a value of --isolation. It returns "" for auto.
func parseIsolation(s string) (sandbox.Mode, error) {
	switch s {
	case "", autoIsolation, "default", "oci": // the last two are the defaults of docker and buildah
		return "", nil
	}
	for _, mode := range sandbox.Modes() {
		if s == string(mode) {
			return mode, nil
		}
	}
	return "", fmt.Errorf("want one of %s", strings.Join(isolations(), ", "))
}

// enter enters the sandbox in the requested isolation mode, which may execute the
// program again in a user namespace. Only the first call has an effect.
func (p *Program) enter() (sandbox.Isolation, error) {
	if p.entered != nil {
		return *p.entered, nil
	}
	text := p.isolation
	if text == "" {
		text = os.Getenv("CAIRN_ISOLATION")
	}
	mode, err := parseIsolation(text)
	if err != nil { // the flag has been checked
		return sandbox.Isolation{}, usagef("$CAIRN_ISOLATION %q: %w", text, err)
	}
	isolation, err := sandbox.Enter(mode)
	if err == nil && (isolation.Mode == sandbox.Chroot || isolation.MayChroot()) {
		err = p.killStrays()
	}
	if err == nil {
		p.entered = &isolation
	}
	return isolation, err
}

// killStrays ends the processes that the steps of a killed build left running.
func (p *Program) killStrays() error {
	dir, err := p.storeDir()
	if err != nil {
		return err
	}
	return sandbox.RecoverChroot(dir)
}
