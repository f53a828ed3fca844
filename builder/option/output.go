package option

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cairn-build/cairn/builder/plan"
	"github.com/cairn-build/cairn/layer/compress"
	"github.com/cairn-build/cairn/registry/reference"
)

// Output is a value of --output: a format and destination of the build result.
type Output struct {
	Type          string       // image, registry, oci, docker, tar, local or cacheonly
	Dest          string       // file or directory; "-" is standard output
	Unpacked      bool         // write an OCI layout as a directory (tar=false)
	Names         []string     // image references in addition to the tags
	Push          bool         // push an output of type image
	ByDigest      bool         // push without a tag
	Canonical     bool         // keep the image as name@digest too
	Insecure      bool         // push over plain HTTP or with an untrusted certificate
	Discard       bool         // keep no image in the store (store=false)
	Source        string       // directory of the image whose files are written; "": all files
	Delete        bool         // remove other files from the directory (mode=delete)
	Epoch         *int64       // limit of the times in the image, Unix seconds; nil: not specified
	PlatformSplit *bool        // one directory for each platform; nil: only with several platforms
	OCIMediaTypes *bool        // false: Docker's media types; nil: not specified
	Compression   *Compression // of the layers; nil: not specified
	Annotations   []Annotation
}

// Compression is the compression of an image's layers.
type Compression struct {
	compress.Options
	Force bool // recompress the layers of base images too
}

// ParseOutput parses a value of --output in the syntax of buildx: a list of
// attributes, the name of a directory, or - for a tar archive on standard output.
func ParseOutput(text string) (Output, error) {
	fields, err := splitList(text)
	if err != nil {
		return Output{}, err
	}
	if len(fields) == 1 && !strings.Contains(fields[0], "=") {
		switch fields[0] {
		case "":
			return Output{}, errors.New("want type=..., a directory, or - for a tar archive on standard output")
		case "-":
			fields = []string{"type=tar", "dest=-"}
		default:
			fields = []string{"type=local", "dest=" + fields[0]}
		}
	}
	var out Output
	keys, err := outputAttributes.parse(&out, fields)
	if err == nil {
		err = out.complete(keys)
	}
	return out, err
}

