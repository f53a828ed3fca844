package command

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestInsecureOutputs(t *testing.T) {
	t.Parallel()
	b, err := parseBuild("--insecure-registry=a", "-t=b.example/x:1", "-t=y",
		"-o=type=registry,name=c.example:5000/x,registry.insecure=true", "-o=type=image,name=d.example/x,registry.insecure=false",
		"--cache-to=type=registry,ref=e.example/x,registry.insecure=true", "--cache-from=f.example/x")
	if err != nil {
		t.Fatal(err)
	}
	o, err := b.registries.options()
	want := []string{"a", "c.example:5000", "b.example", "docker.io", "e.example"}
	if err != nil || !slices.Equal(o.Transport.Insecure, want) {
		t.Errorf("insecure registries %q, %v, want %q", o.Transport.Insecure, err, want)
	}
}

func TestOutputsOfEpochAndStore(t *testing.T) {
	t.Parallel()
	b, err := parseBuild("-o=type=image,source-date-epoch=5,store=false", "-o=type=local,dest=d,mode=delete")
	if err != nil {
		t.Fatal(err)
	}
	if o := b.options; o.Epoch == nil || *o.Epoch != 5 || !o.NoStore || !o.Outputs[1].Delete || o.Outputs[0].Delete {
		t.Errorf("%+v", o.Target)
	}
	if b, err := parseBuild("-o=type=image"); err != nil || b.options.Epoch != nil || b.options.NoStore {
		t.Errorf("%+v, %v", b.options.Target, err)
	}
}

// TestDeleteRefuses checks the directories in which mode=delete would remove more than
// results, under names with links too.
func TestDeleteRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, err := range []error{
		os.MkdirAll(filepath.Join(dir, "a/context/out"), 0o755),
		os.MkdirAll(filepath.Join(dir, "named"), 0o755),
		os.Symlink("a", filepath.Join(dir, "link")),
		os.Symlink("../a/context", filepath.Join(dir, "named/link")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for dest, ok := range map[string]bool{
		"a": false, "a/context": false, "link": false, "link/context": false, "named": false, ".": false, "/": false,
		"a/context/out": true, "new": true, "a/co": true, "link/context/out": true, "named/link/out": true, "a/new/new": true,
	} {
		if dest != "/" {
			dest = filepath.Join(dir, dest)
		}
		b, err := parseBuild("--build-context=n="+filepath.Join(dir, "named"), "-o=type=local,mode=delete,dest="+dest, filepath.Join(dir, "a/context"))
		if err != nil {
			t.Fatal(err)
		}
		if err := b.checkDelete(b.outputs[0].Dest); (err == nil) != ok {
			t.Errorf("%s: %v", dest, err)
		}
	}
}
