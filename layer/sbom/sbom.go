// Package sbom lists the packages of an image and writes the list as an SPDX or CycloneDX
// document or as a table.
//
// [Scan] reads the tar of one layer, and parses only the databases of package managers, the
// metadata of language packages and executables. Its result depends on the layer alone, so it
// can be kept by diff ID. [Merge] combines the results of an image's layers with the view of
// their listings: a file that a later layer removes or replaces does not count, and each
// package has the layer that it came from.
//
// The layers are untrusted. The size of each database, the number of its packages and the
// length of each field are limited. A file that cannot be parsed is a [Problem] of the result,
// not an error.
package sbom

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cairn-build/cairn/layer"
)

// Version is part of the key of stored results. It changes with the results of Scan.
const Version = 3

// The types of packages. Those of package URLs have the same name.
const (
	Deb    = "deb"
	APK    = "apk"
	Golang = "golang"
	NPM    = "npm"
	PyPI   = "pypi"

	Cargo    = "cargo"
	Composer = "composer"
	Gem      = "gem"
	Maven    = "maven"
	NuGet    = "nuget"
)

// Package is an installed package as its database describes it.
type Package struct {
	Type    string `json:"t"` // of its package URL
	Name    string `json:"n"`
	Version string `json:"v,omitempty"`
	Arch    string `json:"a,omitempty"`
	Source  string `json:"s,omitempty"` // package that it was built from, and @version if that differs
	License string `json:"l,omitempty"` // as the package states it
	VCS     string `json:"c,omitempty"` // URL of the version control system that it was installed from
}

// File is a file of a layer that describes packages.
type File struct {
	Path     string       `json:"path"`
	Digest   layer.Digest `json:"digest"`
	Kind     string       `json:"kind"`
	Packages []Package    `json:"packages,omitempty"`
	OS       *OS          `json:"os,omitempty"`
	Problem  string       `json:"problem,omitempty"`
}

// Layer is the result of a scan.
type Layer struct {
	Files []File `json:"files,omitempty"` // sorted by path
}

// OS is the distribution that an os-release file names.
type OS struct {
	ID        string   `json:"id,omitempty"`
	Like      []string `json:"like,omitempty"`
	VersionID string   `json:"version,omitempty"`
	BuildID   string   `json:"build,omitempty"`
	Pretty    string   `json:"pretty,omitempty"`
	CPE       string   `json:"cpe,omitempty"`
}

// Problem is a file whose packages are not in the list.
type Problem struct {
	Path string
	Text string
}

const (
	maxField    = 4 << 10 // bytes of a name, version or license
	maxPackages = 200_000 // of one file
	maxOfImage  = 2_000_000
	maxProblems = 1000 // of an image, that are named
)

var errPackages = fmt.Errorf("more than %d packages", maxPackages)

// add appends a package whose fields are checked.
func add(all []Package, p Package) ([]Package, error) {
	if len(all) >= maxPackages {
		return nil, errPackages
	}
	for _, s := range []string{p.Name, p.Version, p.Arch, p.Source, p.VCS} {
		if len(s) > maxField {
			return nil, fmt.Errorf("a field of %d bytes, want at most %d", len(s), maxField)
		}
		if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\ufffd' }) {
			return nil, fmt.Errorf("a control character in %.100q", s)
		}
	}
	p.License = oneLine(p.License)
	return append(all, p), nil
}

// oneLine returns a short license, or "" for the text of one.
func oneLine(s string) string {
	s = strings.TrimSpace(s)
	if len(s) > 500 || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\ufffd' }) {
		return ""
	}
	return s
}

var errNoName = errors.New("a package without a name")