var outputAttributes = table[Output]{
	{key: "type", set: func(o *Output, _, value string) error {
		if o.Type = value; value != "" && !slices.Contains(outputTypes, value) {
			return fmt.Errorf("type %q is not supported: want %s", value, wantTypes)
		}
		return nil
	}},
	{key: "dest", types: "oci docker tar local", set: setText(func(o *Output) *string { return &o.Dest })},
	{key: "name", types: "image registry oci docker", set: func(o *Output, _, value string) error {
		o.Names = strings.Split(value, ",")
		for _, name := range o.Names {
			if err := CheckReference(name); err != nil {
				return err
			}
		}
		return nil
	}},
	{key: "push", types: "image", set: setBool(func(o *Output) *bool { return &o.Push })},
	{key: "push-by-digest", types: "image registry", set: setBool(func(o *Output) *bool { return &o.ByDigest })},
	{key: "name-canonical", types: "image registry", set: setBool(func(o *Output) *bool { return &o.Canonical })},
	{key: "registry.insecure", types: "image registry", set: setBool(func(o *Output) *bool { return &o.Insecure })},
	{key: "store", types: "image registry", set: func(o *Output, key, value string) error {
		keep, err := parseBool(key, value)
		o.Discard = !keep
		return err
	}},
	{key: "src", types: "tar local", set: func(o *Output, _, value string) error {
		if o.Source = value; value == "" {
			return errors.New("src is empty: specify a directory of the image, or leave it out for all files")
		}
		return nil
	}},
	{key: "mode", types: "local", set: func(o *Output, _, value string) error {
		if o.Delete = value == "delete"; !o.Delete && value != "copy" {
			return fmt.Errorf("mode=%s: want copy or delete", value)
		}
		return nil
	}},
	{key: "tar", types: "oci", set: func(o *Output, key, value string) error {
		tar, err := parseBool(key, value)
		o.Unpacked = !tar
		return err
	}},
	{key: "compression", types: "image registry oci docker", set: func(o *Output, _, value string) error {
		o.compression().Format = compress.Format(value)
		return nil
	}},
	{key: "compression-level", types: "image registry oci docker", set: func(o *Output, key, value string) (err error) {
		o.compression().Level, err = parseLevel(key, value)
		return err
	}},
	{key: "force-compression", types: "image registry oci docker", set: setBool(func(o *Output) *bool { return &o.compression().Force })},
	{key: "oci-mediatypes", types: "image registry oci docker", set: func(o *Output, key, value string) error {
		oci, err := parseBool(key, value)
		o.OCIMediaTypes = &oci
		return err
	}},
	{key: "platform-split", types: "tar local", set: func(o *Output, key, value string) error {
		split, err := parseBool(key, value)
		o.PlatformSplit = &split
		return err
	}},
	{key: "rewrite-timestamp", set: func(_ *Output, key, value string) error {
		on, err := parseBool(key, value)
		if err == nil && !on {
			err = fmt.Errorf("%s=false is not supported: SOURCE_DATE_EPOCH limits the times in layers too", key)
		}
		return err
	}},
	{key: "source-date-epoch", set: func(o *Output, key, value string) error {
		n, err := ParseEpoch(value)
		if err != nil {
			return fmt.Errorf("%s=%s: %w", key, value, err)
		}
		o.Epoch = &n
		return nil
	}},
	{key: "annotation.NAME", types: "image registry oci docker", matches: isAnnotation, set: func(o *Output, key, value string) error {
		a, err := parseAnnotationKey(key, value)
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		o.Annotations = append(o.Annotations, a)
		return nil
	}},
	{key: "unpack", types: "image registry oci docker", ignored: true, set: ignoreBool[Output]},
	{key: "dangling-name-prefix", types: "image registry oci docker", ignored: true, set: ignoreText[Output]},
	{key: "danging-name-empty-only", types: "image registry oci docker", ignored: true, set: ignoreBool[Output]},
	{key: "oci-artifact", types: "image registry oci docker", ignored: true, set: ignoreBool[Output]},
	{key: "attestation-prefix", types: "tar local", ignored: true, set: ignoreText[Output]},
	{key: "attestation-inline", types: "image registry oci docker", ignored: true,
		set: onlyBool(false, "attestations are not supported yet")},
	{key: "prefer-nondist-layers", types: "image registry oci docker", ignored: true,
		set: onlyBool(true, "layers of base images keep their media types")},
	{key: "buildinfo", ignored: true, set: ignoreBool[Output]},
	{key: "buildinfo-attrs", ignored: true, set: ignoreBool[Output]},
}

var outputTypes = []string{"image", "registry", "oci", "docker", "tar", "local", "cacheonly"}

const wantTypes = "image, registry, oci, docker, tar, local or cacheonly"

func (o *Output) compression() *Compression {
	if o.Compression == nil {
		o.Compression = &Compression{}
	}
	return o.Compression
}

// Image reports whether the output has a manifest, unlike the types tar, local and
// cacheonly.
func (o *Output) Image() bool { return o.Type != "tar" && o.Type != "local" && o.Type != "cacheonly" }

// Directory reports whether Dest is a directory.
func (o *Output) Directory() bool { return o.Type == "local" || o.Unpacked }

// complete checks the attributes against each other and fills in defaults.
func (o *Output) complete(keys []string) error {
	if o.Type == "" {
		return errors.New("type is missing: want type=" + wantTypes)
	}
	if err := outputAttributes.checkType(keys, o.Type); err != nil {
		return err
	}
	if err := o.checkByDigest(); err != nil {
		return err
	}
	switch {
	case o.Type == "image" || o.Type == "registry" || o.Type == "cacheonly":
	case o.Directory() && (o.Dest == "" || o.Dest == "-"):
		return errors.New("dest is missing: specify the directory to write to, dest=DIR")
	case o.Dest == "":
		o.Dest = "-"
	}
	if o.Compression == nil {
		return nil
	}
	return o.Compression.complete()
}

