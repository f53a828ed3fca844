package sbom

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/listing"
	"github.com/cairn-build/cairn/layer/tarball"
)

// kind is a kind of files that describe packages.
type kind struct {
	name  string
	max   int64 // bytes
	parse func(*contents) ([]Package, error)
}

func texts(parse func([]byte) ([]Package, error)) func(*contents) ([]Package, error) {
	return func(c *contents) ([]Package, error) {
		b, err := c.bytes()
		if err != nil {
			return nil, err
		}
		return parse(b)
	}
}

const (
	mb = 1 << 20

	// minExecutable is less than the size of the smallest program of Go's linker.
	minExecutable = 256 << 10
)

var (
	osRelease  = &kind{"os-release", mb, nil}
	debianVer  = &kind{"debian_version", mb, nil}
	dpkgStatus = &kind{"dpkg", 64 * mb, texts(parseDpkg)}
	apkDB      = &kind{"apk", 64 * mb, texts(parseAPK)}
	npmPackage = &kind{"npm", 4 * mb, texts(parseNPM)}
	pythonMeta = &kind{"python", 16 * mb, texts(parsePython)}
	directURL  = &kind{"direct-url", mb, texts(parseDirectURL)}
	executable = &kind{"executable", 4 << 30, parseExecutable}
	gemspec    = &kind{"gem", 4 * mb, texts(parseGemspec)}
	composer   = &kind{"composer", 16 * mb, texts(parseComposer)}
	depsJSON   = &kind{"deps", 16 * mb, parseDeps}
	javaJar    = &kind{"java", 2 << 30, parseJava}
)

// kindOf returns the kind of the file at a path, or nil.
func kindOf(path string, size int64) *kind {
	base := listing.Base(path)
	switch base {
	case "package.json":
		return npmPackage
	case "os-release":
		if path == "etc/os-release" || path == "usr/lib/os-release" {
			return osRelease
		}
	case "debian_version":
		if path == "etc/debian_version" {
			return debianVer
		}
	case "status":
		if below(path, "lib/dpkg/status") {
			return dpkgStatus
		}
	case "installed":
		if below(path, "lib/apk/db/installed") {
			return apkDB
		}
	case "installed.json":
		if below(path, "composer/installed.json") {
			return composer
		}
	case "METADATA", "PKG-INFO", "direct_url.json":
		return pythonFile(base, strings.ToLower(listing.Dir(path)))
	}
	switch {
	case strings.HasSuffix(base, ".egg-info"):
		return pythonMeta
	case strings.HasSuffix(base, ".gemspec") && strings.Contains("/"+path, "/specifications/"):
		return gemspec
	case strings.HasSuffix(base, ".deps.json"):
		return depsJSON
	case isJar(base):
		return javaJar
	case below(listing.Dir(path), "lib/dpkg/status.d") && !strings.HasSuffix(base, ".md5sums"):
		return dpkgStatus
	case size >= minExecutable:
		return executable
	}
	return nil
}

func pythonFile(base, dir string) *kind {
	dist, egg := strings.HasSuffix(dir, "dist-info"), strings.HasSuffix(dir, "egg-info")
	switch {
	case base == "METADATA" && dist, base == "PKG-INFO" && egg:
		return pythonMeta
	case base == "direct_url.json" && (dist || egg):
		return directURL
	}
	return nil
}

// below reports whether a path is tail, or ends with its elements.
func below(path, tail string) bool {
	rest, ok := strings.CutSuffix(path, tail)
	return ok && (rest == "" || rest[len(rest)-1] == '/')
}

// Relevant reports whether a layer may describe packages, so that it must be read.
func Relevant(x *listing.Listing) bool {
	return slices.ContainsFunc(x.Entries, func(e listing.Entry) bool {
		return (e.Type == listing.TypeFile || e.Type == listing.TypeHardlink) && kindOf(e.Path, e.Size) != nil
	})
}

// Options are those of Scan.
type Options struct {
	Limits tarball.Limits
	Temp   string // directory of temporary files
}

// Scan returns the listing of a layer and the packages that its files describe. Read calls its
// argument with the layer's tar. Scan calls it a second time if a file has a further name that
// only hard links give it.
func Scan(read func(func(io.Reader) error) error, o Options) (*Layer, *listing.Listing, error) {
	s := &scan{o: o, found: map[subject]File{}}
	defer s.contents.close()
	var x *listing.Listing
	again := func(r io.Reader) (err error) {
		x, err = tarball.ScanFiles(r, o.Limits, s)
		return err
	}
	if err := read(again); err != nil {
		return nil, nil, err
	}
	if s.linked = s.missing(x); len(s.linked) > 0 {
		if err := read(again); err != nil {
			return nil, nil, err
		}
	}
	return s.result(x), x, nil
}

