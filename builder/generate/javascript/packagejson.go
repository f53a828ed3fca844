package javascript

import (
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/cairn-build/cairn/builder/generate/manifest"
	"github.com/cairn-build/cairn/builder/generate/release"
	"github.com/cairn-build/cairn/builder/generate/sourcetree"
	"github.com/cairn-build/cairn/builder/generate/survey"
)

// packageManager is a package manager of Node.js with its commands.
type packageManager struct {
	name    string
	major   int
	version string // for npm install --global, or ""
	from    string // file that it came from
	lock    string // or ""
	pnp     bool   // yarn without node_modules
	release bool   // yarn itself is in the tree
}

// files returns the files of the root that an installation reads.
func (m packageManager) files() []string {
	list := []string{"package.json", m.lock, ".npmrc"}
	switch m.name {
	case "pnpm":
		list = append(list, "pnpm-workspace.yaml", ".pnpmfile.cjs")
	case "yarn":
		list = append(list, ".yarnrc.yml", ".yarnrc")
	case "bun":
		list = append(list, "bunfig.toml")
	}
	return slices.DeleteFunc(list, func(name string) bool { return name == "" })
}

func (m packageManager) berry() bool { return m.name == "yarn" && m.major >= 2 }

// cache returns the directory of the downloads.
func (m packageManager) cache() string {
	switch {
	case m.name == "pnpm":
		return "/pnpm/store"
	case m.berry():
		return "/root/.yarn/berry/cache"
	case m.name == "yarn":
		return "/usr/local/share/.cache/yarn"
	case m.name == "bun":
		return "/root/.bun/install/cache"
	}
	return "/root/.npm"
}

// globalCache sets yarn's cache. Without node_modules packages are run from it, so that
// it is part of the image.
func (m packageManager) globalCache() survey.Shell {
	if m.pnp {
		return "YARN_ENABLE_GLOBAL_CACHE=0 "
	}
	return "YARN_ENABLE_GLOBAL_CACHE=1 "
}

func (m packageManager) install() survey.Shell {
	switch {
	case m.lock == "" && m.name == "pnpm":
		return "pnpm install --store-dir /pnpm/store"
	case m.lock == "":
		return survey.Command("%s install", m.name)
	case m.name == "pnpm":
		return "pnpm install --frozen-lockfile --store-dir /pnpm/store"
	case m.berry():
		return m.globalCache() + "yarn install --immutable"
	case m.name == "yarn":
		return "YARN_CACHE_FOLDER=/usr/local/share/.cache/yarn yarn install --frozen-lockfile"
	case m.name == "bun":
		return "bun install --frozen-lockfile"
	}
	return "npm ci"
}

// prune removes the dependencies of development.
func (m packageManager) prune() survey.Shell {
	switch {
	case m.name == "pnpm":
		return "CI=true pnpm prune --prod --ignore-scripts --config.store-dir=/pnpm/store"
	case m.berry() && m.major >= 4:
		return m.globalCache() + "yarn workspaces focus --all --production"
	case m.berry():
		return ""
	case m.name == "yarn":
		return "YARN_CACHE_FOLDER=/usr/local/share/.cache/yarn yarn install --production --ignore-scripts --prefer-offline"
	case m.name == "bun":
		return "rm -rf node_modules && bun install --frozen-lockfile --production"
	}
	return "npm prune --omit=dev"
}

// production installs the dependencies of production only.
func (m packageManager) production() survey.Shell {
	switch {
	case m.name == "pnpm":
		return m.install() + " --prod"
	case m.berry() && m.major >= 4:
		return m.prune()
	case m.berry():
		return m.install()
	case m.name == "yarn", m.name == "bun":
		return m.install() + " --production"
	}
	return m.install() + " --omit=dev"
}

// setup makes the package manager available, with the Node.js of a version.
func (m packageManager) setup(node string) survey.Shell {
	switch m.name {
	case "pnpm":
		return survey.Command("npm install --global pnpm@%s", m.version)
	case "yarn":
		corepack := survey.Shell("corepack enable")
		if major, _ := strconv.Atoi(node); major >= 25 {
			corepack = "npm install --global corepack && corepack enable"
		}
		switch {
		case m.berry() && m.version == "" && !m.release:
			return corepack + " && corepack prepare yarn@stable --activate"
		case m.berry(), strings.HasPrefix(string(corepack), "npm"):
			return corepack
		}
	}
	return ""
}

