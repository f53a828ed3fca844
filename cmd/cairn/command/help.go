package command

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/cmd/cairn/docs"
	"github.com/cairn-build/cairn/cmd/cairn/docs/markdown"
)

func newHelp(p *Program, root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:     "help [COMMAND|TOPIC]",
		Short:   "Help about a command or a topic",
		GroupID: "machine",
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 1 {
				if text, ok := docs.Text(args[0]); ok {
					p.started = true
					return showTopic(p.Stdout, text)
				}
			}
			c, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return &UsageError{unknownHelp(root, args)}
			}
			return c.Help()
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return helpNames(root), cobra.ShellCompDirectiveNoFileComp
		},
	}
}

// helpNames lists the commands and topics.
func helpNames(root *cobra.Command) (names []string) {
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	for _, t := range docs.Topics() {
		names = append(names, t.Name)
	}
	return names
}

func unknownHelp(root *cobra.Command, args []string) error {
	err := fmt.Errorf("unknown command or topic %q", strings.Join(args, " "))
	if guess := dockerfile.Suggest(args[0], helpNames(root)); guess != "" {
		err = fmt.Errorf("%w (did you mean %s?)", err, guess)
	}
	return err
}

// showTopic renders a topic, on a terminal with styles and through a pager.
func showTopic(w io.Writer, text string) error {
	o := markdown.Options{Width: 80, Link: linkText}
	to := w
	if out, ok := w.(*output); ok {
		to = out.Writer
	}
	f, ok := to.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		_, err := io.WriteString(w, markdown.Render(text, o))
		return err
	}
	o.Styled = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	if columns, _, err := term.GetSize(int(f.Fd())); err == nil && columns > 0 {
		o.Width = min(columns, 100)
	}
	return page(f, markdown.Render(text, o))
}

// linkText returns the help command for a link to a topic or a command.
func linkText(target string) string {
	file, _, _ := strings.Cut(target, "#")
	name, isPage := strings.CutSuffix(path.Base(file), ".md")
	switch {
	case strings.Contains(target, "://"):
		return target
	case isPage && (path.Dir(file) == "." || path.Dir(file) == "reference"):
		return "cairn help " + name
	}
	return ""
}

// page writes a text through $PAGER or less, or directly if there is neither.
func page(w *os.File, text string) error {
	pager := os.Getenv("PAGER")
	if pager == "" {
		pager = "less"
	}
	words := strings.Fields(pager)
	if len(words) > 0 {
		if _, err := exec.LookPath(words[0]); err == nil {
			c := exec.Command(words[0], words[1:]...)
			c.Stdin, c.Stdout, c.Stderr = strings.NewReader(text), w, os.Stderr
			c.Env = os.Environ()
			if _, set := os.LookupEnv("LESS"); !set {
				c.Env = append(c.Env, "LESS=FRX")
			}
			return c.Run()
		}
	}
	_, err := io.WriteString(w, text)
	return err
}

// usage writes the part of the help below a command's description.
func usage(c *cobra.Command) error {
	w := c.OutOrStderr()
	if c.HasParent() {
		fmt.Fprintf(w, "Usage:\n  %s\n", c.UseLine())
	} else {
		fmt.Fprintf(w, "Usage:\n  %s COMMAND [flags]\n", c.CommandPath())
	}
	if len(c.Aliases) > 0 {
		fmt.Fprintf(w, "\nAliases:\n  %s\n", c.NameAndAliases())
	}
	if c.HasExample() {
		fmt.Fprintf(w, "\nExamples:\n%s\n", c.Example)
	}
	writeSubcommands(w, c)
	if !c.HasParent() {
		writeTopics(w)
	}
	writeFlags(w, "Flags:", c.LocalNonPersistentFlags())
	writeFlags(w, "Global Flags:", globalFlags(c))
	if c.HasAvailableSubCommands() {
		fmt.Fprintf(w, "\nRun '%s COMMAND --help' for more information on a command.\n", c.CommandPath())
	}
	return nil
}

func writeSubcommands(w io.Writer, c *cobra.Command) {
	list := func(title, group string) {
		tab := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
		fmt.Fprintf(tab, "\n%s\n", title)
		for _, sub := range c.Commands() {
			if sub.GroupID == group && sub.IsAvailableCommand() {
				fmt.Fprintf(tab, "  %s\t%s\n", sub.Name(), sub.Short)
			}
		}
		_ = tab.Flush()
	}
	for _, g := range c.Groups() {
		list(g.Title, g.ID)
	}
	if len(c.Groups()) == 0 && c.HasAvailableSubCommands() {
		list("Commands:", "")
	}
}

func writeTopics(w io.Writer) {
	tab := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
	fmt.Fprint(tab, "\nTopics (cairn help TOPIC):\n")
	for _, t := range docs.Topics() {
		fmt.Fprintf(tab, "  %s\t%s\n", t.Name, strings.ReplaceAll(t.Summary, "`", ""))
	}
	_ = tab.Flush()
}

func globalFlags(c *cobra.Command) *pflag.FlagSet {
	if c.HasParent() {
		return c.InheritedFlags()
	}
	return c.PersistentFlags()
}

func writeFlags(w io.Writer, title string, set *pflag.FlagSet) {
	if !set.HasAvailableFlags() {
		return
	}
	tab := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
	fmt.Fprintf(tab, "\n%s\n", title)
	set.VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			name, text := describeFlag(f)
			fmt.Fprintf(tab, "  %s\t%s\n", name, text)
		}
	})
	_ = tab.Flush()
}

// describeFlag returns the names of a flag with its value, and its description with
// the default.
func describeFlag(f *pflag.Flag) (name, text string) {
	name = "    "
	if f.Shorthand != "" {
		name = "-" + f.Shorthand + ", "
	}
	kind, text := pflag.UnquoteUsage(f)
	if f.DefValue != "" && f.DefValue != "[]" && f.Value.Type() != "bool" {
		text += " (default " + f.DefValue + ")"
	}
	if f.NoOptDefVal != "" && kind != "" { // a value needs the sign
		return name + "--" + f.Name + "[=" + kind + "]", text
	}
	return name + "--" + strings.TrimSpace(f.Name+" "+kind), text
}
