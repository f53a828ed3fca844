package option

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cairn-build/cairn/builder/plan/op"
	"github.com/cairn-build/cairn/builder/secret"
	"github.com/cairn-build/cairn/builder/sshagent"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/compress"
)

// row is a text with the value or the error that parsing it gives.
type row[T any] struct {
	text string
	want T
	err  string // part of the error
}

func check[T any](t *testing.T, parse func(string) (T, error), rows []row[T]) {
	t.Helper()
	for _, r := range rows {
		got, err := parse(r.text)
		switch {
		case r.err != "" && (err == nil || !strings.Contains(err.Error(), r.err)):
			t.Errorf("%q: error %v, want %q", r.text, err, r.err)
		case r.err == "" && err != nil:
			t.Errorf("%q: %v", r.text, err)
		case r.err == "" && !reflect.DeepEqual(got, r.want):
			t.Errorf("%q: %+v, want %+v", r.text, got, r.want)
		}
	}
}

func ptr[T any](v T) *T { return &v }

func TestParseOutput(t *testing.T) {
	level := Compression{Options: compress.Options{Format: compress.Zstd, Level: 3}, Force: true}
	check(t, ParseOutput, []row[Output]{
		{text: "dir", want: Output{Type: "local", Dest: "dir"}},
		{text: "-", want: Output{Type: "tar", Dest: "-"}},
		{text: "type=tar", want: Output{Type: "tar", Dest: "-"}},
		{text: "type=docker,dest=a.tar", want: Output{Type: "docker", Dest: "a.tar"}},
		{text: "TYPE=oci,tar=false,dest=d", want: Output{Type: "oci", Dest: "d", Unpacked: true}},
		{text: `type=image,"name=a,b:1",push=1`, want: Output{Type: "image", Names: []string{"a", "b:1"}, Push: true}},
		{text: "type=registry,name=a,push-by-digest=true,name-canonical=true", want: Output{Type: "registry", Names: []string{"a"}, ByDigest: true, Canonical: true}},
		{text: "type=image,compression=zstd,compression-level=3,force-compression=true", want: Output{Type: "image", Compression: &level}},
		{text: "type=image,compression=gzip", want: Output{Type: "image", Compression: &Compression{}}},
		{text: "type=image,oci-mediatypes=false,rewrite-timestamp=true", want: Output{Type: "image", OCIMediaTypes: ptr(false)}},
		{text: "type=local,dest=d,platform-split=false", want: Output{Type: "local", Dest: "d", PlatformSplit: ptr(false)}},
		{text: "type=image,annotation.Key.x=v,annotation-index.b=w", want: Output{Type: "image", Annotations: []Annotation{{Name: "Key.x", Value: "v"}, {Name: "b", Value: "w", Index: true}}}},
		{text: "", err: "want type=..., a directory"},
		{text: `type="oci`, err: "parsing the list of attributes"},
		{text: "dest=x", err: "type is missing"},
		{text: "type=iso", err: `type "iso" is not supported`},
		{text: "type=oci,dest", err: `attribute "dest" has no value`},
		{text: "type=oci,dest=a,DEST=b", err: `attribute "dest" is given twice`},
		{text: "type=oci,nosuch=1", err: `attribute "nosuch" is not supported: want one of type, dest, `},
		{text: "type=cacheonly", want: Output{Type: "cacheonly"}},
		{text: "type=image,unpack=true,dangling-name-prefix=p,danging-name-empty-only=true,buildinfo=true,buildinfo-attrs=false,store=true", want: Output{Type: "image"}},
		{text: "type=docker,unpack=false,dest=d", want: Output{Type: "docker", Dest: "d"}},
		{text: "type=image,store=false", want: Output{Type: "image", Discard: true}},
		{text: "type=registry,name=a,registry.insecure=true", want: Output{Type: "registry", Names: []string{"a"}, Insecure: true}},
		{text: "type=local,dest=d,mode=copy", want: Output{Type: "local", Dest: "d"}},
		{text: "type=registry,oci-artifact=true,attestation-inline=false,prefer-nondist-layers=true", want: Output{Type: "registry"}},
		{text: "type=local,dest=d,src=/a,attestation-prefix=p", want: Output{Type: "local", Dest: "d", Source: "/a"}},
		{text: "mode=delete,dest=d,type=local", want: Output{Type: "local", Dest: "d", Delete: true}},
		{text: "type=tar,source-date-epoch=7", want: Output{Type: "tar", Dest: "-", Epoch: ptr(int64(7))}},
		{text: "type=image,dest=x", err: `attribute "dest" does not apply to type=image`},
		{text: "type=registry,push=true", err: `attribute "push" does not apply to type=registry`},
		{text: "type=tar,compression=zstd", err: `attribute "compression" does not apply to type=tar`},
		{text: "type=tar,annotation.a=b", err: `attribute "annotation.NAME" does not apply to type=tar`},
		{text: "type=image,annotation.=b", err: "annotation.: the name is empty"},
		{text: "type=image,annotations.a=b", err: `attribute "annotations.a" is not supported`},
		{text: "type=oci,tar=maybe", err: "tar=maybe: want true or false"},
		{text: "type=oci,tar=false", err: "dest is missing"},
		{text: "type=local", err: "dest is missing"},
		{text: "type=local,dest=-", err: "dest is missing"},
		{text: "type=image,name=A", err: "the name must be lower case"},
		{text: "type=image,compression=lzma", err: "want gzip, zstd or uncompressed"},
		{text: "type=image,compression-level=high", err: "compression-level=high: want a number"},
		{text: "type=image,rewrite-timestamp=false", err: "rewrite-timestamp=false is not supported"},
		{text: "type=image,push-by-digest=true", err: "push-by-digest needs name="},
		{text: "type=image,name=a:1,push-by-digest=true", err: "a:1 has a tag or digest"},
	})
}

