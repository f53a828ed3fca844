package javascript

import (
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/cairn-build/cairn/builder/generate/manifest"
	"github.com/cairn-build/cairn/builder/generate/survey"
)

// needed returns the members of npm's workspace that a member needs, itself too. npm
// installs the packages of the members that are there only. It returns nil if all are
// needed: other package managers compare their lock file with all members, and Turborepo
// and Nx read all of them.
func (s *project) needed(root manifest.Document, dir string, m packageManager) (dirs []string) {
	if dir == "." || m.name != "npm" || s.Tree.Has("turbo.json") || s.Tree.Has("nx.json") {
		return nil
	}
	all := s.members(root)
	byName := map[string]string{}
	for _, d := range all {
		byName[s.Document(path.Join(d, "package.json"), manifest.JSON).String("name")] = d
	}
	add := func(d string) {
		if d != "" && !slices.Contains(dirs, d) {
			dirs = append(dirs, d)
		}
	}
	configs := map[string][]string{} // files by directory
	for _, file := range s.Tree.Files("tsconfig*.json") {
		configs[path.Dir(file)] = append(configs[path.Dir(file)], file)
	}
	addConfigured := func(dir string) {
		for _, name := range s.configured(dir, configs[dir]) {
			for _, d := range all {
				if name == d || strings.HasPrefix(name, d+"/") {
					add(d)
				}
			}
		}
	}
	add(dir)
	addConfigured(".")
	for i := 0; i < len(dirs); i++ { // dirs grows
		pkg := s.Document(path.Join(dirs[i], "package.json"), manifest.JSON)
		for _, name := range slices.Concat(dependencies(pkg), pkg.Keys("peerDependencies")) {
			add(byName[name])
		}
		addConfigured(dirs[i])
	}
	slices.Sort(dirs)
	return dirs
}

// configured returns the paths of the tree that the TypeScript configuration of a directory
// names: those of modules, and except in the root those that it extends and other projects.
func (s *project) configured(dir string, files []string) (names []string) {
	for _, file := range files {
		d, err := manifest.JSON([]byte(s.Tree.Text(file)))
		if err != nil {
			continue // TypeScript reports it
		}
		modules := d.Object("compilerOptions", "paths")
		for name := range modules {
			for _, place := range modules.Strings(name) {
				names = append(names, path.Join(dir, d.String("compilerOptions", "baseUrl"), place))
			}
		}
		if dir == "." {
			continue
		}
		words := d.Strings("extends")
		for _, r := range d.Objects("references") {
			words = append(words, r.String("path"))
		}
		for _, w := range words {
			if strings.HasPrefix(w, ".") {
				names = append(names, path.Join(dir, w))
			}
		}
	}
	return names
}

// neededSources returns the sources that a build of members needs: their directories, and
// what the root has beside the workspace.
func (s *project) neededSources(root manifest.Document, dirs []string, m packageManager) (list []survey.Copied) {
	var files []string
	for _, name := range s.Tree.Files("*") {
		if !strings.Contains(name, "/") && configures(name) && !slices.Contains(m.files(), name) && survey.Safe(name) {
			files = append(files, name)
		}
	}
	if slices.Sort(files); len(files) > 0 {
		list = append(list, survey.Copied{Files: files, To: "./"})
	}
	ofMembers := map[string]bool{}
	for _, dir := range s.members(root) {
		top, _, _ := strings.Cut(dir, "/")
		ofMembers[top] = true
	}
	folders := map[string]bool{}
	for _, file := range s.Tree.Files("*") {
		top, _, below := strings.Cut(file, "/")
		if below && !ofMembers[top] && survey.Safe(top) && !slices.Contains(unneededFolders(), top) {
			folders[top] = true
		}
	}
	for _, dir := range append(slices.Sorted(maps.Keys(folders)), dirs...) {
		list = append(list, survey.Copied{Files: []string{dir}, To: "./" + dir + "/"})
	}
	return list
}

// configures reports whether a file of the root is one of tools that build, by its name.
func configures(name string) bool {
	if strings.HasPrefix(name, "compose") || strings.HasPrefix(name, "docker-compose") || strings.HasPrefix(name, ".git") {
		return false
	}
	known := []string{".json", ".js", ".cjs", ".mjs", ".ts", ".mts", ".cts", ".yaml", ".yml", ".toml"}
	return slices.Contains(known, path.Ext(name)) || slices.Contains([]string{".babelrc", ".swcrc", ".browserslistrc"}, name)
}

// unneededFolders are directories that no build needs, or that the ignore file has.
func unneededFolders() []string {
	return []string{"dist", "build", "coverage", "secrets", "docs", "doc", "test", "tests", "e2e"}
}
