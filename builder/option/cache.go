package option

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/compress"
	"github.com/cairn-build/cairn/registry/reference"
)

// Cache is a value of --cache-from, --cache-to, --cache-mount-from or
// --cache-mount-to.
type Cache struct {
	Type   string // registry, local, gha, s3, azblob or inline
	Ref    string // of type registry, normalised
	Dir    string // of type local
	Tag    string // of type local: the name of the cache in the directory; "" is latest
	Digest string // of type local: the manifest to import; "" is that of Tag
	GitHub GitHub // of type gha
	Bucket Bucket // of types s3 and azblob

	Max         bool          // export the results of all steps (mode=max)
	Strict      bool          // fail the build if the export fails (ignore-error=false)
	Insecure    bool          // use plain HTTP or an untrusted certificate (registry.insecure=true)
	Timeout     time.Duration // of an import or export; 0: none
	Compression *Compression  // that the layers are to have; nil: not specified
}

// GitHub selects a cache of the GitHub Actions cache service. Empty fields come
// from the environment of the job.
type GitHub struct {
	URL     string
	Token   string // secret
	Version int    // of the service's API, 1 or 2; 0: not specified
	Scope   string
}

// cacheValue is a cache while its attributes are parsed.
type cacheValue struct {
	Cache
	urlV2 bool        // the URL came from url_v2
	keys  bucketValue // of objects
}

// ParseCacheFrom parses a value of --cache-from: a list of attributes, or the
// name of a cache in a registry.
func ParseCacheFrom(text string) (Cache, error) {
	c, _, err := parseCache(text, cacheSources, "src")
	if err == nil && c.Type == "inline" {
		err = errors.New("type=inline is not supported: import an inline cache with type=registry,ref=IMAGE")
	}
	return c, withTypes(err, "registry, local, gha, s3 or azblob")
}

// ParseCacheTo parses a value of --cache-to.
func ParseCacheTo(text string) (Cache, error) {
	c, _, err := parseCache(text, cacheTargets, "dest")
	return c, err
}

// ParseCacheRepo parses a value of --cache-repo, a cache to import from and to
// export to. It exports the results of all steps.
func ParseCacheRepo(text string) (Cache, error) {
	c, _, err := parseCache(text, cacheSources, "src")
	if err == nil && c.Type != "registry" && c.Type != "gha" && c.Type != "s3" && c.Type != "azblob" {
		err = fmt.Errorf("type=%s is not supported: want the name of a cache in a registry", c.Type)
	}
	c.Max = true
	return c, withTypes(err, "registry, gha, s3 or azblob")
}

// ParseCacheMountFrom parses a value of --cache-mount-from.
func ParseCacheMountFrom(text string) (Cache, error) {
	c, _, err := parseCache(text, cacheSources, "src")
	return c, mountError(err, c)
}

// ParseCacheMountTo parses a value of --cache-mount-to.
func ParseCacheMountTo(text string) (Cache, error) {
	c, keys, err := parseCache(text, cacheTargets, "dest")
	if err == nil && slices.Contains(keys, "mode") {
		err = &AttributeError{"mode", "does not apply to cache mounts"}
	}
	return c, mountError(err, c)
}

// mountError returns the error of a cache for cache mounts, which has no type inline.
func mountError(err error, c Cache) error {
	if err == nil && c.Type == "inline" {
		return errors.New("type=inline is not supported: images do not contain cache mounts: want type=registry, local, gha, s3 or azblob")
	}
	return withTypes(err, "registry, local, gha, s3 or azblob")
}

// typeError is the error of an unknown type.
type typeError struct{ name, want string }

func (e *typeError) Error() string {
	return fmt.Sprintf("type %q is not supported: want %s", e.name, e.want)
}

// withTypes changes the known types in the error of an unknown one.
func withTypes(err error, want string) error {
	var unknown *typeError
	if errors.As(err, &unknown) {
		unknown.want = want
	}
	return err
}