func TestAttributeErrors(t *testing.T) {
	parsers := map[string]func(string) error{
		"output": func(s string) error { _, err := ParseOutput(s); return err },
		"cache":  func(s string) error { _, err := ParseCacheTo(s); return err },
		"secret": func(s string) error { _, err := ParseSecret(s); return err },
		"call":   func(s string) error { _, err := ParseCall("check," + s); return err },
	}
	same := map[string]string{"output": "dest=a", "cache": "ref=a", "secret": "id=a", "call": "format=json"}
	for name, parse := range parsers {
		for _, text := range []string{"nosuch=1", "novalue", same[name] + "," + same[name]} {
			var attribute *AttributeError
			if name == "cache" && text == "novalue" {
				text = "novalue,ref=a" // novalue alone is the name of a cache
			}
			if name == "call" && text == "novalue" {
				continue // a method
			}
			if name == "output" && text == "novalue" {
				text = "novalue,type=oci" // and of a directory
			}
			if err := parse(text); !errors.As(err, &attribute) {
				t.Errorf("%s %q: %v, want an AttributeError", name, text, err)
			}
		}
	}
}

func TestSharedOutputs(t *testing.T) {
	zstd := Output{Type: "oci", Compression: &Compression{Options: compress.Options{Format: compress.Zstd}}}
	level := Output{Type: "image", Compression: &Compression{Options: compress.Options{Level: 9}}}
	docker, oci := Output{Type: "image", OCIMediaTypes: ptr(false)}, Output{Type: "image", OCIMediaTypes: ptr(true)}
	for i, test := range []struct {
		outputs []Output
		want    Compression
		docker  bool
		err     string
	}{
		{},
		{outputs: []Output{{Type: "tar"}, zstd}, want: *zstd.Compression},
		{outputs: []Output{zstd, level}, want: *level.Compression},
		{outputs: []Output{docker}, docker: true},
		{outputs: []Output{oci, zstd}, want: *zstd.Compression},
		{outputs: []Output{docker, oci}, err: "oci-mediatypes differs"},
		{outputs: []Output{docker, zstd}, want: *zstd.Compression, err: "compression=zstd needs OCI media types"},
	} {
		if got := ImageCompression(test.outputs); got != test.want {
			t.Errorf("%d: compression %+v, want %+v", i, got, test.want)
		}
		got, err := DockerMediaTypes(test.outputs)
		if test.err == "" && err != nil || test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) || got != test.docker {
			t.Errorf("%d: Docker's media types %v, error %v, want %v, %q", i, got, err, test.docker, test.err)
		}
	}
}

