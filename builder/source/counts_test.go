package source

import (
	"context"
	"os"
	"path/filepath"
	"testing"
)

func TestCount(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"a": "1", "b/c": "22", "b/d/e": "333", "f": "4444"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	d, err := OpenDir(dir, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, test := range []struct {
		path string
		want Count
	}{
		{"a", Count{1, 1}},
		{"b/d", Count{2, 4}},
		{"b", Count{3, 6}},     // has b/d
		{"/b/d/", Count{3, 6}}, // again
		{"f", Count{4, 10}},
		{".", Count{4, 10}},
	} {
		if err := d.Scan(context.Background(), test.path, WalkOptions{}, func([]File) {}); err != nil {
			t.Fatal(err)
		}
		if got := d.Count(); got != test.want {
			t.Errorf("after %s: %+v, want %+v", test.path, got, test.want)
		}
	}
}
