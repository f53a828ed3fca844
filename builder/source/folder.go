package source

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Folder returns the path of a directory below root, which has the files of a repository
// or an archive. It follows no symbolic links. Errors name the kind of the source.
func Folder(root, dir, kind string) (string, error) {
	at := root
	for elem := range strings.SplitSeq(dir, "/") {
		at = filepath.Join(at, elem)
		fi, err := os.Lstat(at)
		if errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("the %s has no directory %s", kind, dir)
		}
		if err != nil {
			return "", err
		}
		if elem == ".." || !fi.IsDir() {
			return "", fmt.Errorf("%s of the %s is not a directory, or one of its parents is not", dir, kind)
		}
	}
	return at, nil
}
