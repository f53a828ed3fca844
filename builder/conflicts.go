package builder

import (
	"fmt"
	"path/filepath"
	"reflect"
	"slices"

	"github.com/cairn-build/cairn/builder/export"
	"github.com/cairn-build/cairn/registry/reference"
)

// checkConflicts returns an error if two targets write the same tag or file with
// different content. A file with the same content is written once.
func (b *build) checkConflicts() error {
	tags, files := map[string]*planned{}, map[string]writer{}
	for _, p := range b.targets {
		for _, tag := range p.Names() {
			other := tags[tag]
			if other != nil && other != p && !p.sameImage(other) {
				return fmt.Errorf("targets %s and %s make different images of one name, %s: give them different tags", other.Name, p.Name, reference.Familiar(tag))
			}
			tags[tag] = p
		}
		if err := p.checkFiles(files); err != nil {
			return err
		}
	}
	return b.checkDeleted()
}

// writer is the first target that writes a path.
type writer struct {
	*planned
	directory bool
}

// checkFiles adds the files that a target writes to those of the targets before. It drops
// the outputs that another target writes with the same content.
func (p *planned) checkFiles(files map[string]writer) error {
	var kept []export.Output
	for _, out := range p.Outputs {
		path, directory := out.Path(), out.Type == "local" || out.Unpacked
		other, ok := files[path]
		switch {
		case path == "":
			kept = append(kept, out)
		case !ok:
			files[path] = writer{p, directory}
			kept = append(kept, out)
		case other.directory != directory:
			return fmt.Errorf("%s a file and a directory called %s: choose another destination for one", p.bothWrite(other), out.Dest)
		case directory && !out.Delete:
			kept = append(kept, out) // directories are merged
		case out.Dest == "-":
			return fmt.Errorf("%s to standard output: choose a file for one", p.bothWrite(other))
		case other.planned == p && slices.ContainsFunc(kept, func(o export.Output) bool { return reflect.DeepEqual(o, out) }):
		case other.planned == p || !p.sameOutput(other.planned, out):
			return fmt.Errorf("%s %s: choose another destination for one", p.bothWrite(other), out.Dest)
		}
	}
	p.Outputs = kept
	return nil
}

// bothWrite begins the error for outputs of two targets, or of one.
func (p *planned) bothWrite(other writer) string {
	if other.planned == p {
		return "two outputs write"
	}
	return fmt.Sprintf("targets %s and %s both write", other.Name, p.Name)
}

// checkDeleted returns an error if an output with mode=delete would remove the files of
// another target.
func (b *build) checkDeleted() error {
	for _, p := range b.targets {
		for _, out := range p.Outputs {
			if !out.Delete {
				continue
			}
			for _, other := range b.targets {
				for _, o := range other.Outputs {
					if path := o.Path(); other != p && path != "" && o.Dest != "-" && within(path, out.Path()) {
						return fmt.Errorf("target %s writes %s, which target %s would remove: choose another destination, or leave out mode=delete", other.Name, o.Dest, p.Name)
					}
				}
			}
		}
	}
	return nil
}

// within reports whether a path is a directory or in it.
func within(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}

// sameImage reports whether two targets make the same image.
func (p *planned) sameImage(other *planned) bool {
	if len(p.plans) != len(other.plans) || p.AlwaysIndex != other.AlwaysIndex || p.DockerTypes != other.DockerTypes ||
		p.Compression != other.Compression || !reflect.DeepEqual(p.Annotations, other.Annotations) ||
		p.Squash != other.Squash || p.SquashAll != other.SquashAll || p.session.wantsInlineCache(p) != p.session.wantsInlineCache(other) {
		return false
	}
	for i, made := range p.plans {
		o := other.plans[i]
		if made.Root != o.Root || made.Platform.Full() != o.Platform.Full() ||
			!reflect.DeepEqual(made.Config, o.Config) || !reflect.DeepEqual(made.Epoch, o.Epoch) {
			return false
		}
	}
	return true
}

// sameOutput reports whether another target writes the same file as out of p.
func (p *planned) sameOutput(other *planned, out export.Output) bool {
	return p.sameImage(other) && slices.ContainsFunc(other.Outputs, func(o export.Output) bool {
		return o.Path() == out.Path() && reflect.DeepEqual(o, out)
	}) && (out.Type == "local" || out.Type == "tar" || reflect.DeepEqual(p.Tags, other.Tags))
}
