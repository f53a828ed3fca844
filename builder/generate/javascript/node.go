// Package javascript writes Dockerfiles for projects of Node.js, Bun and Deno, and stages
// for the assets of projects in other languages.
package javascript

import (
	"embed"
	"fmt"
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

//go:embed templates
var templates embed.FS

// project is an analysis in progress.
type project struct{ *survey.Survey }

// Detect reports whether a tree has a project of Node.js or Bun.
func Detect(t *sourcetree.Tree) bool { return t.Has("package.json") }

// nodeFile has the fields of node.Dockerfile and of site.Dockerfile.
type nodeFile struct {
	Image     string // with tag
	User      string
	Setup     survey.Shell // installs the package manager
	Packages  []string
	Manifests []survey.Copied
	Early     bool            // the sources are copied before the installation
	Sources   []survey.Copied // nil for all
	Secret    bool            // .npmrc is a secret
	Cache     string
	Install   survey.Shell
	Args      []string     // of the build
	Generate  survey.Shell // before the build
	Build     survey.Shell
	Prune     survey.Shell
	Only      survey.Shell // installation of production's dependencies, without a build
	Outputs   []survey.Copied
	Dir       string       // of the application in the workspace, or ""
	Deploy    survey.Shell // of a member of a workspace, into /out
	Env       []string
	Port      int
	Health    survey.Exec
	Command   survey.Exec
	Tip       survey.Shell
	// of a static site
	Site string
	SPA  bool
}

// framework is the way in which an application is built and run.
type framework struct {
	name    string
	static  string   // directory of the site, instead of a server
	spa     bool     // all paths lead to index.html
	outputs []string // files that the server needs, or nil for all
	modules bool     // it needs node_modules
	command survey.Exec
	port    int
	env     []string
	tip     survey.Shell
}

// Analyse writes a Dockerfile for a project of Node.js or Bun.
func Analyse(r survey.Request) (*survey.Project, error) {
	s := &project{survey.New(r)}
	root := s.Document("package.json", manifest.JSON)
	m := s.findPackageManager(".", root)
	dir, pkg, err := s.member(root)
	if err = survey.FirstError(s.Err, err); err != nil {
		return nil, err
	}
	if projects := s.Tree.Files("project.json"); dir == "." && s.Tree.Has("nx.json") && len(projects) > 0 {
		return nil, fmt.Errorf("the applications of this Nx workspace have a project.json (%s) and no package.json: their outputs are not known: write a Dockerfile with npx nx run NAME:build", survey.Display(projects[0]))
	}
	f := nodeFile{Cache: m.cache(), Install: m.install(), User: "node"}
	version := s.nodeImage(&f, dir, pkg, m)
	f.Setup = m.setup(version)
	s.Name = path.Base(pkg.String("name"))
	needed := s.needed(root, dir, m)
	if f.Manifests = s.nodeManifests(root, m, needed); needed != nil {
		f.Sources = s.neededSources(root, needed, m)
		if others := len(s.members(root)) - len(needed); others > 0 {
			s.Found(s.workspaceFile(), "%d of the packages not copied, since %s needs none of them", others, survey.Display(dir))
		}
	}
	early, all := s.earlyScripts(dir, pkg)
	for _, d := range early {
		f.Manifests = append(f.Manifests, survey.Copied{Files: []string{d}, To: "./" + d + "/"})
	}
	f.Early = all
	if all {
		s.Found(path.Join(dir, "package.json"), "all sources are copied before the installation, for its scripts")
	}
	f.Secret = npmrcNeedsSecret(s.Tree, ".")
	if f.Secret {
		s.Found(".npmrc", "credentials by --secret id=npmrc,src=.npmrc")
		f.Manifests[0].Files = slices.DeleteFunc(f.Manifests[0].Files, func(name string) bool { return name == ".npmrc" })
	}
	w := s.framework(dir, pkg, m)
	s.nodeBuild(&f, dir, pkg, m, w)
	s.nodeExtras(pkg)
	s.AddServices(dependencies(pkg))
	s.Ignore = []string{"node_modules", ".next", ".nuxt", ".output", ".svelte-kit", ".turbo", ".angular", "*.log"}
	s.Outputs = []string{"dist", "build", "coverage"}
	script := pkg.String("scripts", "build")
	s.Outputs = slices.DeleteFunc(s.Outputs, func(name string) bool {
		return s.Tree.HasDir(name) && (f.Build == "" && name != "coverage" || strings.Contains(" "+script, " "+name+"/") || strings.Contains(script, "./"+name+"/"))
	})
	if f.Secret {
		s.Ignore = append(s.Ignore, ".npmrc")
		s.Secrets = []survey.Secret{{ID: "npmrc", File: ".npmrc"}}
	}
	if w.static != "" {
		s.ChoosePort("", 0, 8080)
		f.Port, f.Site, f.SPA = 8080, path.Join("/app", dir, w.static), w.spa
		if s.Health {
			f.Health = survey.WgetHealth
		}
		s.Project.Port = 8080
		s.Dockerfile, err = survey.Render(templates, "site", f)
		return s.Project, err
	}
	if len(f.Command) == 0 {
		return nil, survey.NoApp("a script start, main or an index.js", path.Join(dir, "package.json"))
	}
	s.Dockerfile, err = survey.Render(templates, "node", f)
	return s.Project, err
}

// nodeImage decides on the image: that of Node.js or Bun.
func (s *project) nodeImage(f *nodeFile, dir string, pkg manifest.Document, m packageManager) (version string) {
	if m.name != "bun" {
		version = s.nodeVersion(dir, pkg)
		f.Image = "node:" + version + "-bookworm-slim"
		return version
	}
	f.User = "bun"
	var field []survey.Origin
	if m.version != "" {
		field = []survey.Origin{{File: "package.json", Version: m.version, Choose: release.Language.Exact}}
	}
	version = s.Choose(release.Bun, field, s.Pinned(".", ".bun-version"), s.Tools("bun"))
	f.Image = "oven/bun:" + version + "-slim"
	return version
}

// nodeManifests returns the files that an installation reads: those of the root and the
// package.json of each member of the workspace, or of those that are needed.
func (s *project) nodeManifests(root manifest.Document, m packageManager, needed []string) []survey.Copied {
	list := []survey.Copied{{Files: s.Existing(".", m.files()...), To: "./"}}
	if m.berry() {
		for _, name := range []string{".yarn/releases", ".yarn/plugins", ".yarn/patches"} {
			if s.Tree.HasDir(name) {
				list = append(list, survey.Copied{Files: []string{name}, To: "./" + name + "/"})
			}
		}
	}
	if needed == nil {
		needed = s.members(root)
	}
	for _, dir := range needed {
		list = append(list, survey.Copied{Files: []string{dir + "/package.json"}, To: "./" + dir + "/"})
	}
	return list
}

// nodeBuild fills in the commands and the files of the image.
func (s *project) nodeBuild(f *nodeFile, dir string, pkg manifest.Document, m packageManager, w framework) {
	script := ""
	if pkg.String("scripts", "build") != "" {
		script = "build"
		s.Found(path.Join(dir, "package.json"), "built by the script build")
	}
	if script != "" || w.static != "" && w.name != "" {
		f.Build = survey.Command("%s run build", m.name)
	}
	if survey.HasAny(dependencies(pkg), "prisma", "@prisma/client") && m.name != "bun" {
		f.Generate = "npx prisma generate"
		f.Packages = []string{"ca-certificates", "openssl"}
		s.Found(path.Join(dir, "package.json"), "Prisma: generates its client, needs openssl")
	}
	f.Command, f.Tip = w.command, w.tip
	f.Env = append([]string{"NODE_ENV=production"}, w.env...)
	switch {
	case dir != ".":
		s.nodeMember(f, dir, pkg, m, w, script)
	case w.static != "":
	case f.Build == "" && f.Generate == "" && !pkg.Has("scripts", "prepare"):
		f.Only = m.production()
	case w.outputs == nil:
		f.Prune = m.prune()
		f.Outputs = []survey.Copied{{Files: []string{"/app"}, To: "./"}}
	default:
		files := w.outputs
		if w.modules {
			f.Prune = m.prune()
		}
		for _, name := range files {
			f.Outputs = append(f.Outputs, output("/app/"+name, name))
		}
	}
	if w.static == "" {
		var variable bool
		f.Port, variable = s.nodePort(dir, max(w.port, 3000))
		if variable || w.port != 0 || s.Request.Port != 0 {
			f.Env = append(f.Env, "PORT="+strconv.Itoa(f.Port))
		}
		if s.Health {
			f.Health = survey.Exec{"node", "-e", "fetch('http://127.0.0.1:" + strconv.Itoa(f.Port) + "/').then(r => process.exit(r.ok ? 0 : 1), () => process.exit(1))"}
			if m.name == "bun" {
				f.Health[0] = "bun"
			}
		}
	}
	f.Args = s.buildArgs(dir)
	if m.name == "bun" && len(f.Command) > 0 && f.Command[0] == "node" {
		f.Command[0] = "bun"
	}
}

// output is a COPY of a file or directory to its place below the working directory. A
// name with :: has another place after it.
func output(from, name string) survey.Copied {
	if from, to, ok := strings.Cut(from, "::"); ok {
		return survey.Copied{Files: []string{from}, To: to}
	}
	if path.Ext(name) != "" && !strings.HasPrefix(path.Base(name), ".") {
		return survey.Copied{Files: []string{from}, To: "./"}
	}
	return survey.Copied{Files: []string{from}, To: "./" + name}
}

var (
	buildVariable = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?:import\.meta|process)\.env\.((?:VITE|NEXT_PUBLIC|REACT_APP|VUE_APP|PUBLIC|NG_APP)_[A-Z0-9_]{1,60})\b`)
	})
	secretName = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?i)(^|_)(apikey|auth|credential|credentials|key|password|pword|passwd|secret|token)($|_)`)
	})
)

