package survey

import (
	"fmt"
	"path"
	"strconv"
	"strings"
)

// FirstError returns the first error that is not nil.
func FirstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// NoApp is the error for a project without anything to start.
func NoApp(missing, searched string) error {
	return fmt.Errorf("there is nothing to start: looked for %s in %s: is it a library?", missing, searched)
}

// existing returns the paths of the names that are files in a directory.
func (s *Survey) Existing(dir string, names ...string) (found []string) {
	for _, name := range names {
		if name = path.Join(dir, name); s.Tree.Has(name) {
			found = append(found, name)
		}
	}
	return found
}

// Copied is a COPY: files and their destination, which ends with a slash.
type Copied struct {
	Files []string
	To    string
}

// Matched reports whether a directory is selected by the patterns of a workspace.
func Matched(dir string, patterns []string) (yes bool) {
	for _, p := range patterns {
		p, negative := strings.CutPrefix(strings.TrimSpace(p), "!")
		p = strings.TrimSuffix(strings.TrimPrefix(p, "./"), "/")
		ok, _ := path.Match(p, dir)
		if prefix, found := strings.CutSuffix(p, "/**"); found {
			ok = strings.HasPrefix(dir, prefix+"/")
		} else if p == "**" {
			ok = true
		}
		if ok {
			yes = !negative
		}
	}
	return yes
}

// Atoi returns the number that a text is, or 0.
func Atoi(text string) int {
	n, _ := strconv.Atoi(text)
	return n
}

// WgetHealth is the HEALTHCHECK of a server on port 8080 in an image with wget.
var WgetHealth = Exec{"wget", "-qO", "/dev/null", "http://127.0.0.1:8080/"}
