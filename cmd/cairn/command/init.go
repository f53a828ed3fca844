package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/builder/generate"
	"github.com/cairn-build/cairn/builder/progress/termtext"
	"github.com/cairn-build/cairn/layer/atomicfile"
	"github.com/cairn-build/cairn/registry"
	"github.com/cairn-build/cairn/registry/reference"
)

// initCommand is a run of cairn init.
type initCommand struct {
	*Program
	generate.Options
	dir                   string
	force, print, compose bool
	pin                   bool
	registries            registryFlags
}

func newInit(p *Program) *cobra.Command {
	i := &initCommand{Program: p}
	c := &cobra.Command{
		Use:   "init [flags] [DIR]",
		Short: "Write a Dockerfile for a source tree",
		Long: `Init reads the source tree in DIR (default: the working directory) and writes a
Dockerfile and a .dockerignore for it. It prints each decision with the file that it
comes from, and runs nothing of the project. An existing Dockerfile is kept, and the
difference printed; --force replaces it. An existing .dockerignore is kept in any case,
also with --force, and the lines that it lacks are printed.

With --pin the base images have their digests, so that later builds take the same ones.
That asks their registries; all else needs no network.`,
		Example: `  cairn init
  cairn init --print --app cmd/server
  cairn init --compose --port 8080 ./shop
  cairn init --pin --force`,
		Args: optionalArg("DIR"),
	}
	c.RunE = p.action(func(ctx context.Context, args []string) error {
		i.dir = "."
		if len(args) == 1 {
			i.dir = args[0]
		}
		return i.run(ctx)
	})
	f := c.Flags()
	f.StringVar(&i.Language, "lang", "", "`LANGUAGE` of the application, if the tree has several: "+strings.Join(generate.Languages(), ", "))
	f.StringVar(&i.App, "app", "", "Directory or `NAME` of the application, if the tree has several")
	f.IntVar(&i.Port, "port", 0, "`PORT` that the application listens on (default: that of its sources, or the usual one)")
	f.Lookup("port").DefValue = ""
	f.BoolVar(&i.Health, "health", false, "Write a HEALTHCHECK, if the image has a program for it; Kubernetes ignores it")
	f.BoolVar(&i.compose, "compose", false, "Write a compose.yaml, too, with the databases that client libraries are found for")
	f.BoolVarP(&i.force, "force", "f", false, "Replace an existing Dockerfile and compose.yaml, but not .dockerignore")
	f.BoolVar(&i.pin, "pin", false, "Write the base images with their digests, as their registries have them now")
	i.registries.flags(f)
	f.BoolVar(&i.print, "print", false, "Print the files instead of writing them")
	f.BoolVar(&i.print, "stdout", false, "Print the files instead of writing them")
	_ = f.MarkHidden("stdout") // the same as --print
	completeFlag(c, "lang", generate.Languages()...)
	return c
}

func (i *initCommand) run(ctx context.Context) error {
	if err := i.checkFlags(); err != nil {
		return err
	}
	r, err := generate.Generate(i.dir, i.Options)
	if err != nil {
		return err
	}
	if i.pin {
		if err := i.pinImages(ctx, r); err != nil {
			return cause(ctx, err)
		}
	}
	i.explain(r)
	ignore, ignored, err := i.existing(".dockerignore")
	if err != nil {
		return err
	}
	if !ignored {
		ignore = r.Ignore
	}
	if err := i.check(ctx, r, ignore); err != nil {
		return err
	}
	files := []outputFile{{"Dockerfile", r.Dockerfile}}
	if i.compose {
		files = append(files, outputFile{"compose.yaml", r.Compose})
	}
	if i.print {
		return i.printFiles(append(files, outputFile{".dockerignore", r.Ignore}))
	}
	if err := i.write(files); err != nil {
		return err
	}
	if !ignored {
		err = i.write([]outputFile{{".dockerignore", r.Ignore}})
	} else if ignore == r.Ignore {
		fmt.Fprintf(i.Stdout, "%s is up to date\n", i.path(".dockerignore"))
	} else if missing := generate.MissingIgnores(ignore, r.Ignore); len(missing) > 0 {
		fmt.Fprintf(i.Stderr, "%s is kept; it lacks: %s\n", i.path(".dockerignore"), strings.Join(missing, " "))
	}
	if err != nil {
		return err
	}
	return i.next(r)
}

// pinImages adds the digests of base images, for all their platforms.
func (i *initCommand) pinImages(ctx context.Context, r *generate.Result) error {
	options, err := i.registries.options()
	if err != nil {
		return err
	}
	client, err := registry.New(options)
	if err != nil {
		return &UsageError{err}
	}
	defer client.Close()
	return r.Pin(ctx, func(ctx context.Context, image string) (string, error) {
		full, err := reference.Normalize(image)
		if err != nil {
			return "", err
		}
		d, err := client.ResolveDigest(ctx, full)
		return string(d), err
	})
}

func (i *initCommand) checkFlags() error {
	if i.Language != "" {
		known := false
		for _, name := range generate.Languages() {
			known = known || name == i.Language
		}
		if !known {
			text := fmt.Sprintf("--lang %q: want one of %s", i.Language, strings.Join(generate.Languages(), ", "))
			if guess := dockerfile.Suggest(i.Language, generate.Languages()); guess != "" {
				text += " (did you mean " + guess + "?)"
			}
			return usagef("%s", text)
		}
	}
	if i.Port < 0 || i.Port > 65535 {
		return usagef("--port %d: want a number up to 65535", i.Port)
	}
	return nil
}

