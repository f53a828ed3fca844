package manifest

import (
	"path"
	"strings"

	"golang.org/x/mod/modfile"
)

// GoModule is the content of a go.mod.
type GoModule struct {
	Path      string
	Go        string // version of the go directive, or ""
	Toolchain string // version of the toolchain directive without "go", or ""
	Requires  []string
	Replaces  []string // directories of replacements, relative to the module
}

// GoMod parses a go.mod.
func GoMod(text []byte) (GoModule, error) {
	f, err := modfile.Parse("go.mod", text, nil)
	if err != nil { // it may be of a later version of Go
		if f, err = modfile.ParseLax("go.mod", text, nil); err != nil {
			return GoModule{}, err
		}
	}
	var m GoModule
	if f.Module != nil {
		m.Path = f.Module.Mod.Path
	}
	if f.Go != nil {
		m.Go = f.Go.Version
	}
	if f.Toolchain != nil {
		m.Toolchain = strings.TrimPrefix(f.Toolchain.Name, "go")
	}
	for _, r := range f.Require {
		m.Requires = append(m.Requires, r.Mod.Path)
	}
	for _, r := range f.Replace {
		if strings.HasPrefix(r.New.Path, ".") || strings.HasPrefix(r.New.Path, "/") {
			m.Replaces = append(m.Replaces, path.Clean(r.New.Path))
		}
	}
	return m, nil
}

// GoWork parses a go.work. It returns the version of its go directive and the
// directories of its modules.
func GoWork(text []byte) (version string, dirs []string, err error) {
	f, err := modfile.ParseWork("go.work", text, nil)
	if err != nil {
		return "", nil, err
	}
	if f.Go != nil {
		version = f.Go.Version
	}
	if f.Toolchain != nil {
		version = strings.TrimPrefix(f.Toolchain.Name, "go")
	}
	for _, u := range f.Use {
		dirs = append(dirs, path.Clean(u.Path))
	}
	return version, dirs, nil
}
