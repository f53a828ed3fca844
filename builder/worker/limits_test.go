package worker

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/builder/source/http"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/tarball"
)

func TestLayerLimits(t *testing.T) {
	for _, c := range []struct {
		what string
		l    Limits
		size int64
		most int64 // 0: the default
		name string
	}{
		{"a small layer", Limits{}, 1000, 16 << 30, limitRatio},
		{"a large one", Limits{}, 100 << 20, 1100 * 100 << 20, limitRatio},
		{"one so large that the ratio is no bound", Limits{}, 1 << 40, 0, limitSize},
		{"one whose size is foreign nonsense", Limits{}, 1 << 62, 0, limitSize},
		{"the size is less", Limits{LayerSize: 1 << 20}, 1000, 1 << 20, limitSize},
		{"the ratio is less", Limits{LayerSize: 1 << 50, LayerRatio: 20_000}, 2 << 20, 20_000 * 2 << 20, limitRatio},
	} {
		got, name := c.l.layer(layer.Blob{Size: c.size})
		if got.MaxBytes != c.most || name != c.name {
			t.Errorf("%s: %d by %s, want %d by %s", c.what, got.MaxBytes, name, c.most, c.name)
		}
	}
}

func TestAllowMore(t *testing.T) {
	plain := errors.New("plain")
	if got := AllowMore(plain); got != plain {
		t.Errorf("another error became %v", got)
	}
	for want, err := range map[string]error{
		"--limit layer-entries=N": &tarball.LimitError{Entries: true, Most: 5},
		"--limit layer-size=N":    fmt.Errorf("tar: %w", &tarball.LimitError{Most: 5}),
		"--limit download-size=N": &http.TooLargeError{Most: 5},
	} {
		if got := AllowMore(err); !errors.Is(got, err) || !strings.HasSuffix(got.Error(), want) {
			t.Errorf("%v, want %s", got, want)
		}
	}
}

func TestSetLimit(t *testing.T) {
	var l Limits
	for name, value := range map[string]int64{limitEntries: 1, limitSize: 2, limitRatio: 3, limitDownload: 1 << 40} {
		if err := l.Set(name, value); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if want := (Limits{1, 2, 3, 1 << 40}); l != want {
		t.Errorf("%+v, want %+v", l, want)
	}
	if err := l.Set("layers", 1); err == nil || !strings.Contains(err.Error(), "there are layer-entries, layer-size, layer-ratio and download-size") {
		t.Errorf("an unknown name: %v", err)
	}
	if err := l.Set(limitSize, 0); err == nil {
		t.Error("0 was taken")
	}
}
