package bake

import (
	"fmt"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/cairn-build/cairn/builder/input"
	"github.com/cairn-build/cairn/builder/source/git"
)

// Remote is the place of a definition that does not come from this machine.
type Remote struct {
	URL    string // of a git repository or an archive
	Commit string // of a repository
}

// RemoteContexts are the addresses of contexts in a remote place. Those in a repository
// name its commit, so that they have the state of the definition.
type RemoteContexts struct {
	Context  string            // "": the context of the target is elsewhere
	Contexts map[string]string // by name
}

// setRemote sets the contexts of a target whose definition is remote. Relative paths are
// in its place, and those with the prefix cwd:// on this machine.
func (t *Target) setRemote(r *Remote) error {
	switch context, file := *t.Context, *t.Dockerfile; {
	case strings.HasPrefix(context, WorkingDir):
		dir := path.Clean(strings.TrimPrefix(context, WorkingDir))
		t.Context = &dir
		if t.DockerfileInline != nil && *t.DockerfileInline != "" || strings.HasPrefix(file, WorkingDir) {
			break
		}
		if _, err := os.Stat(filepath.Join(dir, file)); err == nil {
			return fmt.Errorf("the Dockerfile %s of a remote definition cannot be used with the local context %s: write dockerfile = \"cwd://%s\" for the local file",
				file, dir, path.Join(dir, file))
		}
	case !IsRemote(context):
		t.Context, t.Remote.Context = new(r.at(context)), r.pinned(context)
	}
	for name, value := range t.Contexts {
		switch {
		case value == "", strings.HasPrefix(value, WorkingDir), strings.HasPrefix(value, input.TargetScheme), strings.HasPrefix(value, "docker-image:"),
			strings.HasPrefix(value, input.LayoutScheme), IsRemote(value):
			continue
		}
		if t.Remote.Contexts == nil {
			t.Remote.Contexts = map[string]string{}
		}
		address := r.pinned(value)
		if !strings.Contains(address, "#") && r.Commit == "" {
			address += "#:" // else the archive would be a single file
		}
		t.Remote.Contexts[name] = address
	}
	return nil
}

// at returns the URL of a directory in the remote place.
func (r *Remote) at(dir string) string {
	dir = path.Clean(dir)
	if dir == "." {
		return r.URL
	}
	if archive, parent, ok := input.CutDirectory(r.URL); r.Commit == "" {
		if ok {
			dir = path.Join(parent, dir)
		}
		return archive + "#:" + dir
	}
	ref, err := git.Parse(r.URL)
	if err != nil {
		return r.URL
	}
	dir = path.Join(ref.Subdir, dir)
	base, fragment, ok := strings.Cut(r.URL, "#")
	if u, err := url.Parse(r.URL); err == nil && !ok && u.Query().Has("subdir") {
		q := u.Query()
		q.Set("subdir", dir)
		u.RawQuery = q.Encode()
		return u.String()
	}
	name, _, _ := strings.Cut(fragment, ":")
	return base + "#" + name + ":" + dir
}

// pinned is at with the commit of the repository.
func (r *Remote) pinned(dir string) string {
	address := r.at(dir)
	if r.Commit == "" {
		return address
	}
	ref, err := git.Parse(address)
	if err != nil || ref.Checksum != "" {
		return address
	}
	base, fragment, hasFragment := strings.Cut(address, "#")
	separator := "?"
	if strings.Contains(base, "?") {
		separator = "&"
	}
	base += separator + "checksum=" + r.Commit + "&fetch-by-commit=true"
	if hasFragment {
		base += "#" + fragment
	}
	return base
}