func parseLevel(key, value string) (int, error) {
	level, err := strconv.Atoi(value)
	if err != nil {
		err = fmt.Errorf("%s=%s: want a number", key, value)
	}
	return level, err
}

// complete checks the format and the level, and replaces the default format by "".
func (c *Compression) complete() error {
	if c.Format == compress.Gzip {
		c.Format = ""
	}
	_, err := compress.NewWriter(nil, c.Options)
	return err
}

// checkByDigest requires names without a tag for push-by-digest.
func (o *Output) checkByDigest() error {
	if !o.ByDigest {
		return nil
	}
	if len(o.Names) == 0 {
		return errors.New("push-by-digest needs name=")
	}
	for _, name := range o.Names {
		if r, err := reference.Parse(name); err == nil && (r.Digest != "" || strings.HasSuffix(name, ":"+r.Tag)) {
			return fmt.Errorf("push-by-digest: %s has a tag or digest: leave it out", name)
		}
	}
	return nil
}

// KeepImage reports whether the store keeps the image under its names. It does not if
// the outputs of a build are for the cache alone, or decline it (store=false).
func KeepImage(outputs []Output) bool {
	declined := false
	for _, out := range outputs {
		switch {
		case out.Discard || out.Type == "cacheonly":
			declined = true
		case out.Type == "image" || out.Type == "registry":
			return true
		}
	}
	return !declined
}

// ParseEpoch parses the time of an image in seconds.
func ParseEpoch(s string) (int64, error) {
	switch n, err := strconv.ParseInt(s, 10, 64); {
	case errors.Is(err, strconv.ErrRange) && !strings.HasPrefix(s, "-"), err == nil && n > plan.LastEpoch:
		return 0, fmt.Errorf("want seconds since 1970, at most %d (in the year 9999)", int64(plan.LastEpoch))
	case err != nil || n < 0:
		return 0, errors.New("want seconds since 1970")
	default:
		return n, nil
	}
}

// Epoch returns the value of source-date-epoch, which all outputs share, or nil.
func Epoch(outputs []Output) (epoch *int64, err error) {
	for _, out := range outputs {
		switch {
		case out.Epoch == nil:
		case epoch != nil && *epoch != *out.Epoch:
			return nil, errors.New("source-date-epoch differs between outputs, which share one image")
		default:
			epoch = out.Epoch
		}
	}
	return epoch, nil
}

// ImageCompression returns the compression of the image that several outputs
// share: that of the first output of type image or registry that specifies one,
// otherwise that of the first output that does.
func ImageCompression(outputs []Output) Compression {
	var first *Compression
	for _, out := range outputs {
		switch named := out.Type == "image" || out.Type == "registry"; {
		case out.Compression == nil:
		case named:
			return *out.Compression
		case first == nil:
			first = out.Compression
		}
	}
	if first == nil {
		return Compression{}
	}
	return *first
}

// DockerMediaTypes reports whether the outputs ask for Docker's media types. All
// outputs share one manifest, so they have to agree, and Docker's media types
// exclude zstd.
func DockerMediaTypes(outputs []Output) (bool, error) {
	var oci *bool
	zstd := false
	for _, out := range outputs {
		zstd = zstd || out.Compression != nil && out.Compression.Format == compress.Zstd
		switch {
		case out.OCIMediaTypes == nil:
		case oci != nil && *oci != *out.OCIMediaTypes:
			return false, errors.New("oci-mediatypes differs between outputs, which share one manifest")
		default:
			oci = out.OCIMediaTypes
		}
	}
	docker := oci != nil && !*oci
	if docker && zstd {
		return false, errors.New("compression=zstd needs OCI media types: leave out oci-mediatypes=false")
	}
	return docker, nil
}
