package source

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	ignoreName    = ".dockerignore"
	maxIgnoreFile = 16 << 20
)

// ReadIgnore reads the ignore file that belongs to a Dockerfile:
// <Dockerfile>.dockerignore next to it, else .dockerignore in the context; name
// is its base name. dockerfilePath is "" for a Dockerfile without a path. If
// there is no ignore file, content is nil and name "".
//
// An ignore file may be a symlink within the context (for one next to a
// Dockerfile outside of it: within that folder), but not lead out.
func ReadIgnore(contextDir, dockerfilePath string) (content []byte, name string, err error) {
	if dockerfilePath != "" {
		root, rel := ignoreBeside(contextDir, dockerfilePath)
		content, err = readInside(root, rel)
		if err == nil {
			return content, filepath.Base(rel), nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, "", fmt.Errorf("read ignore file: %w", err)
		}
	}
	content, err = readInside(contextDir, ignoreName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("read ignore file: %w", err)
	}
	return content, ignoreName, nil
}

// ignoreBeside returns where <Dockerfile>.dockerignore is, and the folder that
// it must not lead out of.
func ignoreBeside(contextDir, dockerfilePath string) (root, rel string) {
	beside := dockerfilePath + ignoreName
	dir, errDir := filepath.Abs(contextDir)
	file, errFile := filepath.Abs(beside)
	if errDir == nil && errFile == nil {
		if rel, err := filepath.Rel(dir, file); err == nil && rel != ".." && !strings.HasPrefix(rel, "../") {
			return dir, rel
		}
	}
	return filepath.Dir(beside), filepath.Base(beside)
}

// readInside reads a regular file without leaving dir. A FIFO does not block it.
func readInside(dir, name string) ([]byte, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "read", Path: filepath.Join(dir, name), Err: errors.New("not a regular file")}
	}
	b, err := io.ReadAll(io.LimitReader(f, maxIgnoreFile+1))
	if err == nil && len(b) > maxIgnoreFile {
		err = &fs.PathError{Op: "read", Path: filepath.Join(dir, name), Err: errors.New("larger than 16 MiB")}
	}
	return b, err
}
