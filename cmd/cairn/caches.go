package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"github.com/tonistiigi/go-csvvalue"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/builder/cache/remote"
	"github.com/cairn-build/cairn/registry"
	"github.com/cairn-build/cairn/registry/actions"
)

// cacheFlags reads --cache-from, --cache-to and kaniko's --cache-repo.
func cacheFlags(f *pflag.FlagSet, o *builder.Options) {
	eachVar(f, "cache-from", "", "CACHE", "take known results from type=registry,ref=NAME, type=local,src=DIR or type=gha; NAME alone is a registry's", func(s string) error {
		c, err := parseCache(s, "src")
		if err == nil && c.to.Inline {
			err = errors.New("an inline cache is read with type=registry,ref=IMAGE")
		}
		o.CacheFrom = append(o.CacheFrom, c.to.Where)
		return err
	})
	eachVar(f, "cache-to", "", "CACHE", "leave results in type=registry,ref=NAME, type=local,dest=DIR, type=gha or type=inline [,mode=min|max][,ignore-error=false]", func(s string) error {
		c, err := parseCache(s, "dest")
		o.CacheTo = append(o.CacheTo, c.to)
		return err
	})
	eachVar(f, "cache-repo", "", "NAME", "both, of all steps: --cache-from=NAME --cache-to=type=registry,ref=NAME,mode=max", func(s string) error {
		c, err := parseCache(s, "")
		o.CacheFrom = append(o.CacheFrom, c.to.Where)
		c.to.Max = true
		o.CacheTo = append(o.CacheTo, c.to)
		return err
	})
}

// cacheMountFlags reads --cache-mount-from and --cache-mount-to.
func cacheMountFlags(f *pflag.FlagSet, o *builder.Options) {
	eachVar(f, "cache-mount-from", "", "CACHE", "what new folders of RUN --mount=type=cache begin with: type=registry,ref=NAME, type=local,src=DIR or type=gha", func(s string) error {
		c, err := parseCache(s, "src")
		if err == nil && c.to.Inline {
			err = errors.New("cache mounts are in no image: want type=registry, local or gha")
		}
		o.CacheMountFrom = append(o.CacheMountFrom, c.to.Where)
		return err
	})
	eachVar(f, "cache-mount-to", "", "CACHE", "where to leave them: type=registry,ref=NAME, type=local,dest=DIR or type=gha [,ignore-error=false]", func(s string) error {
		c, err := parseCache(s, "dest")
		switch {
		case err == nil && c.to.Inline:
			err = errors.New("cache mounts are in no image: want type=registry, local or gha")
		case err == nil && slices.Contains(c.seen, "mode"):
			err = errors.New("mode means nothing for cache mounts")
		}
		o.CacheMountTo = append(o.CacheMountTo, c.to)
		return err
	})
}

// cacheParser reads the attributes of one cache, in buildx's form.
type cacheParser struct {
	folder string // name of the attribute for a folder: src or dest
	kind   string
	seen   []string
	to     builder.CacheTo
	scope  string // of GitHub's cache
	github actions.Options
}

func parseCache(text, folder string) (*cacheParser, error) {
	p := &cacheParser{folder: folder}
	fields, err := csvvalue.Fields(text, nil)
	if err != nil {
		return p, err
	}
	if len(fields) == 1 && !strings.Contains(fields[0], "=") {
		fields = []string{"type=registry", "ref=" + fields[0]}
	}
	for _, field := range fields {
		name, value, ok := strings.Cut(field, "=")
		if !ok {
			return p, fmt.Errorf("%q is no attribute: want name=value", field)
		}
		name = strings.ToLower(strings.TrimSpace(name))
		if slices.Contains(p.seen, name) {
			return p, fmt.Errorf("%s is given twice", name)
		}
		p.seen = append(p.seen, name)
		if err := p.attribute(name, value); err != nil {
			return p, err
		}
	}
	return p, p.check()
}