// findPackageManager decides on the package manager of a directory: by the field of
// package.json, else by the lock file.
func (s *project) findPackageManager(dir string, pkg manifest.Document) packageManager {
	m := packageManager{name: "npm"}
	for _, l := range []struct{ file, name string }{
		{"package-lock.json", "npm"}, {"npm-shrinkwrap.json", "npm"}, {"pnpm-lock.yaml", "pnpm"}, {"yarn.lock", "yarn"}, {"bun.lock", "bun"}, {"bun.lockb", "bun"},
	} {
		if s.Tree.Has(path.Join(dir, l.file)) && m.lock == "" {
			m.name, m.lock, m.from = l.name, l.file, l.file
		}
	}
	field, _, _ := strings.Cut(pkg.String("packageManager"), "+")
	if name, version, ok := strings.Cut(field, "@"); ok && slices.Contains([]string{"npm", "pnpm", "yarn", "bun"}, name) && survey.Safe(version) {
		if m.lock != "" && m.name != name {
			s.Warn("package.json has the package manager %s, but there is a %s: %s is used without a lock file", survey.Display(name), m.lock, survey.Display(name))
			m.lock = ""
		}
		m.name, m.version, m.from = name, version, "package.json"
	}
	m.major, _ = strconv.Atoi(strings.Split(m.version, ".")[0])
	switch {
	case m.name == "pnpm" && m.version == "":
		m.major = s.pnpmMajor(path.Join(dir, m.lock))
		m.version = strconv.Itoa(m.major)
	case m.name == "yarn" && m.version == "" && s.Tree.Has(path.Join(dir, ".yarnrc.yml")):
		m.major = 4
	case m.name == "yarn" && m.version == "":
		m.major = 1
	}
	if m.berry() {
		config := s.Document(path.Join(dir, ".yarnrc.yml"), manifest.YAML)
		linker := config.String("nodeLinker")
		m.pnp, m.release = linker == "" || linker == "pnp", config.Has("yarnPath")
	}
	title := m.name
	if m.version != "" {
		title += " " + m.version
	} else if m.berry() {
		title += " (berry)"
	}
	s.Found(m.from, "%s", title)
	if m.lock == "" {
		s.Warn("there is no lock file: each build installs the newest versions: commit the lock file of %s", m.name)
	}
	return m
}

// pnpmMajor returns a version of pnpm that reads a lock file.
func (s *project) pnpmMajor(lock string) int {
	text := s.Tree.Text(lock)
	_, version, _ := strings.Cut(text[:min(len(text), 200)], "lockfileVersion:")
	version = strings.Trim(strings.TrimSpace(strings.SplitN(version, "\n", 2)[0]), `'"`)
	switch {
	case strings.HasPrefix(version, "5"):
		return 7
	case strings.HasPrefix(version, "6"):
		return 8
	}
	return 10
}

// npmrcNeedsSecret reports whether .npmrc has credentials, or names a variable for them.
func npmrcNeedsSecret(t *sourcetree.Tree, dir string) bool {
	return strings.Contains(t.Text(path.Join(dir, ".npmrc")), "_auth")
}

// nodeVersion decides on the version of Node.js.
func (s *project) nodeVersion(dir string, pkg manifest.Document) string {
	field := path.Join(dir, "package.json")
	if dir != "." && !pkg.Has("engines", "node") && !pkg.Has("volta", "node") {
		field, pkg = "package.json", s.Document("package.json", manifest.JSON)
	}
	list := [][]survey.Origin{s.nodePinned(".")}
	if dir != "." {
		list = [][]survey.Origin{s.nodePinned(dir), s.nodePinned(".")}
	}
	list = append(list,
		[]survey.Origin{{File: field, Version: pkg.String("volta", "node"), Choose: release.Language.Exact}},
		[]survey.Origin{{File: field, Version: pkg.String("engines", "node"), Choose: release.Language.Lowest}},
		s.Tools("nodejs", "node"))
	return s.Choose(release.Node, list...)
}

// nodePinned reads .nvmrc and .node-version. nvm's names of releases mean the default
// version, or one with long term support.
func (s *project) nodePinned(dir string) (list []survey.Origin) {
	names := map[string]string{"lts/*": release.Node.Default, "lts": release.Node.Default, "node": release.Node.Default, "stable": release.Node.Default,
		"lts/hydrogen": "18", "lts/iron": "20", "lts/jod": "22", "lts/krypton": "24"}
	for _, o := range s.Pinned(dir, ".nvmrc", ".node-version") {
		if v, ok := names[strings.ToLower(o.Version)]; ok {
			o.Version = v
		}
		list = append(list, o)
	}
	return list
}

// dependencies returns the names of a package's dependencies.
func dependencies(pkg manifest.Document) []string {
	return slices.Concat(pkg.Keys("dependencies"), pkg.Keys("devDependencies"), pkg.Keys("optionalDependencies"))
}

