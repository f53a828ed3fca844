package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Resolve returns the absolute path of a file, which need not exist, without symbolic
// links. An empty path is an error.
func Resolve(path string) (string, error) {
	const maxLinks = 40 // as Linux
	return resolve(path, maxLinks)
}

func resolve(path string, links int) (string, error) {
	if path == "" || links == 0 {
		return "", fs.ErrNotExist
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	found, err := filepath.EvalSymlinks(abs)
	if !errors.Is(err, fs.ErrNotExist) || abs == "/" {
		return found, err
	}
	if to, err := os.Readlink(abs); err == nil { // a link to a file that is missing
		if !filepath.IsAbs(to) {
			to = filepath.Join(filepath.Dir(abs), to)
		}
		return resolve(to, links-1)
	}
	dir, err := resolve(filepath.Dir(abs), links)
	return filepath.Join(dir, filepath.Base(abs)), err
}
