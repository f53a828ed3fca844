package option

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cairn-build/cairn/builder/secret"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/compress"
)

// exact compares complete errors.
func exact[T any](t *testing.T, parse func(string) (T, error), errs map[string]string) {
	t.Helper()
	for text, want := range errs {
		if got, err := parse(text); err == nil || err.Error() != want {
			t.Errorf("%q: %+v, error %v, want %s", text, got, err, want)
		}
	}
}

func TestOutputErrors(t *testing.T) {
	t.Parallel()
	const (
		types = "image, registry, oci, docker, tar, local or cacheonly"
		oci   = "type, dest, name, tar, compression, compression-level, force-compression, oci-mediatypes, rewrite-timestamp, source-date-epoch, annotation.NAME"
		local = "type, dest, src, mode, platform-split, rewrite-timestamp, source-date-epoch"
	)
	exact(t, ParseOutput, map[string]string{
		"":                                 "want type=..., a directory, or - for a tar archive on standard output",
		"dest=a":                           "type is missing: want type=" + types,
		"type=":                            "type is missing: want type=" + types,
		"type=moby":                        `type "moby" is not supported: want ` + types,
		"type=OCI":                         `type "OCI" is not supported: want ` + types,
		"nosuch=1,type=OCI":                `type "OCI" is not supported: want ` + types,
		"type=oci,a,b":                     `attribute "a" has no value: want key=value`,
		"type=oci,=b":                      `attribute "" is not supported: want one of ` + oci,
		"nosuch=1,Type=local":              `attribute "nosuch" is not supported: want one of ` + local,
		"type=cacheonly,src=a":             `attribute "src" does not apply to type=cacheonly`,
		"type=cacheonly,dest=a":            `attribute "dest" does not apply to type=cacheonly`,
		"type=oci,store=true":              `attribute "store" does not apply to type=oci`,
		"type=image,store=maybe":           "store=maybe: want true or false",
		"type=image,unpack=maybe":          "unpack=maybe: want true or false",
		"type=local,unpack=true":           `attribute "unpack" does not apply to type=local`,
		"type=local,dest=a,mode=":          "mode=: want copy or delete",
		"type=tar,src=":                    `src is empty: specify a directory of the image, or leave it out for all files`,
		"type=oci,src=/x":                  `attribute "src" does not apply to type=oci`,
		"type=image,attestation-inline=1":  `attestation-inline=1 is not supported: attestations are not supported yet`,
		"type=oci,prefer-nondist-layers=0": `prefer-nondist-layers=0 is not supported: layers of base images keep their media types`,
		"type=tar,mode=delete":             `attribute "mode" does not apply to type=tar`,
		"type=oci,registry.insecure=true":  `attribute "registry.insecure" does not apply to type=oci`,
		"type=image,registry.insecure=yes": "registry.insecure=yes: want true or false",
		"type=image,source-date-epoch=":    "source-date-epoch=: want seconds since 1970",
		"type=image,source-date-epoch=-1":  "source-date-epoch=-1: want seconds since 1970",
		"type=image,source-date-epoch=1,source-date-epoch=1": `attribute "source-date-epoch" is given twice`,
		"type=oci,dest=a,dest=a":                             `attribute "dest" is given twice`,
		"type=docker,tar=false":                              `attribute "tar" does not apply to type=docker`,
		"type=local,name=a":                                  `attribute "name" does not apply to type=local`,
		"type=oci,push=true":                                 `attribute "push" does not apply to type=oci`,
		"type=oci,platform-split=1":                          `attribute "platform-split" does not apply to type=oci`,
		"type=image,push=maybe":                              "push=maybe: want true or false",
		"type=oci,tar=":                                      "tar=: want true or false",
		"type=local":                                         "dest is missing: specify the directory to write to, dest=DIR",
		"type=image,name=a,push-by-digest=true,name-canonical=x":               "name-canonical=x: want true or false",
		"type=image,rewrite-timestamp=false":                                   "rewrite-timestamp=false is not supported: SOURCE_DATE_EPOCH limits the times in layers too",
		"type=image,push-by-digest=1":                                          "push-by-digest needs name=",
		"type=image,push-by-digest=1,name=a@sha256:" + strings.Repeat("0", 64): "push-by-digest: a@sha256:" + strings.Repeat("0", 64) + " has a tag or digest: leave it out",
		`type=image,"name=a,b:1",push-by-digest=1`:                             "push-by-digest: b:1 has a tag or digest: leave it out",
		"type=image,annotation-index[linux/arm64].a=b":                         `annotation-index[linux/arm64].a: type "index[linux/arm64]": an index is shared by all platforms: leave out the platform`,
		"type=image,annotation-layer.a=b":                                      `annotation-layer.a: type "layer": want manifest, manifest-descriptor, index or index-descriptor`,
	})
}

