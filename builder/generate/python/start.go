package python

import (
	"cmp"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/cairn-build/cairn/builder/generate/survey"
)

var (
	fastAPI = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?m)^(\w+)\s*(?::[^=\n]+)?=\s*(?:fastapi\.)?FastAPI\(`)
	})
	starlette = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?m)^(\w+)\s*(?::[^=\n]+)?=\s*(?:Starlette|Litestar|Quart)\(`)
	})
	flaskObject = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?m)^(\w+)\s*(?::[^=\n]+)?=\s*(?:flask\.)?Flask\(|^(\w+)\s*=\s*create_app\(`)
	})
	flaskMaker = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?m)^def (create_app|make_app)\(`) })
	fastMaker  = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?m)^def (create_app|make_app|get_app|get_application)\(`)
	})
	settings = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`DJANGO_SETTINGS_MODULE['"]\s*,\s*['"]([A-Za-z0-9_.]+)['"]`)
	})
	pythonPort = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`\bport\s*=\s*(?:int\()?(\d{4,5})\b|PORT['"]\s*,\s*['"]?(\d{4,5})\b|serve_forever.{0,0}|\(['"](?:0\.0\.0\.0)?['"],\s*(\d{4,5})\)`)
	})
)

// pythonStart decides on the command.
func (s *project) pythonStart(f *pythonFile, p *pythonProject) error {
	f.base = p.base
	sources := slices.DeleteFunc(s.Tree.Below(cmp.Or(p.base, "."), ".py"), func(name string) bool {
		base := path.Base(name)
		return strings.HasPrefix(base, "test_") || strings.HasPrefix(name, "tests/") || strings.Contains(name, "/tests/") || base == "conftest.py"
	})
	switch {
	case s.Tree.Has("manage.py"):
		return s.django(f, p, sources)
	case slices.Contains(p.names, "streamlit"):
		entry := s.Tree.Search(sources, func(_, text string) bool { return strings.Contains(text, "import streamlit") })
		if entry != "" {
			s.Found(entry, "Streamlit")
			f.Port = s.ChoosePort("", 0, 8501)
			f.Command = survey.Exec{"streamlit", "run", entry, "--server.port=" + strconv.Itoa(f.Port), "--server.address=0.0.0.0", "--server.headless=true"}
			return nil
		}
	}
	if slices.Contains(p.names, "fastapi") && s.object(f, sources, "FastAPI", fastAPI(), fastMaker(), "fastapi") ||
		survey.HasAny(p.names, "starlette", "litestar", "quart") && s.object(f, sources, "ASGI", starlette(), nil, "") {
		f.Port = s.ChoosePort("", 0, 8000)
		s.server(f, p, "uvicorn")
		f.Command = slices.Concat(survey.Exec{"uvicorn"}, f.Command, survey.Exec{"--host", "0.0.0.0", "--port", strconv.Itoa(f.Port)})
		return nil
	}
	if slices.Contains(p.names, "flask") && s.object(f, sources, "Flask", flaskObject(), flaskMaker(), "flask") {
		f.Port = s.ChoosePort("", 0, 8000)
		s.unusedPort(f, sources)
		if slices.Contains(p.names, "waitress") && !slices.Contains(p.names, "gunicorn") {
			target := f.Command[len(f.Command)-1]
			f.Command = survey.Exec{"waitress-serve", "--listen=0.0.0.0:" + strconv.Itoa(f.Port), target}
			if call, ok := strings.CutSuffix(target, "()"); ok {
				f.Command = survey.Exec{"waitress-serve", "--listen=0.0.0.0:" + strconv.Itoa(f.Port), "--call", call}
			}
			return nil
		}
		s.server(f, p, "gunicorn")
		f.Command = slices.Concat(survey.Exec{"gunicorn", "--bind", "0.0.0.0:" + strconv.Itoa(f.Port)}, f.Command)
		return nil
	}
	return s.script(f, p, sources)
}

