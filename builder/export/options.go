package export

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cairn-build/cairn/builder/snapshot"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/atomicfile"
	"github.com/cairn-build/cairn/registry/reference"
)

// Compression is the compression of an image's layers.
type Compression = snapshot.Compression

// Options describe how the images of a target are exported. They are plain data.
type Options struct {
	Tags        []string // normalised references
	Push        bool     // push each tag
	Outputs     []Output
	Annotations []Annotation
	Compression Compression // of the image, and of outputs without their own
	DockerTypes bool        // use Docker's media types, not OCI's
	AlwaysIndex bool        // make an index for a single platform too
	OmitHistory bool        // leave the history out of the images
	Unchecked   bool        // do not check before the first step whether pushes are allowed
	NoStore     bool        // do not keep the image in the store, only the results of its steps
}

// Output is a format and a destination of the build result.
type Output struct {
	Type   string // image, registry, oci, docker, tar, local or cacheonly
	Dest   string // file or directory; "-" is standard output
	Writer string // name of a writer of the environment that takes the place of Dest; "": none
	Title  string // in the progress display; "" is "exporting to TYPE DEST"

	Unpacked    bool         // write an OCI layout as a directory (tar=false)
	Names       []string     // references in addition to the tags (name=)
	Push        bool         // push an output of type image
	ByDigest    bool         // push without a tag (push-by-digest=true)
	One         bool         // of several platforms write the default one only, to a type docker
	Source      string       // directory of the image whose files types tar and local write; "": all files
	Delete      bool         // remove all other files from the directory (mode=delete)
	Split       bool         // one directory for each platform, even for a single one (platform-split)
	Canonical   bool         // keep the image as name@digest too
	Compression *Compression // of its layers; nil: that of the image
}

// isImage reports whether an output is an image in the store or a registry.
func (o *Output) isImage() bool { return o.Type == "image" || o.Type == "registry" }

// hasNoManifest reports whether an output is files, or nothing at all.
func (o *Output) hasNoManifest() bool {
	return o.Type == "local" || o.Type == "tar" || o.Type == "cacheonly"
}

// Path returns the absolute path of the file or directory that an output writes, "-" for
// standard output, or "" if it writes none.
func (o *Output) Path() string {
	switch {
	case o.isImage() || o.Type == "cacheonly" || o.Writer != "":
		return ""
	case o.Dest == "-" || o.Dest == "":
		return o.Dest
	}
	if path, err := atomicfile.Resolve(o.Dest); err == nil {
		return path
	}
	return filepath.Clean(o.Dest)
}

