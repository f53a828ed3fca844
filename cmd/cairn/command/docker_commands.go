package command

import (
	"fmt"

	"github.com/spf13/cobra"
)

// dockerCommands returns hidden commands that name a replacement of docker's.
func (p *Program) dockerCommands() (list []*cobra.Command) {
	const background = "cairn runs no containers in the background: "
	for name, reason := range map[string]string{
		"ps":        background + "ps and jobs list the processes that cairn run started",
		"container": background + "cairn run runs a command and waits for it",
		"logs":      background + "cairn run writes the output of the command to its own",
		"attach":    background + "cairn run connects the terminal at once",
		"exec":      background + "start the command with cairn run",
		"create":    background + "cairn run starts a command at once",
		"start":     background + "start the command with cairn run",
		"stop":      background + "send SIGTERM to cairn run, or press Ctrl-C",
		"kill":      background + "send SIGTERM to cairn run, or press Ctrl-C",
		"commit":    "the changes of cairn run are discarded: write a Dockerfile with the commands, and build it",
		"cp":        "to copy files out of an image: cairn build --output DIR, or cairn export IMAGE",
		"network":   "there are no networks: cairn run is on that of the host, and a RUN as --network says",
		"volume":    "there are no volumes: cairn run --volume HOST:PATH mounts a directory",
		"search":    "registries have no search that all of them answer: use the web page of the registry",
		"image":     "use the command without image: cairn images, inspect, history, rm, prune, push, pull, tag, save, load",
		"builder":   "use cairn prune and cairn cache",
		"buildx":    "use the command without buildx: cairn build; cairn manifest for imagetools, cairn cache for du",
	} {
		list = append(list, p.newReplaced(name, name, reason))
	}
	return list
}

// ReplacedError is the error of a command that Cairn does not have. It names the
// replacement; the help has no more.
type ReplacedError struct{ error }

func (e *ReplacedError) Unwrap() error { return e.error }

// newReplaced returns a hidden command that Cairn does not have. It fails with a sentence
// that names its replacement; its help is the sentence.
func (p *Program) newReplaced(use, name, reason string) *cobra.Command {
	sentence := name + ": " + reason
	c := &cobra.Command{
		Use: use, Short: "A command of docker", Hidden: true, DisableFlagParsing: true,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 && (args[0] == "--help" || args[0] == "-h") { // later ones belong to a command
				return c.Help()
			}
			return &ReplacedError{usagef("%s", sentence)}
		},
	}
	c.SetHelpFunc(func(c *cobra.Command, _ []string) { fmt.Fprintln(c.OutOrStdout(), sentence) })
	return c
}
