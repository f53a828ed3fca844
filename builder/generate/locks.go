package generate

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"unicode/utf8"

	"github.com/cairn-build/cairn/builder/generate/manifest"
	"github.com/cairn-build/cairn/builder/generate/sourcetree"
)

// lockFiles are the lock files of package managers, with the functions that check them.
func lockFiles() map[string]func([]byte) error {
	parsed := func(parse func([]byte) (manifest.Document, error)) func([]byte) error {
		return func(text []byte) error {
			_, err := parse(text)
			return err
		}
	}
	return map[string]func([]byte) error{
		"package-lock.json": parsed(manifest.JSON), "npm-shrinkwrap.json": parsed(manifest.JSON), "bun.lock": parsed(manifest.JSON),
		"deno.lock": parsed(manifest.JSON), "composer.lock": parsed(manifest.JSON), "Pipfile.lock": parsed(manifest.JSON), "packages.lock.json": parsed(manifest.JSON),
		"pnpm-lock.yaml": checkPnpmLock,
		"uv.lock":        parsed(manifest.TOML), "poetry.lock": parsed(manifest.TOML), "pdm.lock": parsed(manifest.TOML), "Cargo.lock": parsed(manifest.TOML),
		"yarn.lock": checkLines, "Gemfile.lock": checkLines, "go.sum": checkLines,
	}
}

// damagedLocks describes the lock files of a tree that package managers will not read:
// truncated ones, and those with the marks of a merge conflict.
func damagedLocks(tree *sourcetree.Tree) (warnings []string) {
	checks := lockFiles()
	for _, name := range tree.Files("*") {
		check := checks[path.Base(name)]
		if check == nil || strings.Contains(name, "/") && path.Base(name) != "packages.lock.json" {
			continue
		}
		text, err := tree.Read(name)
		if errors.Is(err, sourcetree.ErrLarge) || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = checkLock(text, check)
		}
		if err != nil {
			warnings = append(warnings, fmt.Sprintf("%s is damaged, and builds will fail at it: %v: make it again with its package manager", quoted(name), err))
		}
	}
	return warnings
}

func checkLock(text []byte, check func([]byte) error) error {
	for i, line := range bytes.Split(text, []byte("\n")) {
		if bytes.HasPrefix(line, []byte("<<<<<<< ")) {
			return fmt.Errorf("line %d has the mark of a merge conflict", i+1)
		}
	}
	return check(text)
}

func checkPnpmLock(text []byte) error {
	d, err := manifest.YAML(text)
	switch {
	case err != nil:
		return errors.New(strings.ReplaceAll(err.Error(), "\n", " "))
	case !d.Has("lockfileVersion"):
		return errors.New("it has no lockfileVersion")
	}
	return checkLines(text)
}

// checkLines checks a file of lines, each of which package managers end.
func checkLines(text []byte) error {
	switch {
	case len(text) == 0:
		return nil // there are no dependencies
	case !utf8.Valid(text) || bytes.IndexByte(text, 0) >= 0:
		return errors.New("it is not text")
	case text[len(text)-1] != '\n':
		return errors.New("it ends in the middle of a line")
	}
	return nil
}