var (
	cacheSources = slices.Insert(slices.Concat(cacheAttributes, bucketAttributes), 2, cacheDir("src"), cacheDigest)
	cacheTargets = slices.Insert(slices.Concat(cacheAttributes, bucketAttributes, exportAttributes), 2, cacheDir("dest"))
)

var cacheAttributes = table[cacheValue]{
	{key: "type", set: func(c *cacheValue, _, value string) error {
		c.Type = value
		if !slices.Contains([]string{"", "registry", "local", "gha", "s3", "azblob", "inline"}, value) {
			return &typeError{value, "registry, local, gha, s3, azblob or inline"}
		}
		return nil
	}},
	{key: "ref", types: "registry", set: func(c *cacheValue, _, value string) (err error) {
		c.Ref, err = cacheReference(value)
		return err
	}},
	{key: "registry.insecure", types: "registry", set: setBool(func(c *cacheValue) *bool { return &c.Insecure })},
	{key: "tag", types: "local", set: func(c *cacheValue, _, value string) error {
		c.Tag = value
		if err := CheckReference("x:" + value); err != nil {
			return fmt.Errorf("tag %q is not valid", value)
		}
		return nil
	}},
	{key: "scope", types: "gha", set: func(c *cacheValue, _, value string) error {
		if c.GitHub.Scope = value; value == "" {
			return errors.New("scope is empty")
		}
		return nil
	}},
	{key: "url", types: "gha", set: setText(func(c *cacheValue) *string { return &c.GitHub.URL })},
	{key: "url_v2", types: "gha", set: func(c *cacheValue, _, value string) error {
		c.GitHub.URL, c.urlV2 = value, true
		return nil
	}},
	{key: "token", types: "gha", set: setText(func(c *cacheValue) *string { return &c.GitHub.Token })},
	{key: "version", types: "gha", set: func(c *cacheValue, _, value string) error {
		if value != "1" && value != "2" {
			return fmt.Errorf("version=%s: want 1 or 2", value)
		}
		c.GitHub.Version = int(value[0] - '0')
		return nil
	}},
	{key: "timeout", types: "gha", set: func(c *cacheValue, key, value string) (err error) {
		if c.Timeout, err = ParseDuration(value); err != nil {
			return fmt.Errorf("%s=%s: %w", key, value, err)
		}
		return nil
	}},
	// They spare BuildKit requests to GitHub's API, which Cairn does not use.
	{key: "repository", types: "gha", ignored: true, set: ignoreText[cacheValue]},
	{key: "ghtoken", types: "gha", ignored: true, set: ignoreText[cacheValue]},
}

// cacheDigest is an attribute of caches to import from.
var cacheDigest = attribute[cacheValue]{key: "digest", types: "local", set: func(c *cacheValue, key, value string) error {
	c.Digest = value
	if err := layer.Digest(value).Validate(); err != nil {
		return fmt.Errorf("%s=%s: %w", key, value, err)
	}
	return nil
}}

// exportAttributes are those of caches to export to.
var exportAttributes = table[cacheValue]{
	{key: "mode", set: func(c *cacheValue, _, value string) error {
		if value != "min" && value != "max" {
			return fmt.Errorf("mode=%s: want min or max", value)
		}
		c.Max = value == "max"
		return nil
	}},
	{key: "ignore-error", set: func(c *cacheValue, key, value string) error {
		ignore, err := parseBool(key, value)
		c.Strict = !ignore
		return err
	}},
	{key: "image-manifest", set: alwaysOCI},
	{key: "oci-mediatypes", set: alwaysOCI},
	{key: "compression", types: "registry local gha s3 azblob", set: func(c *cacheValue, _, value string) error {
		c.compression().Format = compress.Format(value)
		return nil
	}},
	{key: "compression-level", types: "registry local gha s3 azblob", set: func(c *cacheValue, key, value string) (err error) {
		c.compression().Level, err = parseLevel(key, value)
		return err
	}},
	// A cache has the layers of its steps, and none of base images.
	{key: "force-compression", types: "registry local gha s3 azblob", set: ignoreBool[cacheValue]},
	{key: "reset", types: "local", set: func(_ *cacheValue, key, value string) error {
		reset, err := parseBool(key, value)
		if reset {
			err = errors.New("reset=true is not supported: results that no build used for a month leave the cache by themselves")
		}
		return err
	}},
}

