package javascript

import (
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/cairn-build/cairn/builder/generate/manifest"
	"github.com/cairn-build/cairn/builder/generate/release"
	"github.com/cairn-build/cairn/builder/generate/sourcetree"
	"github.com/cairn-build/cairn/builder/generate/survey"
)

// DetectDeno reports whether a tree has a project of Deno.
func DetectDeno(t *sourcetree.Tree) bool { return t.First("deno.json", "deno.jsonc") != "" }

// denoFile has the fields of deno.Dockerfile.
type denoFile struct {
	Version   string
	Manifests []string
	Entry     string
	Locked    bool
	Build     survey.Shell
	Port      int
	PortVar   bool
	Health    survey.Exec
	Command   survey.Exec
}

// AnalyseDeno writes a Dockerfile for a project of Deno.
func AnalyseDeno(r survey.Request) (*survey.Project, error) {
	s := &project{survey.New(r)}
	file := s.Tree.First("deno.json", "deno.jsonc")
	d := s.Document(file, manifest.JSON)
	if s.Err != nil {
		return nil, s.Err
	}
	f := denoFile{Version: s.Choose(release.Deno, s.Pinned(".", ".deno-version", ".dvmrc"), s.Tools("deno"))}
	f.Manifests = s.Existing(".", file, "deno.lock", "package.json")
	f.Locked = s.Tree.Has("deno.lock")
	start := d.String("tasks", "start")
	if start == "" {
		start = d.String("tasks", "start", "command")
	}
	if list := words(start); len(list) > 2 && list[0] == "deno" && list[1] == "run" {
		f.Command = survey.Exec(slices.DeleteFunc(list, func(w string) bool { return w == "--watch" || strings.HasPrefix(w, "--watch=") }))
		s.Found(file, "started by the task start, with its permissions")
	} else if start != "" {
		f.Command = survey.Exec{"deno", "task", "start"}
		s.Found(file, "started by the task start")
	}
	for _, word := range f.Command {
		if slices.Contains([]string{".ts", ".js", ".tsx", ".mjs"}, path.Ext(word)) && s.Tree.Has(word) {
			f.Entry = path.Clean(word)
		}
	}
	if f.Entry == "" {
		f.Entry = s.Tree.First("main.ts", "server.ts", "mod.ts", "src/main.ts", "main.js", "index.ts")
	}
	if f.Command == nil {
		if f.Entry == "" {
			return nil, survey.NoApp("a task start or a main.ts", file)
		}
		s.Found(f.Entry, "started by %s, with the permissions for network, environment and reading", f.Entry)
		f.Command = survey.Exec{"deno", "run", "--allow-net", "--allow-env", "--allow-read", f.Entry}
	}
	if d.Has("tasks", "build") {
		f.Build = "deno task build"
		s.Found(file, "built by the task build")
	}
	f.Port, f.PortVar = s.nodePort(".", 8000)
	if s.Health {
		f.Health = survey.Exec{"deno", "eval", "const r = await fetch('http://127.0.0.1:" + strconv.Itoa(f.Port) + "/'); Deno.exit(r.ok ? 0 : 1)"}
	}
	s.AddServices(d.Keys("imports"))
	s.Ignore = []string{"node_modules"}
	var err error
	s.Dockerfile, err = survey.Render(templates, "deno", f)
	return s.Project, err
}
