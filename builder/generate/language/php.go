package language

import (
	"cmp"
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

func isPHP(t *sourcetree.Tree) bool {
	return t.First("composer.json", "index.php", "public/index.php") != ""
}

// phpFile has the fields of php.Dockerfile.
type phpFile struct {
	Version    string
	Assets     *javascript.Assets
	Composer   bool
	Manifests  []string
	Install    survey.Shell
	Packages   []string // Debian packages to compile extensions
	Extensions []string // of PHP's sources
	PECL       []string
	Root       string // of the documents, below /var/www/html, or ""
	Writable   []string
	Laravel    bool
	Symfony    bool
	Port       int
	Health     survey.Exec
}

// builtin lists the extensions that PHP's images have.
var builtin = []string{
	"core", "ctype", "curl", "date", "dom", "fileinfo", "filter", "ftp", "hash", "iconv", "json", "libxml", "mbstring", "mysqlnd", "openssl", "pcre", "pdo", "pdo_sqlite",
	"phar", "posix", "random", "readline", "reflection", "session", "simplexml", "sodium", "spl", "sqlite3", "standard", "tokenizer", "xml", "xmlreader", "xmlwriter", "zlib", "zend-opcache",
}

// phpHeaders has the Debian packages that extensions of PHP's sources need.
var phpHeaders = map[string][]string{
	"bcmath": nil, "calendar": nil, "exif": nil, "gettext": nil, "mysqli": nil, "opcache": nil, "pcntl": nil, "pdo_mysql": nil, "shmop": nil, "sockets": nil, "sysvmsg": nil, "sysvsem": nil, "sysvshm": nil,
	"bz2": {"libbz2-dev"}, "gd": {"libpng-dev", "libjpeg-dev", "libfreetype6-dev", "libwebp-dev"}, "gmp": {"libgmp-dev"}, "intl": {"libicu-dev"}, "ldap": {"libldap2-dev"},
	"pdo_pgsql": {"libpq-dev"}, "pgsql": {"libpq-dev"}, "soap": {"libxml2-dev"}, "xsl": {"libxslt1-dev"}, "zip": {"libzip-dev"},
}

func php(r survey.Request) (*survey.Project, error) {
	s := &project{survey.New(r)}
	f := phpFile{Composer: s.Tree.Has("composer.json")}
	d := s.Document("composer.json", manifest.JSON)
	lock, _ := manifest.JSON([]byte(s.Tree.Text("composer.lock"))) // there is a warning of a damaged one
	if s.Err != nil {
		return nil, s.Err
	}
	s.Name = path.Base(d.String("name"))
	f.Version = s.Choose(release.PHP,
		[]survey.Origin{{File: "composer.json", Version: d.String("config", "platform", "php"), Choose: release.Language.Exact}, {File: "composer.json", Version: d.String("require", "php"), Choose: release.Language.Newest}},
		s.Pinned(".", ".php-version"), s.Tools("php"))
	requires := d.Keys("require")
	for _, p := range lock.Objects("packages") {
		requires = append(requires, p.Keys("require")...)
		requires = append(requires, p.String("name"))
	}
	f.Manifests = s.Existing(".", "composer.json", "composer.lock", "symfony.lock")
	f.Install = "composer install --no-dev --no-scripts --no-autoloader --no-interaction --prefer-dist --ignore-platform-reqs"
	if f.Composer && !s.Tree.Has("composer.lock") {
		s.Warn("there is no composer.lock: each build takes the newest versions: commit it")
	}
	s.phpFramework(&f, d)
	s.phpExtensions(&f, requires)
	f.Assets = javascript.NewAssets(s.Survey)
	f.Port = s.ChoosePort("", 0, 8080)
	if s.Health {
		f.Health = survey.Exec{"curl", "-fsS", "-o", "/dev/null", "http://127.0.0.1:" + strconv.Itoa(f.Port) + "/"}
	}
	s.AddServices(requires)
	s.Ignore = []string{"vendor", "node_modules", ".phpunit.cache", ".phpunit.result.cache", "public/build", "public/hot", "storage/logs/*", "var/cache", "var/log"}
	var err error
	s.Dockerfile, err = survey.Render(templates, "php", f)
	return s.Project, err
}

func (s *project) phpFramework(f *phpFile, d manifest.Document) {
	switch {
	case d.Has("require", "laravel/framework") || s.Tree.Has("artisan"):
		s.Found(cmp.Or(s.Tree.First("artisan"), "composer.json"), "Laravel: documents in public/, storage/ is writable")
		f.Laravel, f.Root = true, "public"
		f.Writable = []string{"storage", "bootstrap/cache"}
		if s.Tree.Has(".env.example") {
			s.Warn("Laravel needs APP_KEY in the environment: cairn run --env APP_KEY=... or a secret of the orchestrator")
		}
	case d.Has("require", "symfony/framework-bundle"):
		s.Found("composer.json", "Symfony: documents in public/, var/ is writable")
		f.Symfony, f.Root = true, "public"
		f.Writable = []string{"var"}
	case s.Tree.Has("public/index.php"):
		s.Found("public/index.php", "documents in public/")
		f.Root = "public"
	case s.Tree.Has("web/index.php"):
		s.Found("web/index.php", "documents in web/")
		f.Root = "web"
	case s.Tree.Has("index.php"):
		s.Found("index.php", "documents in the top directory")
	default:
		s.Warn("there is no index.php: is it a library? Apache serves the top directory")
	}
}

// phpExtensions decides on the extensions to install.
func (s *project) phpExtensions(f *phpFile, requires []string) {
	wanted := map[string]bool{}
	for _, r := range requires {
		if name, ok := strings.CutPrefix(strings.ToLower(r), "ext-"); ok {
			wanted[name] = true
		}
	}
	if f.Laravel {
		env := s.Tree.Text(".env.example")
		switch {
		case strings.Contains(env, "DB_CONNECTION=mysql") || strings.Contains(env, "DB_CONNECTION=mariadb"):
			wanted["pdo_mysql"] = true
			s.Found(".env.example", "database MySQL")
		case strings.Contains(env, "DB_CONNECTION=pgsql"):
			wanted["pdo_pgsql"] = true
			s.Found(".env.example", "database PostgreSQL")
		}
	}
	wanted["opcache"] = !strings.HasPrefix(f.Version, "8.5") // it is built in since then
	var names []string
	for name, yes := range wanted {
		if yes && !slices.Contains(builtin, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		headers, core := phpHeaders[name]
		switch {
		case core:
			f.Extensions = append(f.Extensions, name)
			for _, h := range headers {
				if !slices.Contains(f.Packages, h) {
					f.Packages = append(f.Packages, h)
				}
			}
		case slices.Contains([]string{"redis", "apcu", "mongodb", "xdebug", "igbinary", "imagick", "amqp", "memcached", "swoole", "pcov", "ds", "msgpack", "protobuf", "grpc", "uuid"}, name):
			f.PECL = append(f.PECL, name)
			if name == "imagick" {
				f.Packages = append(f.Packages, "libmagickwand-dev")
			}
		default:
			s.Warn("the extension %s is not known: install it in the Dockerfile", survey.Display(name))
			continue
		}
		if name != "opcache" {
			s.Found("composer.json", "extension %s", name)
		}
	}
}
