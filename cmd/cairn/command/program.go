// Package command implements the commands of cairn.
//
// Each command is a file: its flags become a call of package builder, and the
// result becomes text and an exit status. Package main starts the program, turns
// signals into contexts and errors into exit statuses.
package command

import (
	"context"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/cairn-build/cairn/builder/sandbox"
)

// Exit statuses of all commands but run and diff.
const (
	ExitFailed = 1 // the command failed
	ExitUsage  = 2 // the command line is invalid
)

// Program is one run of cairn. Its commands share it.
type Program struct {
	Stdin          *os.File
	Stdout, Stderr io.Writer
	// Interruptible returns a context that a signal cancels, with a *SignalError
	// as its cause, and a function that ends the watch for signals.
	Interruptible func(context.Context) (context.Context, func())

	root      string             // --root
	isolation string             // --isolation
	entered   *sandbox.Isolation // nil before the sandbox was entered
	started   bool
	command   string // its path, such as "cairn manifest add"
}

// Execute runs the command that the arguments name. It returns the path of the
// command, such as "cairn manifest add", also with an error.
func (p *Program) Execute(args []string) (path string, err error) {
	out := &output{Writer: p.Stdout}
	root := p.tree(commandOf(args))
	root.SetOut(out)
	root.SetArgs(args)
	c, err := root.ExecuteC()
	if out.err != nil {
		p.started = true // the command line was valid
		if err == nil {
			err = out.err
		}
	}
	return c.CommandPath(), err
}

// output is the output of cobra's commands, such as the help. It keeps the first error,
// which cobra ignores. Program.Stdout stays the file that commands look at.
type output struct {
	io.Writer
	err error
}

func (o *output) Write(b []byte) (int, error) {
	n, err := o.Writer.Write(b)
	if o.err == nil {
		o.err = err
	}
	return n, err
}

// Started reports whether a command has begun its work. An error before that is
// one of the command line.
func (p *Program) Started() bool { return p.started }

// Root returns the tree of commands.
func (p *Program) Root() *cobra.Command { return p.tree("") }

// commandOf returns the name of the command that runs with the arguments without a look at
// any other one, "" if that is not certain. To make the flags of all commands takes
// longer than to start the program.
func commandOf(args []string) string {
	if len(args) == 0 || args[0] == "completion" {
		return ""
	}
	for _, g := range groups() {
		if g.commands[args[0]] != nil {
			return args[0]
		}
	}
	return ""
}

// tree returns the tree of commands with one command of the groups, or with all for "".
func (p *Program) tree(only string) *cobra.Command {
	root := &cobra.Command{
		Use:   "cairn",
		Short: "Build container images from Dockerfiles, without a daemon",
		Long: `Cairn builds container images from Dockerfiles, pushes them to registries, and
pulls, lists and runs them. It has no daemon.`,
		Example: `  cairn build -t registry.example/me/app:1 --push .
  cairn run registry.example/me/app:1`,
		Args:          nil, // cobra reports an unknown command before an unknown flag
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       versionText(),
	}
	root.SetVersionTemplate("cairn {{.Version}}\n")
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetOut(p.Stdout)
	root.SetErr(p.Stderr)
	root.SetFlagErrorFunc(flagError)
	root.SetUsageFunc(usage)
	root.PersistentFlags().StringVar(&p.root, "root", "", "Store images and caches in `DIR` (default $CAIRN_ROOT, or "+defaultRootText+")")
	_ = root.MarkPersistentFlagDirname("root")
	isolationFlag(root, &p.isolation)
	for _, g := range groups() {
		root.AddGroup(&cobra.Group{ID: g.id, Title: g.title})
		for name, newCommand := range g.commands {
			if only == "" || only == name {
				c := newCommand(p)
				c.GroupID = g.id
				root.AddCommand(c)
			}
		}
	}
	if only == "" {
		root.AddCommand(newCredentialHelper(p))
		root.AddCommand(p.dockerCommands()...)
	}
	checkOptionalValues(root)
	root.SetHelpCommand(newHelp(p, root))
	return root
}

// group is a group of commands in the help.
type group struct {
	id, title string
	commands  map[string]func(*Program) *cobra.Command // by name
}

func groups() []group {
	type commands = map[string]func(*Program) *cobra.Command
	return []group{
		{"images", "Images:", commands{
			"build": newBuild, "init": newInit, "bake": newBake, "compose": newCompose, "push": newPush, "pull": newPull,
			"run": newRun, "images": newImages, "history": newHistory, "rollback": newRollback, "inspect": newInspect, "tag": newTag,
			"rm": newRm, "save": newSave, "load": newLoad, "import": newImport, "export": newExport, "manifest": newManifest,
			"diff": newDiff, "sbom": newSBOM, "debug": newDebug, "builds": newBuilds, "report": newReport,
		}},
		{"registries", "Registries:", commands{
			"login": newLogin, "logout": newLogout, "whoami": newWhoami, "registry": newRegistry,
			"sign": newSign, "verify": newVerify,
		}},
		{"kaniko", "In place of kaniko:", commands{
			"executor": newExecutor, "warmer": newWarmer,
		}},
		{"machine", "This machine:", commands{
			"info": newInfo, "cache": newCache, "check": newCheck, "prune": newPrune, "system": newSystem, "version": newVersion,
			"completion": newCompletion, "man": newMan,
		}},
	}
}

// action returns the function of a command, which calls f with a context that a
// signal cancels.
func (p *Program) action(f func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		p.started, p.command = true, c.CommandPath()
		ctx, stop := p.Interruptible(c.Context())
		defer stop()
		return f(ctx, args)
	}
}
