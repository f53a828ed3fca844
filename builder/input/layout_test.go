package input

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/imagetest"
	"github.com/cairn-build/cairn/layer/layout"
)

func mentions(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error, want %q", parts)
		return
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q, want %q in it", err, part)
		}
	}
}

// TestLayoutImage checks which image of an OCI layout a reference means, and that its
// layers are copied into the store.
func TestLayoutImage(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "layout")
	amd, arm, old := imagetest.New(t, "amd64", false, "amd"), imagetest.New(t, "arm64", false, "arm"), imagetest.New(t, "s390x", false, "old")
	index, err := layer.NewIndex([]layer.Image{amd.Image, arm.Image}, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	open := imagetest.Image{Blobs: map[layer.Digest][]byte{amd.Layers[0].Digest: amd.Blobs[amd.Layers[0].Digest], arm.Layers[0].Digest: arm.Blobs[arm.Layers[0].Digest]}}.Open
	if err := errors.Join(
		layout.WriteOCIIndexDir(dir, []string{"docker.io/library/app:latest"}, index, open),
		layout.WriteOCIDir(dir, []string{"docker.io/library/app:old"}, old.Image, old.Open),
	); err != nil {
		t.Fatal(err)
	}
	linux := func(arch, variant string) layer.Platform {
		return layer.Platform{OS: "linux", Architecture: arch, Variant: variant}
	}
	for name, test := range map[string]struct {
		suffix string
		p      layer.Platform
		want   imagetest.Image
	}{
		"platform":              {"", linux("arm64", ""), arm},
		"tag":                   {":latest", linux("amd64", ""), amd},
		"compatible platform":   {"", linux("amd64", "v3"), amd},
		"single image":          {":old", linux("amd64", ""), old},
		"digest":                {"@" + string(old.Digest), linux("amd64", ""), old},
		"digest instead of tag": {":latest@" + string(old.Digest), linux("amd64", ""), old},
		"digest of an index":    {"@" + string(index.Digest), linux("arm64", ""), arm},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSources(t).Store
			img, err := LayoutImage(s, "oci-layout://"+dir+test.suffix, test.p)
			if err != nil || img.Digest != test.want.Digest {
				t.Fatalf("image %s, %v, want %s", img.Digest, err, test.want.Digest)
			}
			for _, b := range img.Layers {
				if err := s.VerifyBlob(b.Digest); err != nil {
					t.Errorf("layer %s: %v", b.Digest, err)
				}
				if size, ok := s.StatBlob(b.Digest); !ok || size != b.Size {
					t.Errorf("layer %s: %d bytes, %v", b.Digest, size, ok)
				}
			}
		})
	}

	s := newSources(t).Store
	_, err = LayoutImage(s, "oci-layout://"+dir, linux("riscv64", ""))
	mentions(t, err, "OCI layout "+dir, "it has no image for linux/riscv64")
	_, err = LayoutImage(s, "oci-layout://"+dir+":none", linux("amd64", ""))
	mentions(t, err, "OCI layout "+dir, "none")
	_, err = LayoutImage(s, "oci-layout://"+dir+"/none", linux("amd64", ""))
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing directory: %v", err)
	}
}
