package command

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

// machine is the output of cairn info. Its fields are those of --format.
type machine struct {
	Version string         `json:"version"`
	Go      string         `json:"go"`
	Store   string         `json:"store"`
	User    string         `json:"user"`
	Sandbox sandbox.Report `json:"sandbox"`
	Usage   store.Usage    `json:"usage"`
}

func newInfo(p *Program) *cobra.Command {
	var format string
	c := &cobra.Command{
		Use:   "info [flags]",
		Short: "Show the isolation mode of this machine and the size of the store",
		Long: `Info tests how steps can be isolated on this machine and how their changes are
found, and shows the missing requirements of stronger modes with their remedies.`,
		Example: `  cairn info
  cairn info --format '{{.Sandbox.Mode}}'`,
		Args: exactArgs(),
	}
	c.RunE = p.action(func(context.Context, []string) error {
		m, err := inspectMachine(p)
		switch {
		case err != nil:
			return err
		case format == "json":
			return writeFormat(p.Stdout, format, m)
		case format != "":
			return writeFormat(p.Stdout, format, []machine{m})
		}
		_, err = fmt.Fprint(p.Stdout, m.text())
		return err
	})
	c.Flags().StringVarP(&format, "format", "f", "", "`FORMAT` of the output: json, or a Go template")
	return c
}

func inspectMachine(p *Program) (m machine, err error) {
	s, isolation, err := p.openStore()
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, sandbox.Close(), s.Close()) }()
	uid, gid := sandbox.HostIDs()
	m = machine{Version: versionText(), Go: runtime.Version(), User: fmt.Sprintf("%d:%d", uid, gid), Store: s.Root()}
	if m.Sandbox, err = isolation.Probe(s.Root()); err != nil {
		return m, err
	}
	m.Usage, err = s.Usage()
	return m, err
}

// text returns the description for people.
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
	line("Isolation", "%s", m.Sandbox.Mode)
	if m.Sandbox.Mode == sandbox.Chroot {
		line("", "steps can see the processes of this machine: only the container around cairn isolates them")
	}
	if m.Sandbox.Mode == sandbox.Gvisor {
		line("", "steps have a kernel of their own, and see files, processes and variables of their own only; the network is this machine's")
	}
	line("Snapshots", "%s", m.Sandbox.Snapshot)
	if limits := strings.Join(m.Sandbox.Limits, ", "); limits != "" {
		line("Limits", "%s can be set for steps", limits)
	} else {
		line("Limits", "none can be set for steps")
	}
	for _, r := range m.Sandbox.Unmet {
		line("For "+r.Feature, "%s", r.Problem)
		line("", "%s", r.Remedy)
	}
	line("Store", "%s", m.Store)
	u := m.Usage
	line("Images", "%d", u.Images)
	for _, p := range []struct {
		name string
		store.Amount
	}{{"Blobs", u.Blobs}, {"Trees", u.Trees}, {"Caches", u.Caches}, {"Records", u.Records}, {"Listings", u.Indexes}} {
		line(p.name, "%d, %s", p.Count, units.HumanSize(float64(p.Bytes)))
	}
	return b.String()
}
