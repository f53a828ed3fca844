package kaniko

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/builder/plan"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/atomicfile"
	"github.com/cairn-build/cairn/layer/layout"
	"github.com/cairn-build/cairn/registry"
	"github.com/cairn-build/cairn/registry/reference"
)

// The directory of the warmer has an OCI layout for each image, in a directory with its
// digest as its name, and a file in refs for each reference and platform, with the digest
// that it had last time.

func layoutOf(cache string, d layer.Digest) string { return filepath.Join(cache, d.Hex()) }

func refFile(cache, full string, p layer.Platform) string {
	sum := sha256.Sum256([]byte(full + " " + p.Full()))
	return filepath.Join(cache, "refs", hex.EncodeToString(sum[:]))
}

// fresh reports whether a layout is there and not older than ttl.
func fresh(dir string, ttl time.Duration) bool {
	fi, err := os.Stat(filepath.Join(dir, "index.json"))
	return err == nil && time.Since(fi.ModTime()) < ttl
}

// hasLayouts reports whether a directory is one of the warmer.
func hasLayouts(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "refs"))
	return err == nil
}

// useWarm makes the layouts of the warmer named contexts, which take the place of base
// images. An image whose tag has moved since is not used.
func (e *Executor) useWarm(ctx context.Context, t *builder.Target, bases []string, p *Plan) {
	if !hasLayouts(p.CacheDir) {
		return
	}
	platform := firstPlatform(p)
	for _, full := range bases {
		img, err := e.Resolve(ctx, full, platform)
		d := img.Digest
		if errors.Is(err, registry.ErrUnreachable) {
			text, readErr := os.ReadFile(refFile(p.CacheDir, full, platform))
			if d = layer.Digest(text); readErr != nil || d.Validate() != nil {
				continue
			}
			e.Progress.Warn("%v: going on with %s of %s", err, d, p.CacheDir)
		} else if err != nil {
			continue
		}
		if dir := layoutOf(p.CacheDir, d); fresh(dir, p.CacheTTL) {
			t.Contexts = append(t.Contexts, builder.Context{Name: full, Value: "oci-layout://" + dir + "@" + string(d)})
		}
	}
}

// baseImages returns the references of the images that the stages of a target's Dockerfile
// are based on or copy from.
func baseImages(ctx context.Context, s *builder.Session, t builder.Target) (refs []string, err error) {
	f, err := s.Dockerfile(ctx, t)
	if err != nil {
		return nil, err
	}
	in := plan.Input{File: f, Args: t.Args}
	if len(t.Platforms) > 0 {
		in.Platform = t.Platforms[0]
	}
	for i := range f.Stages {
		in.Target = strconv.Itoa(i)
		for _, ref := range plan.BaseImages(in) {
			if !slices.Contains(refs, ref) {
				refs = append(refs, ref)
			}
		}
	}
	return refs, nil
}

// WarmPlan is the work of the warmer.
type WarmPlan struct {
	*Plan
	Images     []string
	Dockerfile string // "": none
	Force      bool
}

// WarmPlan returns the work that the options of the warmer describe.
func (o *Options) WarmPlan(lookup func(string) (string, bool)) (*WarmPlan, error) {
	file := o.Dockerfile
	if file == "Dockerfile" { // the default of the executor
		file = ""
	}
	if len(o.Images) == 0 && file == "" {
		return nil, errors.New("there is nothing to fetch: add --image or --dockerfile")
	}
	o.NoPush = true
	p, err := o.Plan(lookup)
	if err != nil {
		return nil, err
	}
	return &WarmPlan{Plan: p, Images: o.Images, Dockerfile: file, Force: o.Force}, nil
}

// Warm fetches images into the directory of the warmer and returns the lines that describe
// them.
func (e *Executor) Warm(ctx context.Context, p *WarmPlan) (lines []string, err error) {
	names := p.Images
	if p.Dockerfile != "" {
		more, err := e.basesOf(ctx, p)
		if err != nil {
			return nil, err
		}
		if names = append(names, more...); len(names) == 0 {
			return nil, fmt.Errorf("%s has no base images that can be found: are its build arguments missing?", p.Dockerfile)
		}
	}
	if err := os.MkdirAll(filepath.Join(p.CacheDir, "refs"), 0o755); err != nil {
		return nil, fmt.Errorf("make the cache directory: %w: name one that can be written with --cache-dir", err)
	}
	for _, name := range names {
		d, err := e.warm(ctx, p, name)
		if err != nil {
			return lines, err
		}
		lines = append(lines, name+"@"+string(d))
	}
	return lines, nil
}

// basesOf returns the base images of the warmer's Dockerfile.
func (e *Executor) basesOf(ctx context.Context, p *WarmPlan) ([]string, error) {
	s, err := e.Session(builder.SessionOptions{})
	if err != nil {
		return nil, err
	}
	defer s.Close()
	empty, err := e.Store.TempDir("context")
	if err != nil {
		return nil, err
	}
	t := builder.Target{Context: empty, Dockerfile: p.Dockerfile, Args: p.Target.Args, Platforms: p.Target.Platforms}
	if isURL(p.Dockerfile) {
		if t.Inline, err = download(ctx, s, p.Dockerfile); err != nil {
			return nil, err
		}
		t.Dockerfile = ""
	}
	return baseImages(ctx, s, t)
}

// warm fetches one image. A layout appears when it is complete.
func (e *Executor) warm(ctx context.Context, p *WarmPlan, name string) (d layer.Digest, err error) {
	v := e.Progress.Vertex("warming " + name + " in " + p.CacheDir)
	v.Start()
	defer func() { v.Done(err) }()
	full, err := reference.Normalize(name)
	if err != nil {
		return "", err
	}
	platform := firstPlatform(p.Plan)
	img, err := e.Resolve(ctx, full, platform)
	if err != nil {
		return "", err
	}
	dir := layoutOf(p.CacheDir, img.Digest)
	outcome := "is there already"
	if p.Force || !fresh(dir, p.CacheTTL) {
		outcome = "is written"
		if err := e.writeLayout(ctx, p.CacheDir, dir, full, img); err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
	}
	v.Log(1, fmt.Appendf(nil, "%s %s\n", dir, outcome))
	return img.Digest, atomicfile.File(refFile(p.CacheDir, full, platform), 0o644, func(f *os.File) error {
		_, err := f.WriteString(string(img.Digest))
		return err
	})
}

func (e *Executor) writeLayout(ctx context.Context, cache, dir, full string, img layer.Image) (err error) {
	made, err := os.MkdirTemp(cache, ".new")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(made)) }()
	open := func(b layer.Descriptor) (io.ReadCloser, error) { return e.Registry.OpenBlob(ctx, full, b) }
	if err := layout.WriteOCIDir(made, []string{full}, img, open); err != nil {
		return err
	}
	if err := os.Chmod(made, 0o755); err != nil {
		return err
	}
	if err := os.Rename(made, dir); err == nil {
		return nil
	}
	// An older one, or one that another warmer has made meanwhile, is there.
	old, err := os.MkdirTemp(cache, ".old")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(old)) }()
	return errors.Join(os.Rename(dir, filepath.Join(old, "layout")), os.Rename(made, dir))
}