func TestOutputValues(t *testing.T) {
	t.Parallel()
	check(t, ParseOutput, []row[Output]{
		{text: " type=oci, dest=a b ", want: Output{Type: "oci", Dest: "a b "}}, // keys are trimmed, values are not
		{text: "type=oci,DEST=A", want: Output{Type: "oci", Dest: "A"}},
		{text: "type=local,dest=a=b", want: Output{Type: "local", Dest: "a=b"}},
		{text: `type=local,"dest=a,b"`, want: Output{Type: "local", Dest: "a,b"}},
		{text: "type=image", want: Output{Type: "image"}},
		{text: "type=tar,dest=", want: Output{Type: "tar", Dest: "-"}},
		{text: "a/b", want: Output{Type: "local", Dest: "a/b"}},
		{text: "type=image,compression=uncompressed", want: Output{Type: "image", Compression: &Compression{Options: compress.Options{Format: compress.Uncompressed}}}},
		{text: "type=image,force-compression=true", want: Output{Type: "image", Compression: &Compression{Force: true}}},
	})
	for text, want := range map[string][2]bool{
		"type=image": {true, false}, "type=oci,dest=a": {true, false}, "type=oci,tar=false,dest=a": {true, true},
		"type=local,dest=a": {false, true}, "type=tar": {false, false},
	} {
		out, err := ParseOutput(text)
		if got := [2]bool{out.Image(), out.Directory()}; err != nil || got != want {
			t.Errorf("%s: an image and a directory: %v, %v, want %v", text, got, err, want)
		}
	}
}

func TestCacheErrors(t *testing.T) {
	t.Parallel()
	exact(t, ParseCacheFrom, map[string]string{
		"type=":                               "type is missing: want type=registry, local, gha, s3 or azblob",
		"scope=a":                             "type is missing: want type=registry, local, gha, s3 or azblob",
		"type=azure":                          `type "azure" is not supported: want registry, local, gha, s3 or azblob`,
		"type=registry":                       "ref is missing: specify the cache, ref=NAME",
		"type=local":                          "src is missing: specify the directory, src=DIR",
		"type=local,src=":                     "src is empty: specify a directory",
		"type=gha,scope=":                     "scope is empty",
		"type=gha,version=0":                  "version=0: want 1 or 2",
		"type=local,src=a,token=b":            `attribute "token" does not apply to type=local`,
		"type=gha,ref=a":                      `attribute "ref" does not apply to type=gha`,
		"type=inline":                         "type=inline is not supported: import an inline cache with type=registry,ref=IMAGE",
		"a/B":                                 "the name must be lower case: a/b",
		"type=registry,ref=a,ref=b":           `attribute "ref" is given twice`,
		"type=registry,ref=a,tag=b":           `attribute "tag" does not apply to type=registry`,
		"a@sha256:" + strings.Repeat("0", 64): "a cache needs a tag, not a digest",
	})
	exact(t, ParseCacheMountTo, map[string]string{"type=azure": `type "azure" is not supported: want registry, local, gha, s3 or azblob`})
	exact(t, ParseCacheMountFrom, map[string]string{"type=azure": `type "azure" is not supported: want registry, local, gha, s3 or azblob`})
	exact(t, ParseCacheRepo, map[string]string{"type=azure": `type "azure" is not supported: want registry, gha, s3 or azblob`})
	exact(t, ParseContext, map[string]string{"a=docker-image://B": "the name must be lower case: b", "a=docker-image://": "it is empty"})
	exact(t, ParseCacheTo, map[string]string{
		"type=azure":                         `type "azure" is not supported: want registry, local, gha, s3, azblob or inline`,
		"type=local":                         "dest is missing: specify the directory, dest=DIR",
		"type=local,dest=a,mode=":            "mode=: want min or max",
		"type=local,dest=a,ignore-error=x":   "ignore-error=x: want true or false",
		"type=local,dest=a,image-manifest=0": "image-manifest=false is not supported: a cache is always an OCI image",
		"type=local,dest=a,oci-mediatypes=x": "oci-mediatypes=x: want true or false",
		"type=inline,mode=max":               "mode=max is not supported with type=inline, which covers the image's own layers only",
		"type=local,src=a":                   `attribute "src" is not supported: want one of type, dest, tag, mode, ignore-error, image-manifest, oci-mediatypes, compression, compression-level, force-compression, reset`,
	})
	exact(t, ParseCacheRepo, map[string]string{
		"type=local,src=a": "type=local is not supported: want the name of a cache in a registry",
		"type=inline":      "type=inline is not supported: want the name of a cache in a registry",
	})
	const inline = "type=inline is not supported: images do not contain cache mounts: want type=registry, local, gha, s3 or azblob"
	exact(t, ParseCacheMountFrom, map[string]string{"type=inline": inline})
	exact(t, ParseCacheMountTo, map[string]string{"type=inline": inline, "a,mode=max": `attribute "a" has no value: want key=value`})
}

