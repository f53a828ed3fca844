package kaniko

import (
	"fmt"
	"slices"
	"strings"
)

// FlagTable returns a table of flags in Markdown, sorted by name.
func FlagTable(flags []Flag) string {
	flags = slices.Clone(flags)
	slices.SortFunc(flags, func(a, b Flag) int { return strings.Compare(a.Name, b.Name) })
	var b strings.Builder
	b.WriteString("| kaniko | | Cairn |\n|---|---|---|\n")
	for _, f := range flags {
		name := "`--" + f.Name + "`"
		if f.Short != "" {
			name = "`-" + f.Short + "`, " + name
		}
		if f.Old != "" {
			name += ", `--" + f.Old + "`"
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", name, f.Treatment, f.Cairn)
	}
	return b.String()
}
