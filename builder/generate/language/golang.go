package language

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

func isGo(t *sourcetree.Tree) bool { return t.First("go.mod", "go.work") != "" }

// goFile has the fields of go.Dockerfile.
type goFile struct {
	Version  string
	Modules  []survey.Copied // go.mod and go.sum of each module
	Vendored bool
	Cgo      bool
	Ldflags  survey.Shell
	Labelled bool   // main.version is set
	Package  string // of the main package, with ./
	Binary   string
	Files    []string // directories that the program reads
	Port     int
	PortVar  bool // it reads $PORT
	Health   survey.Exec
}

func golang(r survey.Request) (*survey.Project, error) {
	s := &project{survey.New(r)}
	f := goFile{}
	modules := []string{"."}
	var origins []survey.Origin
	if s.Tree.Has("go.work") {
		version, dirs, err := manifest.GoWork([]byte(s.Tree.Text("go.work")))
		s.Parsed("go.work", err)
		modules = dirs
		f.Modules = append(f.Modules, survey.Copied{Files: s.Existing(".", "go.work", "go.work.sum"), To: "./"})
		s.Found("go.work", "workspace of %d modules", len(dirs))
		origins = append(origins, survey.Origin{File: "go.work", Version: version, Choose: release.Language.Minimum})
	}
	requires, origins := s.goModules(&f, modules, origins)
	main, others, err := s.goMain(modules)
	if err = survey.FirstError(s.Err, err); err != nil {
		return nil, err
	}
	f.Version = s.Choose(release.Go, s.goPinned(), s.Pinned(".", ".go-version"), origins, s.Tools("golang", "go"))
	f.Package, f.Binary = "./"+main, s.goBinary(main)
	if main == "." {
		f.Package = "."
	}
	s.Name = f.Binary
	s.Found(path.Join(main, "*.go"), "main package %s", f.Package)
	f.Vendored = s.Tree.Has("vendor/modules.txt")
	if f.Vendored {
		s.Found("vendor/modules.txt", "vendored modules: nothing is downloaded")
	}
	sources := slices.DeleteFunc(s.Tree.Below(".", ".go"), func(name string) bool { return strings.HasSuffix(name, "_test.go") })
	sources = slices.DeleteFunc(sources, func(name string) bool { return slices.Contains(others, path.Dir(name)) })
	s.goSources(&f, main, sources, requires)
	s.AddServices(requires)
	if s.Health {
		s.Warn("no HEALTHCHECK: the image has no program that could ask the server")
	}
	s.Ignore = []string{"/bin", "/" + f.Binary, "*.test", "*.out"}
	if slices.Contains([]string{"cmd", "internal", "pkg", "bin"}, f.Binary) || s.Tree.HasDir(f.Binary) {
		s.Ignore = slices.Delete(s.Ignore, 1, 2)
	}
	s.Dockerfile, err = survey.Render(templates, "go", f)
	return s.Project, err
}

// goModules reads each go.mod. It returns the required modules, and the versions.
func (s *project) goModules(f *goFile, modules []string, origins []survey.Origin) (requires []string, _ []survey.Origin) {
	seen := map[string]bool{}
	for len(modules) > 0 {
		dir := modules[0]
		if modules = modules[1:]; seen[dir] || len(seen) > 200 {
			continue
		}
		seen[dir] = true
		file := path.Join(dir, "go.mod")
		if strings.HasPrefix(dir, "..") || path.IsAbs(dir) {
			s.Warn("the module in %s is outside of this directory: run cairn init in a parent directory that has all modules", survey.Display(dir))
			continue
		}
		text, err := s.Tree.Read(file)
		if err != nil {
			s.Err = survey.FirstError(s.Err, err)
			return nil, nil
		}
		m, err := manifest.GoMod(text)
		if err != nil {
			s.Parsed(file, err)
			return nil, nil
		}
		f.Modules = append(f.Modules, survey.Copied{Files: s.Existing(dir, "go.mod", "go.sum"), To: path.Join("./", dir) + "/"})
		requires = append(requires, m.Requires...)
		origins = append(origins, survey.Origin{File: file, Version: m.Toolchain, Choose: release.Language.Exact}, survey.Origin{File: file, Version: m.Go, Choose: release.Language.Minimum})
		for _, replaced := range m.Replaces {
			modules = append(modules, path.Join(dir, replaced))
		}
	}
	return requires, origins
}

// goPinned returns the version of the toolchain line, which has precedence.
func (s *project) goPinned() []survey.Origin {
	m, err := manifest.GoMod([]byte(s.Tree.Text("go.mod")))
	if err != nil || m.Toolchain == "" {
		return nil
	}
	return []survey.Origin{{File: "go.mod", Version: m.Toolchain, Choose: release.Language.Exact}}
}