// path returns the path of a file in the directory, for messages.
func (i *initCommand) path(name string) string { return filepath.Join(i.dir, name) }

// explain prints the decisions with the files that they come from.
func (i *initCommand) explain(r *generate.Result) {
	out := i.Stdout
	if i.print {
		out = i.Stderr
	}
	tab := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, f := range r.Project.Findings {
		fmt.Fprintf(tab, "%s\t%s\n", termtext.Line(f.Text), termtext.Line(f.From))
	}
	_ = tab.Flush()
	for _, w := range r.Project.Warnings {
		fmt.Fprintf(i.Stderr, "warning: %s\n", termtext.Line(w))
	}
}

// check lints the Dockerfile with the ignore file that a build would read.
func (i *initCommand) check(ctx context.Context, r *generate.Result, ignore string) error {
	warnings, err := generate.Check(ctx, i.dir, r.Dockerfile, ignore)
	if err != nil {
		return fmt.Errorf("checking the Dockerfile for %s: %w", i.dir, err)
	}
	if len(warnings) > 0 {
		return fmt.Errorf("checking the Dockerfile for %s: %s: %s: if .dockerignore excludes files that the build needs, change it first", i.dir, warnings[0].Rule, warnings[0].Detail)
	}
	return nil
}

// outputFile is a file that init writes.
type outputFile struct{ name, text string }

func (i *initCommand) printFiles(files []outputFile) error {
	for n, f := range files {
		if n > 0 {
			if _, err := fmt.Fprintf(i.Stdout, "\n# ---- %s\n", f.name); err != nil {
				return err
			}
		}
		if _, err := io.WriteString(i.Stdout, f.text); err != nil {
			return err
		}
	}
	return nil
}

// existing returns the content of a file that may exist.
func (i *initCommand) existing(name string) (text string, exists bool, err error) {
	if _, err := os.Lstat(i.path(name)); errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	const most = 1 << 20
	fi, err := os.Stat(i.path(name))
	if err != nil {
		return "", true, fmt.Errorf("reading %s: %w", i.path(name), err)
	}
	if !fi.Mode().IsRegular() || fi.Size() > most {
		return "", true, fmt.Errorf("%s is no regular file of at most %d bytes: move it out of the way", i.path(name), most)
	}
	b, err := os.ReadFile(i.path(name))
	return string(b), true, err
}

// write writes files. If one of them exists with another content, it writes none.
func (i *initCommand) write(files []outputFile) error {
	var different, names []string
	current := map[string]bool{}
	for _, f := range files {
		others := []string{f.name}
		names = append(names, f.name)
		switch f.name { // names that would be read in its place, or no longer be read
		case "Dockerfile":
			others = append(others, "dockerfile", "Containerfile")
		case "compose.yaml":
			others = append(others, "compose.yml", "docker-compose.yaml", "docker-compose.yml")
		}
		for _, name := range others {
			text, exists, err := i.existing(name)
			if err != nil {
				return err
			}
			current[f.name] = current[f.name] || exists && name == f.name && text == f.text
			if !exists || i.force || text == f.text {
				continue
			}
			different = append(different, i.path(name))
			if _, err := io.WriteString(i.Stdout, termtext.Safe(generate.Diff(i.path(name), "cairn init", text, f.text))); err != nil {
				return err
			}
		}
	}
	if len(different) > 0 {
		return fmt.Errorf("%s exists: nothing was written: --force writes %s, --print shows all files", strings.Join(different, " and "), strings.Join(names, " and "))
	}
	for _, f := range files {
		if current[f.name] {
			fmt.Fprintf(i.Stdout, "%s is up to date\n", i.path(f.name))
			continue
		}
		err := atomicfile.File(i.path(f.name), 0o644, func(w *os.File) error {
			_, err := w.WriteString(f.text)
			return err
		})
		if err != nil {
			return fmt.Errorf("writing %s: %w", i.path(f.name), err)
		}
		fmt.Fprintf(i.Stdout, "wrote %s\n", i.path(f.name))
	}
	return nil
}

// next prints the commands to build, run and push the image.
func (i *initCommand) next(r *generate.Result) error {
	abs, err := filepath.Abs(i.dir)
	if err != nil {
		return err
	}
	name := generate.ImageName(r.Project, filepath.Base(abs))
	secrets := ""
	for _, s := range r.Project.Secrets {
		secrets += " --secret " + shellWord("id="+s.ID+",src="+i.path(s.File))
	}
	port := ""
	if r.Project.Port != 0 {
		port = fmt.Sprintf(" -p %d:%d", r.Project.Port, r.Project.Port)
	}
	_, err = fmt.Fprintf(i.Stdout, "next: cairn build -t %s%s %s\n      cairn run%s %s\n      cairn build --push -t REGISTRY/%s%s %s\n",
		name, secrets, shellWord(i.dir), port, name, name, secrets, shellWord(i.dir))
	return err
}

// shellWord returns a word as a shell reads it.
func shellWord(word string) string {
	if strings.ContainsFunc(word, func(c rune) bool { return strings.ContainsRune(" '\"$`\\", c) || c < ' ' }) {
		return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	}
	return word
}
