package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"

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