func TestKeepImage(t *testing.T) {
	image, declined := Output{Type: "image"}, Output{Type: "registry", Discard: true}
	cache, files := Output{Type: "cacheonly"}, Output{Type: "local"}
	for i, test := range []struct {
		outputs []Output
		want    bool
	}{
		{nil, true},
		{[]Output{files}, true},
		{[]Output{image, declined}, true},
		{[]Output{image, cache}, true},
		{[]Output{declined}, false},
		{[]Output{declined, files}, false},
		{[]Output{cache, files}, false},
	} {
		if got := KeepImage(test.outputs); got != test.want {
			t.Errorf("%d: %v, want %v", i, got, test.want)
		}
	}
}

func TestOutputEpoch(t *testing.T) {
	one, same, two := Output{Epoch: ptr(int64(1))}, Output{Epoch: ptr(int64(1))}, Output{Epoch: ptr(int64(2))}
	if at, err := Epoch([]Output{{}, one, same}); err != nil || at == nil || *at != 1 {
		t.Errorf("%v, %v, want 1", at, err)
	}
	if at, err := Epoch([]Output{one, two}); err == nil {
		t.Errorf("two epochs: %v", *at)
	}
	if at, err := Epoch([]Output{{}}); err != nil || at != nil {
		t.Errorf("no epoch: %v, %v", at, err)
	}
}

func TestParseAnnotation(t *testing.T) {
	arm := &layer.Platform{OS: "linux", Architecture: "arm64"}
	check(t, ParseAnnotation, []row[[]Annotation]{
		{text: "a=b", want: []Annotation{{Name: "a", Value: "b"}}},
		{text: "a=", want: []Annotation{{Name: "a"}}},
		{text: "manifest:a=b:c=d", want: []Annotation{{Name: "a", Value: "b:c=d"}}},
		{text: "manifest[linux/arm64]:a=b", want: []Annotation{{Name: "a", Value: "b", Platform: arm}}},
		{text: "index,manifest-descriptor:a=b", want: []Annotation{{Name: "a", Value: "b", Index: true}, {Name: "a", Value: "b", Descriptor: true}}},
		{text: "index-descriptor:a=b", want: []Annotation{{Name: "a", Value: "b", Index: true, Descriptor: true}}},
		{text: "a", err: "want NAME=VALUE"},
		{text: "=b", err: "the name is empty"},
		{text: "manifst:a=b", err: `type "manifst": want manifest, `},
		{text: "Manifest:a=b", err: "with an optional platform in brackets"},
		{text: "index[linux/arm64]:a=b", err: "an index is shared by all platforms"},
		{text: "manifest[x]:a=b", err: "platform"},
	})
}

func TestAnnotations(t *testing.T) {
	one := []Annotation{{Name: "a"}}
	image, files := Output{Type: "image", Annotations: []Annotation{{Name: "b"}}}, Output{Type: "tar"}
	for i, test := range []struct {
		outputs []Output
		want    int
		err     string
	}{
		{want: 1},
		{outputs: []Output{image}, want: 2},
		{outputs: []Output{image, files}, err: "needs a single output"},
		{outputs: []Output{files}, err: "have no manifest"},
	} {
		got, err := Annotations(one, test.outputs)
		if len(got) != test.want || test.err == "" && err != nil || test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
			t.Errorf("%d: %d annotations, error %v, want %d, %q", i, len(got), err, test.want, test.err)
		}
	}
}

