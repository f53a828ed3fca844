package language

import (
	"cmp"
	"path"
	"regexp"
	"strings"
	"sync"

	"github.com/cairn-build/cairn/builder/generate/manifest"
	"github.com/cairn-build/cairn/builder/generate/release"
	"github.com/cairn-build/cairn/builder/generate/sourcetree"
	"github.com/cairn-build/cairn/builder/generate/survey"
)

func isDotNet(t *sourcetree.Tree) bool {
	for _, pattern := range []string{"*.sln", "*.slnx", "*.csproj", "*.fsproj", "*.vbproj"} {
		for _, file := range t.Files(pattern) {
			if strings.Count(file, "/") <= 2 {
				return true
			}
		}
	}
	return false
}

// dotnetFile has the fields of dotnet.Dockerfile.
type dotnetFile struct {
	SDK       string
	Version   string
	Runtime   string // aspnet or runtime
	Manifests []survey.Copied
	Project   string
	Restore   survey.Shell
	Port      int
	Command   survey.Exec
}

// dotnetProject is a project file.
type dotnetProject struct {
	file, framework, name string
	web, app              bool
	packages              []string
}

func dotnet(r survey.Request) (*survey.Project, error) {
	s := &project{survey.New(r)}
	var files []string
	for _, ext := range []string{"*.csproj", "*.fsproj", "*.vbproj"} {
		files = append(files, s.Tree.Files(ext)...)
	}
	sourcetree.SortByDepth(files)
	common := ""
	if text := s.Tree.Text("Directory.Build.props"); text != "" {
		if props, err := manifest.XML([]byte(text)); err == nil && len(props.All("TargetFramework")) > 0 {
			common = props.All("TargetFramework")[0].Text
		}
	}
	var projects []dotnetProject
	for _, file := range files[:min(len(files), 300)] {
		projects = append(projects, s.readDotnet(file, common))
	}
	if s.Err != nil {
		return nil, s.Err
	}
	p, err := s.dotnetApp(projects)
	if err != nil {
		return nil, err
	}
	s.Name = strings.ToLower(p.name)
	f := dotnetFile{Project: p.file, Runtime: "runtime", Restore: survey.Command("dotnet restore %s", p.file)}
	s.dotnetVersion(&f, p)
	for _, name := range s.Existing(".", "global.json", "Directory.Build.props", "Directory.Packages.props", "nuget.config", "NuGet.config", "NuGet.Config") {
		f.Manifests = append(f.Manifests, survey.Copied{Files: []string{name}, To: "./"})
	}
	for _, file := range files {
		list := append([]string{file}, s.Existing(path.Dir(file), "packages.lock.json")...)
		f.Manifests = append(f.Manifests, survey.Copied{Files: list, To: path.Join("./", path.Dir(file)) + "/"})
	}
	if s.Tree.Has(path.Join(path.Dir(p.file), "packages.lock.json")) {
		f.Restore += " --locked-mode"
		s.Found("packages.lock.json", "restores locked versions")
	}
	if p.web {
		f.Runtime = "aspnet"
		s.Found(p.file, "ASP.NET Core")
		f.Port = s.ChoosePort("", 0, 8080)
	} else if s.Request.Port != 0 {
		f.Port = s.ChoosePort("", 0, 0)
	}
	if s.Health {
		s.Warn("no HEALTHCHECK: the image has no program that could ask the server")
	}
	f.Command = survey.Exec{"dotnet", p.name + ".dll"}
	s.AddServices(p.packages)
	s.Ignore, s.Outputs = []string{"TestResults", ".vs", "*.user"}, []string{"bin", "obj"}
	s.Dockerfile, err = survey.Render(templates, "dotnet", f)
	return s.Project, err
}

// readDotnet reads a project file.
func (s *project) readDotnet(file, common string) dotnetProject {
	p := dotnetProject{file: file, name: strings.TrimSuffix(path.Base(file), path.Ext(file))}
	text, err := s.Tree.Read(file)
	if err != nil {
		s.Err = survey.FirstError(s.Err, err)
		return p
	}
	root, err := manifest.XML(text)
	if err != nil {
		s.Parsed(file, err)
		return p
	}
	first := func(name string) string {
		for _, e := range root.All(name) {
			if e.Text != "" {
				return e.Text
			}
		}
		return ""
	}
	p.framework = cmp.Or(first("TargetFramework"), strings.Split(first("TargetFrameworks"), ";")[0], common)
	if name := first("AssemblyName"); name != "" && !strings.Contains(name, "$(") {
		p.name = name
	}
	sdk := root.Attrs["Sdk"]
	p.web = strings.HasPrefix(sdk, "Microsoft.NET.Sdk.Web")
	p.app = p.web || strings.HasPrefix(sdk, "Microsoft.NET.Sdk.Worker") || strings.EqualFold(first("OutputType"), "exe")
	for _, ref := range root.All("PackageReference") {
		p.packages = append(p.packages, ref.Attrs["Include"])
	}
	if survey.HasAny(p.packages, "Microsoft.NET.Test.Sdk", "xunit", "NUnit", "MSTest") {
		p.app = false
	}
	for _, ref := range root.All("FrameworkReference") {
		p.web = p.web || ref.Attrs["Include"] == "Microsoft.AspNetCore.App" && p.app
	}
	return p
}

// dotnetApp chooses the project to start: a web application before other programs.
func (s *project) dotnetApp(projects []dotnetProject) (dotnetProject, error) {
	var web, apps []dotnetProject
	var names []string
	for _, p := range projects {
		if s.App != "" && (s.App == p.name || path.Clean(s.App) == p.file || path.Clean(s.App) == path.Dir(p.file)) {
			return p, nil
		}
		if p.web {
			web = append(web, p)
		}
		if p.app {
			apps = append(apps, p)
			names = append(names, p.name)
		}
	}
	switch {
	case s.App != "":
		return dotnetProject{}, &survey.ChoiceError{Kind: "projects", App: s.App, Choices: names}
	case len(apps) == 1:
		return apps[0], nil
	case len(web) == 1:
		s.Found(web[0].file, "the web application of %d programs: --app chooses another", len(apps))
		return web[0], nil
	case len(apps) == 0:
		return dotnetProject{}, survey.NoApp("Sdk.Web, Sdk.Worker and OutputType Exe", "project files")
	}
	return dotnetProject{}, &survey.ChoiceError{Kind: "projects", Choices: names}
}

var netVersion = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^net(?:coreapp)?(\d{1,2}\.\d)`) })

// dotnetVersion decides on the versions of the runtime and the SDK.
func (s *project) dotnetVersion(f *dotnetFile, p dotnetProject) {
	version := ""
	if m := netVersion().FindStringSubmatch(p.framework); m != nil {
		version = m[1]
	} else if p.framework != "" {
		s.Warn("%s: the framework %s does not run on Linux: the image has that of %s", survey.Display(p.file), survey.Display(p.framework), release.DotNet.Default)
	}
	f.Version = s.Choose(release.DotNet, []survey.Origin{{File: p.file, Version: version, Choose: release.Language.Exact}}, s.Tools("dotnet", "dotnet-core"))
	f.SDK = f.Version
	sdk := s.Document("global.json", manifest.JSON).String("sdk", "version")
	if list := strings.Split(sdk, "."); len(list) == 3 && len(list[0]) < 3 && len(list[1]) == 1 {
		if v := list[0] + "." + list[1]; v != f.SDK {
			f.SDK = v
			s.Found("global.json", "SDK %s", v)
		}
	}
}
