package command

import (
	"flag"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cairn-build/cairn/cmd/cairn/docs"
)

var update = flag.Bool("update", false, "rewrite the generated reference")

const referenceDir = "../docs/reference"

// The committed reference matches the definitions of the commands.
func TestReferenceIsCurrent(t *testing.T) {
	want := map[string]string{}
	for _, page := range Reference() {
		want[page.Name+".md"] = page.Markdown
	}
	if *update {
		if err := os.RemoveAll(referenceDir); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(referenceDir, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, text := range want {
			if err := os.WriteFile(filepath.Join(referenceDir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		return
	}
	entries, err := os.ReadDir(referenceDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		got, err := os.ReadFile(filepath.Join(referenceDir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if text, ok := want[e.Name()]; !ok {
			t.Errorf("%s: no such command: run make golden", e.Name())
		} else if text != string(got) {
			t.Errorf("%s differs from the definition of the command: run make golden", e.Name())
		}
		delete(want, e.Name())
	}
	for name := range want {
		t.Errorf("%s is missing: run make golden", name)
	}
}

// Each flag and command has a description in the form of Docker's.
func TestDescriptions(t *testing.T) {
	var check func(c *cobra.Command)
	check = func(c *cobra.Command) {
		if c.Short == "" || strings.HasSuffix(c.Short, ".") || c.Short[0] < 'A' || c.Short[0] > 'Z' {
			t.Errorf("%s: the short description %q: want a capital letter first, and no dot", c.CommandPath(), c.Short)
		}
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			_, text := pflag.UnquoteUsage(f)
			if !f.Hidden && (text == "" || strings.HasSuffix(text, ".")) {
				t.Errorf("%s --%s: the description %q: want a text without a dot at its end", c.CommandPath(), f.Name, text)
			}
		})
		for _, sub := range c.Commands() {
			check(sub)
		}
	}
	check((&Program{}).Root())
}

func TestManPages(t *testing.T) {
	for _, page := range Reference() {
		if strings.Contains(page.Man, "(default [])") {
			t.Errorf("%s has a flag with an empty list as its default", page.Name)
		}
		for _, want := range []string{".TH CAIRN", ".SH NAME", ".SH SYNOPSIS", ".SH DESCRIPTION"} {
			if !strings.Contains(page.Man, want) {
				t.Errorf("the manual page of %s has no %s", page.Name, want)
			}
		}
	}
	if got, want := escapeRoff("a\n.b --c \\n\n'd"), "a\n\\&.b \\-\\-c \\en\n\\&'d"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// Every topic renders, has a title and a summary, and a name of its own.
func TestTopics(t *testing.T) {
	var commands []string
	for _, c := range (&Program{}).Root().Commands() {
		commands = append(commands, c.Name())
	}
	topics := docs.Topics()
	if len(topics) < 15 {
		t.Errorf("%d topics", len(topics))
	}
	for _, topic := range topics {
		text, _ := docs.Text(topic.Name)
		if !strings.HasPrefix(text, "# ") {
			t.Errorf("%s has no title", topic.Name)
		}
		if topic.Summary == "" || len(topic.Summary) > 100 {
			t.Errorf("%s: summary %q: want one line", topic.Name, topic.Summary)
		}
		if slices.Contains(commands, topic.Name) {
			t.Errorf("%s is a command and a topic", topic.Name)
		}
		var out strings.Builder
		if err := showTopic(&out, text); err != nil {
			t.Error(err)
		}
		if strings.ContainsAny(out.String(), "\x1b\ue000\ue001\ue002\ue003\ue004\ue005") || strings.Contains(out.String(), "](") || strings.Contains(out.String(), "```") {
			t.Errorf("%s: the text has marks in it:\n%s", topic.Name, out.String())
		}
	}
}

func TestLinkText(t *testing.T) {
	for target, want := range map[string]string{
		"caching.md#cache-mounts": "cairn help caching", "reference/build.md": "cairn help build",
		"https://a.example/": "https://a.example/", "../../../examples": "", "../a.md": "",
	} {
		if got := linkText(target); got != want {
			t.Errorf("%s: %q, want %q", target, got, want)
		}
	}
}

func TestVCSRevision(t *testing.T) {
	for _, test := range []struct {
		settings []debug.BuildSetting
		want     string
	}{
		{nil, ""},
		{[]debug.BuildSetting{{Key: "vcs.revision", Value: "abc"}}, "abc"},
		{[]debug.BuildSetting{{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.modified", Value: "true"}}, "abc-dirty"},
		{[]debug.BuildSetting{{Key: "vcs.modified", Value: "true"}}, ""},
	} {
		if got := vcsRevision(test.settings); got != test.want {
			t.Errorf("%v: %q, want %q", test.settings, got, test.want)
		}
	}
}
