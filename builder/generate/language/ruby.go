package language

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/cairn-build/cairn/builder/generate/javascript"
	"github.com/cairn-build/cairn/builder/generate/manifest"
	"github.com/cairn-build/cairn/builder/generate/release"
	"github.com/cairn-build/cairn/builder/generate/sourcetree"
	"github.com/cairn-build/cairn/builder/generate/survey"
)

func isRuby(t *sourcetree.Tree) bool { return t.Has("Gemfile") && !isJekyll(t) }

// isJekyll reports whether a site is written with Jekyll, which a Gemfile may install.
func isJekyll(t *sourcetree.Tree) bool {
	if !t.Has("_config.yml") || t.First("config.ru", "config/application.rb") != "" {
		return false
	}
	names := manifest.Gemfile([]byte(t.Text("Gemfile"))).Names
	return len(names) == 0 && t.HasDir("_posts") || survey.HasAny(names, "jekyll", "github-pages")
}

// rubyFile has the fields of ruby.Dockerfile.
type rubyFile struct {
	Version   string
	Assets    *javascript.Assets
	Manifests []string
	Locked    bool
	Rails     bool
	Bootsnap  bool
	Compile   survey.Shell // assets:precompile
	Headers   []string     // Debian packages of the build
	Libraries []string     // and of the image
	Writable  []string
	Port      int
	Health    survey.Exec
	Command   survey.Exec
}

func ruby(r survey.Request) (*survey.Project, error) {
	s := &project{survey.New(r)}
	if s.Tree.Has("bin/docker-entrypoint") && s.Tree.Has("Dockerfile") {
		s.Warn("Rails has written a Dockerfile for this application (bin/docker-entrypoint): it fits better than this one")
	}
	gemfile := manifest.Gemfile([]byte(s.Tree.Text("Gemfile")))
	lock := manifest.GemfileLock([]byte(s.Tree.Text("Gemfile.lock")))
	names := slices.Concat(gemfile.Names, lock.Names)
	pinned := s.Pinned(".", ".ruby-version")
	for i := range pinned {
		pinned[i].Version = strings.TrimPrefix(pinned[i].Version, "ruby-")
	}
	f := rubyFile{Locked: s.Tree.Has("Gemfile.lock"), Manifests: s.Existing(".", "Gemfile", "Gemfile.lock", ".ruby-version")}
	f.Version = s.Choose(release.Ruby, pinned, []survey.Origin{{File: "Gemfile.lock", Version: lock.Ruby, Choose: release.Language.Exact}, {File: "Gemfile", Version: gemfile.Ruby, Choose: release.Language.Newest}}, s.Tools("ruby"))
	if !f.Locked {
		s.Warn("there is no Gemfile.lock: each build takes the newest versions: commit it")
	}
	s.rubyLibraries(&f, names)
	if err := s.rubyStart(&f, names); err != nil {
		return nil, err
	}
	if f.Assets = javascript.NewAssets(s.Survey); f.Assets != nil && survey.HasAny(names, "jsbundling-rails", "cssbundling-rails", "vite_rails", "vite_ruby") {
		// The tasks of these gems would build the assets again, for which Node.js is missing.
		f.Compile = "SKIP_JS_BUILD=1 SKIP_CSS_BUILD=1 SKIP_YARN_INSTALL=1 VITE_RUBY_SKIP_ASSETS_PRECOMPILE_EXTENSION=true " + f.Compile
	}
	if f.Assets == nil && s.Tree.Has("package.json") && survey.HasAny(names, "jsbundling-rails", "cssbundling-rails", "vite_rails", "vite_ruby", "shakapacker", "webpacker") {
		s.Warn("the gems build assets with Node.js, which the image of the build has not: add a script build to package.json, and run cairn init again")
	}
	if s.Health {
		f.Health = survey.Exec{"ruby", "-rnet/http", "-e", "exit Net::HTTP.get_response('127.0.0.1', '/', " + strconv.Itoa(f.Port) + ").code.to_i < 500"}
	}
	s.AddServices(names)
	s.Ignore = []string{".bundle", "vendor/bundle", "node_modules", "log/*", "tmp/*", "storage/*", "public/assets", "public/packs", "/coverage", "config/master.key", "config/credentials/*.key"}
	var err error
	s.Dockerfile, err = survey.Render(templates, "ruby", f)
	return s.Project, err
}

