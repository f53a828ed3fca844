// Package python writes Dockerfiles for projects in Python.
package python

import (
	"cmp"
	"embed"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/cairn-build/cairn/builder/generate/javascript"
	"github.com/cairn-build/cairn/builder/generate/manifest"
	"github.com/cairn-build/cairn/builder/generate/release"
	"github.com/cairn-build/cairn/builder/generate/sourcetree"
	"github.com/cairn-build/cairn/builder/generate/survey"
)

//go:embed templates
var templates embed.FS

// project is an analysis in progress.
type project struct{ *survey.Survey }

// Detect reports whether a tree has a project in Python.
func Detect(t *sourcetree.Tree) bool {
	if t.First("mkdocs.yml", "mkdocs.yaml") != "" && t.First("pyproject.toml", "setup.py", "manage.py", "main.py", "app.py") == "" {
		return false // requirements.txt is that of the documentation
	}
	return t.First("pyproject.toml", "requirements.txt", "Pipfile", "setup.py", "setup.cfg", "manage.py", "main.py", "app.py", "requirements/production.txt", "requirements/prod.txt") != ""
}

// pythonFile has the fields of python.Dockerfile.
type pythonFile struct {
	Version   string
	Assets    *javascript.Assets
	Tool      survey.Shell // installs the package manager
	ToolCache string
	Env       []survey.Shell // of the build
	Headers   []string       // Debian packages of the build
	Libraries []string       // and of the image
	Manifests []survey.Copied
	Install   survey.Shell // dependencies
	Project   survey.Shell // the project itself, after its sources
	Server    survey.Shell // installs a server that is not among the dependencies
	Bare      bool         // there are no dependencies
	Collect   survey.Shell
	base      string   // directory of the sources, or ""
	Settings  string   // DJANGO_SETTINGS_MODULE, or ""
	Paths     []string // PYTHONPATH
	Port      int
	PortVar   bool
	Health    survey.Exec
	Command   survey.Exec
}

// pythonProject has the facts that the start command depends on.
type pythonProject struct {
	doc     manifest.Document // pyproject.toml
	names   []string          // dependencies
	scripts []string          // entry points
	base    string            // directory of a member of a workspace, or ""
}

// Analyse writes a Dockerfile for a project in Python.
func Analyse(r survey.Request) (*survey.Project, error) {
	s := &project{survey.New(r)}
	p := pythonProject{doc: s.Document("pyproject.toml", manifest.TOML)}
	pipfile := s.Document("Pipfile", manifest.TOML)
	f := pythonFile{}
	s.pythonDependencies(&f, &p, pipfile)
	if s.Err != nil {
		return nil, s.Err
	}
	s.Name = cmp.Or(p.doc.String("project", "name"), p.doc.String("tool", "poetry", "name"))
	f.Version = s.Choose(release.Python,
		s.Pinned(".", ".python-version"),
		[]survey.Origin{{File: "pyproject.toml", Version: p.doc.String("project", "requires-python"), Choose: release.Language.Newest}, {File: "pyproject.toml", Version: p.doc.String("tool", "poetry", "dependencies", "python"), Choose: release.Language.Newest}, {File: "Pipfile", Version: cmp.Or(pipfile.String("requires", "python_full_version"), pipfile.String("requires", "python_version")), Choose: release.Language.Exact}},
		s.runtimeTxt(), s.Tools("python"))
	s.pythonLibraries(&f, p.names)
	if err := s.pythonStart(&f, &p); err != nil {
		return nil, err
	}
	f.Assets = javascript.NewAssets(s.Survey)
	if s.Health {
		f.Health = survey.Exec{"python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:" + strconv.Itoa(f.Port) + "/')"}
	}
	s.AddServices(p.names)
	s.Ignore = []string{"__pycache__", "*.py[cod]", ".venv", ".tox", ".nox", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".coverage", "htmlcov", "*.egg-info", "*.sqlite3"}
	s.Outputs = []string{"venv", "env", "dist", "build"}
	if f.Assets != nil {
		s.Ignore = append(s.Ignore, "node_modules")
	}
	var err error
	s.Dockerfile, err = survey.Render(templates, "python", f)
	return s.Project, err
}

