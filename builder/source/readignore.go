package source

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer/listing"
)

const (
	ignoreName    = ".dockerignore"
	maxIgnoreFile = 16 << 20
)

// IgnoreFile is the ignore file of a Dockerfile and its context.
type IgnoreFile struct {
	Name    string // its base name; "" if there is none
	Content []byte // nil if there is none

	// Unusable has the reason for each file with the name of an ignore file that was
	// passed over, as BuildKit does, because it is not a file of the context.
	Unusable []string
}

// ReadIgnore finds the ignore file for a Dockerfile: <Dockerfile>.dockerignore next to it,
// otherwise .dockerignore in the context, otherwise one of more names there. dockerfilePath
// is "" for a Dockerfile without a path.
//
// The ignore file may be a symlink. It is followed as those of the context are: its root is
// the context or, if the Dockerfile is not in the context, the Dockerfile's folder.
func ReadIgnore(contextDir, dockerfilePath string, more ...string) (found IgnoreFile, err error) {
	if dockerfilePath != "" {
		root, rel := ignoreBeside(contextDir, dockerfilePath)
		if err := found.read(root, rel); err != nil || found.Name != "" {
			return found, err
		}
	}
	for _, name := range append([]string{ignoreName}, more...) {
		if err := found.read(contextDir, name); err != nil || found.Name != "" {
			return found, err
		}
	}
	return found, nil
}

// ignoreBeside returns the path of <Dockerfile>.dockerignore relative to the folder that is
// the root of its symlinks.
func ignoreBeside(contextDir, dockerfilePath string) (root, rel string) {
	if rel, ok := Below(contextDir, dockerfilePath); ok {
		return contextDir, rel + ignoreName
	}
	dir, base := filepath.Split(dockerfilePath)
	return filepath.Clean(dir), base + ignoreName
}

// Below returns the path of a file relative to dir if it is below dir, also when the
// symlinks in the path of its folder are followed.
func Below(dir, file string) (rel string, ok bool) {
	rel, ok = relative(dir, file)
	if !ok {
		return rel, false
	}
	realDir, errDir := filepath.EvalSymlinks(dir)
	realParent, errParent := filepath.EvalSymlinks(filepath.Dir(file))
	if errDir != nil || errParent != nil {
		return rel, true
	}
	_, ok = relative(realDir, realParent)
	return rel, ok
}

func relative(dir, file string) (rel string, ok bool) {
	dir, errDir := filepath.Abs(dir)
	file, errFile := filepath.Abs(file)
	rel, err := filepath.Rel(dir, file)
	return rel, errors.Join(errDir, errFile, err) == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

// read reads a file in dir. If it is missing or unusable, the name stays empty.
func (i *IgnoreFile) read(dir, name string) error {
	d, err := OpenDir(dir, nil, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close()
	link, err := d.Resolve(name, false)
	if errors.Is(err, fs.ErrNotExist) && !errors.Is(err, ErrSpecial) {
		return nil
	}
	var f File
	if err == nil {
		f, err = d.Resolve(name, true)
	}
	reason := ""
	switch {
	case errors.Is(err, ErrSpecial) || err == nil && f.Type != listing.TypeFile:
		reason = "is not a regular file"
	case errors.Is(err, fs.ErrNotExist):
		reason = fmt.Sprintf("is a symbolic link to %s, which is not a file of the build context", link.Link)
	case errors.Is(err, unix.ELOOP):
		reason = "is a loop of symbolic links"
	case err != nil:
		return fmt.Errorf("read ignore file: %w", err)
	}
	if reason != "" {
		i.Unusable = append(i.Unusable, fmt.Sprintf("the ignore file %s %s: it leaves nothing out", name, reason))
		return nil
	}
	if f.Size > maxIgnoreFile {
		return fmt.Errorf("read ignore file: %s is larger than 16 MiB: it is not an ignore file", name)
	}
	r, err := f.Open()
	if err != nil {
		return fmt.Errorf("read ignore file: %w", err)
	}
	defer r.Close()
	content, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("read ignore file: %w", err)
	}
	i.Name, i.Content = filepath.Base(name), content
	return nil
}