// subject identifies what a parser knows of a file: its kind and its bytes.
type subject struct {
	kind   *kind
	digest layer.Digest
}

// scan implements [tarball.Files].
type scan struct {
	o        Options
	found    map[subject]File
	linked   map[string][]*kind // kinds of the other names of a path
	kinds    []*kind            // of the present file
	contents contents
}

// Begin implements [tarball.Files].
func (s *scan) Begin(path string, size int64) io.Writer {
	s.kinds = append(s.kinds[:0], s.linked[path]...)
	if k := kindOf(path, size); k != nil && !slices.Contains(s.kinds, k) {
		s.kinds = append(s.kinds, k)
	}
	var most int64
	for _, k := range s.kinds {
		most = max(most, k.max)
	}
	if len(s.kinds) == 0 {
		return nil
	}
	s.contents.name = listing.Base(path)
	s.contents.begin(s.o.Temp, min(most, size+1), len(s.kinds) == 1 && s.kinds[0] == executable)
	return &s.contents
}

// End implements [tarball.Files].
func (s *scan) End(e *listing.Entry) error {
	if s.contents.err != nil {
		return fmt.Errorf("keep a copy of it: %w", s.contents.err)
	}
	for _, k := range s.kinds {
		key := subject{k, e.Digest}
		if _, known := s.found[key]; known || s.contents.skip {
			continue
		}
		s.found[key] = parse(k, &s.contents, e.Size)
	}
	return nil
}

func parse(k *kind, c *contents, size int64) (f File) {
	var err error
	switch {
	case size > k.max:
		err = fmt.Errorf("a file of %d bytes, want at most %d", size, k.max)
	case k.parse == nil:
		var b []byte
		if b, err = c.bytes(); err != nil {
			break
		}
		if f.OS = parseOSRelease(b); k == debianVer {
			f.OS = &OS{VersionID: debianVersion(b)}
		}
	default:
		f.Packages, err = k.parse(c)
	}
	if err != nil {
		f.Packages, f.Problem = nil, limited(err.Error())
	}
	return f
}

// limited returns a text of an error that may quote a file.
func limited(s string) string {
	if len(s) > 300 {
		s = s[:300] + "..."
	}
	return strings.ToValidUTF8(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s), "?")
}

// missing returns the names of files that were not parsed as the kind that a hard link to
// them has.
func (s *scan) missing(x *listing.Listing) map[string][]*kind {
	names := map[string][]*kind{}
	groups := map[string][]string{}
	for i := range x.Entries {
		if e := &x.Entries[i]; e.Type == listing.TypeHardlink {
			groups[e.Link] = append(groups[e.Link], e.Path)
		}
	}
	for i := range x.Entries {
		e := &x.Entries[i]
		links := groups[e.Path]
		if e.Type != listing.TypeFile || len(links) == 0 {
			continue
		}
		all := append(links, e.Path)
		for _, path := range all {
			k := kindOf(path, e.Size)
			if k == nil || k == executable {
				continue
			}
			if _, known := s.found[subject{k, e.Digest}]; known {
				continue
			}
			for _, other := range all {
				names[other] = append(names[other], k)
			}
		}
	}
	return names
}

// result returns the files of the listing that describe packages.
func (s *scan) result(x *listing.Listing) *Layer {
	digests := map[string]layer.Digest{}
	for i := range x.Entries {
		if e := &x.Entries[i]; e.Type == listing.TypeFile {
			digests[e.Path] = e.Digest
		}
	}
	l := &Layer{}
	for i := range x.Entries {
		e := &x.Entries[i]
		d := e.Digest
		if e.Type == listing.TypeHardlink {
			d = digests[e.Link]
		}
		k := kindOf(e.Path, max(e.Size, minExecutable))
		if k == nil || d == "" {
			continue
		}
		f, ok := s.found[subject{k, d}]
		if !ok {
			continue
		}
		// A database without packages counts too: it hides those of the layers below.
		if k == npmPackage || k == executable {
			if len(f.Packages) == 0 && f.Problem == "" {
				continue
			}
		}
		f.Path, f.Digest, f.Kind = e.Path, d, k.name
		l.Files = append(l.Files, f)
	}
	return l
}
