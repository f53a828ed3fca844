package command

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/term"

	"github.com/cairn-build/cairn/builder/option"
	"github.com/cairn-build/cairn/layer/atomicfile"
	"github.com/cairn-build/cairn/registry/reference"
)

// parseOutput parses a value of --output. A destination that has to be a file
// must not be a directory.
func parseOutput(text string) (option.Output, error) {
	out, err := option.ParseOutput(text)
	if err != nil || out.Directory() || out.Dest == "" {
		return out, err
	}
	if fi, err := os.Stat(out.Dest); err == nil && fi.IsDir() {
		return out, fmt.Errorf("dest %s is a directory: specify a file", out.Dest)
	}
	return out, nil
}

// checkStdout returns an error if several outputs go to standard output, or if it
// is a terminal or used by --quiet.
func checkStdout(outputs []option.Output, stdout *os.File, quiet bool) error {
	n := 0
	for _, out := range outputs {
		if out.Dest != "-" {
			continue
		}
		n++
		switch {
		case n > 1:
			return usagef("--output: only one output can be written to standard output")
		case quiet:
			return usagef("--output: --quiet writes to standard output: specify a file with dest=")
		case term.IsTerminal(int(stdout.Fd())):
			return usagef("--output: refusing to write type=%s to a terminal: specify a file with dest=, or redirect standard output", out.Type)
		}
	}
	return nil
}

// checkDest returns an error, before a long build, if an output's file or directory
// can't be written after it.
func checkDest(out option.Output) error {
	switch {
	case out.Dest == "" || out.Dest == "-":
		return nil
	case !out.Directory():
		return checkWritable("output", out.Dest)
	}
	for dir := filepath.Clean(out.Dest); ; dir = filepath.Dir(dir) {
		fi, err := os.Stat(dir)
		switch {
		case err == nil && !fi.IsDir():
			return fmt.Errorf("--output %s: %s is no directory: choose another destination", out.Dest, dir)
		case err == nil || dir == filepath.Dir(dir):
			return nil
		}
	}
}

// checkDelete returns an error if the directory of an output with mode=delete has files
// that are no earlier results of builds.
func (b *buildCommand) checkDelete(dest string) error {
	dir, err := atomicfile.Resolve(dest)
	if err != nil {
		return err
	}
	type precious struct{ name, path string }
	all := []precious{
		{"build context", b.options.Context},
		{"Dockerfile", cmp.Or(b.options.Dockerfile, filepath.Join(b.options.Context, "Dockerfile"))},
	}
	for _, c := range b.options.Contexts {
		all = append(all, precious{"build context " + c.Name, strings.TrimPrefix(c.Value, "oci-layout://")})
	}
	for _, out := range b.outputs {
		if out.Dest != dest {
			all = append(all, precious{"output " + out.Dest, out.Dest})
		}
	}
	if store, err := b.storeDir(); err == nil {
		all = append(all, precious{"store", store})
	}
	if home, err := os.UserHomeDir(); err == nil {
		all = append(all, precious{"home directory", home})
	}
	for _, p := range append(all, precious{"root directory", "/"}) {
		path, err := atomicfile.Resolve(p.path)
		if err != nil {
			continue // cannot be there
		}
		if path == dir || dir == "/" || strings.HasPrefix(path, dir+"/") {
			return fmt.Errorf("--output %s: mode=delete would remove the %s %s: choose a directory that has results only", dest, p.name, p.path)
		}
	}
	return nil
}

// insecureHosts returns the registries of outputs and caches with
// registry.insecure=true.
func (b *buildCommand) insecureHosts() (hosts []string) {
	for _, out := range b.outputs {
		if out.Insecure {
			hosts = append(hosts, hostsOf(slices.Concat(out.Names, b.options.Tags)...)...)
		}
	}
	for _, c := range b.caches {
		if c.Insecure {
			hosts = append(hosts, hostsOf(c.Ref)...)
		}
	}
	return hosts
}

// hostsOf returns the registries of references that are valid.
func hostsOf(refs ...string) (hosts []string) {
	for _, ref := range refs {
		full, err := reference.Normalize(ref)
		if err != nil {
			continue
		}
		if r, err := reference.Parse(full); err == nil {
			hosts = append(hosts, r.Domain)
		}
	}
	return hosts
}
