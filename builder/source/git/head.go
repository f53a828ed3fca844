package git

import (
	"io"
	"os"
	"path/filepath"
	"strings"
)

// maxRefs is the number of bytes of a file of references that is read.
const maxRefs = 16 << 20

// Head returns the ID of the commit that is checked out in the working tree that has a
// directory, "" if there is none or its format is unknown. It does not look for changes
// of the working tree, and starts no program.
func Head(dir string) string {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return ""
	}
	for {
		if private := gitDir(dir); private != "" {
			return head(private)
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return ""
		}
		dir = parent
	}
}

// gitDir returns the directory that belongs to a working tree, "" if dir is not the root
// of one.
func gitDir(dir string) string {
	path := filepath.Join(dir, ".git")
	info, err := os.Stat(path)
	if err != nil {
		return ""
	}
	if info.IsDir() {
		return path
	}
	target, ok := strings.CutPrefix(line(path), "gitdir: ") // a further working tree, or a submodule
	switch {
	case !ok:
		return ""
	case filepath.IsAbs(target):
		return target
	}
	return filepath.Join(dir, target)
}

// head returns the commit of HEAD.
func head(private string) string {
	text := line(filepath.Join(private, "HEAD"))
	ref, symbolic := strings.CutPrefix(text, "ref: ")
	if !symbolic {
		return commitOrNone(text)
	}
	if !filepath.IsLocal(ref) {
		return ""
	}
	common := private
	if shared := line(filepath.Join(private, "commondir")); filepath.IsAbs(shared) {
		common = shared
	} else if shared != "" {
		common = filepath.Join(private, shared)
	}
	for _, dir := range []string{private, common} {
		if id := commitOrNone(line(filepath.Join(dir, ref))); id != "" {
			return id
		}
	}
	for text := range strings.Lines(read(filepath.Join(common, "packed-refs"))) {
		if id, name, ok := strings.Cut(strings.TrimSpace(text), " "); ok && name == ref {
			return commitOrNone(id)
		}
	}
	return ""
}

func commitOrNone(text string) string {
	if commitID(text) {
		return text
	}
	return ""
}

// line returns the first line of a file, "" if it cannot be read.
func line(path string) string {
	text, _, _ := strings.Cut(read(path), "\n")
	return strings.TrimSpace(text)
}

func read(path string) string {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return ""
	}
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	text, _ := io.ReadAll(io.LimitReader(f, maxRefs))
	return string(text)
}
