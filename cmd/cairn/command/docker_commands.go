package command

import "github.com/spf13/cobra"

// dockerCommands returns hidden commands that name a replacement of docker's.
func dockerCommands() (list []*cobra.Command) {
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
		list = append(list, &cobra.Command{
			Use: name, Short: "A command of docker", Hidden: true, DisableFlagParsing: true,
			RunE: func(*cobra.Command, []string) error { return usagef("%s: %s", name, reason) },
		})
	}
	return list
}
