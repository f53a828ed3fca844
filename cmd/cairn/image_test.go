package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"io"
	"os"
	"path/filepath"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/compress"
)

// cmdImage writes an unusual image as files, so that a web server for DIR is a registry
// with the image NAME. LAYER is the archive of a layer; CONFIG is a JSON file without
// rootfs. The script may edit the files.
func cmdImage(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 3, "image DIR NAME CONFIG [LAYER...]")
	repo := filepath.Join(ts.MkAbs(args[0]), "v2", args[1])
	for _, dir := range []string{"/manifests", "/blobs"} {
		ts.Check(os.MkdirAll(repo+dir, 0o755))
	}
	put := func(b []byte) layer.Digest {
		d := layer.FromBytes(b)
		ts.Check(os.WriteFile(filepath.Join(repo, "blobs", string(d)), b, 0o644))
		return d
	}
	var config map[string]any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[2])), &config))
	var layers []layer.Descriptor
	diffIDs := []layer.Digest{}
	for _, name := range args[3:] {
		b := []byte(ts.ReadFile(name))
		blob := layer.Descriptor{MediaType: layer.MediaTypeTar, Digest: put(b), Size: int64(len(b)), DiffID: plainDigest(b)}
		switch {
		case bytes.HasPrefix(b, []byte("\x28\xb5\x2f\xfd")):
			blob.MediaType = layer.MediaTypeZstd
		case blob.DiffID != blob.Digest:
			blob.MediaType = layer.MediaTypeGzip
		}
		layers, diffIDs = append(layers, blob), append(diffIDs, blob.DiffID)
	}
	config["rootfs"] = map[string]any{"type": "layers", "diff_ids": diffIDs}
	text, err := json.Marshal(config)
	ts.Check(err)
	img, err := layer.NewImage(text, layers, nil, false)
	ts.Check(err)
	put(text)
	ts.Check(os.WriteFile(repo+"/manifests/latest", img.Manifest, 0o644))
}

// plainDigest returns the digest of decompressed bytes, up to an error.
func plainDigest(b []byte) layer.Digest {
	r, err := compress.NewReader(bytes.NewReader(b))
	if err != nil {
		return layer.FromBytes(b)
	}
	defer r.Close()
	plain := sha256.New()
	_, _ = io.Copy(plain, r)
	return layer.FromHash(plain)
}
