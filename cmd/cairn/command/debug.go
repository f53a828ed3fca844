package command

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/builder/debug"
	"github.com/cairn-build/cairn/builder/option"
	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/builder/progress/termtext"
	"github.com/cairn-build/cairn/builder/worker"
)

// debugCommand is a run of cairn debug.
type debugCommand struct {
	*Program
	session    builder.SessionOptions
	shell      debugFlags
	registries registryFlags
}

func newDebug(p *Program) *cobra.Command {
	d := &debugCommand{Program: p}
	c := &cobra.Command{
		Use:   "debug [flags] [ID [COMMAND [ARG...]]]",
		Short: "Open a shell in a failed step that was kept",
		Long: `Debug lists the failed steps that cairn build --keep-failed has kept, or opens a
shell in one, with the files as its command left them, its environment, user, network,
caches and bind mounts. With a COMMAND it runs that instead, also without a terminal; the
exit status is that of the command or the shell. Changes are discarded.

Secrets and ssh agents have to be given again.`,
		Example: `  cairn debug
  cairn debug 3f2a9c1e
  cairn debug --secret id=npmrc,src=.npmrc 3f2a9c1e
  cairn debug 3f2a9c1e cat /src/config.log
  cairn export --failed 3f2a9c1e | tar -x src/build`,
		ValidArgsFunction: d.complete,
	}
	c.RunE = p.action(func(ctx context.Context, args []string) error {
		if len(args) == 0 {
			return d.list()
		}
		return d.run(ctx, args[0], args[1:])
	})
	f := c.Flags()
	f.SetInterspersed(false)
	listFlag(f, &d.session.Secrets, "secret", "", "id=ID[,src=FILE|,env=NAME]", "Secret of the step", option.ParseSecret)
	listFlag(f, &d.session.Agents, "ssh", "", "default|ID[=SOCKET|KEY,...]", "SSH agent socket or keys of the step", option.ParseSSH)
	d.shell.shellFlags(f)
	d.registries.flags(f)
	return c
}

// list lists the failed steps.
func (d *debugCommand) list() error {
	return d.withStore(func(env *environment) error {
		if err := env.Store.ExpireFailed(time.Now(), false); err != nil {
			return err
		}
		all, err := env.Store.Failed()
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(d.Stdout, 0, 8, 3, ' ', 0)
		fmt.Fprintf(w, "ID\tKEPT\tFOLDER\tSTEP\tOUTCOME\tCOMMAND\n")
		for _, t := range all {
			k, err := debug.Describe(t.Image)
			if err != nil {
				fmt.Fprintf(d.Stderr, "warning: %s is not listed: %v\n", t.Ref, err)
				continue
			}
			fmt.Fprintf(w, "%s\t%s ago\t%s\t%s\t%s\t%s\n", t.Ref, units.HumanDuration(time.Since(t.Created)), termtext.Fit(termtext.Safe(cmp.Or(k.Folder, "-")), 30), k.Place(), termtext.Line(k.Outcome), termtext.Fit(k.Command(), 60))
		}
		return w.Flush()
	})
}

// run opens a shell in a failed step, or runs a command there.
func (d *debugCommand) run(ctx context.Context, id string, args []string) error {
	out, ok := d.Stdout.(*os.File)
	if len(args) == 0 && (!hasTerminal(d.Program) || !ok || !isTerminal(out)) {
		return usagef("a shell needs a terminal: name a command after the ID")
	}
	status := 0
	err := d.withRegistries(d.registries, progress.Auto, func(env *environment) error {
		t, err := debug.Find(env.Store, id)
		if err != nil {
			return err
		}
		k, err := debug.Describe(t.Image)
		if err != nil {
			return err
		}
		tree, inputs, err := k.Trees(t.Image)
		if err != nil {
			return err
		}
		s, err := env.session(d.session)
		if err != nil {
			return err
		}
		defer s.Close()
		o, err := d.shell.options(ctx, d.Program, env)
		if err != nil {
			return err
		}
		err = s.Enter(ctx, tree, k.Run, inputs, func(h *worker.Halt) (err error) {
			env.Progress.Suspend() // for the rest of the command, which has no steps to show
			stderr, _ := d.Stderr.(*os.File)
			status, err = debug.New(o).Enter(ctx, h, k, args, d.Stdin, out, stderr)
			return err
		})
		return cause(ctx, err)
	})
	if code := startFailure(err); code != 0 {
		fmt.Fprintln(d.Stderr, "error:", err)
		return &StatusError{code}
	}
	if err == nil && status != 0 {
		return &StatusError{status}
	}
	return err
}

// complete completes the ID.
func (d *debugCommand) complete(_ *cobra.Command, args []string, _ string) (ids []string, _ cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	_ = d.withStore(func(env *environment) error {
		all, err := env.Store.Failed()
		for _, t := range all {
			ids = append(ids, t.Ref)
		}
		return err
	})
	return ids, cobra.ShellCompDirectiveNoFileComp
}