// runtimeTxt returns the version in Heroku's runtime.txt: "python-3.12.1".
func (s *project) runtimeTxt() []survey.Origin {
	v := manifest.VersionFile([]byte(s.Tree.Text("runtime.txt")))
	return []survey.Origin{{File: "runtime.txt", Version: strings.TrimPrefix(v, "python-"), Choose: release.Language.Exact}}
}

// pythonDependencies decides on the package manager, and lists the dependencies.
func (s *project) pythonDependencies(f *pythonFile, p *pythonProject, pipfile manifest.Document) {
	for _, requirement := range p.doc.Strings("project", "dependencies") {
		p.names = append(p.names, manifest.PythonName(requirement))
	}
	for _, name := range slices.Concat(p.doc.Keys("tool", "poetry", "dependencies"), pipfile.Keys("packages")) {
		p.names = append(p.names, manifest.PythonName(name))
		for _, d := range []manifest.Document{p.doc.Object("tool", "poetry", "dependencies", name), pipfile.Object("packages", name)} {
			for _, extra := range d.Strings("extras") {
				p.names = append(p.names, manifest.PythonName(name+"["+extra+"]"))
			}
		}
	}
	p.scripts = slices.Concat(p.doc.Keys("project", "scripts"), p.doc.Keys("tool", "poetry", "scripts"))
	packaged := p.doc.Has("build-system") && (p.doc.Has("project", "name") || p.doc.Has("tool", "poetry", "name")) && !p.nonPackage()
	switch {
	case s.Tree.Has("uv.lock"):
		s.uv(f, p, packaged)
	case s.Tree.Has("poetry.lock") || p.doc.Has("tool", "poetry", "dependencies"):
		s.poetry(f, packaged)
	case s.Tree.Has("pdm.lock"):
		s.pdm(f, packaged)
	case s.Tree.Has("Pipfile"):
		s.pipenv(f)
	default:
		s.pip(f, p, packaged)
	}
	for _, name := range slices.Clone(p.names) { // "fastapi[standard]" is fastapi, too
		if bare, _, extra := strings.Cut(name, "["); extra {
			p.names = append(p.names, bare)
		}
	}
}

// nonPackage reports whether the project itself is not installed.
func (p *pythonProject) nonPackage() bool {
	mode, set := p.doc.Value("tool", "poetry", "package-mode").(bool)
	managed, uv := p.doc.Value("tool", "uv", "package").(bool)
	return set && !mode || uv && !managed
}

func (s *project) uv(f *pythonFile, p *pythonProject, packaged bool) {
	s.Found("uv.lock", "uv")
	f.Tool, f.ToolCache = "pip install --no-cache-dir uv", "/root/.cache/uv"
	f.Env = []survey.Shell{"UV_PROJECT_ENVIRONMENT=/venv", "UV_COMPILE_BYTECODE=1", "UV_LINK_MODE=copy", "UV_PYTHON_DOWNLOADS=never"}
	f.Manifests = []survey.Copied{{Files: s.Existing(".", "pyproject.toml", "uv.lock"), To: "./"}}
	f.Install = "uv sync --locked --no-install-project --no-dev"
	member := survey.Shell("")
	if p.doc.Has("tool", "uv", "workspace") {
		member = s.uvMember(f, p)
		f.Install = "uv sync --locked --no-install-workspace --no-dev" + member
		packaged = true
	}
	if packaged {
		f.Project = "uv sync --locked --no-dev --no-editable" + member
	}
	p.names = append(p.names, manifest.LockedNames([]byte(s.Tree.Text("uv.lock")))...)
}