// Names returns the references that the images get in the store or a registry.
func (o *Options) Names() []string {
	names := slices.Clone(o.Tags)
	for _, out := range o.Outputs {
		if !out.ByDigest {
			names = append(names, out.Names...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// pushed reports whether an output is pushed.
func (o *Output) pushed() bool { return o.Type == "registry" || o.Push }

// Annotation is an annotation of an image or an index.
type Annotation struct {
	Name, Value string
	Index       bool            // of the index of several platforms, not of a manifest
	Descriptor  bool            // of the descriptor that points to the manifest or index
	Platform    *layer.Platform // of this platform's image; nil: of all
}

// Normalize replaces the names of tags and outputs by full references. It leaves the
// lists alone that o was made with.
func (o *Options) Normalize() (err error) {
	if o.Tags, err = normalized(o.Tags); err != nil {
		return fmt.Errorf("invalid tag: %w", err)
	}
	o.Outputs = slices.Clone(o.Outputs)
	for i := range o.Outputs {
		if o.Outputs[i].Names, err = normalized(o.Outputs[i].Names); err != nil {
			return fmt.Errorf("invalid name of --output: %w", err)
		}
	}
	return nil
}

func normalized(names []string) ([]string, error) {
	names = slices.Clone(names)
	for i, name := range names {
		full, err := reference.Normalize(name)
		if err != nil {
			return nil, err
		}
		names[i] = full
	}
	return names, nil
}

// Check rejects options that contradict each other or the platforms of the images.
func (o *Options) Check(platforms []layer.Platform) error {
	if err := o.checkNames(); err != nil {
		return err
	}
	return o.checkAnnotations(platforms)
}

// checkNames rejects a name for images with different compression.
func (o *Options) checkNames() error {
	seen := map[string]Compression{}
	for _, tag := range o.Tags {
		seen[tag] = o.Compression
	}
	for _, out := range o.Outputs {
		if !out.isImage() || out.ByDigest {
			continue
		}
		names := out.Names
		if len(names) == 0 && !o.Push {
			names = o.Tags
		}
		for _, name := range names {
			if c, ok := seen[name]; ok && c != o.compression(out) {
				return fmt.Errorf("%s is the target of two outputs with different compression: use different names", reference.Familiar(name))
			}
			seen[name] = o.compression(out)
		}
	}
	return nil
}

// checkAnnotations rejects annotations of indexes and platforms that are not built.
func (o *Options) checkAnnotations(platforms []layer.Platform) error {
	if o.DockerTypes && len(o.Annotations) > 0 {
		return fmt.Errorf("annotation %s: images with Docker's media types have no annotations: leave out oci-mediatypes=false", o.Annotations[0].Name)
	}
	var built []string
	for _, p := range platforms {
		built = append(built, p.Normalized().Full())
	}
	for _, a := range o.Annotations {
		switch {
		case a.Index && len(built) == 1 && !o.AlwaysIndex:
			return fmt.Errorf("annotation %s: an image of one platform has no index", a.Name)
		case a.Platform != nil && !slices.Contains(built, a.Platform.Normalized().Full()):
			noun := "the image is"
			if len(built) > 1 {
				noun = "the images are"
			}
			return fmt.Errorf("annotation %s: it is for %s, but %s for %s", a.Name, a.Platform, noun, strings.Join(built, ", "))
		}
	}
	return nil
}

// compression returns the compression of an output.
func (o *Options) compression(out Output) Compression {
	if out.Compression != nil {
		return *out.Compression
	}
	return o.Compression
}

// compressions returns the compressions of all images, that of the main one first.
func (o *Options) compressions() []Compression {
	all := []Compression{o.Compression}
	for _, out := range o.Outputs {
		if c := o.compression(out); !slices.Contains(all, c) && !out.hasNoManifest() {
			all = append(all, c)
		}
	}
	return all
}

// pushedRefs returns the references that are pushed with a compression.
func (o *Options) pushedRefs(c Compression) []string {
	var refs []string
	if o.Push && c == o.Compression {
		refs = append(refs, o.Tags...)
	}
	for _, out := range o.Outputs {
		if out.pushed() && !out.ByDigest && o.compression(out) == c {
			refs = append(refs, out.Names...)
			if len(out.Names) == 0 && !o.Push {
				refs = append(refs, o.Tags...)
			}
		}
	}
	return refs
}

// pushedByDigest returns the names that are pushed with a compression and without a tag.
func (o *Options) pushedByDigest(c Compression) []string {
	var names []string
	for _, out := range o.Outputs {
		if out.pushed() && out.ByDigest && o.compression(out) == c {
			names = append(names, out.Names...)
		}
	}
	return names
}

// storedNames returns the names under which the store keeps the image with a
// compression. An image without names is kept by its digest, unless another output has
// it.
func (o *Options) storedNames(c Compression, d layer.Digest) []string {
	if o.NoStore {
		return nil
	}
	var names []string
	if c == o.Compression {
		names = append(names, o.Tags...)
	}
	elsewhere := false
	for _, out := range o.Outputs {
		if o.compression(out) != c || !out.isImage() {
			elsewhere = true
			continue
		}
		if !out.ByDigest {
			names = append(names, out.Names...)
		}
		if out.Canonical {
			for _, name := range slices.Concat(o.Tags, out.Names) {
				names = append(names, repositoryOf(name)+"@"+string(d))
			}
		}
	}
	if len(names) == 0 && !elsewhere {
		names = append(names, Untagged(d))
	}
	return names
}

// annotations returns the annotations that match, of the document and of the descriptor
// that points to it.
func (o *Options) annotations(matches func(Annotation) bool) (document, descriptor map[string]string) {
	for _, a := range o.Annotations {
		if !matches(a) {
			continue
		}
		to := &document
		if a.Descriptor {
			to = &descriptor
		}
		if *to == nil {
			*to = map[string]string{}
		}
		(*to)[a.Name] = a.Value
	}
	return document, descriptor
}
