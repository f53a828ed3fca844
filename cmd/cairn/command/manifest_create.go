package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cairn-build/cairn/builder/images"
	"github.com/cairn-build/cairn/builder/option"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/store"
	"github.com/cairn-build/cairn/registry/reference"
)

// createCommand is a run of cairn manifest create. With tags, a file or --dry-run it
// works in registries only, as docker buildx imagetools create.
type createCommand struct {
	joinCommand
	tags        []string
	files       []string
	append      bool
	dryRun      bool
	preferIndex bool
	annotations []option.Annotation
	metadata    string
}

func newManifestCreate(p *Program) *cobra.Command {
	m := &createCommand{joinCommand: joinCommand{Program: p}}
	c := &cobra.Command{
		Use:   "create [flags] NAME IMAGE...",
		Short: "Create an index of images",
		Long: `Create creates an index of images and stores it as NAME. An IMAGE is one of the store
or of a registry; docker://IMAGE always means the registry. If an IMAGE is an index, create
takes all its images, or those for --platform.

With --tag there is no NAME: create makes the index of images in registries and pushes it
under each tag, without the store. An IMAGE may then be a digest in the repository of the
tags, or a descriptor in JSON. A single index is copied as it is.`,
		Example: `  cairn manifest create app:1 registry.example/app:1-amd64 registry.example/app:1-arm64
  cairn manifest create --platform linux/amd64,linux/arm64 --annotation org.opencontainers.image.title=app app:1 debian:12
  cairn manifest create --amend app:1 registry.example/app:1-riscv64
  cairn manifest create -t registry.example/app:1 registry.example/app:1-amd64 registry.example/app:1-arm64
  cairn manifest create --append -t registry.example/app:1 registry.example/app:1-riscv64
  cairn manifest create --dry-run registry.example/app:1-amd64`,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case !m.remote():
				return nameAndArgs("IMAGE")(nil, args)
			case len(args)+len(m.files) == 0:
				return usagef("IMAGE is missing")
			}
			return nil
		},
		ValidArgsFunction: p.completeImages,
	}
	c.RunE = p.action(func(ctx context.Context, args []string) error {
		if err := m.check(); err != nil {
			return err
		}
		if m.remote() {
			return m.combine(ctx, args)
		}
		return m.run(ctx, args)
	})
	f := c.Flags()
	f.BoolVarP(&m.options.Amend, "amend", "a", false, "Amend an existing index, replacing its images for the same platforms")
	repeatedFlag(f, "annotation", "", "[TYPE:]NAME=VALUE", "Add annotation to the index; TYPE is index (default) or manifest-descriptor, with [PLATFORM]", func(s string) error {
		if strings.HasPrefix(s, "manifest:") || strings.HasPrefix(s, "manifest[") {
			return errors.New("an annotation of a manifest would change its digest: want manifest-descriptor")
		}
		list, err := option.ParseAnnotation(s)
		m.annotations = append(m.annotations, list...)
		return err
	})
	listFlag(f, &m.tags, "tag", "t", "NAME[:TAG]", "Push the index of images in registries under this name", func(s string) (string, error) { return s, option.CheckReference(s) })
	f.BoolVar(&m.append, "append", false, "Append to the index that the first --tag names in its registry")
	f.BoolVar(&m.dryRun, "dry-run", false, "Show the index of images in registries instead of pushing it")
	listFlag(f, &m.files, "file", "f", "FILE", "Read the name, digest or descriptor of an IMAGE from FILE", asText)
	f.BoolVar(&m.preferIndex, "prefer-index", true, "With --tag, make an index of a single image too")
	f.StringVar(&m.metadata, "metadata-file", "", "With --tag, write metadata of the result to a `FILE`")
	_ = c.MarkFlagFilename("file")
	_ = c.MarkFlagFilename("metadata-file")
	platformsFlag(f, &m.options.Platforms, chosenPlatforms)
	m.registries.flags(f)
	return c
}

// remote reports whether the command works in registries only.
func (m *createCommand) remote() bool { return len(m.tags)+len(m.files) > 0 || m.dryRun || m.append }

// check checks the flags against each other, and sets the annotations.
func (m *createCommand) check() error {
	switch {
	case m.append && len(m.tags) == 0:
		return usagef("--append needs the name to append to: add --tag")
	case len(m.files) > 0 && len(m.tags) == 0 && !m.dryRun:
		return usagef("--file needs a name to push to: add --tag, or --dry-run")
	case m.options.Amend && m.remote():
		return usagef("--amend is for an index of the store: want --append with --tag")
	case !m.remote() && (m.metadata != "" || !m.preferIndex):
		return usagef("--metadata-file and --prefer-index need --tag")
	}
	m.options.Annotations = map[string]string{}
	for _, a := range m.annotations {
		switch {
		case a.Descriptor && a.Index:
			return usagef("--annotation %s: the descriptor of an index is in no registry: want index or manifest-descriptor", a.Name)
		case a.Descriptor && !m.remote():
			return usagef("--annotation %s: want cairn manifest add --annotation for the descriptors of an index of the store", a.Name)
		case !a.Descriptor:
			m.options.Annotations[a.Name] = a.Value
		}
	}
	return nil
}

