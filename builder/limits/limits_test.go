package limits

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/builder/source/httpsource"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/tarball"
)

func TestLayerLimits(t *testing.T) {
	for _, c := range []struct {
		layer string
		l     Limits
		size  int64
		most  int64 // 0: the default
		name  string
	}{
		{"a small layer", Limits{}, 1000, 16 << 30, nameRatio},
		{"a large one", Limits{}, 100 << 20, 1100 * 100 << 20, nameRatio},
		{"so large that the ratio does not bound it", Limits{}, 1 << 40, 0, nameSize},
		{"an impossible size", Limits{}, 1 << 62, 0, nameSize},
		{"the size is lower", Limits{LayerSize: 1 << 20}, 1000, 1 << 20, nameSize},
		{"the ratio is lower", Limits{LayerSize: 1 << 50, LayerRatio: 20_000}, 2 << 20, 20_000 * 2 << 20, nameRatio},
	} {
		got := c.l.Layer(layer.Descriptor{Size: c.size})
		if got.MaxBytes != c.most || got.bytes != c.name {
			t.Errorf("%s: %d by %s, want %d by %s", c.layer, got.MaxBytes, got.bytes, c.most, c.name)
		}
	}
}

func TestExplain(t *testing.T) {
	plain := errors.New("plain")
	if got := Explain(plain); got != plain {
		t.Errorf("another error became %v", got)
	}
	for want, err := range map[string]error{
		"--limit layer-entries=N": &tarball.LimitError{Entries: true, Most: 5},
		"--limit layer-size=N":    fmt.Errorf("tar: %w", &tarball.LimitError{Most: 5}),
		"--limit download-size=N": &httpsource.TooLargeError{Most: 5},
	} {
		if got := Explain(err); !errors.Is(got, err) || !strings.HasSuffix(got.Error(), want) {
			t.Errorf("%v, want %s", got, want)
		}
	}
}

func TestSetLimit(t *testing.T) {
	var l Limits
	for name, value := range map[string]int64{nameEntries: 1, nameSize: 2, nameRatio: 3, nameDownload: 1 << 40} {
		if err := l.Set(name, value); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if want := (Limits{LayerEntries: 1, LayerSize: 2, LayerRatio: 3, Download: 1 << 40}); l != want {
		t.Errorf("%+v, want %+v", l, want)
	}
	if err := l.Set("layers", 1); err == nil || !strings.Contains(err.Error(), "there are layer-entries, layer-size, layer-ratio and download-size") {
		t.Errorf("an unknown name: %v", err)
	}
	if err := l.Set(nameSize, 0); err == nil {
		t.Error("0 is accepted")
	}
}