// rubyLibraries lists the Debian packages that gems need.
func (s *project) rubyLibraries(f *rubyFile, names []string) {
	f.Headers = []string{"build-essential", "git", "libyaml-dev", "pkg-config"}
	for _, l := range []struct{ gem, header, library string }{
		{"pg", "libpq-dev", "libpq5"},
		{"mysql2", "default-libmysqlclient-dev", "libmariadb3"},
		{"sqlite3", "libsqlite3-dev", "libsqlite3-0"},
		{"image_processing", "libvips-dev", "libvips42"},
		{"ruby-vips", "libvips-dev", "libvips42"},
		{"rmagick", "libmagickwand-dev", "libmagickwand-6.q16-6"},
	} {
		if slices.Contains(names, l.gem) && !slices.Contains(f.Libraries, l.library) {
			f.Headers = append(f.Headers, l.header)
			f.Libraries = append(f.Libraries, l.library)
			s.Found("Gemfile", "Debian packages for %s", l.gem)
		}
	}
}

var (
	railsLock = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?m)^ {4}rails \((\d+)\.(\d+)`) })
	sinatra   = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?m)^\s*require\s*\(?\s*["']sinatra["']`) })
	rubyPort  = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`\bset\s+:port\s*,\s*(\d{4,5})\b|\bport\b.*(?:ENV|fetch)[^\n]*?(\d{4,5})\b|\bport\s+(\d{4,5})\b|TCPServer\.new\((?:["'][0-9.]*["'],\s*)?(\d{4,5})\)`)
	})
)

// rubyStart decides on the command.
func (s *project) rubyStart(f *rubyFile, names []string) error {
	files := s.Tree.Below(".", ".rb")
	if s.Tree.Has("config/application.rb") && slices.Contains(names, "rails") {
		s.Found("config/application.rb", "Rails")
		f.Rails, f.Bootsnap = true, slices.Contains(names, "bootsnap")
		f.Port = s.ChoosePort("", 0, 3000)
		f.Writable = []string{"log", "tmp", "storage"}
		if s.Tree.HasDir("db") {
			f.Writable = append(f.Writable, "db")
		}
		f.Command = survey.Exec{"bundle", "exec", "rails", "server", "-b", "0.0.0.0", "-p", strconv.Itoa(f.Port)}
		if survey.HasAny(names, "sprockets-rails", "propshaft", "sprockets", "vite_rails") {
			f.Compile = "SECRET_KEY_BASE_DUMMY=1 bundle exec rails assets:precompile"
			if m := railsLock().FindStringSubmatch(s.Tree.Text("Gemfile.lock")); m != nil && (len(m[1]) == 1 && m[1] < "7" || m[1] == "7" && m[2] == "0") {
				f.Compile = "SECRET_KEY_BASE=unused bundle exec rails assets:precompile"
			}
			s.Found("Gemfile", "assets:precompile")
		}
		return nil
	}
	number, from := 0, ""
	s.Tree.Search(append(s.Existing(".", "config/puma.rb", "config.ru"), files...), func(name, text string) bool {
		if m := rubyPort().FindStringSubmatch(text); m != nil && number == 0 {
			number, from = survey.Atoi(strings.Join(m[1:], "")), name
		}
		return number != 0
	})
	switch entry := s.Tree.First("app.rb", "main.rb", "server.rb", "application.rb"); {
	case s.Tree.Has("config.ru"):
		s.Found("config.ru", "Rack application")
		f.Port = s.ChoosePort(from, number, 9292)
		bind := strconv.Itoa(f.Port)
		switch {
		case slices.Contains(names, "puma"):
			f.Command = survey.Exec{"bundle", "exec", "puma", "-b", "tcp://0.0.0.0:" + bind, "config.ru"}
		default:
			if !survey.HasAny(names, "rackup", "rack") {
				s.Warn("neither puma nor rackup is among the gems: add one of them")
			}
			f.Command = survey.Exec{"bundle", "exec", "rackup", "--host", "0.0.0.0", "--port", bind}
		}
	case entry != "":
		s.Found(entry, "started by %s", entry)
		f.Command = survey.Exec{"bundle", "exec", "ruby", entry}
		usual := 0
		if sinatra().MatchString(s.Tree.Text(entry)) {
			s.Found(entry, "Sinatra")
			usual = 4567
			f.Port = s.ChoosePort(from, number, usual)
			f.Command = append(f.Command, "-o", "0.0.0.0", "-p", strconv.Itoa(f.Port))
			return nil
		}
		f.Port = s.ChoosePort(from, number, usual)
	default:
		return survey.NoApp("config/application.rb, config.ru, app.rb, main.rb and server.rb", "this directory")
	}
	return nil
}
