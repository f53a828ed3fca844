package imagediff

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/imagetest"
)

// unopened fails a comparison that reads a layer.
func unopened(context.Context, layer.Descriptor) (io.ReadCloser, error) {
	return nil, errors.New("a layer was read")
}

// text formats a difference as "part platform layer what: a -> b".
func text(d Difference) string {
	s := d.Part
	if d.Platform != "" {
		s += " " + d.Platform
	}
	if d.Layer != 0 {
		s += fmt.Sprint(" ", d.Layer)
	}
	return fmt.Sprintf("%s %s: %s -> %s", s, d.What, d.A, d.B)
}

// withConfig returns an image without layers that has the given config.
func withConfig(t *testing.T, config string) layer.Image {
	t.Helper()
	img, err := layer.NewImage([]byte(config), nil, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func TestConfigs(t *testing.T) {
	t.Parallel()
	// root is appended to each config.
	const root = `"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}`
	tests := []struct {
		name, a, b string
		want       []string // beginnings of the differences, without those of the manifest
	}{
		{"a value", `{"author":"a",`, `{"author":"b",`, []string{`config author: "a" -> "b"`}},
		{"a new field", `{`, `{"author":"b",`, []string{`config author:  -> "b"`}},
		{"a removed field", `{"author":"a",`, `{`, []string{`config author: "a" -> `}},
		{"a nested value", `{"config":{"Labels":{"x":"1"}},`, `{"config":{"Labels":{"x":"2"}},`, []string{`config config.Labels.x: "1" -> "2"`}},
		{"a name with dots", `{"config":{"Labels":{"a.b":"1"}},`, `{"config":{"Labels":{"a.b":"2"}},`, []string{`config config.Labels."a.b": "1" -> "2"`}},
		{"an object against none", `{"config":{"Labels":{"x":"1","y":"2"}},`, `{"config":{},`,
			[]string{`config config.Labels.x: "1" -> `, `config config.Labels.y: "2" -> `}},
		{"a list element", `{"config":{"Cmd":["a","b"]},`, `{"config":{"Cmd":["a","c"]},`, []string{`config config.Cmd[1]: "b" -> "c"`}},
		{"lists of two lengths", `{"config":{"Cmd":["a"]},`, `{"config":{"Cmd":["a","c"]},`, []string{`config config.Cmd: ["a"] -> ["a","c"]`}},
		{"one variable", `{"config":{"Env":["A=1","B=2"]},`, `{"config":{"Env":["A=1","B=3"]},`, []string{`config config.Env.B: "2" -> "3"`}},
		{"a new variable", `{"config":{"Env":["A=1"]},`, `{"config":{"Env":["N=0","A=1"]},`, []string{`config config.Env.N:  -> "0"`}},
		{"variables in another order", `{"config":{"Env":["A=1","B=2"]},`, `{"config":{"Env":["B=2","A=1"]},`,
			[]string{`config config.Env[0]: "A=1" -> "B=2"`, `config config.Env[1]: "B=2" -> "A=1"`}},
		{"a variable twice", `{"config":{"Env":["A=1","A=2"]},`, `{"config":{"Env":["A=1"]},`, []string{`config config.Env: ["A=1","A=2"] -> ["A=1"]`}},
		{"numbers keep their digits", `{"x":1.0,`, `{"x":1,`, []string{`config x: 1.0 -> 1`}},
		{"only white space", `{"author":"a",`, `{"author": "a",`, []string{`config bytes: `}},
		{"history", `{"history":[{"created_by":"A","empty_layer":true}],`, `{"history":[{"created_by":"B","empty_layer":true}],`,
			[]string{`history [0].created_by: "A" -> "B"`}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var got []string
			c := Comparison{Temp: t.TempDir(), Emit: func(d Difference) error {
				if d.Part != "manifest" {
					got = append(got, text(d))
				}
				return nil
			}}
			a, b := Image{withConfig(t, test.a+root), unopened}, Image{withConfig(t, test.b+root), unopened}
			if err := c.Images(t.Context(), a, b); err != nil {
				t.Fatal(err)
			}
			if !slices.EqualFunc(got, test.want, strings.HasPrefix) {
				t.Errorf("got\n%s\nwant lines that begin with\n%s", strings.Join(got, "\n"), strings.Join(test.want, "\n"))
			}
		})
	}
}

func TestSameImage(t *testing.T) {
	t.Parallel()
	img := withConfig(t, `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}`)
	c := Comparison{Emit: func(d Difference) error { return fmt.Errorf("difference %s", text(d)) }}
	if err := c.Images(t.Context(), Image{img, unopened}, Image{img, unopened}); err != nil {
		t.Error(err)
	}
}

// An error of Emit ends a comparison.
func TestEmitError(t *testing.T) {
	t.Parallel()
	a := withConfig(t, `{"author":"a","architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}`)
	b := withConfig(t, `{"author":"b","architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}`)
	stop, n := errors.New("stop"), 0
	c := Comparison{Emit: func(Difference) error { n++; return stop }}
	if err := c.Images(t.Context(), Image{a, unopened}, Image{b, unopened}); !errors.Is(err, stop) || n != 1 {
		t.Errorf("got error %v after %d calls, want %v after 1", err, n, stop)
	}
}

func TestIndexes(t *testing.T) {
	t.Parallel()
	amd, arm, riscv := imagetest.New(t, "amd64", false, "amd").Image, imagetest.New(t, "arm64", false, "arm").Image, imagetest.New(t, "riscv64", false, "riscv").Image
	amdOther := imagetest.New(t, "amd64", false).Image
	annotated := amd
	annotated.Annotations = map[string]string{"key": "value"}
	index := func(annotations map[string]string, images ...layer.Image) layer.Index {
		t.Helper()
		x, err := layer.NewIndex(images, annotations, false)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	tests := []struct {
		name string
		a, b layer.Index
		want []string // the first words of each difference
	}{
		{"the same", index(nil, amd, arm), index(nil, amd, arm), nil},
		{"a platform more", index(nil, amd), index(nil, amd, arm), []string{"index image for linux/arm64:  -> sha256:"}},
		{"a platform less", index(nil, amd, arm), index(nil, arm), []string{"index image for linux/amd64: sha256:"}},
		{"another platform", index(nil, amd), index(nil, riscv), []string{"index image for linux/amd64: sha256:", "index image for linux/riscv64:  -> sha256:"}},
		{"order", index(nil, amd, arm), index(nil, arm, amd), []string{"index order: linux/amd64, linux/arm64 -> linux/arm64, linux/amd64"}},
		{"annotations of the index", index(map[string]string{"a": "1"}, amd), index(map[string]string{"a": "2"}, amd), []string{`index annotations.a: "1" -> "2"`}},
		{"annotations of a descriptor", index(nil, amd), index(nil, annotated), []string{`index linux/amd64 annotations.key:  -> "value"`}},
		{"an image", index(nil, amd, arm), index(nil, amdOther, arm), []string{"index linux/amd64 digest: sha256:", "manifest linux/amd64 config.digest: ",
			"manifest linux/amd64 config.size: ", "layer linux/amd64 1 layer: sha256:"}},
		{"two images of a platform", index(nil, amd, amd), index(nil, amd), []string{"index image for linux/amd64 2: sha256:"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var got []string
			c := Comparison{Temp: t.TempDir(), Emit: func(d Difference) error { got = append(got, text(d)); return nil }}
			if err := c.Indexes(t.Context(), Index{test.a, unopened}, Index{test.b, unopened}); err != nil {
				t.Fatal(err)
			}
			if !slices.EqualFunc(got, test.want, strings.HasPrefix) {
				t.Errorf("got\n%s\nwant lines that begin with\n%s", strings.Join(got, "\n"), strings.Join(test.want, "\n"))
			}
		})
	}
}

// Images with the same content but other blobs are compared without reading layers.
func TestLayersOfTheSameContent(t *testing.T) {
	t.Parallel()
	img := imagetest.New(t, "amd64", false, "one", "two").Image
	repacked := slices.Clone(img.Layers)
	repacked[1].Digest, repacked[1].Size, repacked[1].MediaType = layer.FromBytes([]byte("other")), 7, layer.MediaTypeZstd
	other, err := layer.NewImage(img.Config, repacked, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	c := Comparison{Temp: t.TempDir(), Emit: func(d Difference) error { got = append(got, text(d)); return nil }}
	if err := c.Images(t.Context(), Image{img, unopened}, Image{other, unopened}); err != nil {
		t.Fatal(err)
	}
	want := []string{
		fmt.Sprintf("layer 2 digest: %s -> %s", img.Layers[1].Digest, repacked[1].Digest),
		fmt.Sprintf("layer 2 size: %d -> 7", img.Layers[1].Size),
		fmt.Sprintf("layer 2 media type: %s -> %s", img.Layers[1].MediaType, layer.MediaTypeZstd),
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// A layer that one image lacks is a single difference, named by its step.
func TestMissingLayer(t *testing.T) {
	t.Parallel()
	long, short := imagetest.New(t, "amd64", false, "one", "two", "three").Image, imagetest.New(t, "amd64", false, "one").Image
	var got []string
	c := Comparison{Temp: t.TempDir(), Emit: func(d Difference) error {
		if d.Part == "layer" {
			got = append(got, text(d))
		}
		return nil
	}}
	if err := c.Images(t.Context(), Image{long, unopened}, Image{short, unopened}); err != nil {
		t.Fatal(err)
	}
	want := []string{
		fmt.Sprintf("layer 2 layer: %s, %d bytes -> ", long.Layers[1].DiffID, long.Layers[1].Size),
		fmt.Sprintf("layer 3 layer: %s, %d bytes -> ", long.Layers[2].DiffID, long.Layers[2].Size),
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