func TestParseCache(t *testing.T) {
	check(t, ParseCacheFrom, []row[Cache]{
		{text: "r.example/c", want: Cache{Type: "registry", Ref: "r.example/c:latest"}},
		{text: "type=registry,ref=r.example/c:1", want: Cache{Type: "registry", Ref: "r.example/c:1"}},
		{text: "type=local,src=d", want: Cache{Type: "local", Dir: "d"}},
		{text: "type=gha,scope=s,url=u,token=t", want: Cache{Type: "gha", GitHub: GitHub{Scope: "s", URL: "u", Token: "t", Version: 1}}},
		{text: "type=gha,url_v2=u", want: Cache{Type: "gha", GitHub: GitHub{URL: "u", Version: 2}}},
		{text: "type=gha,url_v2=u,version=1", want: Cache{Type: "gha", GitHub: GitHub{URL: "u", Version: 1}}},
		{text: "type=registry,ref=r.example/c,registry.insecure=true", want: Cache{Type: "registry", Ref: "r.example/c:latest", Insecure: true}},
		{text: "type=local,src=d,tag=main", want: Cache{Type: "local", Dir: "d", Tag: "main"}},
		{text: "type=local,src=d,digest=sha256:" + strings.Repeat("0", 64), want: Cache{Type: "local", Dir: "d", Digest: "sha256:" + strings.Repeat("0", 64)}},
		{text: "type=gha,timeout=5m,repository=a/b,ghtoken=t", want: Cache{Type: "gha", Timeout: 5 * time.Minute}},
		{text: "type=local,src=d,digest=sha256:1", err: "digest=sha256:1: "},
		{text: "type=local,src=d,tag=a/b", err: `tag "a/b" is not valid`},
		{text: "type=local,src=d,tag=", err: `tag "" is not valid`},
		{text: "type=gha,timeout=5", err: "timeout=5: want a duration"},
		{text: "type=registry,ref=a,timeout=5m", err: `attribute "timeout" does not apply to type=registry`},
		{text: "ref=a", err: "type is missing"},
		{text: "type=s3,bucket=b,region=r", want: Cache{Type: "s3", Bucket: Bucket{
			Bucket: "b", Region: "r", Names: []string{"cairn"}, Blobs: "blobs/", Manifests: "manifests/", Touch: 24 * time.Hour}}},
		{text: "type=s3,prefix=p/,blobs_prefix=b/,manifests_prefix=,name=x;y,endpoint_url=http://m,use_path_style=true,access_key_id=i,secret_access_key=s,session_token=t," +
			"touch_refresh=1h,upload_parallelism=2,retry_max_attempts=3,retry_mode=adaptive,disable_accept_encoding=true", want: Cache{Type: "s3", Bucket: Bucket{
			Names: []string{"x", "y"}, Prefix: "p/", Blobs: "p/b/", Manifests: "p/", Endpoint: "http://m", PathStyle: true, KeyID: "i", Secret: "s", Token: "t",
			Touch: time.Hour, Parallel: 2, Tries: 3}}},
		{text: "type=azblob,account_url=https://a.blob.example,account_name=a,container=c,secret_access_key=s,prefix=p", want: Cache{Type: "azblob", Bucket: Bucket{
			Names: []string{"cairn"}, Prefix: "p", Blobs: "p/blobs/", Manifests: "p/manifests/", Endpoint: "https://a.blob.example", KeyID: "a", Bucket: "c", Secret: "s", Touch: 24 * time.Hour}}},
		{text: "type=azblob,region=r", err: `attribute "region" does not apply to type=azblob`},
		{text: "type=s3,access_key_id=i", err: "access_key_id and secret_access_key must both be there"},
		{text: "type=s3,session_token=i", err: "access_key_id and secret_access_key must both be there"},
		{text: "type=s3,name=a;", err: "name=a;: a name is empty"},
		{text: "type=s3,upload_parallelism=0", err: "upload_parallelism=0: want a number of at least 1"},
		{text: "type=s3,retry_mode=legacy", err: "retry_mode=legacy: want standard or adaptive"},
		{text: "type=s3,touch_refresh=1", err: "touch_refresh=1: want a duration"},
		{text: "type=s3,ref=a", err: `attribute "ref" does not apply to type=s3`},
		{text: "type=registry,ref=a,bucket=b", err: `attribute "bucket" does not apply to type=registry`},
		{text: "type=registry", err: "ref is missing"},
		{text: "type=registry,ref=a,src=d", err: `attribute "src" does not apply to type=registry`},
		{text: "type=registry,ref=a@sha256:" + strings.Repeat("0", 64), err: "needs a tag"},
		{text: "type=local", err: "src is missing: specify the directory, src=DIR"},
		{text: "type=local,src=", err: "src is empty"},
		{text: "type=local,dest=d", err: `attribute "dest" is not supported`},
		{text: "type=local,src=d,mode=max", err: `attribute "mode" is not supported`},
		{text: "type=local,src=d,scope=s", err: `attribute "scope" does not apply to type=local`},
		{text: "type=gha,scope=", err: "scope is empty"},
		{text: "type=gha,version=3", err: "version=3: want 1 or 2"},
		{text: "type=inline", err: "import an inline cache with type=registry"},
	})
	check(t, ParseCacheTo, []row[Cache]{
		{text: "type=local,dest=d,mode=max,ignore-error=false", want: Cache{Type: "local", Dir: "d", Max: true, Strict: true}},
		{text: "type=local,dest=d,mode=min,ignore-error=true", want: Cache{Type: "local", Dir: "d"}},
		{text: "type=inline", want: Cache{Type: "inline"}},
		{text: "type=registry,ref=a.example/b,image-manifest=true", want: Cache{Type: "registry", Ref: "a.example/b:latest"}},
		{text: "type=registry,ref=a.example/b,compression=gzip,compression-level=3,force-compression=true", want: Cache{Type: "registry", Ref: "a.example/b:latest", Compression: &Compression{Options: compress.Options{Level: 3}}}},
		{text: "type=local,dest=d,tag=x,compression=zstd,reset=false", want: Cache{Type: "local", Dir: "d", Tag: "x", Compression: &Compression{Options: compress.Options{Format: compress.Zstd}}}},
		{text: "type=local,dest=d,reset=true", err: "reset=true is not supported: "},
		{text: "type=local,dest=d,digest=sha256:1", err: `attribute "digest" is not supported`},
		{text: "type=local,dest=d,compression=estargz", err: "want gzip, zstd or uncompressed"},
		{text: "type=local,dest=d,compression-level=x", err: "compression-level=x: want a number"},
		{text: "type=inline,compression=gzip", err: `attribute "compression" does not apply to type=inline`},
		{text: "type=registry,ref=a.example/b,oci-mediatypes=false", err: "a cache is always an OCI image"},
		{text: "type=local,dest=d,mode=all", err: "mode=all: want min or max"},
		{text: "type=inline,mode=max", err: "mode=max is not supported"},
		{text: "type=inline,ref=a", err: `attribute "ref" does not apply to type=inline`},
	})
	check(t, ParseCacheRepo, []row[Cache]{
		{text: "r.example/c", want: Cache{Type: "registry", Ref: "r.example/c:latest", Max: true}},
		{text: "type=local,src=d", err: "type=local is not supported"},
	})
	check(t, ParseCacheMountFrom, []row[Cache]{
		{text: "type=local,src=d", want: Cache{Type: "local", Dir: "d"}},
		{text: "type=inline", err: "images do not contain cache mounts"},
	})
	check(t, ParseCacheMountTo, []row[Cache]{
		{text: "type=local,dest=d", want: Cache{Type: "local", Dir: "d"}},
		{text: "type=local,dest=d,mode=min", err: `attribute "mode" does not apply to cache mounts`},
		{text: "type=inline", err: "images do not contain cache mounts"},
	})
}

