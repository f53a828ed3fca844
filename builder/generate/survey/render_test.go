package survey

import (
	"strings"
	"testing"
	"testing/fstest"
)

// Words of the tree are words of the Dockerfile, or refused.
func TestRender(t *testing.T) {
	fsys := fstest.MapFS{"templates/x.Dockerfile": {Data: []byte("FROM {{.Image}}\nCOPY{{range .Files}} {{.}}{{end}} ./\nRUN {{.Run}}\nCMD {{.Cmd}}\n")}}
	type data struct {
		Image string
		Files []string
		Run   Shell
		Cmd   Exec
	}
	good := data{"node:22", []string{"a-b", "@c/d.e"}, Command("npm run %s", "build"), Exec{"a\nRUN b", `"`, "<$x>", "\u2028"}}
	got, err := Render(fsys, "x", good)
	want := "FROM node:22\nCOPY a-b @c/d.e ./\nRUN npm run build\nCMD [\"a\\nRUN b\", \"\\\"\", \"<$x>\", \"\\u2028\"]\n"
	if err != nil || got != want {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
	for _, word := range []string{"a b", "a\nRUN b", "$(b)", "a;b", "`b`", "-rf", "'", `"`, "a\\", "é", "#", "a&b", "a|b", "\x00", strings.Repeat("x", 500)} {
		for _, bad := range []data{
			{Image: word}, {Image: "x", Files: []string{"y", word}}, {Image: "x", Run: Command("npm run %s", word)}, {Image: "x", Run: "cd x && " + Command("npm run %s", word)},
		} {
			if got, err := Render(fsys, "x", bad); err == nil || !strings.Contains(err.Error(), "cannot be written to a Dockerfile") {
				t.Errorf("%q: %q, %v", word, got, err)
			}
		}
	}
}
