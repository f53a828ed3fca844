package command

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Page is a page of the generated reference.
type Page struct {
	Name     string // of the command, as in manifest-add; "cairn" for the program
	Markdown string
	Man      string // in the format of man(7), for section 1
}

// Reference returns a page for the program and for each command, in the order of
// help. The definitions of the commands are its only source.
func Reference() []Page {
	var pages []Page
	var add func(c *cobra.Command)
	add = func(c *cobra.Command) {
		name := strings.ReplaceAll(strings.TrimPrefix(c.CommandPath(), "cairn "), " ", "-")
		pages = append(pages, Page{Name: name, Markdown: markdownPage(c), Man: manPage(c)})
		for _, sub := range c.Commands() {
			if sub.IsAvailableCommand() {
				add(sub)
			}
		}
	}
	add((&Program{}).Root())
	return pages
}

// description returns the long description of a command.
func description(c *cobra.Command) string {
	if c.Long != "" {
		return c.Long
	}
	return c.Short + "."
}

func synopsis(c *cobra.Command) string {
	if c.HasParent() {
		return c.UseLine()
	}
	return "cairn COMMAND [flags]"
}

func eachFlag(set *pflag.FlagSet, f func(name, text string)) {
	set.VisitAll(func(flag *pflag.Flag) {
		if !flag.Hidden {
			name, text := describeFlag(flag)
			f(strings.TrimSpace(name), text)
		}
	})
}

func markdownPage(c *cobra.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n%s.\n\n", c.CommandPath(), c.Short)
	b.WriteString("<!-- Generated from the command's definition by go test ./cmd/cairn/command -update. -->\n\n")
	fmt.Fprintf(&b, "```\n%s\n```\n", synopsis(c))
	if c.Long != "" {
		fmt.Fprintf(&b, "\n%s\n", escapeMarkdown(c.Long))
	}
	if c.HasExample() {
		fmt.Fprintf(&b, "\n## Examples\n\n```\n%s\n```\n", strings.ReplaceAll(strings.TrimPrefix(c.Example, "  "), "\n  ", "\n"))
	}
	if c.HasAvailableSubCommands() {
		b.WriteString("\n## Commands\n\n| command | description |\n|---|---|\n")
		for _, sub := range c.Commands() {
			if sub.IsAvailableCommand() {
				page := strings.ReplaceAll(strings.TrimPrefix(sub.CommandPath(), "cairn "), " ", "-")
				fmt.Fprintf(&b, "| [%s](%s.md) | %s |\n", sub.CommandPath(), page, escapeCell(sub.Short))
			}
		}
	}
	for _, group := range []struct {
		title string
		set   *pflag.FlagSet
	}{{"Flags", c.LocalNonPersistentFlags()}, {"Global flags", globalFlags(c)}} {
		if !group.set.HasAvailableFlags() {
			continue
		}
		fmt.Fprintf(&b, "\n## %s\n\n| flag | description |\n|---|---|\n", group.title)
		eachFlag(group.set, func(name, text string) {
			fmt.Fprintf(&b, "| `%s` | %s |\n", strings.ReplaceAll(name, "|", `\|`), escapeCell(text))
		})
	}
	return b.String()
}

// escapeMarkdown escapes the characters with a meaning in Markdown.
func escapeMarkdown(s string) string {
	return strings.NewReplacer("*", `\*`, "<", `\<`, "_", `\_`, "[", `\[`).Replace(s)
}

func escapeCell(s string) string {
	return strings.ReplaceAll(escapeMarkdown(s), "|", `\|`)
}

func manPage(c *cobra.Command) string {
	var b strings.Builder
	title := strings.ReplaceAll(c.CommandPath(), " ", "-")
	fmt.Fprintf(&b, ".TH %s 1 \"\" \"Cairn\" \"Cairn Manual\"\n", strings.ToUpper(title))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", escapeRoff(title), escapeRoff(lowerFirst(c.Short)))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B %s\n", escapeRoff(synopsis(c)))
	fmt.Fprintf(&b, ".SH DESCRIPTION\n%s\n", strings.ReplaceAll(escapeRoff(description(c)), "\n\n", "\n.PP\n"))
	if c.HasAvailableSubCommands() {
		b.WriteString(".SH COMMANDS\n")
		for _, sub := range c.Commands() {
			if sub.IsAvailableCommand() {
				fmt.Fprintf(&b, ".TP\n.BR %s (1)\n%s\n", escapeRoff(strings.ReplaceAll(sub.CommandPath(), " ", "-")), escapeRoff(sub.Short))
			}
		}
	}
	for _, group := range []struct {
		title string
		set   *pflag.FlagSet
	}{{"OPTIONS", c.LocalNonPersistentFlags()}, {"GLOBAL OPTIONS", globalFlags(c)}} {
		if !group.set.HasAvailableFlags() {
			continue
		}
		fmt.Fprintf(&b, ".SH %s\n", group.title)
		eachFlag(group.set, func(name, text string) {
			fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", escapeRoff(name), escapeRoff(text))
		})
	}
	if c.HasExample() {
		fmt.Fprintf(&b, ".SH EXAMPLES\n.nf\n%s\n.fi\n", escapeRoff(c.Example))
	}
	return b.String()
}

// escapeRoff escapes text for roff, where a backslash, and a dot or quote that begins
// a line, have a meaning.
func escapeRoff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s)
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}

func lowerFirst(s string) string { return strings.ToLower(s[:1]) + s[1:] }