func TestTableErrors(t *testing.T) {
	t.Parallel()
	for name, parse := range map[string]func(string) error{
		"output": func(s string) error { _, err := ParseOutput(s); return err },
		"cache":  func(s string) error { _, err := ParseCacheTo(s); return err },
		"secret": func(s string) error { _, err := ParseSecret(s); return err },
		"call":   func(s string) error { _, err := ParseCall(s); return err },
	} {
		if err := parse(`type="a`); err == nil || !strings.HasPrefix(err.Error(), "parsing the list of attributes: ") {
			t.Errorf("%s with an open quote: %v", name, err)
		}
		var attribute *AttributeError
		if err := parse("id=a,nonsense=1"); !errors.As(err, &attribute) || attribute.Problem == "" {
			t.Errorf("%s with an unknown attribute: %v", name, err)
		}
	}
}

func TestAnnotationErrors(t *testing.T) {
	t.Parallel()
	exact(t, ParseAnnotation, map[string]string{
		"a":                                 "want NAME=VALUE",
		":a":                                "want NAME=VALUE",
		"=b":                                "the name is empty: want NAME=VALUE",
		"manifest:=b":                       "the name is empty: want NAME=VALUE",
		"layer:a=b":                         `type "layer": want manifest, manifest-descriptor, index or index-descriptor`,
		"manifest[:a=b":                     `type "manifest[": want manifest or manifest-descriptor, with an optional platform in brackets, index or index-descriptor`,
		"index-descriptor[linux/arm64]:a=b": `type "index-descriptor[linux/arm64]": an index is shared by all platforms: leave out the platform`,
	})
	shared := []Output{{Type: "image", Annotations: []Annotation{{Name: "a"}}}, {Type: "oci"}}
	want := "--output: annotation.NAME needs a single output, since several share one manifest: use --annotation"
	if _, err := Annotations(nil, shared); err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
	want = "--annotation: outputs of type tar and local have no manifest to annotate: want type=image, registry, oci or docker"
	if _, err := Annotations([]Annotation{{Name: "a"}}, []Output{{Type: "local"}}); err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
	// The caller's list is not changed.
	list := make([]Annotation, 1, 5)
	if got, err := Annotations(list, []Output{{Type: "oci", Annotations: []Annotation{{Name: "b"}}}}); err != nil || len(got) != 2 || list[:2][1].Name != "" {
		t.Errorf("%+v, %v; the argument is now %+v", got, err, list[:2])
	}
}

