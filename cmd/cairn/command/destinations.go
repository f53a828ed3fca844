package command

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/builder/option"
	"github.com/cairn-build/cairn/layer/atomicfile"
	"github.com/cairn-build/cairn/registry/reference"
)

// destination is a file or directory that a build writes, or a file that it reads.
type destination struct {
	name string // in messages: a flag or attribute with its value
	path string // as written
	kind destinationKind
	fail func(error) // reports a problem of it

	real string // path without symbolic links
}

type destinationKind int

const (
	sourceFile destinationKind = iota // a Dockerfile or definition
	resultFile                        // of a flag such as --metadata-file
	exportFile
	outputDir
	emptiedDir // of an output with mode=delete
	layoutDir  // an OCI layout
	cacheDir
)

// directory reports whether the destination is a directory.
func (k destinationKind) directory() bool { return k >= outputDir }

// clash returns a reason why two destinations exclude each other, or "". Several outputs
// may share a directory or a file: the builder compares their content.
func (d *destination) clash(other *destination) string {
	switch {
	case d.real == other.real:
		files := func(k destinationKind) bool { return k == outputDir || k == emptiedDir }
		if d.kind == other.kind && d.kind != resultFile || files(d.kind) && files(other.kind) {
			return ""
		}
		return "are the same " + noun(d.kind, other.kind)
	case below(other.real, d.real):
		return other.clashBelow(d)
	case below(d.real, other.real):
		return d.clashBelow(other)
	}
	return ""
}

// clashBelow returns a reason why a destination cannot be below another one, or "".
func (d *destination) clashBelow(outer *destination) string {
	switch {
	case d.kind == sourceFile || outer.kind == outputDir: // other checks find a directory that loses its sources
		return ""
	case !outer.kind.directory():
		return fmt.Sprintf("exclude each other: %s would have to be a directory", outer.path)
	case outer.kind == emptiedDir:
		return fmt.Sprintf("exclude each other: mode=delete would remove %s", d.path)
	}
	return fmt.Sprintf("exclude each other: %s is for a single purpose", outer.path)
}

func noun(a, b destinationKind) string {
	if a.directory() && b.directory() {
		return "directory"
	}
	return "file"
}

// below reports whether a path is in a directory.
func below(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != "." && filepath.IsLocal(rel)
}

// sourceDestinations returns files that a build reads.
func sourceDestinations(prefix string, names []string, fail func(error)) (all []*destination) {
	for _, name := range names {
		all = append(all, &destination{name: prefix + name, path: name, kind: sourceFile, fail: fail})
	}
	return all
}

// checkDestinations reports the destinations that exclude each other. Devices and paths
// that cannot exist are left to others.
func checkDestinations(all []*destination) {
	all = slices.DeleteFunc(all, func(d *destination) bool {
		real, err := atomicfile.Resolve(d.path)
		d.real = real
		return err != nil || d.path == "-" || strings.HasPrefix(real, "/dev/") || strings.HasPrefix(real, "/proc/")
	})
	for i, d := range all {
		for _, other := range all[:i] {
			if reason := d.clash(other); reason != "" {
				d.fail(fmt.Errorf("%s and %s %s: choose another destination for one", other.name, d.name, reason))
				break
			}
		}
	}
}

// resultDestinations returns the files of flags.
func resultDestinations(files map[string]string, fail func(error)) (all []*destination) {
	for flag, name := range files {
		if name != "" {
			all = append(all, &destination{name: "--" + flag + " " + name, path: name, kind: resultFile, fail: fail})
		}
	}
	slices.SortFunc(all, func(a, b *destination) int { return strings.Compare(a.name, b.name) })
	return all
}

// outputDestinations returns the files and directories of outputs. prefix precedes their
// names.
func outputDestinations(prefix string, outputs []option.Output, fail func(error)) (all []*destination) {
	for _, out := range outputs {
		kind := exportFile
		switch {
		case out.Dest == "":
			continue
		case out.Directory() && out.Type != "local":
			kind = layoutDir
		case out.Delete:
			kind = emptiedDir
		case out.Directory():
			kind = outputDir
		}
		all = append(all, &destination{name: prefix + "output " + out.Dest, path: out.Dest, kind: kind, fail: fail})
	}
	return all
}

// cacheDestinations returns the directories that caches are exported to.
func cacheDestinations(prefix string, caches []builder.CacheTo, fail func(error)) (all []*destination) {
	for _, c := range caches {
		if c.Dir != "" {
			all = append(all, &destination{name: prefix + " " + c.Dir, path: c.Dir, kind: cacheDir, fail: fail})
		}
	}
	return all
}

// cacheKey returns a text that is the same for caches in the same place.
func cacheKey(c builder.CacheTo) string {
	if real, err := atomicfile.Resolve(c.Dir); err == nil {
		c.Dir = real
	}
	return c.String()
}

// pushedNames returns the normalised references that outputs push.
func pushedNames(push bool, tags []string, outputs []option.Output) map[string]bool {
	names := map[string]bool{}
	add := func(list []string) {
		for _, name := range list {
			if ref, err := reference.Normalize(name); err == nil {
				names[ref] = true
			}
		}
	}
	if push {
		add(tags)
	}
	for _, out := range outputs {
		if out.Push || out.Type == "registry" {
			add(out.Names)
			add(tags)
		}
	}
	return names
}

// checkCacheNames returns an error for a cache that would replace a pushed image.
func checkCacheNames(caches []builder.CacheTo, pushed map[string]bool) error {
	for _, c := range caches {
		if ref, err := reference.Normalize(c.Ref); c.Ref != "" && err == nil && pushed[ref] {
			return fmt.Errorf("the cache %s would replace the image of this name, which is pushed: give the cache another tag", reference.Familiar(ref))
		}
	}
	return nil
}
