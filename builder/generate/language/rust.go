package language

import (
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/cairn-build/cairn/builder/generate/manifest"
	"github.com/cairn-build/cairn/builder/generate/release"
	"github.com/cairn-build/cairn/builder/generate/sourcetree"
	"github.com/cairn-build/cairn/builder/generate/survey"
)

func isRust(t *sourcetree.Tree) bool { return t.Has("Cargo.toml") }

// rustFile has the fields of rust.Dockerfile.
type rustFile struct {
	Version  string
	Packages []string // Debian packages of the build
	Build    survey.Shell
	Binary   string
	TLS      bool // the program needs libssl
	Files    []string
	Port     int
	PortVar  bool
}

// rustBinary is a program of a package.
type rustBinary struct{ pkg, name, dir, file string }

func rust(r survey.Request) (*survey.Project, error) {
	s := &project{survey.New(r)}
	root := s.Document("Cargo.toml", manifest.TOML)
	dirs := []string{"."}
	members := root.Strings("workspace", "members")
	for _, file := range s.Tree.Files("Cargo.toml") {
		if dir := path.Dir(file); dir != "." && survey.Matched(dir, members) && !survey.Matched(dir, root.Strings("workspace", "exclude")) {
			dirs = append(dirs, dir)
		}
	}
	var binaries []rustBinary
	var names []string
	for _, dir := range dirs {
		d := s.Document(path.Join(dir, "Cargo.toml"), manifest.TOML)
		binaries = append(binaries, s.rustBinaries(dir, d)...)
		names = append(names, d.Keys("dependencies")...)
	}
	if s.Err != nil {
		return nil, s.Err
	}
	b, err := s.rustApp(root, binaries)
	if err != nil {
		return nil, err
	}
	s.Name = b.name
	s.Found(b.file, "program %s", survey.Display(b.name))
	f := rustFile{Binary: b.name, Version: s.rustVersion(root)}
	lock := manifest.LockedNames([]byte(s.Tree.Text("Cargo.lock")))
	f.Build = survey.Command("cargo build --release --bin %s", b.name)
	if len(dirs) > 1 && b.pkg != "" {
		f.Build = survey.Command("cargo build --release --package %s --bin %s", b.pkg, b.name)
	}
	if s.Tree.Has("Cargo.lock") {
		f.Build += " --locked"
	} else {
		s.Warn("there is no Cargo.lock: each build takes the newest versions: commit it")
	}
	s.rustLibraries(&f, append(names, lock...))
	s.rustSources(&f, b.dir)
	s.AddServices(append(names, lock...))
	if s.Health {
		s.Warn("no HEALTHCHECK: the image has no program that could ask the server")
	}
	s.Outputs = []string{"target"}
	s.Dockerfile, err = survey.Render(templates, "rust", f)
	return s.Project, err
}

// rustBinaries lists the programs of a package.
func (s *project) rustBinaries(dir string, d manifest.Document) (list []rustBinary) {
	pkg, file := d.String("package", "name"), path.Join(dir, "Cargo.toml")
	if pkg == "" {
		return nil
	}
	for _, b := range d.Objects("bin") {
		if name := b.String("name"); name != "" {
			list = append(list, rustBinary{pkg, name, dir, file})
		}
	}
	main := path.Join(dir, "src/main.rs")
	if s.Tree.Has(main) && !slices.ContainsFunc(d.Objects("bin"), func(b manifest.Document) bool { return path.Clean(b.String("path")) == "src/main.rs" }) {
		list = append(list, rustBinary{pkg, pkg, dir, main})
	}
	for _, file := range slices.Concat(s.Tree.Files(path.Join(dir, "src/bin/*.rs")), s.Tree.Files(path.Join(dir, "src/bin/*/main.rs"))) {
		name := strings.TrimSuffix(path.Base(file), ".rs")
		if name == "main" {
			name = path.Base(path.Dir(file))
		}
		if !slices.ContainsFunc(list, func(b rustBinary) bool { return b.name == name }) {
			list = append(list, rustBinary{pkg, name, dir, file})
		}
	}
	return list
}

// rustApp chooses the program.
func (s *project) rustApp(root manifest.Document, binaries []rustBinary) (rustBinary, error) {
	var names []string
	for _, b := range binaries {
		names = append(names, b.name)
		if s.App != "" && (s.App == b.name || path.Clean(s.App) == b.dir) {
			return b, nil
		}
	}
	switch {
	case s.App != "":
		return rustBinary{}, &survey.ChoiceError{Kind: "programs", App: s.App, Choices: names}
	case len(binaries) == 1:
		return binaries[0], nil
	case len(binaries) == 0:
		return rustBinary{}, survey.NoApp("[[bin]], src/main.rs and src/bin/*.rs", "Cargo.toml")
	}
	for _, b := range binaries {
		if run := root.String("package", "default-run"); run == b.name {
			s.Found("Cargo.toml", "default-run of %d programs: --app chooses another", len(binaries))
			return b, nil
		}
	}
	return rustBinary{}, &survey.ChoiceError{Kind: "programs", Choices: names}
}