func TestCacheCompression(t *testing.T) {
	zstd := Compression{Options: compress.Options{Format: compress.Zstd, Level: 3}}
	for i, test := range []struct {
		cache *Compression
		image Compression
		err   string
	}{
		{nil, zstd, ""},
		{&Compression{}, Compression{Options: compress.Options{Level: 9}}, ""},
		{&Compression{Options: compress.Options{Format: compress.Zstd}}, zstd, ""},
		{&zstd, zstd, ""},
		{&zstd, Compression{}, "compression=zstd is not supported with images that are gzip: a cache has their layers: put compression=zstd into --output too"},
		{&Compression{}, zstd, "compression=gzip is not supported with images that are zstd: a cache has their layers: put compression=gzip into --output too"},
		{&Compression{Options: compress.Options{Level: 9}}, Compression{}, "compression-level=9 is not supported with images of another level: a cache has their layers: put compression-level=9 into --output too"},
	} {
		c := Cache{Compression: test.cache}
		if text := errorText(c.CheckCompression(test.image)); text != test.err {
			t.Errorf("%d: %q, want %q", i, text, test.err)
		}
	}
}

func TestRedactCache(t *testing.T) {
	for text, want := range map[string]string{
		"type=gha,token=abc,scope=x":                                         "type=gha,token=xxxxx,scope=x",
		`type=s3,"Secret_Access_Key=a b",session_token=c=d,access_key_id=id`: `type=s3,"Secret_Access_Key=xxxxx",session_token=xxxxx,access_key_id=id`,
		"registry.example/token":                                             "registry.example/token",
	} {
		if got := RedactCache(text); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

func TestParseCall(t *testing.T) {
	check(t, ParseCall, []row[Call]{
		{text: "build", want: Call{}},
		{text: "lint", want: Call{Method: "check"}},
		{text: "check,ignorestatus=true", want: Call{Method: "check", IgnoreStatus: true}},
		{text: "outline,format=json", want: Call{Method: "outline", JSON: true}},
		{text: "targets,format=text", want: Call{Method: "targets"}},
		{text: "chek", err: "did you mean check?"},
		{text: "check,format=yaml", err: `format "yaml": want json or text`},
		{text: "check,outline", err: "both check and outline: want one of"},
		{text: "format=json,check", want: Call{Method: "check", JSON: true}},
		{text: "check,form=json", err: `attribute "form" is not supported: want one of format, ignorestatus`},
	})
}

func TestParseSecret(t *testing.T) {
	check(t, ParseSecret, []row[secret.Source]{
		{text: "id=a", want: secret.Source{ID: "a"}},
		{text: "id=a,src=f", want: secret.Source{ID: "a", File: "f"}},
		{text: "ID=a,source=f", want: secret.Source{ID: "a", File: "f"}},
		{text: "id=a,env=E", want: secret.Source{ID: "a", Env: "E"}},
		{text: "type=env,id=a,src=E", want: secret.Source{ID: "a", Env: "E"}},
		{text: "type=env,id=a", want: secret.Source{ID: "a"}},
		{text: "type=file,id=a,src=f=g", want: secret.Source{ID: "a", File: "f=g"}},
		{text: `id=a,"src=f,g"`, want: secret.Source{ID: "a", File: "f,g"}},
		{text: "src=f", err: "id is missing"},
		{text: "a", err: `attribute "a" has no value`},
		{text: "id=a,type=vault", err: `type "vault" is not supported`},
		{text: "id=a,mode=1", err: `attribute "mode" is not supported`},
		{text: "id=a,src=f,source=g", err: `attribute "src" is given twice`},
		{text: `id="a`, err: "quote"},
	})
}

func FuzzParseSecret(f *testing.F) {
	f.Add("id=a,src=f")
	f.Add(`"id=a",type=env`)
	f.Fuzz(func(t *testing.T, text string) {
		if s, err := ParseSecret(text); err == nil && s.ID == "" {
			t.Errorf("ParseSecret(%q) gave no id", text)
		}
	})
}

func FuzzParseOutput(f *testing.F) {
	f.Add("type=oci,dest=a")
	f.Add(`type=image,"name=a,b",annotation[linux/arm64].x=y`)
	f.Fuzz(func(t *testing.T, text string) {
		if out, err := ParseOutput(text); err == nil && out.Type == "" {
			t.Errorf("ParseOutput(%q) gave no type", text)
		}
	})
}

func TestParseSSH(t *testing.T) {
	check(t, ParseSSH, []row[sshagent.Source]{
		{text: "default", want: sshagent.Source{ID: "default"}},
		{text: "default=", want: sshagent.Source{ID: "default"}},
		{text: "id=/run/agent", want: sshagent.Source{ID: "id", Paths: []string{"/run/agent"}}},
		{text: "id=a,b=c", want: sshagent.Source{ID: "id", Paths: []string{"a", "b=c"}}},
		{text: "", err: "the id is missing"},
		{text: "=key", err: "the id is missing"},
	})
}

func TestParseValues(t *testing.T) {
	check(t, ParseHost, []row[string]{
		{text: "a:1.2.3.4", want: "a:1.2.3.4"},
		{text: "a=::1", want: "a:::1"},
		{text: "a:[::1]", want: "a:::1"},
		{text: "a:host-gateway", want: "a:127.0.0.1"},
		{text: "a", err: "want NAME:IP"},
		{text: ":1.2.3.4", err: "want NAME:IP"},
		{text: "a:x", err: `"x" is not an IP address`},
	})
	check(t, ParseContext, []row[Context]{
		{text: "a=.", want: Context{"a", "."}},
		{text: "a=oci-layout://b=c", want: Context{"a", "oci-layout://b=c"}},
		{text: "a", err: "want NAME=VALUE"},
		{text: "a=", err: "want NAME=VALUE"},
		{text: "=b", err: "want NAME=VALUE"},
	})
	check(t, ParseAllow, []row[[]string]{
		{text: "network.host,security.insecure", want: []string{"network.host", "security.insecure"}},
		{text: "everything", err: `unknown entitlement "everything": want security.insecure or network.host`},
	})
	check(t, ParseUlimit, []row[op.Ulimit]{
		{text: "nofile=1:2", want: op.Ulimit{Name: "nofile", Soft: 1, Hard: 2}},
		{text: "nofile", err: "nofile"},
	})
	check(t, ParsePlatform, []row[layer.Platform]{
		{text: "linux/arm64", want: layer.Platform{OS: "linux", Architecture: "arm64"}},
		{text: "linux/arm64,linux/amd64", err: "want a single platform"},
	})
	check(t, ParseMemory, []row[int64]{{text: "2k", want: 2048}, {text: "0", err: "want a size"}, {text: "x", err: "want a size"}})
	check(t, ParseSize, []row[int64]{{text: "2kB", want: 2000}, {text: "-1", err: "want a size"}})
}

func TestParseVariable(t *testing.T) {
	lookup := func(name string) (string, bool) { return "of the environment", name == "SET" }
	for _, test := range []struct {
		text, name, value string
		ok                bool
		err               string
	}{
		{text: "A=b=c", name: "A", value: "b=c", ok: true},
		{text: "A=", name: "A", ok: true},
		{text: "SET", name: "SET", value: "of the environment", ok: true},
		{text: "UNSET", name: "UNSET"},
		{text: "=x", err: "want NAME=VALUE or NAME"},
	} {
		name, value, ok, err := ParseVariable(test.text, lookup)
		if test.err != "" {
			if err == nil || err.Error() != test.err {
				t.Errorf("%q: error %v, want %q", test.text, err, test.err)
			}
			continue
		}
		if name != test.name || ok && value != test.value || ok != test.ok || err != nil {
			t.Errorf("%q: %q, %q, %v, %v", test.text, name, value, ok, err)
		}
	}
}

func TestAddPlatforms(t *testing.T) {
	list, err := AddPlatforms(nil, "linux/arm64, linux/amd64")
	if err == nil {
		list, err = AddPlatforms(list, "linux/arm64/v8,linux/riscv64")
	}
	if err != nil || len(list) != 3 {
		t.Errorf("%v, %v, want three platforms", list, err)
	}
	if _, err := AddPlatforms(nil, "linux/a/b/c"); err == nil {
		t.Error("linux/a/b/c is a platform")
	}
}

func TestParseLimit(t *testing.T) {
	for text, want := range map[string]int64{"layer-entries=10": 10, "layer-size=1k": 1024, "layer-ratio=x": -1, "layer-entries=1k": -1, "layer-size": -1} {
		if _, n, err := ParseLimit(text); (err != nil) != (want < 0) || err == nil && n != want {
			t.Errorf("%q: %d, %v", text, n, err)
		}
	}
}

func TestLocalPlatform(t *testing.T) {
	t.Parallel()
	host := layer.HostPlatform()
	if p, err := ParsePlatform("LOCAL"); err != nil || p.Full() != host.Full() {
		t.Errorf("%v, %v", p, err)
	}
	if list, err := AddPlatforms(nil, "local,linux/riscv64,"+host.String()); err != nil || len(list) != 2 || list[0].Full() != host.Full() {
		t.Errorf("%v, %v", list, err)
	}
}
