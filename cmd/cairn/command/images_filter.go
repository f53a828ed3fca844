package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

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
	case "until":
		before, err := parseFilterTime(value, time.Now())
		return func(t store.Tagged) bool { return createdAt(t).Before(before) }, err
	}
	return nil, fmt.Errorf("filter %q is not supported: want reference, dangling, label, before, since or until", name)
}

// parseFilterTime parses a value of the filter until: a time, seconds since 1970, or an
// age.
func parseFilterTime(s string, now time.Time) (time.Time, error) {
	if age, err := time.ParseDuration(s); err == nil && age >= 0 {
		return now.Add(-age), nil
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return time.Unix(n, 0), nil
	}
	for _, layout := range timeLayouts {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, errors.New("until: want a time such as 2026-11-29T12:00, or an age such as 24h")
}

// neighbour selects the images that were created before or since another one.
type neighbour struct {
	image string
	since bool
}

// filter returns the filter, for which it looks up the image.
func (n neighbour) filter(env *environment) (imageFilter, error) {
	other, err := env.Lookup(n.image)
	if err != nil {
		return nil, err
	}
	at := createdAt(other)
	return func(t store.Tagged) bool {
		if n.since {
			return createdAt(t).After(at)
		}
		return createdAt(t).Before(at)
	}, nil
}

// createdAt returns the time in the config of an image.
func createdAt(t store.Tagged) time.Time {
	var config struct{ Created time.Time }
	_ = json.Unmarshal(t.Image.Config, &config) // without a time, the oldest
	return config.Created
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