func (p *cacheParser) attribute(name, value string) (err error) {
	switch {
	case name == "type":
		p.kind = value
		if !slices.Contains([]string{"", "registry", "local", "gha", "inline"}, value) {
			err = fmt.Errorf("type %q is not supported: there are registry, local, gha and inline", value)
		}
	case name == "ref":
		p.to.Ref, err = cacheReference(value)
	case name == p.folder:
		if p.to.Dir = value; value == "" {
			err = fmt.Errorf("%s is empty: name a folder", name)
		}
	case name == "mode" && p.folder == "dest":
		if value != "min" && value != "max" {
			return fmt.Errorf("mode=%s: want min or max", value)
		}
		p.to.Max = value == "max"
	case name == "ignore-error" && p.folder == "dest":
		var ignore bool
		ignore, err = boolean(name, value)
		p.to.Strict = !ignore
	case name == "scope":
		if p.scope = value; value == "" {
			err = errors.New("scope is empty")
		}
	case name == "url" || name == "url_v2":
		p.github.URL = value
	case name == "token":
		p.github.Token = value
	case name == "version":
		if value != "1" && value != "2" {
			return fmt.Errorf("version=%s: GitHub's cache has 1 and 2", value)
		}
		p.github.Version = int(value[0] - '0')
	case name == "image-manifest" && p.folder == "dest", name == "oci-mediatypes" && p.folder == "dest":
		var on bool
		if on, err = boolean(name, value); err == nil && !on {
			err = fmt.Errorf("%s=false: a cache is always an OCI image", name)
		}
	default:
		err = fmt.Errorf("attribute %q is not supported: there are %s", name, strings.Join(p.attributes(), ", "))
	}
	return err
}

func (p *cacheParser) attributes() []string {
	if p.folder == "dest" {
		return []string{"type", "ref", "dest", "scope", "url", "url_v2", "token", "version", "mode", "ignore-error"}
	}
	return []string{"type", "ref", p.folder, "scope", "url", "url_v2", "token", "version"}
}

// cacheReference names a cache in a registry in full.
func cacheReference(value string) (string, error) {
	if err := checkReference(value); err != nil {
		return "", err
	}
	ref, err := registry.Normalize(value)
	if err == nil && strings.Contains(ref, "@") {
		err = errors.New("a cache is found by its tag, not by a digest")
	}
	return ref, err
}

// check finds what is missing or does not go together.
func (p *cacheParser) check() error {
	w := &p.to.Where
	if github := p.scope != "" || p.github != (actions.Options{}); github && p.kind != "gha" {
		return errors.New("scope, url, url_v2, token and version are of type=gha")
	}
	switch p.kind {
	case "":
		return errors.New("type is missing: want type=registry, local or gha")
	case "registry":
		if w.Ref == "" {
			return errors.New("ref is missing: name the cache, ref=NAME")
		}
		if w.Dir != "" {
			return fmt.Errorf("%s means nothing for type=registry", p.folder)
		}
	case "local":
		if w.Dir == "" {
			return fmt.Errorf("%s is missing: name the folder, %s=DIR", p.folder, p.folder)
		}
		if w.Ref != "" {
			return errors.New("ref means nothing for type=local")
		}
	case "inline":
		if *w != (remote.Where{}) || p.to.Max {
			return errors.New("type=inline has no ref, dest or mode=max: it is in the image, and of the image's layers")
		}
		p.to.Inline = true
	case "gha":
		if w.Ref != "" || w.Dir != "" {
			return fmt.Errorf("type=gha has no ref and no %s: name a scope", p.folder)
		}
		return p.service()
	}
	return nil
}

// service finds GitHub's cache. The version goes with the address that was given.
func (p *cacheParser) service() error {
	if p.github.Version == 0 && p.github.URL != "" {
		p.github.Version = 1
		if slices.Contains(p.seen, "url_v2") {
			p.github.Version = 2
		}
	}
	c, err := actions.New(p.github)
	if err != nil {
		return err
	}
	p.to.Service = &remote.Service{Cache: c, Scope: cmp.Or(p.scope, "cairn")}
	return nil
}
