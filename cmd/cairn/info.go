package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/cairn-build/cairn/builder/sandbox"
	"github.com/cairn-build/cairn/layer/store"
)

// machine is what info shows; its fields are those of --format.
type machine struct {
	Version string         `json:"version"`
	Go      string         `json:"go"`
	Store   string         `json:"store"`
	User    string         `json:"user"`
	Sandbox sandbox.Report `json:"sandbox"`
	Usage   store.Usage    `json:"usage"`
}

func (a *app) info() *cobra.Command {
	var format string
	c := &cobra.Command{
		Use:   "info [flags]",
		Short: "Show what this machine grants and what the store holds",
		Long: `Info finds out, by trying, how steps can be kept apart from the machine here and
how their changes are found, what is missing for better, and how to grant it.`,
		Example: `  cairn info
  cairn info --format '{{.Sandbox.Rung}}'`,
		Args: takes(),
	}
	c.RunE = a.does(func(context.Context, []string) error {
		m, err := a.survey()
		switch {
		case err != nil:
			return err
		case format == "json":
			return a.format(format, m)
		case format != "":
			return a.format(format, []machine{m})
		}
		_, err = fmt.Fprint(a.stdout, m.text())
		return err
	})
	c.Flags().StringVarP(&format, "format", "f", "", "`FORMAT`: json, or a Go template")
	return c
}

// survey asks the machine.
func (a *app) survey() (m machine, err error) {
	s, at, err := a.openStore()
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, sandbox.Close(), s.Close()) }()
	uid, gid := sandbox.HostIDs()
	m = machine{Version: versionText(), Go: runtime.Version(), User: fmt.Sprintf("%d:%d", uid, gid), Store: s.Root()}
	if m.Sandbox, err = at.Probe(s.Root()); err != nil {
		return m, err
	}
	m.Usage, err = s.Usage()
	return m, err
}

func (m *machine) text() string {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		if name != "" {
			name += ":"
		}
		fmt.Fprintf(&b, "%-12s %s\n", name, fmt.Sprintf(format, args...))
	}
	line("Version", "%s (%s)", m.Version, m.Go)
	line("Kernel", "%s", m.Sandbox.Kernel)
	line("User", "%s", m.User)
	line("Isolation", "%s", m.Sandbox.Rung)
	if m.Sandbox.Rung == sandbox.Chroot {
		line("", "steps see this machine's processes: the container that cairn runs in is what keeps them in")
	}
	line("Snapshots", "%s", m.Sandbox.Snapshot)
	if limits := strings.Join(m.Sandbox.Limits, ", "); limits != "" {
		line("Limits", "%s can be set for steps", limits)
	} else {
		line("Limits", "none can be set for steps")
	}
	for _, lack := range m.Sandbox.Lacks {
		line("For "+lack.For, "%s", lack.What)
		line("", "%s", lack.Grant)
	}
	line("Store", "%s", m.Store)
	u := m.Usage
	line("Images", "%d", u.Images)
	for _, p := range []struct {
		name string
		store.Amount
	}{{"Blobs", u.Blobs}, {"Trees", u.Trees}, {"Caches", u.Caches}, {"Records", u.Records}, {"Indexes", u.Indexes}} {
		line(p.name, "%d, %s", p.Count, units.HumanSize(float64(p.Bytes)))
	}
	return b.String()
}