var runPort = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\.run\([^()\n]*\bport\s*=\s*(\d{2,5})\b`) })

// unusedPort notes the port of a call of run, which a server of the image does not make.
func (s *project) unusedPort(f *pythonFile, sources []string) {
	number := ""
	file := s.Tree.Search(sources, func(_, text string) bool {
		if m := runPort().FindStringSubmatch(text); m != nil {
			number = m[1]
		}
		return number != ""
	})
	if file != "" && number != strconv.Itoa(f.Port) {
		s.Found(file, "port %s of run is not used: the server of the image listens on %d", number, f.Port)
	}
}

// moduleOf returns the name by which Python imports a file.
func (s *project) moduleOf(f *pythonFile, file string) string {
	if _, rest, ok := strings.Cut(file, f.base+"/"); ok && f.base != "" {
		file = rest
	}
	if rest, ok := strings.CutPrefix(file, "src/"); ok {
		file = rest
		if f.Project == "" && !slices.Contains(f.Paths, "/app/src") {
			f.Paths = append(f.Paths, "/app/src")
		}
	}
	return strings.ReplaceAll(strings.TrimSuffix(strings.TrimSuffix(file, ".py"), "/__init__"), "/", ".")
}

// object looks for the application's object, or a function that makes it, and sets the
// command to its name in the form of ASGI and WSGI servers.
func (s *project) object(f *pythonFile, sources []string, title string, object, maker *regexp.Regexp, library string) bool {
	name, made := "", ""
	uses := func(text string) bool { return library == "" || strings.Contains(strings.ToLower(text), library) }
	file := s.Tree.Search(sources, func(_, text string) bool {
		m := object.FindStringSubmatch(text)
		if m == nil || !uses(text) {
			return false
		}
		name = strings.Join(m[1:], "")
		return true
	})
	if file == "" && maker != nil {
		file = s.Tree.Search(sources, func(_, text string) bool {
			m := maker.FindStringSubmatch(text)
			if m == nil || !uses(text) {
				return false
			}
			made = m[1]
			return true
		})
	}
	if file == "" {
		return false
	}
	module := s.moduleOf(f, file)
	switch {
	case made != "" && title == "Flask":
		f.Command = survey.Exec{module + ":" + made + "()"}
	case made != "":
		f.Command = survey.Exec{"--factory", module + ":" + made}
	default:
		f.Command = survey.Exec{module + ":" + name}
	}
	s.Found(file, "%s application %s", title, f.Command[len(f.Command)-1])
	return true
}

// server adds a server that is not among the dependencies.
func (s *project) server(f *pythonFile, p *pythonProject, name string) {
	if slices.ContainsFunc(p.names, func(n string) bool { return n == name || strings.HasPrefix(n, name+"[") }) || name == "uvicorn" && survey.HasAny(p.names, "fastapi[standard]", "fastapi[all]") {
		s.Found("dependencies", "server %s", name)
		return
	}
	f.Server = survey.Command("pip install %s", name)
	if strings.Contains(string(f.Tool), "install --no-cache-dir uv") {
		f.Server = survey.Command("VIRTUAL_ENV=/venv uv pip install %s", name)
	}
	s.Warn("%s is not among the dependencies: the Dockerfile installs its newest version: add it to them, and remove that line", name)
}

// django starts the WSGI or ASGI application of the project that manage.py names.
func (s *project) django(f *pythonFile, p *pythonProject, sources []string) error {
	pkg := ""
	if m := settings().FindStringSubmatch(s.Tree.Text("manage.py")); m != nil {
		pkg, _, _ = strings.Cut(m[1], ".")
		local := path.Dir(strings.ReplaceAll(m[1], ".", "/"))
		if file := s.Tree.First(local+"/production.py", local+"/prod.py"); file != "" && !strings.Contains(m[1], "prod") {
			f.Settings = s.moduleOf(f, file)
			s.Found(file, "settings %s", survey.Display(f.Settings))
		}
	}
	s.Found("manage.py", "Django")
	wsgi, asgi := "", ""
	for _, file := range sources {
		switch {
		case pkg != "" && !strings.HasPrefix(file, pkg+"/"):
		case path.Base(file) == "wsgi.py" && wsgi == "":
			wsgi = file
		case path.Base(file) == "asgi.py" && asgi == "":
			asgi = file
		}
	}
	f.Port = s.ChoosePort("", 0, 8000)
	bind := "0.0.0.0:" + strconv.Itoa(f.Port)
	switch {
	case asgi != "" && survey.HasAny(p.names, "channels", "daphne", "uvicorn", "uvicorn[standard]", "uvicorn-worker") && (!slices.Contains(p.names, "gunicorn") || wsgi == ""):
		s.Found(asgi, "ASGI application")
		if slices.Contains(p.names, "daphne") {
			f.Command = survey.Exec{"daphne", "-b", "0.0.0.0", "-p", strconv.Itoa(f.Port), s.moduleOf(f, asgi) + ":application"}
		} else {
			s.server(f, p, "uvicorn")
			f.Command = survey.Exec{"uvicorn", s.moduleOf(f, asgi) + ":application", "--host", "0.0.0.0", "--port", strconv.Itoa(f.Port)}
		}
	case wsgi != "":
		s.Found(wsgi, "WSGI application")
		s.server(f, p, "gunicorn")
		f.Command = survey.Exec{"gunicorn", "--bind", bind, s.moduleOf(f, wsgi) + ":application"}
	default:
		s.Warn("there is no wsgi.py and no asgi.py: the image runs the server of development")
		f.Command = survey.Exec{"python", "manage.py", "runserver", bind}
	}
	text := ""
	file := s.Tree.Search(sources, func(name, t string) bool {
		text = t
		return strings.Contains(name, "settings") && strings.Contains(t, "STATIC_ROOT")
	})
	if file != "" {
		s.Found(file, "collectstatic, since STATIC_ROOT is set")
		f.Collect = "python manage.py collectstatic --noinput"
		if m := secretVariable().FindStringSubmatch(text); m != nil {
			f.Collect = survey.Command("%s=build ", m[1]) + f.Collect
		}
		if !slices.Contains(p.names, "whitenoise") {
			s.Warn("whitenoise is not among the dependencies: another server has to serve the files of STATIC_ROOT")
		}
	}
	return nil
}

var secretVariable = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`SECRET_KEY\s*=\s*[A-Za-z_.]+[(\[]\s*['"]([A-Z][A-Z0-9_]*)['"]`)
})

// script starts an entry point of the project, or a file of a usual name.
func (s *project) script(f *pythonFile, p *pythonProject, sources []string) error {
	number, from := 0, ""
	s.Tree.Search(sources, func(name, text string) bool {
		f.PortVar = f.PortVar || strings.Contains(text, "environ") && (strings.Contains(text, `"PORT"`) || strings.Contains(text, "'PORT'"))
		if m := pythonPort().FindStringSubmatch(text); m != nil && number == 0 {
			number, _ = strconv.Atoi(strings.Join(m[1:], ""))
			from = name
		}
		return false
	})
	s.warnLocal(sources)
	usual := 0
	if f.PortVar {
		usual = 8000
	}
	f.Port = s.ChoosePort(from, number, usual)
	var names []string
	for _, name := range []string{"main.py", "app.py", "run.py", "server.py", "src/main.py", "src/app.py", "__main__.py"} {
		names = append(names, path.Join(p.base, name))
	}
	switch file := s.Tree.First(names...); {
	case len(p.scripts) > 0 && f.Project != "":
		name := p.scripts[0]
		if s.App != "" {
			if !slices.Contains(p.scripts, s.App) {
				return &survey.ChoiceError{Kind: "scripts", App: s.App, Choices: p.scripts}
			}
			name = s.App
		} else if len(p.scripts) > 1 && !slices.Contains(p.scripts, s.Name) {
			return &survey.ChoiceError{Kind: "scripts", Choices: p.scripts}
		} else if slices.Contains(p.scripts, s.Name) {
			name = s.Name
		}
		s.Found("pyproject.toml", "started by the script %s", survey.Display(name))
		f.Command = survey.Exec{name}
	case file != "":
		s.Found(file, "started by %s", file)
		f.Command = survey.Exec{"python", file}
	default:
		main := s.Tree.First(append([]string{}, s.Tree.Files("__main__.py")...)...)
		if main == "" {
			return survey.NoApp("scripts of pyproject.toml, main.py, app.py, run.py, server.py and __main__.py", "this directory")
		}
		module := s.moduleOf(f, strings.TrimSuffix(main, "/__main__.py"))
		s.Found(main, "started by python -m %s", survey.Display(module))
		f.Command = survey.Exec{"python", "-m", module}
	}
	return nil
}
