package command

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cairn-build/cairn/builder/bake"
	"github.com/cairn-build/cairn/builder/input"
)

// grants are the files and agents of this machine that a remote definition may use beside
// those of the working directory.
type grants struct {
	read, write []string // paths; * is all
	ssh, remove bool
}

// add adds an entitlement of --allow, and reports whether it is one for files or agents.
func (g *grants) add(text string) (bool, error) {
	name, value, hasValue := strings.Cut(text, "=")
	switch name {
	case "fs", "fs.read", "fs.write":
		if value == "" {
			return true, fmt.Errorf("want %s=PATH", name)
		}
		if name != "fs.write" {
			g.read = append(g.read, value)
		}
		if name != "fs.read" {
			g.write = append(g.write, value)
		}
		return true, nil
	case "ssh", "buildx.local.delete":
		if hasValue {
			return true, fmt.Errorf("%s has no value", name)
		}
		if name == "ssh" {
			g.ssh = true
		} else {
			g.remove = true
		}
		return true, nil
	}
	return false, nil
}

// access decides about the files of this machine that a remote definition uses.
type access struct {
	read, write []string // paths without symbolic links; * is all
	ssh, remove bool
}

// access returns the granted access. It is nil for a definition of this machine, which may
// use all files.
func (g *grants) access(url string) (*access, error) {
	if url == "" {
		return nil, nil
	}
	checked, err := checksFiles()
	if err != nil {
		return nil, err
	}
	if !checked {
		return &access{read: []string{"*"}, write: []string{"*"}, ssh: true, remove: g.remove}, nil
	}
	a := &access{ssh: g.ssh, remove: g.remove}
	if a.read, err = realPaths(append(g.read, ".")); err != nil {
		return nil, err
	}
	a.write, err = realPaths(append(g.write, "."))
	return a, err
}

// check returns a problem for each file outside of the working directory that a target
// uses without a grant.
func (a *access) check(m *appTarget) (problems bake.Problems) {
	if a == nil {
		return nil
	}
	deny := func(attribute, text, allow string) {
		err := fmt.Errorf("the definition comes from a URL, and %s: pass --allow %s if you trust it with that", text, allow)
		problems = append(problems, m.problem(attribute, err))
	}
	for _, f := range m.localFiles() {
		allowed, kind, verb := a.read, "fs.read", "reads"
		if f.write {
			allowed, kind, verb = a.write, "fs.write", "writes"
		}
		real, err := resolvePath(f.path)
		if err != nil {
			problems = append(problems, m.problem(f.attribute, err))
		} else if !slices.ContainsFunc(allowed, func(dir string) bool { return dir == "*" || within(real, dir) }) {
			deny(f.attribute, fmt.Sprintf("it %s %s outside of the working directory", verb, f.path), kind+"="+real)
		}
	}
	if !a.ssh && slices.ContainsFunc(m.definition.SSH, func(s *bake.SSH) bool { return len(s.Paths) == 0 }) {
		deny("ssh", "it uses your ssh agent", "ssh")
	}
	for _, out := range m.outputs {
		if out.Delete && !a.remove {
			deny("output", "it removes other files in "+out.Dest, "buildx.local.delete")
		}
	}
	return problems
}

// checksFiles reports whether the environment leaves the checks of files on.
func checksFiles() (bool, error) {
	on := true
	for _, v := range []struct {
		name string
		off  bool // what true means
	}{{"BAKE_ALLOW_REMOTE_FS_ACCESS", true}, {"BUILDX_BAKE_ENTITLEMENTS_FS", false}} {
		text := os.Getenv(v.name)
		if text == "" {
			continue
		}
		value, err := strconv.ParseBool(text)
		if err != nil {
			return false, usagef("$%s: invalid value %q: want true or false", v.name, text)
		}
		on = value != v.off
	}
	return on, nil
}

// localFile is a file or directory of this machine that a target uses.
type localFile struct {
	attribute, path string
	write           bool
}

// localFiles returns the files of this machine that a target names.
func (m *appTarget) localFiles() (all []localFile) {
	add := func(attribute, path string, write bool) {
		if path != "" && path != "-" {
			all = append(all, localFile{attribute, path, write})
		}
	}
	o := &m.options
	local := !bake.IsRemote(o.Context)
	if local {
		add("context", o.Context, false)
	}
	if local || filepath.IsAbs(o.Dockerfile) || strings.HasPrefix(text(m.definition.Dockerfile), bake.WorkingDir) {
		add("dockerfile", o.Dockerfile, false)
	}
	for _, c := range o.Contexts {
		value, layout := strings.CutPrefix(c.Value, input.LayoutScheme)
		switch {
		case layout:
			dir, _, _ := strings.Cut(value, "@")
			add("contexts", dir, false)
		case !bake.IsRemote(value) && !strings.HasPrefix(value, input.TargetScheme) && !strings.HasPrefix(value, "docker-image:"):
			add("contexts", value, false)
		}
	}
	for _, s := range m.definition.Secrets {
		add("secret", s.File, false)
	}
	for _, s := range m.definition.SSH {
		for _, p := range s.Paths {
			add("ssh", p, false)
		}
	}
	for _, c := range m.definition.CacheFrom {
		if c.Type == "local" {
			add("cache-from", c.Attrs["src"], false)
		}
	}
	for _, c := range m.definition.CacheTo {
		if c.Type == "local" {
			add("cache-to", c.Attrs["dest"], true)
		}
	}
	for _, out := range m.outputs {
		add("output", out.Dest, true)
	}
	return all
}

func realPaths(paths []string) (all []string, err error) {
	for _, p := range paths {
		if p != "*" {
			if p, err = resolvePath(p); err != nil {
				return nil, fmt.Errorf("--allow: %w", err)
			}
		}
		all = append(all, p)
	}
	return all, nil
}

// within reports whether a path is a directory or in it.
func within(path, dir string) bool {
	return path == dir || dir == "/" || strings.HasPrefix(path, dir+"/")
}

// resolvePath returns the absolute path of a file, which need not exist, without symbolic
// links. Unlike filepath.Abs, it follows a link before a ".." behind it, as the kernel does.
func resolvePath(path string) (string, error) {
	at := "/"
	if !filepath.IsAbs(path) {
		wd, err := os.Getwd()
		if err != nil {
			return "", err
		}
		if at, err = filepath.EvalSymlinks(wd); err != nil {
			return "", err
		}
	}
	for elem := range strings.SplitSeq(path, "/") {
		at = filepath.Join(at, elem)
		if elem == "" || elem == "." || elem == ".." {
			continue
		}
		found, err := filepath.EvalSymlinks(at)
		switch {
		case err == nil:
			at = found
		case errors.Is(err, os.ErrNotExist):
			if fi, linkErr := os.Lstat(at); linkErr == nil && fi.Mode()&os.ModeSymlink != 0 {
				return "", fmt.Errorf("%s is a symbolic link to a file that does not exist", at)
			}
		default:
			return "", err
		}
	}
	return at, nil
}
