package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/tonistiigi/go-csvvalue"
	"golang.org/x/term"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/layer/compress"
	"github.com/cairn-build/cairn/registry"
)

// outputs are the values of --output.
type outputs struct {
	list        []builder.Output
	docker      *bool // docker's media types, if somebody said so
	loadInto    string
	unsplit     bool // platform-split=false
	annotations []builder.Annotation
}

// add reads one value, in buildx's form: attributes in CSV, or short for them
// the name of a directory, or - for a tar on standard output.
func (o *outputs) add(text string) error {
	fields, err := csvvalue.Fields(text, nil)
	if err != nil {
		return err
	}
	if len(fields) == 1 && !strings.Contains(fields[0], "=") {
		switch fields[0] {
		case "":
			return fmt.Errorf("want type=..., a directory, or - for a tar on standard output")
		case "-":
			fields = []string{"type=tar", "dest=-"}
		default:
			fields = []string{"type=local", "dest=" + fields[0]}
		}
	}
	p := outputParser{outputs: o}
	for _, field := range fields {
		name, value, ok := strings.Cut(field, "=")
		if !ok {
			return fmt.Errorf("%q is no attribute: want name=value", field)
		}
		name = strings.TrimSpace(name)
		if ok, err := p.annotate(name, value); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		} else if ok {
			continue
		}
		if err := p.attribute(strings.ToLower(name), value); err != nil {
			return err
		}
	}
	if err := p.check(); err != nil {
		return err
	}
	o.list = append(o.list, p.out)
	o.annotations = append(o.annotations, p.annotations...)
	return nil
}

// outputParser reads the attributes of one output.
type outputParser struct {
	outputs *outputs
	out     builder.Output
	seen    []string
	form    builder.Form // of layers

	annotations []builder.Annotation
}

func (p *outputParser) attribute(name, value string) (err error) {
	if slices.Contains(p.seen, name) {
		return fmt.Errorf("%s is given twice", name)
	}
	p.seen = append(p.seen, name)
	switch name {
	case "type":
		p.out.Type = value
	case "dest":
		p.out.Dest = value
	case "name":
		p.out.Names, err = references(value)
	case "push":
		p.out.Push, err = boolean(name, value)
	case "tar":
		var tar bool
		tar, err = boolean(name, value)
		p.out.Unpacked = !tar
	case "push-by-digest":
		p.out.ByDigest, err = boolean(name, value)
	case "name-canonical":
		p.out.Canonical, err = boolean(name, value)
	case "oci-mediatypes":
		var oci bool
		if oci, err = boolean(name, value); err == nil {
			err = p.outputs.mediaTypes(!oci)
		}
	case "rewrite-timestamp":
		err = rewrites(value)
	case "force-compression":
		p.form.Force, err = boolean(name, value)
	case "platform-split":
		p.out.Split, err = boolean(name, value)
		p.outputs.unsplit = p.outputs.unsplit || !p.out.Split
	case "compression":
		p.form.Format = compress.Format(value)
	case "compression-level":
		if p.form.Level, err = strconv.Atoi(value); err != nil {
			err = fmt.Errorf("compression-level %q is no number", value)
		}
	default:
		err = fmt.Errorf("attribute %q is not supported: there are type, dest, name, push, push-by-digest, name-canonical, tar, compression, compression-level, force-compression, oci-mediatypes, platform-split and annotation.NAME", name)
	}
	return err
}

// rewrites reads rewrite-timestamp, which has one value here.
func rewrites(value string) error {
	on, err := boolean("rewrite-timestamp", value)
	if err == nil && !on {
		err = errors.New("rewrite-timestamp: with SOURCE_DATE_EPOCH no time is later than that, in layers too")
	}
	return err
}

// mediaTypes are one for the whole build: there is one manifest.
func (o *outputs) mediaTypes(docker bool) error {
	if o.docker != nil && *o.docker != docker {
		return errors.New("another output has other media types: there is one manifest for all")
	}
	o.docker = &docker
	return nil
}

func boolean(name, value string) (bool, error) {
	b, err := strconv.ParseBool(value)
	if err != nil {
		return false, fmt.Errorf("%s=%s: want true or false", name, value)
	}
	return b, nil
}