// earlyScripts looks for scripts that an installation runs. It returns the directories
// that they need, and reports whether they may need any file.
func (s *project) earlyScripts(dir string, pkg manifest.Document) (dirs []string, all bool) {
	scripts := ""
	for _, name := range []string{"preinstall", "install", "postinstall", "prepare"} {
		scripts += " " + pkg.String("scripts", name)
	}
	deps := dependencies(pkg)
	if survey.HasAny(deps, "prisma", "@prisma/client") && s.Tree.HasDir(path.Join(dir, "prisma")) {
		dirs = append(dirs, path.Join(dir, "prisma"))
	}
	if survey.HasAny(deps, "patch-package") && s.Tree.HasDir(path.Join(dir, "patches")) || len(pkg.Object("pnpm", "patchedDependencies")) > 0 {
		dirs = append(dirs, path.Join(dir, "patches"))
	}
	for _, word := range strings.Fields(scripts) {
		if strings.HasPrefix(word, "./") || slices.Contains([]string{".js", ".mjs", ".cjs", ".ts", ".sh"}, path.Ext(word)) || word == "build" || word == "tsc" {
			return dirs, true
		}
	}
	return dirs, false
}

var (
	plainCommand = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9@._/+:=, -]+$`) })
	assignment   = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*=`) })
)

// words splits a script that is one command without quotes, substitutions and
// operators. It leaves out NODE_ENV, which the image sets. It returns nil otherwise.
func words(script string) []string {
	if !plainCommand().MatchString(script) {
		return nil
	}
	list := strings.Fields(script)
	for len(list) > 0 && (list[0] == "cross-env" || list[0] == "NODE_ENV=production" || list[0] == "exec") {
		list = list[1:]
	}
	if len(list) == 0 || assignment().MatchString(list[0]) || list[0] == "cd" {
		return nil
	}
	return list
}

// startCommand returns the command of a package: its script start:prod or start, or
// node with its entry point. Node.js is called itself where that is possible, since
// package managers do not pass on all signals.
func (s *project) startCommand(dir string, pkg manifest.Document, m packageManager) survey.Exec {
	file := path.Join(dir, "package.json")
	for _, name := range []string{"start:prod", "start"} {
		script := pkg.String("scripts", name)
		if script == "" {
			continue
		}
		s.Found(file, "started by the script %s", name)
		list := words(script)
		switch {
		case list != nil && m.pnp && list[0] == "node":
			return append(survey.Exec{"node", "-r", "./.pnp.cjs"}, list[1:]...)
		case list == nil || m.pnp:
		case list[0] == "node" || list[0] == "bun":
			return list
		case survey.HasAny([]string{list[0]}, "nodemon", "ts-node-dev") || slices.Contains(list, "--watch"):
			s.Warn("the script %s runs %s, which watches files for development: add a script start:prod", name, survey.Display(list[0]))
		case !slices.Contains([]string{"npm", "yarn", "pnpm", "npx", "ng", "vite", "npm-run-all", "concurrently"}, list[0]) && !strings.Contains(list[0], "/"):
			return append(survey.Exec{"node_modules/.bin/" + list[0]}, list[1:]...)
		}
		return survey.Exec{runner(m), "run", name}
	}
	for _, entry := range []string{pkg.String("main"), "server.js", "index.js", "app.js", "src/index.js", "server.mjs", "index.mjs", "src/server.js", "index.ts", "src/index.ts"} {
		if entry != "" && s.Tree.Has(path.Join(dir, entry)) {
			s.Found(file, "started by %s", survey.Display(entry))
			if m.name == "bun" {
				return survey.Exec{"bun", entry}
			}
			return survey.Exec{"node", entry}
		}
	}
	return nil
}

// runner returns the program that runs scripts in the image. It has npm at least.
func runner(m packageManager) string {
	if m.name == "bun" || m.pnp {
		return m.name
	}
	return "npm"
}

var (
	nodeListen = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?:\.listen\(|\bport:\s*|PORT\s*(?:\|\||\?\?)\s*|PORT['"]?\)?\s*(?:\|\||\?\?)\s*|\bport\s*=\s*|PORT\s*=\s*)['"]?(\d{4,5})\b`)
	})
	nodeLocal = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`\.listen\([^()\n]*['"](127\.0\.0\.1|localhost|::1)['"]`)
	})
	nodePortVar = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?:process|Bun)\.env\.PORT\b|env\[['"]PORT['"]\]|env\.get\(['"]PORT`)
	})
)

// nodePort looks for the port of a server in its sources.
func (s *project) nodePort(dir string, usual int) (port int, variable bool) {
	number, from := 0, ""
	s.Tree.Search(s.Tree.Below(dir, ".js", ".mjs", ".cjs", ".ts", ".mts"), func(name, text string) bool {
		if strings.Contains(name, "test") || strings.Contains(name, "config") {
			return false
		}
		if m := nodeLocal().FindStringSubmatch(text); m != nil {
			s.WarnLocal(name, m[1])
		}
		variable = variable || nodePortVar().MatchString(text)
		if m := nodeListen().FindStringSubmatch(text); m != nil && number == 0 {
			number, _ = strconv.Atoi(m[1])
			from = name
		}
		return variable && number != 0
	})
	return s.ChoosePort(from, number, usual), variable
}