var goMainPackage = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?m)^package main\b`) })

// goMain returns the directory of the main package: the root, else the only one below
// cmd, else the only one. It returns those of the other main packages, too.
func (s *project) goMain(modules []string) (main string, others []string, err error) {
	var dirs []string
	s.Tree.Search(s.Tree.Below(".", ".go"), func(name, text string) bool {
		dir := path.Dir(name)
		if strings.HasSuffix(name, "_test.go") || slices.Contains(dirs, dir) || !goMainPackage().MatchString(text) || strings.Contains(text, "//go:build ignore") {
			return false
		}
		dirs = append(dirs, dir)
		return false
	})
	dirs = slices.DeleteFunc(dirs, func(dir string) bool { return !s.inModules(dir, modules) })
	if main, err = s.pickMain(dirs); err != nil {
		return "", nil, err
	}
	return main, slices.DeleteFunc(dirs, func(dir string) bool { return dir == main }), nil
}

// pickMain chooses one of the directories of main packages.
func (s *project) pickMain(dirs []string) (string, error) {
	if s.App != "" {
		for _, dir := range dirs {
			if dir == path.Clean(s.App) || path.Base(dir) == s.App {
				return dir, nil
			}
		}
		return "", &survey.ChoiceError{Kind: "main packages", App: s.App, Choices: dirs}
	}
	if len(dirs) == 0 {
		return "", survey.NoApp("package main", "*.go")
	}
	if len(dirs) == 1 {
		return dirs[0], nil
	}
	if slices.Contains(dirs, ".") {
		s.Found("", "one of %d main packages: --app chooses another", len(dirs))
		return ".", nil
	}
	commands := slices.DeleteFunc(slices.Clone(dirs), func(dir string) bool { return !slices.Contains(strings.Split(dir, "/"), "cmd") })
	switch len(commands) {
	case 0:
		return "", &survey.ChoiceError{Kind: "main packages", Choices: dirs}
	case 1:
		return commands[0], nil
	}
	return "", &survey.ChoiceError{Kind: "main packages", Choices: commands}
}

// inModules reports whether a directory belongs to one of the modules and not to a
// nested one.
func (s *project) inModules(dir string, modules []string) bool {
	for d := dir; ; d = path.Dir(d) {
		if slices.Contains(modules, d) {
			return true
		}
		if s.Tree.Has(path.Join(d, "go.mod")) || d == "." {
			return false
		}
	}
}

// goBinary returns the name that go build gives to the program.
func (s *project) goBinary(main string) string {
	name := path.Base(main)
	if main == "." || s.Tree.Has(path.Join(main, "go.mod")) {
		if m, err := manifest.GoMod([]byte(s.Tree.Text(path.Join(main, "go.mod")))); err == nil && m.Path != "" {
			name = path.Base(m.Path)
			if strings.HasPrefix(name, "v") && len(parts(name[1:])) == 1 {
				name = path.Base(path.Dir(m.Path))
			}
		}
	}
	return name
}

// parts returns the text if it is a number.
func parts(text string) []string {
	if _, err := strconv.Atoi(text); err != nil {
		return nil
	}
	return []string{text}
}

var (
	goVersion = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?m)^(?:var\s+|\t)(version|Version)\s*(?:string\s*)?(?:=|$)`)
	})
	goEmbed = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?m)^//go:embed (.*)$`) })
)

// goSources looks for the port, cgo, a version variable and directories that the
// program reads at run time.
func (s *project) goSources(f *goFile, main string, sources, requires []string) {
	embedded := ""
	listener := &goListener{}
	cgoFile := ""
	read := map[string]bool{}
	version := ""
	s.Tree.Search(sources, func(name, text string) bool {
		if strings.Contains(text, `import "C"`) {
			cgoFile = name
		}
		for _, m := range goEmbed().FindAllStringSubmatch(text, -1) {
			embedded += " " + m[1]
		}
		listener.read(name, text)
		if m := goVersion().FindStringSubmatch(text); m != nil && path.Dir(name) == main && version == "" {
			version = m[1]
		}
		for _, dir := range []string{"templates", "static", "public", "views", "migrations", "assets", "locales"} {
			if strings.Contains(text, `"`+dir+`"`) || strings.Contains(text, `"`+dir+`/`) || strings.Contains(text, `"./`+dir) || strings.Contains(text, "file://"+dir) {
				read[dir] = true
			}
		}
		return false
	})
	for dir := range read {
		if s.Tree.HasDir(dir) && !strings.Contains(embedded, dir) {
			f.Files = append(f.Files, dir)
		}
	}
	slices.Sort(f.Files)
	for _, dir := range f.Files {
		s.Found("*.go", "%s/ is read at run time", dir)
	}
	if cgoFile != "" {
		f.Cgo = true
		s.Found(cgoFile, "cgo: an image with glibc")
	} else if i := slices.IndexFunc(requires, func(r string) bool {
		return survey.HasAny([]string{r}, "github.com/mattn/go-sqlite3", "github.com/confluentinc/confluent-kafka-go", "github.com/confluentinc/confluent-kafka-go/v2", "github.com/h2non/bimg")
	}); i >= 0 {
		f.Cgo = true
		s.Found("go.mod", "cgo for %s: an image with glibc", survey.Display(requires[i]))
	}
	f.Ldflags = `-ldflags="-s -w"`
	if version != "" {
		f.Labelled = true
		f.Ldflags = survey.Command(`-ldflags="-s -w -X main.%s=$VERSION"`, version)
		s.Found(path.Join(main, "*.go"), "main.%s from --build-arg VERSION", version)
	}
	s.goListens(f, listener)
}
