package language

import (
	"path"
	"strings"

	"github.com/cairn-build/cairn/builder/generate/manifest"
	"github.com/cairn-build/cairn/builder/generate/release"
	"github.com/cairn-build/cairn/builder/generate/sourcetree"
	"github.com/cairn-build/cairn/builder/generate/survey"
)

func isStatic(t *sourcetree.Tree) bool {
	return t.First("index.html", "public/index.html", "dist/index.html", "_config.yml", "mkdocs.yml", "mkdocs.yaml") != "" || hugoConfig(t) != ""
}

func hugoConfig(t *sourcetree.Tree) string {
	if file := t.First("hugo.toml", "hugo.yaml", "hugo.json"); file != "" {
		return file
	}
	if t.HasDir("content") && (t.HasDir("layouts") || t.HasDir("themes")) {
		return t.First("config.toml", "config.yaml")
	}
	return ""
}

// staticFile has the fields of static.Dockerfile.
type staticFile struct {
	Generator string // hugo, jekyll, mkdocs, or "" for files as they are
	Version   string // of the generator's language, or of the generator
	Manifests []string
	Source    string // directory of the files
	Health    survey.Exec
}

func static(r survey.Request) (*survey.Project, error) {
	s := &project{survey.New(r)}
	f := staticFile{Source: "."}
	s.Ignore = []string{"node_modules"}
	switch {
	case hugoConfig(s.Tree) != "":
		s.Found(hugoConfig(s.Tree), "Hugo")
		f.Generator, f.Version = "hugo", s.hugoVersion()
		s.Ignore = append(s.Ignore, "/public", "/resources", ".hugo_build.lock")
	case s.Tree.First("mkdocs.yml", "mkdocs.yaml") != "":
		s.Found(s.Tree.First("mkdocs.yml", "mkdocs.yaml"), "MkDocs")
		f.Generator, f.Version = "mkdocs", s.Choose(release.Python, s.Pinned(".", ".python-version"), s.Tools("python"))
		f.Manifests = s.Existing(".", "requirements.txt", "docs/requirements.txt")
		if len(f.Manifests) == 0 {
			s.Warn("there is no requirements.txt: the newest versions of mkdocs and mkdocs-material are installed")
		} else {
			f.Manifests = f.Manifests[:1]
		}
		s.Ignore = append(s.Ignore, "/site")
	case isJekyll(s.Tree) || s.Tree.Has("_config.yml") && !s.Tree.Has("index.html"):
		s.Found("_config.yml", "Jekyll")
		f.Generator, f.Version = "jekyll", s.Choose(release.Ruby, s.Pinned(".", ".ruby-version"), s.Tools("ruby"))
		f.Manifests = s.Existing(".", "Gemfile", "Gemfile.lock")
		s.Ignore = append(s.Ignore, "_site", ".jekyll-cache")
	default:
		index := s.Tree.First("index.html", "public/index.html", "dist/index.html")
		f.Source = path.Dir(index)
		s.Found(index, "static files, served by nginx")
		if text := s.Tree.Text(index); !strings.Contains(text, ".md") && !strings.Contains(text, "docsify") {
			s.Ignore = append(s.Ignore, "/*.md")
		}
	}
	s.Project.Port = 8080
	s.Found("", "port 8080, that of nginx as an ordinary user")
	if s.Health {
		f.Health = survey.WgetHealth
	}
	var err error
	s.Dockerfile, err = survey.Render(templates, "static", f)
	return s.Project, err
}

// hugoVersion returns the version that Netlify or a tool's file pins.
func (s *project) hugoVersion() string {
	if d := s.Document("netlify.toml", manifest.TOML); d != nil {
		for _, keys := range [][]string{{"build", "environment", "HUGO_VERSION"}, {"context", "production", "environment", "HUGO_VERSION"}} {
			if v := d.String(keys...); survey.Safe(v) {
				s.Found("netlify.toml", "Hugo %s", v)
				return v
			}
		}
	}
	for _, o := range s.Tools("hugo") {
		if survey.Safe(o.Version) {
			s.Found(o.File, "Hugo %s", o.Version)
			return o.Version
		}
	}
	s.Found("", "Hugo of the image's newest version, since no file has one")
	return ""
}
