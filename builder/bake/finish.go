package bake

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	units "github.com/docker/go-units"

	"github.com/cairn-build/cairn/builder/option"
	"github.com/cairn-build/cairn/builder/secret"
	"github.com/cairn-build/cairn/builder/source/git"
	"github.com/cairn-build/cairn/builder/sshagent"
)

const (
	epochArg = "SOURCE_DATE_EPOCH"
	// WorkingDir is the prefix of paths that are always in the working directory.
	WorkingDir = "cwd://"
)

// finish completes a resolved target with the values that do not come from a definition
// and checks it.
func (t *Target) finish(name string, o SelectOptions) (problems []Problem) {
	if epoch, _ := o.Lookup(epochArg); epoch != "" && t.Args[epochArg] == nil {
		t.Args = mergeSet(t.Args, map[string]*string{epochArg: &epoch})
	}
	check := func(attribute string, err error) {
		if err != nil {
			problems = append(problems, Problem{Position: t.Position(attribute), Target: name, Text: err.Error()})
		}
	}
	if *t.Context == "-" {
		check("context", errors.New("context from stdin not allowed in bake: name a directory"))
	}
	if *t.Dockerfile == "-" {
		check("dockerfile", errors.New("dockerfile from stdin not allowed in bake: name a file, or use dockerfile-inline"))
	}
	if o.Remote != nil {
		check("contexts", t.setRemote(o.Remote))
	} else {
		t.Context = new(resolveContext(*t.Context))
	}
	check("platforms", t.checkPlatforms())
	check("annotations", t.checkAnnotations())
	check("ulimits", t.checkUlimits())
	check("resources", t.checkResources())
	if t.ShmSize != nil {
		if _, err := units.RAMInBytes(*t.ShmSize); err != nil {
			check("shm-size", fmt.Errorf("invalid shm-size %q: want a size, such as 64m", *t.ShmSize))
		}
	}
	check("secret", t.checkSecrets(o.Lookup))
	check("ssh", t.checkSSH(o.Lookup))
	check("output", t.checkOutputs())
	return problems
}

// resolveContext returns a context relative to the working directory, or a URL.
func resolveContext(context string) string {
	if dir, ok := strings.CutPrefix(context, WorkingDir); ok {
		return path.Clean(dir)
	}
	if IsRemote(context) {
		return context
	}
	return path.Clean(context)
}

// IsRemote reports whether a text is an HTTP URL or the address of a git repository.
func IsRemote(text string) bool {
	if strings.HasPrefix(text, "http://") || strings.HasPrefix(text, "https://") {
		return true
	}
	_, err := git.Parse(text)
	return !errors.Is(err, git.ErrNotGit)
}

// rebase returns a relative context below a base. Without a base it returns the context.
func rebase(base *string, context string) string {
	if base == nil || *base == "" || context == "" || filepath.IsAbs(context) || IsRemote(context) {
		return context
	}
	for _, prefix := range []string{WorkingDir, "target:", "docker-image:", "oci-layout://"} {
		if strings.HasPrefix(context, prefix) {
			return context
		}
	}
	return filepath.Join(*base, context)
}

// rebase makes the contexts of all targets relative to the working directory.
func (d *Definition) rebase() {
	for _, t := range d.Targets {
		base := t.Bases.Context
		if like := d.Target(t.Bases.ContextOf); like != nil {
			if base = like.Bases.Context; base == nil {
				base = like.Bases.Default
			}
		}
		t.Bases.Context = base
	}
	for _, t := range d.Targets {
		if t.Context != nil {
			t.Context = new(rebase(t.Bases.Context, *t.Context))
		}
		for name, base := range t.Bases.Contexts {
			if value, ok := t.Contexts[name]; ok {
				t.Contexts[name] = rebase(&base, value)
			}
		}
	}
}

func (t *Target) checkPlatforms() error {
	for _, p := range t.Platforms {
		if _, err := option.AddPlatforms(nil, p); err != nil {
			return err
		}
	}
	return nil
}

func (t *Target) checkAnnotations() error {
	for _, a := range t.Annotations {
		if _, err := option.ParseAnnotation(a); err != nil {
			return fmt.Errorf("invalid annotation %q: %w", a, err)
		}
	}
	return nil
}

func (t *Target) checkUlimits() error {
	for _, u := range t.Ulimits {
		if _, err := option.ParseUlimit(u); err != nil {
			return err
		}
	}
	return nil
}

func (t *Target) checkResources() error {
	if t.Resources == nil {
		return nil
	}
	if m := t.Resources.Memory; m != nil {
		if _, err := units.RAMInBytes(strings.TrimSpace(*m)); err != nil {
			return fmt.Errorf("invalid value %q for resource memory: want a size, such as 512m", *m)
		}
	}
	if m := t.Resources.MemorySwap; m != nil && strings.TrimSpace(*m) != "-1" {
		if _, err := units.RAMInBytes(strings.TrimSpace(*m)); err != nil {
			return fmt.Errorf("invalid value %q for resource memory-swap: want a size, such as 1g, or -1", *m)
		}
	}
	return nil
}

func (t *Target) checkSecrets(lookup func(string) (string, bool)) error {
	var sources []secret.Source
	for _, s := range t.Secrets {
		sources = append(sources, secret.Source{ID: s.ID, File: s.File, Env: s.Env})
	}
	_, err := secret.NewSet(sources, lookup)
	return err
}

func (t *Target) checkSSH(lookup func(string) (string, bool)) error {
	var sources []sshagent.Source
	for _, s := range t.SSH {
		sources = append(sources, sshagent.Source{ID: s.ID, Paths: s.Paths})
	}
	_, err := sshagent.NewSet(sources, lookup)
	return err
}

// checkOutputs checks the destinations. An archive without one goes to standard output.
func (t *Target) checkOutputs() error {
	stdout := false
	for i, o := range t.Outputs {
		directory, file := outputKind(o)
		if file && o.Destination == "" && o.Type != "docker" {
			o = &Output{Type: o.Type, Destination: "-", Attrs: o.Attrs}
			t.Outputs = append([]*Output(nil), t.Outputs...)
			t.Outputs[i] = o
		}
		fi, err := os.Stat(o.Destination)
		switch {
		case directory && o.Destination == "":
			return fmt.Errorf("dest is required for an output of type %s", o.Type)
		case directory && o.Destination == "-":
			return fmt.Errorf("dest cannot be standard output for type %s", o.Type)
		case directory && err == nil && !fi.IsDir():
			return fmt.Errorf("output directory %s is a file", o.Destination)
		case file && o.Destination == "-" && stdout:
			return errors.New("multiple outputs configured to write to standard output")
		case file && o.Destination != "-" && err == nil && fi.IsDir():
			return fmt.Errorf("output file %s is a directory", o.Destination)
		}
		stdout = stdout || file && o.Destination == "-"
	}
	return nil
}

// outputKind reports whether an output needs a directory or a file.
func outputKind(o *Output) (directory, file bool) {
	switch o.Type {
	case "local":
		return true, false
	case "tar":
		return false, true
	case "oci", "docker":
		unpacked := o.Attrs["tar"] == "false" || o.Attrs["tar"] == "0" || strings.EqualFold(o.Attrs["tar"], "f")
		return unpacked, !unpacked
	}
	return false, false
}