func TestPairs(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		text       string
		name, want string
		err, label string // errors of ParsePair and ParseLabel
	}{
		{text: "a=b=c", name: "a", want: "b=c"},
		{text: "a=", name: "a"},
		{text: "a", name: "a", err: "want NAME=VALUE"},
		{text: "=b", err: "want NAME=VALUE", label: "want NAME=VALUE"},
		{text: "", err: "want NAME=VALUE", label: "want NAME=VALUE"},
	} {
		name, value, err := ParsePair(test.text)
		if text := errorText(err); text != test.err || err == nil && (name != test.name || value != test.want) {
			t.Errorf("pair %q: %q, %q, %v", test.text, name, value, err)
		}
		name, value, err = ParseLabel(test.text) // a label may lack a value
		if text := errorText(err); text != test.label || err == nil && (name != test.name || value != test.want) {
			t.Errorf("label %q: %q, %q, %v", test.text, name, value, err)
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestPlatformLists(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ have, text, want, err string }{
		{"", "linux/amd64", "linux/amd64", ""},
		{"linux/amd64", "linux/arm64,linux/amd64", "linux/amd64 linux/arm64", ""},
		{"", "linux/arm64,linux/arm64/v8", "linux/arm64", ""}, // one platform in two spellings
		{"", "linux/arm/v6, linux/arm/v7", "linux/arm/v6 linux/arm/v7", ""},
		{"linux/amd64", "linux/arm64,", "linux/amd64 linux/arm64", `platform ""`},
		{"", "linux/a/b/c", "", `platform "linux/a/b/c"`},
	} {
		var list []layer.Platform
		if test.have != "" {
			list, _ = AddPlatforms(nil, test.have)
		}
		list, err := AddPlatforms(list, test.text)
		var names []string
		for _, p := range list {
			names = append(names, p.String())
		}
		if strings.Join(names, " ") != test.want || !strings.HasPrefix(errorText(err), test.err) || (err == nil) != (test.err == "") {
			t.Errorf("%q added to %q: %q, %v, want %q", test.text, test.have, names, err, test.want)
		}
	}
	exact(t, ParsePlatform, map[string]string{"linux/amd64,linux/arm64": "want a single platform"})
}

func TestValueErrors(t *testing.T) {
	t.Parallel()
	exact(t, ParseHost, map[string]string{
		"a":        "want NAME:IP",
		":1.2.3.4": "want NAME:IP",
		"a:":       `"" is not an IP address: want NAME:IP or NAME:host-gateway`,
		"a:b:c":    `"b:c" is not an IP address: want NAME:IP or NAME:host-gateway`,
	})
	exact(t, ParseContext, map[string]string{"a": "want NAME=VALUE", "a=": "want NAME=VALUE", "=a": "want NAME=VALUE"})
	exact(t, ParseAllow, map[string]string{
		"":                         `unknown entitlement "": want security.insecure or network.host`,
		"network.host, device":     `unknown entitlement " device": want security.insecure or network.host`,
		"network.host,network.all": `unknown entitlement "network.all": want security.insecure or network.host`,
	})
	exact(t, ParseMemory, map[string]string{"": "want a size, such as 512m or 2g", "-1": "want a size, such as 512m or 2g", "0m": "want a size, such as 512m or 2g"})
	exact(t, ParseSize, map[string]string{"": "want a size, such as 20GB", "much": "want a size, such as 20GB"})
	check(t, ParseDuration, []row[time.Duration]{{text: "1h30m", want: 90 * time.Minute}, {text: "1ms", want: time.Millisecond}})
	const duration = "want a duration, such as 30m or 1h30m"
	exact(t, ParseDuration, map[string]string{"": duration, "5": duration, "0s": duration, "-1m": duration})
	exact(t, func(s string) (int64, error) { _, n, err := ParseLimit(s); return n, err }, map[string]string{
		"layer-size":      "want NAME=N, such as layer-size=10g",
		"layer-size=much": "layer-size: want a whole number, or a size such as 10g for limits of size",
		"layer-files=1k":  "layer-files: want a whole number, or a size such as 10g for limits of size",
	})
}

func TestSecretErrors(t *testing.T) {
	t.Parallel()
	exact(t, ParseSecret, map[string]string{
		"":                    `attribute "" has no value: want key=value`,
		"id=":                 "id is missing: want id=ID[,src=FILE|,env=NAME]",
		"src=a":               "id is missing: want id=ID[,src=FILE|,env=NAME]",
		"id=a,type=":          `type "" is not supported: want file or env`,
		"id=a,value=b":        `attribute "value" is not supported: want one of id, src, env, type`,
		"id=a,SOURCE=b,src=c": `attribute "src" is given twice`,
	})
	check(t, ParseSecret, []row[secret.Source]{
		{text: "type=env,id=a,src=F,env=E", want: secret.Source{ID: "a", File: "F", Env: "E"}},
	})
}

func TestCallErrors(t *testing.T) {
	t.Parallel()
	exact(t, ParseCall, map[string]string{
		"outlines":                      "want one of build, check, outline, targets (did you mean outline?)",
		"serve":                         "want one of build, check, outline, targets",
		"":                              "want one of build, check, outline, targets",
		"check,build":                   "both check and build: want one of build, check, outline, targets",
		"check,format=":                 `format "": want json or text`,
		"check,ignorestatus=x":          "ignorestatus=x: want true or false",
		"check,format=json,format=json": `attribute "format" is given twice`,
	})
}