func (c *cacheValue) compression() *Compression {
	if c.Compression == nil {
		c.Compression = &Compression{}
	}
	return c.Compression
}

// CheckCompression returns an error if the layers of a cache are to have another
// compression than those of the image, which they are.
func (c *Cache) CheckCompression(image Compression) error {
	switch want := c.Compression; {
	case want == nil:
	case want.Format != image.Format:
		return fmt.Errorf("compression=%s is not supported with images that are %s: a cache has their layers: put compression=%[1]s into --output too", format(*want), format(image))
	case want.Level != 0 && want.Level != image.Level:
		return fmt.Errorf("compression-level=%d is not supported with images of another level: a cache has their layers: put compression-level=%[1]d into --output too", want.Level)
	}
	return nil
}

func format(c Compression) compress.Format { return cmp.Or(c.Format, compress.Gzip) }

func alwaysOCI(_ *cacheValue, key, value string) error {
	on, err := parseBool(key, value)
	if err == nil && !on {
		err = fmt.Errorf("%s=false is not supported: a cache is always an OCI image", key)
	}
	return err
}

func cacheDir(key string) attribute[cacheValue] {
	return attribute[cacheValue]{key: key, types: "local", set: func(c *cacheValue, key, value string) error {
		if c.Dir = value; value == "" {
			return fmt.Errorf("%s is empty: specify a directory", key)
		}
		return nil
	}}
}

// parseCache also returns the keys that occurred. dir is the key of a directory.
func parseCache(text string, known table[cacheValue], dir string) (Cache, []string, error) {
	fields, err := splitList(text)
	if err != nil {
		return Cache{}, nil, err
	}
	if len(fields) == 1 && !strings.Contains(fields[0], "=") {
		fields = []string{"type=registry", "ref=" + fields[0]}
	}
	c := cacheValue{keys: bucketValue{blobs: "blobs/", manifests: "manifests/"}}
	keys, err := known.parse(&c, fields)
	if err == nil && c.Type == "" {
		err = errors.New("type is missing: want type=registry, local, gha, s3 or azblob")
	}
	if err == nil && c.Type == "registry" && c.Ref == "" {
		err = errors.New("ref is missing: specify the cache, ref=NAME")
	}
	if err == nil && c.Type == "local" && c.Dir == "" {
		err = fmt.Errorf("%s is missing: specify the directory, %s=DIR", dir, dir)
	}
	if err == nil {
		err = known.checkType(keys, c.Type)
	}
	if err == nil && (c.Type == "s3" || c.Type == "azblob") {
		err = c.completeBucket()
	}
	if err == nil && c.Compression != nil {
		err = c.Compression.complete()
	}
	switch {
	case err != nil:
	case c.Type == "inline" && c.Max:
		err = errors.New("mode=max is not supported with type=inline, which covers the image's own layers only")
	case c.GitHub.Version == 0 && c.GitHub.URL != "":
		c.GitHub.Version = 1
		if c.urlV2 {
			c.GitHub.Version = 2
		}
	}
	return c.Cache, keys, err
}

// cacheReference normalises the name of a cache in a registry.
func cacheReference(value string) (string, error) {
	if err := CheckReference(value); err != nil {
		return "", err
	}
	ref, err := reference.Normalize(value)
	if err == nil && strings.Contains(ref, "@") {
		err = errors.New("a cache needs a tag, not a digest")
	}
	return ref, err
}