// buildArgs returns the variables that a build writes into the files for browsers.
func (s *project) buildArgs(dir string) (names []string) {
	s.Tree.Search(s.Tree.Below(dir, ".js", ".jsx", ".ts", ".tsx", ".vue", ".svelte", ".astro"), func(_, text string) bool {
		for _, m := range buildVariable().FindAllStringSubmatch(text, -1) {
			if !slices.Contains(names, m[1]) && len(names) < 50 {
				names = append(names, m[1])
			}
		}
		return false
	})
	slices.Sort(names)
	var secret []string
	names = slices.DeleteFunc(names, func(name string) bool {
		if secretName().MatchString(name) {
			secret = append(secret, name)
			return true
		}
		return false
	})
	for _, name := range names {
		s.Found("sources", "build argument %s", name)
	}
	for _, name := range secret {
		s.Warn("%s looks like a secret, but browsers would see it: no build argument is declared for it", name)
	}
	return names
}

// nodeExtras warns of dependencies that need more than the image has.
func (s *project) nodeExtras(pkg manifest.Document) {
	deps := pkg.Keys("dependencies")
	if survey.HasAny(deps, "puppeteer", "playwright") {
		s.Warn("puppeteer and playwright need a browser: take an image such as mcr.microsoft.com/playwright as the last stage")
	}
}
