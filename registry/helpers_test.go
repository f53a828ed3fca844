package registry

import (
	"os"
	"path/filepath"
	"testing"
)

// wantNoUploads checks that the registry in dir has no upload in progress.
func wantNoUploads(t testing.TB, dir string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, "uploads"))
	if err != nil || len(entries) != 0 {
		t.Errorf("uploads are left: %v, %v", entries, err)
	}
}

const someDigest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
