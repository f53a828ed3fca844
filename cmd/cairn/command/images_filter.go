package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/cairn-build/cairn/layer/store"
	"github.com/cairn-build/cairn/registry/reference"
)

// imageFilter reports whether cairn images shows an image.
type imageFilter func(store.Tagged) bool

// parseImageFilter parses a value of --filter, NAME=VALUE.
func parseImageFilter(s string) (imageFilter, error) {
	name, value, ok := strings.Cut(s, "=")
	if !ok || value == "" {
		return nil, errors.New("want NAME=VALUE")
	}
	switch name {
	case "reference":
		if _, err := path.Match(value, ""); err != nil {
			return nil, fmt.Errorf("pattern %q: %w", value, err)
		}
		return func(t store.Tagged) bool { return matchesReference(t.Ref, value) }, nil
	case "dangling":
		want, err := strconv.ParseBool(value)
		if err != nil {
			return nil, errors.New("dangling: want true or false")
		}
		return func(t store.Tagged) bool { return untagged(t.Ref) == want }, nil
	case "label":
		return func(t store.Tagged) bool { return hasLabel(t, value) }, nil
	}
	return nil, fmt.Errorf("filter %q is not supported: want reference, dangling or label", name)
}

// matchesReference reports whether a pattern matches the name of an image, in its short
// or full form, with or without the tag.
func matchesReference(ref, pattern string) bool {
	parsed, err := reference.Parse(ref)
	if err != nil || untagged(ref) {
		return false
	}
	for _, name := range []string{parsed.Familiar(), reference.Familiar(ref), parsed.Domain + "/" + parsed.Repo, ref} {
		if ok, _ := path.Match(pattern, name); ok {
			return true
		}
	}
	return false
}

// hasLabel reports whether an image has a label, NAME or NAME=VALUE.
func hasLabel(t store.Tagged, label string) bool {
	var image struct {
		Config struct{ Labels map[string]string }
	}
	if json.Unmarshal(t.Image.Config, &image) != nil {
		return false
	}
	name, want, exact := strings.Cut(label, "=")
	value, ok := image.Config.Labels[name]
	return ok && (!exact || value == want)
}