// attributesOf are the attributes that mean something for a type.
func attributesOf(kind string) []string {
	switch kind {
	case "image":
		return []string{"name", "push", "push-by-digest", "name-canonical", "compression", "compression-level", "force-compression", "oci-mediatypes", "rewrite-timestamp"}
	case "registry":
		return []string{"name", "push-by-digest", "name-canonical", "compression", "compression-level", "force-compression", "oci-mediatypes", "rewrite-timestamp"}
	case "oci":
		return []string{"dest", "name", "tar", "compression", "compression-level", "force-compression", "oci-mediatypes", "rewrite-timestamp"}
	case "docker":
		return []string{"dest", "name", "compression", "compression-level", "force-compression", "oci-mediatypes", "rewrite-timestamp"}
	case "tar", "local":
		return []string{"dest", "platform-split", "rewrite-timestamp"}
	}
	return nil
}

func (p *outputParser) check() error {
	kind := p.out.Type
	if kind == "" {
		return fmt.Errorf("type is missing: want type=image, registry, oci, docker, tar or local")
	}
	allowed := attributesOf(kind)
	if allowed == nil {
		return fmt.Errorf("type %q is not supported: there are image, registry, oci, docker, tar and local", kind)
	}
	for _, name := range p.seen {
		if name != "type" && !slices.Contains(allowed, name) {
			return fmt.Errorf("%s means nothing for type=%s", name, kind)
		}
	}
	if p.annotations != nil && !slices.Contains(allowed, "name") {
		return fmt.Errorf("annotations mean nothing for type=%s", kind)
	}
	if err := p.byDigest(); err != nil {
		return err
	}
	if err := p.destination(); err != nil {
		return err
	}
	return p.compression()
}

// byDigest checks the names of what is to be pushed without a tag.
func (p *outputParser) byDigest() error {
	if !p.out.ByDigest {
		return nil
	}
	if len(p.out.Names) == 0 {
		return errors.New("push-by-digest needs name=")
	}
	for _, name := range p.out.Names {
		if t, err := registry.ParseReference(name); err == nil && (t.Digest != "" || strings.HasSuffix(name, ":"+t.Tag)) {
			return fmt.Errorf("push-by-digest: %s has a tag or digest: leave it out", name)
		}
	}
	return nil
}

// destination fills in where to write to.
func (p *outputParser) destination() error {
	out := &p.out
	folder := out.Type == "local" || out.Unpacked
	switch {
	case out.Type == "image" || out.Type == "registry":
		return nil
	case folder && (out.Dest == "" || out.Dest == "-"):
		return fmt.Errorf("dest is missing: name the directory to write to, dest=DIR")
	case folder:
		return nil
	case out.Dest == "":
		out.Dest = "-"
	}
	if fi, err := os.Stat(out.Dest); err == nil && fi.IsDir() {
		return fmt.Errorf("dest %s is a directory: name a file", out.Dest)
	}
	return nil
}

// compression says how the layers are compressed for the output.
func (p *outputParser) compression() error {
	asked := func(name string) bool { return slices.Contains(p.seen, name) }
	if !asked("compression") && !asked("compression-level") && !asked("force-compression") {
		return nil
	}
	if p.form.Format == compress.Gzip {
		p.form.Format = "" // the default
	}
	if _, err := compress.NewWriter(nil, p.form.Options); err != nil {
		return err
	}
	p.out.Form = &p.form
	return nil
}

// form is that of the image, and of outputs that say none: of the first that says
// one, and gives the image away under its names if there is such.
func (o *outputs) form() (f builder.Form) {
	found := false
	for _, out := range o.list {
		named := out.Type == "image" || out.Type == "registry"
		switch {
		case out.Form == nil:
		case named:
			return *out.Form
		case !found:
			f, found = *out.Form, true
		}
	}
	return f
}

// checkForms refuses zstd in docker's media types, which have no such layers.
func (o *outputs) checkForms() error {
	if o.docker == nil || !*o.docker {
		return nil
	}
	for _, out := range o.list {
		if out.Form != nil && out.Form.Format == compress.Zstd {
			return usagef("--output: compression=zstd needs OCI's media types: leave out oci-mediatypes=false")
		}
	}
	return nil
}

// onStdout checks that standard output can take what is written there, and
// connects it.
func (o *outputs) onStdout(stdout *os.File, quiet bool) error {
	n := 0
	for i := range o.list {
		out := &o.list[i]
		if out.Dest != "-" {
			continue
		}
		n++
		switch {
		case n > 1:
			return usagef("--output: only one can go to standard output")
		case quiet:
			return usagef("--output: standard output is taken by --quiet: name a file with dest=")
		case term.IsTerminal(int(stdout.Fd())):
			return usagef("--output: type=%s is not for a terminal: name a file with dest=, or redirect standard output", out.Type)
		}
		out.Stdout = stdout
	}
	return nil
}

func references(value string) ([]string, error) {
	names := strings.Split(value, ",")
	for _, name := range names {
		if err := checkReference(name); err != nil {
			return nil, err
		}
	}
	return names, nil
}