// combine makes the index of images in registries and pushes it, or shows it.
func (m *createCommand) combine(ctx context.Context, args []string) error {
	o := images.CombineOptions{Platforms: m.options.Platforms, Annotations: m.options.Annotations, KeepSingle: !m.preferIndex}
	var err error
	if o.Sources, err = m.sources(args); err != nil {
		return err
	}
	for _, a := range m.annotations {
		if a.Descriptor {
			o.Entries = append(o.Entries, images.EntryAnnotation{Platform: a.Platform, Name: a.Name, Value: a.Value})
		}
	}
	if m.append {
		o.Append = m.tags[0]
	}
	if err := checkWritable("metadata-file", m.metadata); err != nil {
		return err
	}
	return m.withRegistries(m.registries, quietMode(m.dryRun), func(env *environment) error {
		made, replaced, err := env.Combine(ctx, o)
		if err != nil {
			return cause(ctx, err)
		}
		m.printReplaced(replaced)
		if m.dryRun {
			_, err := fmt.Fprintf(m.Stdout, "%s\n", documentOf(made))
			return err
		}
		for _, tag := range m.tags {
			if err := env.PushTo(ctx, made, tag); err != nil {
				return cause(ctx, err)
			}
			if _, err := fmt.Fprintf(m.Stdout, "%s@%s\n", tag, made.Digest()); err != nil {
				return err
			}
		}
		return m.writeMetadata(made)
	})
}

// documentOf returns the index, or else the manifest.
func documentOf(t store.Tagged) []byte {
	if t.Index != nil {
		return t.Index.Raw
	}
	return t.Image.Manifest
}

// sources returns the images that the files and arguments name.
func (m *createCommand) sources(args []string) (all []images.Source, err error) {
	var texts []string
	for _, name := range m.files {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("--file: %w", err)
		}
		texts = append(texts, strings.TrimSpace(string(text)))
	}
	texts = append(texts, args...)
	repository, repositoryErr := m.repository(texts)
	for _, text := range texts {
		s, digest, err := parseSource(text)
		if err == nil && digest != "" {
			s.Ref, err = repository+"@"+string(digest), repositoryErr
		}
		if err != nil {
			return nil, usagef("IMAGE %.60q: %w", text, err)
		}
		all = append(all, s)
	}
	return all, nil
}

// parseSource parses a reference, a digest, or a descriptor in JSON. Of the last two it
// returns the digest.
func parseSource(text string) (s images.Source, digest layer.Digest, err error) {
	if !strings.HasPrefix(text, "{") {
		if d := layer.Digest(text); d.Validate() == nil {
			return s, d, nil
		}
		s.Ref = strings.TrimPrefix(text, "docker://")
		return s, "", option.CheckReference(s.Ref)
	}
	var d struct {
		Digest      layer.Digest      `json:"digest"`
		Platform    *layer.Platform   `json:"platform"`
		Annotations map[string]string `json:"annotations"`
	}
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		return s, "", fmt.Errorf("parsing the descriptor: %w", err)
	}
	s.Platform, s.Annotations = d.Platform, d.Annotations
	return s, d.Digest, d.Digest.Validate()
}

// repository returns the only repository among the tags and sources, in which digests
// are looked up.
func (m *createCommand) repository(texts []string) (string, error) {
	found := ""
	for _, text := range append(append([]string{}, m.tags...), texts...) {
		if layer.Digest(text).Validate() == nil || strings.HasPrefix(text, "{") {
			continue
		}
		r, err := reference.Parse(strings.TrimPrefix(text, "docker://"))
		if err != nil {
			continue // reported elsewhere
		}
		repository := r.Domain + "/" + r.Repo
		if found != "" && found != repository {
			return "", fmt.Errorf("it can be in %s or %s: want NAME@DIGEST", found, repository)
		}
		found = repository
	}
	if found == "" {
		return "", errors.New("its repository is unknown: add --tag, or want NAME@DIGEST")
	}
	return found, nil
}

// writeMetadata writes --metadata-file, with the keys of buildx.
func (m *createCommand) writeMetadata(made store.Tagged) error {
	if m.metadata == "" {
		return nil
	}
	d := descriptor{MediaType: made.Image.MediaType, Digest: made.Digest(), Size: int64(len(documentOf(made)))}
	if made.Index != nil {
		d.MediaType = made.Index.MediaType
	} else {
		d.Platform = platformOf(made.Image)
	}
	var names []string
	for _, tag := range m.tags {
		full, err := reference.Normalize(tag)
		if err != nil {
			return err
		}
		names = append(names, full)
	}
	text, err := indentedJSON(metadata{Descriptor: d, Digest: d.Digest, Name: strings.Join(names, ",")})
	if err != nil {
		return err
	}
	return writeFile(m.metadata, text)
}