// rustVersion decides on the version of Rust: a pinned toolchain, or the newest one,
// which compiles code for all older ones.
func (s *project) rustVersion(root manifest.Document) string {
	file := s.Tree.First("rust-toolchain.toml", "rust-toolchain")
	channel := ""
	if text := s.Tree.Text(file); file != "" {
		channel = manifest.VersionFile([]byte(text))
		if strings.Contains(text, "[toolchain]") {
			channel = s.Document(file, manifest.TOML).String("toolchain", "channel")
		}
	}
	if m := rustRelease().FindStringSubmatch(channel); m != nil {
		s.Found(file, "Rust %s", m[1])
		return m[1]
	}
	switch {
	case strings.HasPrefix(channel, "nightly"), strings.HasPrefix(channel, "beta"):
		s.Found(file, "Rust %s, which rustup of the image installs in the build", survey.Display(channel))
	case root.String("package", "rust-version") != "":
		s.Found("Cargo.toml", "Rust 1, the newest: rust-version %s is a minimum", survey.Display(root.String("package", "rust-version")))
	case channel != "":
		s.Found(file, "Rust 1, the newest")
	default:
		return s.Choose(release.Rust, s.Tools("rust"))
	}
	return release.Rust.Default
}

var (
	rustRelease = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^(1\.\d{1,3}(?:\.\d{1,2})?)$`) })
	rustPort    = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`"(?:0\.0\.0\.0|\[::\]|127\.0\.0\.1):(\d{2,5})"|\[\s*(?:0|127)\s*,\s*0\s*,\s*0\s*,\s*[01]\s*\]\s*,\s*(\d{2,5})|\(\s*"(?:0\.0\.0\.0|127\.0\.0\.1)"\s*,\s*(\d{2,5})|"(\d{4,5})"\.(?:to_string|into|to_owned)`)
	})
)

// rustLibraries finds the C libraries that crates need.
func (s *project) rustLibraries(f *rustFile, names []string) {
	add := func(packages ...string) {
		for _, p := range packages {
			if !slices.Contains(f.Packages, p) {
				f.Packages = append(f.Packages, p)
			}
		}
	}
	if slices.Contains(names, "openssl-sys") && !slices.Contains(names, "openssl-src") {
		f.TLS = true
		add("pkg-config", "libssl-dev")
		s.Found("Cargo.lock", "OpenSSL of Debian, for openssl-sys")
	}
	if slices.Contains(names, "prost-build") || slices.Contains(names, "tonic-build") {
		add("protobuf-compiler")
		s.Found("Cargo.lock", "protoc, for prost-build")
	}
	if survey.HasAny(names, "aws-lc-sys", "zstd-sys", "librocksdb-sys", "libz-sys", "openssl-src") {
		add("g++", "make", "cmake")
		s.Found("Cargo.lock", "C++ compiler and cmake for crates with C sources")
	}
}

// rustSources looks for the port, and for directories that the program reads.
func (s *project) rustSources(f *rustFile, dir string) {
	number, from := 0, ""
	read := map[string]bool{}
	s.Tree.Search(s.Tree.Below(dir, ".rs"), func(name, text string) bool {
		if m := rustPort().FindStringSubmatch(text); m != nil && number == 0 {
			number, from = survey.Atoi(strings.Join(m[1:], "")), name
		}
		f.PortVar = f.PortVar || strings.Contains(text, `var("PORT")`) || strings.Contains(text, `var_os("PORT")`)
		for _, d := range []string{"templates", "static", "public", "assets"} {
			if strings.Contains(text, `"`+d+`"`) || strings.Contains(text, `"`+d+`/`) || strings.Contains(text, `"./`+d) {
				read[d] = true
			}
		}
		return false
	})
	for _, d := range []string{"assets", "public", "static", "templates"} {
		if read[d] && s.Tree.HasDir(d) {
			f.Files = append(f.Files, d)
			s.Found("*.rs", "%s/ is read at run time", d)
		}
	}
	usual := 0
	if f.PortVar {
		usual = 8080
	}
	if s.Tree.Has("Rocket.toml") {
		usual = 8000
	}
	f.Port = s.ChoosePort(from, number, usual)
}
