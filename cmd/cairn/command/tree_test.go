package command

import (
	"bytes"
	"testing"
)

// TestTreeOfOneCommand compares the help of each command with that of the whole tree.
func TestTreeOfOneCommand(t *testing.T) {
	for _, g := range groups() {
		for name := range g.commands {
			args := []string{name, "--help"}
			help := func(only string) string {
				var out bytes.Buffer
				root := (&Program{Stdout: &out, Stderr: &out}).tree(only)
				root.SetArgs(args)
				c, err := root.ExecuteC()
				if err != nil || c.Name() != name {
					t.Errorf("%s is %s, %v", name, c.CommandPath(), err)
				}
				return out.String()
			}
			if got, want := help(commandOf(args)), help(""); got != want || got == "" {
				t.Errorf("%s:\n%s\nwant:\n%s", name, got, want)
			}
		}
	}
	for _, args := range [][]string{nil, {"help"}, {"--root", "build", "version"}, {"completion", "bash"}, {"__complete", "b"}, {"bild"}, {"rmi", "a"}} {
		if name := commandOf(args); name != "" {
			t.Errorf("%q: the tree has only %s", args, name)
		}
	}
}

func BenchmarkTree(b *testing.B) {
	for _, args := range [][]string{{"build"}, {"help"}} {
		b.Run(args[0], func(b *testing.B) {
			for b.Loop() {
				(&Program{}).tree(commandOf(args))
			}
		})
	}
}
