package command

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// release is the version of a program that was built without git, as from an archive
// of the source.
const release = "0.1.0-dev"

// version and commit are set by the linker: make build takes them from git.
var version, commit string

func newVersion(p *Program) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Show the version, commit and Go version",
		Example: "  cairn version",
		Args:    exactArgs(),
		RunE: p.action(func(context.Context, []string) error {
			text := fmt.Sprintf("cairn %s %s %s/%s\n", versionText(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			if c := commitText(); c != "" {
				text += "commit " + c + "\n"
			}
			_, err := fmt.Fprint(p.Stdout, text)
			return err
		}),
	}
}

// versionText returns the version that the program was linked with, or that of the
// module, which go install records.
func versionText() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return release
	}
	return info.Main.Version
}

// commitText returns the commit that the program was built from, or "" if it is not
// known. It ends with "-dirty" if the source was modified.
func commitText() string {
	if commit != "" {
		return commit
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	return vcsRevision(info.Settings)
}

// vcsRevision returns the commit in the build settings of a program.
func vcsRevision(settings []debug.BuildSetting) string {
	values := map[string]string{}
	for _, s := range settings {
		values[s.Key] = s.Value
	}
	revision := values["vcs.revision"]
	if revision != "" && strings.EqualFold(cmp.Or(values["vcs.modified"], "false"), "true") {
		revision += "-dirty"
	}
	return revision
}
