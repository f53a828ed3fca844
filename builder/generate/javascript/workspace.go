package javascript

import (
	"path"
	"slices"
	"strings"

	"github.com/cairn-build/cairn/builder/generate/manifest"
	"github.com/cairn-build/cairn/builder/generate/survey"
)

// members returns the directories of a workspace's packages.
func (s *project) members(root manifest.Document) (dirs []string) {
	patterns := root.Strings("workspaces")
	patterns = append(patterns, root.Strings("workspaces", "packages")...)
	if s.Tree.Has("pnpm-workspace.yaml") {
		patterns = append(patterns, s.Document("pnpm-workspace.yaml", manifest.YAML).Strings("packages")...)
	}
	if len(patterns) == 0 {
		return nil
	}
	for _, file := range s.Tree.Files("package.json") {
		if dir := path.Dir(file); dir != "." && survey.Matched(dir, patterns) {
			dirs = append(dirs, dir)
		}
	}
	slices.Sort(dirs)
	return dirs
}

// member chooses the application of a workspace: the one asked for, or the only one
// with a script to start or build it that no other member depends on.
func (s *project) member(root manifest.Document) (dir string, pkg manifest.Document, err error) {
	dirs := s.members(root)
	if len(dirs) == 0 {
		if s.App != "" && path.Clean(s.App) != "." {
			return "", nil, &survey.ChoiceError{Kind: "applications", App: s.App, Choices: []string{"."}}
		}
		return ".", root, nil
	}
	packages := map[string]manifest.Document{}
	var used []string
	for _, d := range dirs {
		packages[d] = s.Document(path.Join(d, "package.json"), manifest.JSON)
		used = append(used, dependencies(packages[d])...)
	}
	s.Found(s.workspaceFile(), "workspace of %d packages", len(dirs))
	var apps []string
	for _, d := range dirs {
		p := packages[d]
		if s.App == d || s.App != "" && (path.Clean(s.App) == d || s.App == p.String("name") || s.App == path.Base(d)) {
			return d, p, nil
		}
		starts := p.String("scripts", "start") != "" || p.String("scripts", "start:prod") != "" || survey.HasAny(dependencies(p), "vite", "next", "nuxt", "astro")
		if starts && !slices.Contains(used, p.String("name")) {
			apps = append(apps, d)
		}
	}
	if s.App != "" {
		return "", nil, &survey.ChoiceError{Kind: "applications", App: s.App, Choices: dirs}
	}
	if root.String("scripts", "start") != "" && len(apps) == 0 {
		return ".", root, nil
	}
	if len(apps) == 1 {
		return apps[0], packages[apps[0]], nil
	}
	if len(apps) == 0 {
		apps = dirs
	}
	return "", nil, &survey.ChoiceError{Kind: "applications", Choices: apps}
}

func (s *project) workspaceFile() string {
	return s.Tree.First("pnpm-workspace.yaml", "package.json")
}

// nodeMember fills in the commands for a member of a workspace.
func (s *project) nodeMember(f *nodeFile, dir string, pkg manifest.Document, m packageManager, w framework, script string) {
	name := pkg.String("name")
	if name == "" {
		name = "./" + dir
	}
	s.Found(path.Join(dir, "package.json"), "application %s", survey.Display(name))
	f.Dir = dir
	if script != "" || m.name == "npm" { // others may have a script for it
		f.Build = s.memberBuild(name, dir, m)
	}
	if f.Generate != "" {
		f.Generate = survey.Command("cd %s && ", dir) + f.Generate
	}
	if w.static != "" {
		return
	}
	if w.outputs != nil && !w.modules {
		for _, o := range w.outputs {
			f.Outputs = append(f.Outputs, output(path.Join("/app", dir)+"/"+o, o))
		}
		f.Dir = ""
		return
	}
	if m.name == "pnpm" {
		// deploy copies the package with its dependencies, and those of the workspace.
		legacy := ""
		if m.major >= 10 {
			legacy = " --legacy"
		}
		f.Deploy = survey.Command("pnpm --filter=%s --prod deploy", name) + survey.Shell(legacy) + " --config.store-dir=/pnpm/store /out"
		f.Outputs = []survey.Copied{{Files: []string{"/out"}, To: "./"}}
		f.Dir = ""
		return
	}
	if f.Prune = m.prune(); m.name == "yarn" && !m.berry() {
		f.Prune += " --frozen-lockfile"
	}
	f.Outputs = []survey.Copied{{Files: []string{"/app"}, To: "./"}}
	if len(f.Command) > 0 && strings.HasPrefix(f.Command[0], "node_modules/") {
		f.Command[0] = "/app/" + f.Command[0]
	}
}

// memberBuild returns the command that builds a member after the members that it
// depends on.
func (s *project) memberBuild(name, dir string, m packageManager) survey.Shell {
	if s.Tree.Has("turbo.json") && s.builds(dir) {
		s.Found("turbo.json", "built by Turborepo")
		return survey.Command("npx turbo run build --filter=%s", name)
	}
	if s.Tree.Has("nx.json") && s.builds(dir) {
		s.Found("nx.json", "built by Nx")
		return survey.Command("npx nx run %s:build", name)
	}
	switch {
	case m.name == "pnpm":
		return survey.Command("pnpm --filter=%s... run build", name)
	case m.berry() && m.major >= 4:
		return survey.Command("yarn workspaces foreach -Rpt --from %s run build", name)
	case m.name == "yarn":
		return survey.Command("yarn workspace %s run build", name)
	case m.name == "bun":
		return survey.Command("bun run --filter %s build", name)
	}
	return s.npmBuild(dir, name)
}

// builds reports whether the package of a directory has a script build.
func (s *project) builds(dir string) bool {
	return s.Document(path.Join(dir, "package.json"), manifest.JSON).String("scripts", "build") != ""
}

// npmBuild builds the members that a member depends on, and then itself: npm has no
// command for that.
func (s *project) npmBuild(dir, name string) survey.Shell {
	var before []string
	byName := map[string]manifest.Document{}
	for _, d := range s.members(s.Document("package.json", manifest.JSON)) {
		pkg := s.Document(path.Join(d, "package.json"), manifest.JSON)
		byName[pkg.String("name")] = pkg
	}
	var visit func(string)
	visit = func(n string) {
		for _, dep := range dependencies(byName[n]) {
			if pkg, ok := byName[dep]; ok && !slices.Contains(before, dep) && dep != name && len(before) < 100 {
				before = append(before, dep)
				visit(dep)
				before = append(slices.DeleteFunc(before, func(b string) bool { return b == dep }), dep)
				_ = pkg
			}
		}
	}
	visit(name)
	command := survey.Shell("")
	for _, n := range append(before, name) {
		if byName[n].String("scripts", "build") != "" {
			if command != "" {
				command += " \\\n && "
			}
			command += survey.Command("npm run build --workspace=%s", n)
		}
	}
	return command
}