// uvMember adds the manifests of a workspace's members. It returns the option for the
// member that is the application, if the root is none.
func (s *project) uvMember(f *pythonFile, p *pythonProject) survey.Shell {
	var dirs []string
	for _, file := range s.Tree.Files("pyproject.toml") {
		if dir := path.Dir(file); dir != "." && survey.Matched(dir, p.doc.Strings("tool", "uv", "workspace", "members")) {
			f.Manifests = append(f.Manifests, survey.Copied{Files: []string{file}, To: "./" + dir + "/"})
			dirs = append(dirs, dir)
		}
	}
	slices.Sort(dirs)
	for _, dir := range dirs {
		file := path.Join(dir, "pyproject.toml")
		d := s.Document(file, manifest.TOML)
		name := d.String("project", "name")
		if s.App == "" || path.Clean(s.App) != dir && path.Base(dir) != s.App && name != s.App {
			continue
		}
		s.Found(file, "member %s of the workspace", survey.Display(name))
		p.base, p.scripts, s.App = dir, d.Keys("project", "scripts"), ""
		for _, requirement := range d.Strings("project", "dependencies") {
			p.names = append(p.names, manifest.PythonName(requirement))
		}
		if !d.Has("build-system") {
			f.Paths = append(f.Paths, path.Join("/app", dir))
		}
		return survey.Command(" --package %s", name)
	}
	root := s.Tree.First("main.py", "app.py", "manage.py") != "" || s.Tree.HasDir("src") || len(p.scripts) > 0
	if (s.App != "" || !root) && s.Err == nil && len(dirs) > 0 {
		s.Err = &survey.ChoiceError{Kind: "members of the workspace", App: s.App, Choices: dirs}
	}
	return ""
}

func (s *project) poetry(f *pythonFile, packaged bool) {
	s.Found(cmp.Or(s.Tree.First("poetry.lock"), "pyproject.toml"), "Poetry")
	if !s.Tree.Has("poetry.lock") {
		s.Warn("there is no poetry.lock: each build installs the newest versions: commit the output of poetry lock")
	}
	// An environment of its own keeps the dependencies of Poetry from the project's.
	f.Tool = "python -m venv /opt/poetry && /opt/poetry/bin/pip install --no-cache-dir poetry && python -m venv /venv"
	f.ToolCache = "/root/.cache/pypoetry"
	f.Env = []survey.Shell{"VIRTUAL_ENV=/venv", "PATH=/venv/bin:$PATH", "POETRY_VIRTUALENVS_CREATE=false", "POETRY_NO_INTERACTION=1"}
	f.Manifests = []survey.Copied{{Files: s.Existing(".", "pyproject.toml", "poetry.lock"), To: "./"}}
	f.Install = "/opt/poetry/bin/poetry install --only main --no-root"
	if packaged {
		f.Project = "/venv/bin/pip install --no-deps ."
	}
}

func (s *project) pdm(f *pythonFile, packaged bool) {
	s.Found("pdm.lock", "PDM")
	f.Tool = "python -m venv /opt/pdm && /opt/pdm/bin/pip install --no-cache-dir pdm && python -m venv /venv"
	f.ToolCache = "/root/.cache/pdm"
	f.Env = []survey.Shell{"VIRTUAL_ENV=/venv", "PATH=/venv/bin:$PATH", "PDM_CHECK_UPDATE=false"}
	f.Manifests = []survey.Copied{{Files: s.Existing(".", "pyproject.toml", "pdm.lock"), To: "./"}}
	f.Install = "/opt/pdm/bin/pdm use -f /venv && /opt/pdm/bin/pdm sync --prod --no-self --no-editable"
	if packaged {
		f.Project = "/venv/bin/pip install --no-deps ."
	}
}

func (s *project) pipenv(f *pythonFile) {
	s.Found(cmp.Or(s.Tree.First("Pipfile.lock"), "Pipfile"), "Pipenv")
	f.Tool = "python -m venv /opt/pipenv && /opt/pipenv/bin/pip install --no-cache-dir pipenv && python -m venv /venv"
	f.ToolCache = "/root/.cache/pipenv"
	f.Env = []survey.Shell{"VIRTUAL_ENV=/venv", "PATH=/venv/bin:$PATH", "PIPENV_VERBOSITY=-1"}
	f.Manifests = []survey.Copied{{Files: s.Existing(".", "Pipfile", "Pipfile.lock"), To: "./"}}
	f.Install = "/opt/pipenv/bin/pipenv sync"
	if !s.Tree.Has("Pipfile.lock") {
		f.Install = "/opt/pipenv/bin/pipenv install --skip-lock"
		s.Warn("there is no Pipfile.lock: each build installs the newest versions: commit the output of pipenv lock")
	}
}

