package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/layer"
)

// annotationPlace is where an annotation goes: a kind, and which platform's.
var annotationPlace = regexp.MustCompile(`^([a-z-]*)(?:\[([A-Za-z0-9_/-]+)\])?$`)

// annotationFlag reads [PLACE[,PLACE...]:]NAME=VALUE in buildx's form, where a
// place is manifest or manifest-descriptor with a platform in brackets, or index or
// index-descriptor.
func annotationFlag(f *pflag.FlagSet, to *[]builder.Annotation) {
	eachVar(f, "annotation", "", "[manifest[PLATFORM]:]NAME=VALUE", "add an annotation to the image's manifest, or with manifest-descriptor: to what points at it",
		func(text string) error {
			name, value, ok := strings.Cut(text, "=")
			if !ok {
				return fmt.Errorf("want NAME=VALUE")
			}
			places, rest, ok := strings.Cut(name, ":")
			if !ok {
				places, rest = "", name
			}
			for place := range strings.SplitSeq(places, ",") {
				a, err := newAnnotation(place, rest, value)
				if err != nil {
					return err
				}
				*to = append(*to, a)
			}
			return nil
		})
}

func newAnnotation(place, name, value string) (builder.Annotation, error) {
	m := annotationPlace.FindStringSubmatch(place)
	if m == nil {
		return builder.Annotation{}, fmt.Errorf("place %q: want manifest or manifest-descriptor, with a platform in brackets or without, index or index-descriptor", place)
	}
	a := builder.Annotation{Name: name, Value: value}
	switch m[1] {
	case "", "manifest":
	case "manifest-descriptor":
		a.Descriptor = true
	case "index", "index-descriptor":
		a.Index, a.Descriptor = true, m[1] == "index-descriptor"
		if m[2] != "" {
			return a, fmt.Errorf("place %q: the index is one for all platforms", place)
		}
	default:
		return a, fmt.Errorf("place %q: want manifest, manifest-descriptor, index or index-descriptor", m[1])
	}
	if name == "" {
		return a, fmt.Errorf("its name is empty: want NAME=VALUE")
	}
	if m[2] == "" {
		return a, nil
	}
	p, err := layer.ParsePlatform(m[2])
	a.Platform = &p
	return a, err
}

// annotate reads the attribute annotation[-PLACE].NAME of an output. ok tells
// whether it is one.
func (p *outputParser) annotate(attribute, value string) (ok bool, err error) {
	place, name, ok := strings.Cut(attribute, ".")
	kind, found := strings.CutPrefix(place, "annotation")
	if !ok || !found || kind != "" && kind[0] != '-' && kind[0] != '[' {
		return false, nil
	}
	a, err := newAnnotation(strings.TrimPrefix(kind, "-"), name, value)
	p.annotations = append(p.annotations, a)
	return true, err
}

// annotate adds the annotations of outputs to those of the build: there is one
// manifest for all.
func (o *outputs) annotate(to *[]builder.Annotation) error {
	images := func(out builder.Output) bool { return out.Type != "tar" && out.Type != "local" }
	switch {
	case len(o.annotations) > 0 && len(o.list) > 1:
		return usagef("--output: the manifest is one for all outputs: annotate it with --annotation")
	case len(*to) > 0 && len(o.list) > 0 && !slices.ContainsFunc(o.list, images):
		return usagef("--annotation: files have no manifest to annotate: want an output of type image, registry, oci or docker")
	}
	*to = append(*to, o.annotations...)
	return nil
}
