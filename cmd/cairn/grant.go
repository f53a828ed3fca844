package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/cairn-build/cairn/builder/agent"
	"github.com/cairn-build/cairn/builder/plan"
)

// allowFlag reads privileges; several may be given with commas between.
func allowFlag(f *pflag.FlagSet, to *[]string) {
	known := []string{plan.AllowInsecure, plan.AllowHostNetwork}
	eachVar(f, "allow", "", "PRIVILEGE", "let a RUN ask for "+strings.Join(known, " or "), func(text string) error {
		for p := range strings.SplitSeq(text, ",") {
			if !slices.Contains(known, p) {
				return fmt.Errorf("%q is no privilege: want %s", p, strings.Join(known, " or "))
			}
			*to = append(*to, p)
		}
		return nil
	})
}

// sshFlag reads where an ssh agent is.
func sshFlag(f *pflag.FlagSet, to *[]agent.Source) {
	eachVar(f, "ssh", "", "default|ID[=SOCKET|KEY,...]", "let a RUN use an ssh agent or keys, with --mount=type=ssh", func(text string) error {
		s, err := agent.Parse(text)
		*to = append(*to, s)
		return err
	})
}