// pip installs a requirements.txt, or the project itself.
func (s *project) pip(f *pythonFile, p *pythonProject, packaged bool) {
	f.ToolCache = "/root/.cache/pip"
	f.Tool = "python -m venv /venv"
	f.Env = []survey.Shell{"PATH=/venv/bin:$PATH", "PIP_DISABLE_PIP_VERSION_CHECK=1"}
	file := s.Tree.First("requirements.txt", "requirements/production.txt", "requirements/prod.txt", "requirements/base.txt", "requirements-prod.txt")
	switch {
	case file != "":
		s.Found(file, "pip")
		local := s.requirements(f, p, file, map[string]bool{})
		f.Install = survey.Command("pip install -r %s", file)
		if local {
			f.Project, f.Install = f.Install, ""
			f.Manifests = nil
		}
	case p.doc.Has("project") || s.Tree.First("setup.py", "setup.cfg") != "":
		s.Found(s.Tree.First("pyproject.toml", "setup.py", "setup.cfg"), "pip installs the project")
		if !packaged && p.doc.Has("project") && !p.doc.Has("build-system") && s.Tree.First("setup.py") == "" {
			s.Warn("pyproject.toml has no [build-system]: pip takes setuptools, which must find the packages by itself")
		}
		f.Project = "pip install ."
		s.Warn("there is no lock file: each build installs the newest versions that pyproject.toml or setup.py allow")
	default:
		f.Bare = true
		s.Found("", "no dependencies, since there is no file of them")
	}
}

// requirements reads a requirements.txt with the files that it includes. It reports
// whether it installs a directory of the tree.
func (s *project) requirements(f *pythonFile, p *pythonProject, file string, seen map[string]bool) (local bool) {
	if seen[file] || len(seen) > 50 || strings.HasPrefix(file, "..") || !s.Tree.Has(file) {
		return false
	}
	seen[file] = true
	r := manifest.ParseRequirements([]byte(s.Tree.Text(file)))
	p.names = append(p.names, r.Names...)
	to := path.Join("./", path.Dir(file)) + "/"
	f.Manifests = append(f.Manifests, survey.Copied{Files: []string{file}, To: to})
	local = r.Local
	for _, include := range r.Includes {
		local = s.requirements(f, p, path.Join(path.Dir(file), include), seen) || local
	}
	return local
}

// pythonLibraries lists the Debian packages that dependencies need: headers to compile
// them, and libraries to load.
func (s *project) pythonLibraries(f *pythonFile, names []string) {
	for _, l := range []struct {
		name             string
		headers, library []string
	}{
		{"psycopg2", []string{"gcc", "libc6-dev", "libpq-dev"}, []string{"libpq5"}},
		{"psycopg[c]", []string{"gcc", "libc6-dev", "libpq-dev"}, []string{"libpq5"}},
		{"psycopg", nil, []string{"libpq5"}},
		{"mysqlclient", []string{"gcc", "libc6-dev", "pkg-config", "default-libmysqlclient-dev"}, []string{"libmariadb3"}},
		{"pyodbc", []string{"g++", "unixodbc-dev"}, []string{"unixodbc"}},
		{"python-ldap", []string{"gcc", "libc6-dev", "libldap2-dev", "libsasl2-dev"}, []string{"libldap-2.5-0"}},
		{"uwsgi", []string{"gcc", "libc6-dev"}, nil},
		{"weasyprint", nil, []string{"libpango-1.0-0", "libpangoft2-1.0-0"}},
		{"opencv-python", nil, []string{"libgl1", "libglib2.0-0"}},
	} {
		if !slices.Contains(names, l.name) || l.name == "psycopg" && slices.Contains(names, "psycopg[binary]") {
			continue
		}
		for _, h := range l.headers {
			if !slices.Contains(f.Headers, h) {
				f.Headers = append(f.Headers, h)
			}
		}
		for _, lib := range l.library {
			if !slices.Contains(f.Libraries, lib) {
				f.Libraries = append(f.Libraries, lib)
			}
		}
		s.Found("dependencies", "Debian packages for %s", l.name)
	}
}
