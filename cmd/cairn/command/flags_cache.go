package command

import (
	"strings"

	"github.com/spf13/pflag"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/builder/option"
)

// cacheFlags adds --cache-from, --cache-to, kaniko's --cache-repo, and the flags for
// cache mounts.
func (b *buildCommand) cacheFlags(f *pflag.FlagSet) {
	o := &b.options
	b.cacheFlag(f, "cache-from", "CACHE", "External cache sources: type=registry,ref=NAME, type=local,src=DIR, type=gha, type=s3,bucket=NAME,region=REGION, type=azblob,account_url=URL, or the NAME of a cache in a registry",
		option.ParseCacheFrom, func(c builder.CacheTo) {
			o.CacheFrom = append(o.CacheFrom, c.Location)
		})
	b.cacheFlag(f, "cache-to", "CACHE", "Cache export destinations: type=registry,ref=NAME, type=local,dest=DIR, type=gha, type=s3,bucket=NAME,region=REGION, type=azblob,account_url=URL or type=inline [,mode=min|max][,ignore-error=false]",
		option.ParseCacheTo, func(c builder.CacheTo) {
			o.CacheTo = append(o.CacheTo, c)
		})
	b.cacheFlag(f, "cache-repo", "NAME", "Shorthand for --cache-from=NAME --cache-to=type=registry,ref=NAME,mode=max",
		option.ParseCacheRepo, func(c builder.CacheTo) {
			o.CacheFrom = append(o.CacheFrom, c.Location)
			o.CacheTo = append(o.CacheTo, c)
		})
	b.cacheFlag(f, "cache-mount-from", "CACHE", "Sources for new directories of RUN --mount=type=cache: type=registry,ref=NAME, type=local,src=DIR, type=gha, type=s3 or type=azblob",
		option.ParseCacheMountFrom, func(c builder.CacheTo) {
			o.CacheMountFrom = append(o.CacheMountFrom, c.Location)
		})
	b.cacheFlag(f, "cache-mount-to", "CACHE", "Export destinations of RUN --mount=type=cache: type=registry,ref=NAME, type=local,dest=DIR, type=gha, type=s3 or type=azblob [,ignore-error=false]",
		option.ParseCacheMountTo, func(c builder.CacheTo) {
			o.CacheMountTo = append(o.CacheMountTo, c)
		})
}

// cacheFlag adds a flag that calls add with each cache.
func (b *buildCommand) cacheFlag(f *pflag.FlagSet, name, kind, usage string, parse func(string) (option.Cache, error), add func(builder.CacheTo)) {
	repeatedFlag(f, name, "", kind, usage, func(s string) error {
		parsed, err := parse(s)
		if err != nil {
			return err
		}
		all, err := builderCaches(parsed, &b.registries.limits.Patience)
		if err != nil {
			return err
		}
		b.caches = append(b.caches, parsed)
		if importing := strings.HasSuffix(name, "-from"); importing {
			all = all[:1] // the first name
		}
		for _, c := range all {
			add(c)
		}
		return nil
	})
}
