package generate

import (
	"path/filepath"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/cairn-build/cairn/builder/dockerfile"
)

// FuzzGenerate writes a tree of the files of an archive: the Dockerfile is valid, and all
// its lines are those of a template.
func FuzzGenerate(f *testing.F) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(txtar.Format(archive))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		dir := t.TempDir()
		for i, file := range txtar.Parse(text).Files {
			if i < 50 && filepath.IsLocal(file.Name) && len(file.Name) < 100 {
				_ = writeFile(filepath.Join(dir, file.Name), string(file.Data))
			}
		}
		r, err := Generate(dir, Options{})
		if err != nil {
			return
		}
		if _, err := dockerfile.Parse("Dockerfile", []byte(r.Dockerfile)); err != nil {
			t.Errorf("%v\n%s", err, r.Dockerfile)
		}
		if _, err := Check(t.Context(), dir, r.Dockerfile, r.Ignore); err != nil {
			t.Errorf("%v\n%s", err, r.Dockerfile)
		}
	})
}
