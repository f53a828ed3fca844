package command

import (
	"cmp"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/builder/cache/gha"
	"github.com/cairn-build/cairn/builder/cache/object"
	"github.com/cairn-build/cairn/builder/cache/object/azblob"
	"github.com/cairn-build/cairn/builder/cache/object/s3"
	"github.com/cairn-build/cairn/builder/cache/remote"
	"github.com/cairn-build/cairn/builder/option"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/registry/retry"
)

// The functions of this file convert parsed options to those of the builder.

func builderOutput(o option.Output) builder.Output {
	out := builder.Output{
		Type: o.Type, Dest: o.Dest, Unpacked: o.Unpacked, Names: o.Names, Push: o.Push,
		ByDigest: o.ByDigest, Canonical: o.Canonical, Source: o.Source, Delete: o.Delete, Split: o.PlatformSplit != nil && *o.PlatformSplit,
	}
	if o.Compression != nil {
		c := builderCompression(*o.Compression)
		out.Compression = &c
	}
	return out
}

func builderCompression(c option.Compression) builder.Compression {
	return builder.Compression{Options: c.Options, Force: c.Force}
}

func builderAnnotations(list []option.Annotation) []builder.Annotation {
	var out []builder.Annotation
	for _, a := range list {
		out = append(out, builder.Annotation{
			Name: a.Name, Value: a.Value, Index: a.Index, Descriptor: a.Descriptor, Platform: a.Platform,
		})
	}
	return out
}

// impatient is a transport that ends requests which stall for a time. The time may be set
// after the transport is made.
type impatient struct {
	http.RoundTripper
	patience *time.Duration // 0: the default
}

// RoundTrip implements [http.RoundTripper].
func (t impatient) RoundTrip(req *http.Request) (*http.Response, error) {
	return retry.Watched{RoundTripper: t.RoundTripper, Patience: *t.patience}.RoundTrip(req)
}

// builderCaches converts a cache, which may have several names in a bucket. One of type
// gha needs the environment of a job of GitHub Actions. Requests end after patience.
func builderCaches(c option.Cache, patience *time.Duration) ([]builder.CacheTo, error) {
	to := builder.CacheTo{
		Location: remote.Location{Ref: c.Ref, Dir: c.Dir, Tag: c.Tag, Digest: layer.Digest(c.Digest), Timeout: c.Timeout},
		Inline:   c.Type == "inline", Max: c.Max, Strict: c.Strict,
	}
	var transport http.RoundTripper = impatient{http.DefaultTransport.(*http.Transport).Clone(), patience}
	switch c.Type {
	case "gha":
		service, err := gha.New(gha.Options{URL: c.GitHub.URL, Token: c.GitHub.Token, Version: c.GitHub.Version, Client: &http.Client{Transport: transport}})
		if err != nil {
			return nil, err
		}
		to.Service = &remote.Service{Cache: service, Scope: cmp.Or(c.GitHub.Scope, "cairn")}
	case "s3", "azblob":
		return inBucket(c, to, transport)
	}
	return []builder.CacheTo{to}, nil
}

// inBucket returns the caches in a bucket, one for each name.
func inBucket(c option.Cache, to builder.CacheTo, transport http.RoundTripper) (all []builder.CacheTo, err error) {
	b := c.Bucket
	var store object.Store
	if c.Type == "s3" {
		store, err = s3.New(s3.Options{
			Bucket: b.Bucket, Region: b.Region, Endpoint: b.Endpoint, PathStyle: b.PathStyle, Tries: b.Tries, Transport: transport,
			Credentials: s3.Credentials{ID: b.KeyID, Secret: b.Secret, Token: b.Token},
		})
	} else {
		store, err = azblob.New(azblob.Options{URL: b.Endpoint, Account: b.KeyID, Container: b.Bucket, Key: b.Secret, Transport: transport})
		if prefix := os.Getenv("BUILDKIT_AZURE_STORAGE_PREFIX"); prefix != "" && b.Prefix == "" {
			prefix = strings.TrimRight(prefix, "/") + "/"
			b.Blobs, b.Manifests = prefix+b.Blobs, prefix+b.Manifests
		}
	}
	if err != nil {
		return nil, err
	}
	for _, name := range b.Names {
		to.Bucket = &remote.Bucket{Store: store, Name: name, Blobs: b.Blobs, Manifests: b.Manifests, Touch: b.Touch, Parallel: b.Parallel}
		all = append(all, to)
	}
	return all, nil
}
