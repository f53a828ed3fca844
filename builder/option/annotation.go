package option

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/cairn-build/cairn/layer"
)

// Annotation is an annotation of an image or of an index.
type Annotation struct {
	Name, Value string
	Index       bool            // of the index of several platforms, not of a manifest
	Descriptor  bool            // of the descriptor that points to the manifest or index
	Platform    *layer.Platform // of this platform's image; nil: of all
}

// annotationType matches the type of an annotation, with an optional platform in
// brackets.
var annotationType = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^([a-z-]*)(?:\[([A-Za-z0-9_/-]+)\])?$`)
})

// ParseAnnotation parses a value of --annotation in the syntax of buildx,
// [TYPE[,TYPE...]:]NAME=VALUE. A type is manifest or manifest-descriptor with an
// optional platform in brackets, index, or index-descriptor. The result has an
// annotation for each type.
func ParseAnnotation(text string) ([]Annotation, error) {
	name, value, ok := strings.Cut(text, "=")
	if !ok {
		return nil, errors.New("want NAME=VALUE")
	}
	types, rest, ok := strings.Cut(name, ":")
	if !ok {
		types, rest = "", name
	}
	var list []Annotation
	for kind := range strings.SplitSeq(types, ",") {
		a, err := newAnnotation(kind, rest, value)
		if err != nil {
			return nil, err
		}
		list = append(list, a)
	}
	return list, nil
}

func newAnnotation(kind, name, value string) (Annotation, error) {
	m := annotationType().FindStringSubmatch(kind)
	if m == nil {
		return Annotation{}, fmt.Errorf("type %q: want manifest or manifest-descriptor, with an optional platform in brackets, index or index-descriptor", kind)
	}
	a := Annotation{Name: name, Value: value}
	switch m[1] {
	case "", "manifest":
	case "manifest-descriptor":
		a.Descriptor = true
	case "index", "index-descriptor":
		a.Index, a.Descriptor = true, m[1] == "index-descriptor"
		if m[2] != "" {
			return a, fmt.Errorf("type %q: an index is shared by all platforms: leave out the platform", kind)
		}
	default:
		return a, fmt.Errorf("type %q: want manifest, manifest-descriptor, index or index-descriptor", m[1])
	}
	if name == "" {
		return a, errors.New("the name is empty: want NAME=VALUE")
	}
	if m[2] == "" {
		return a, nil
	}
	p, err := layer.ParsePlatform(m[2])
	a.Platform = &p
	return a, err
}

// isAnnotation reports whether the key of an output's attribute has the form
// annotation.NAME or annotation-TYPE.NAME.
func isAnnotation(key string) bool {
	kind, _, ok := strings.Cut(key, ".")
	kind, found := strings.CutPrefix(kind, "annotation")
	return ok && found && (kind == "" || kind[0] == '-' || kind[0] == '[')
}

// parseAnnotationKey returns the annotation of an output's attribute.
func parseAnnotationKey(key, value string) (Annotation, error) {
	kind, name, _ := strings.Cut(key, ".")
	return newAnnotation(strings.TrimPrefix(strings.TrimPrefix(kind, "annotation"), "-"), name, value)
}

// Annotations returns the annotations of the image that the outputs share: those
// of --annotation, which are the argument list, and those of an only output.
func Annotations(list []Annotation, outputs []Output) ([]Annotation, error) {
	list = slices.Clip(list)
	for _, out := range outputs {
		if len(out.Annotations) > 0 && len(outputs) > 1 {
			return nil, errors.New("--output: annotation.NAME needs a single output, since several share one manifest: use --annotation")
		}
		list = append(list, out.Annotations...)
	}
	if len(list) > 0 && len(outputs) > 0 && !slices.ContainsFunc(outputs, func(o Output) bool { return o.Image() }) {
		return nil, errors.New("--annotation: outputs of type tar and local have no manifest to annotate: want type=image, registry, oci or docker")
	}
	return list, nil
}
