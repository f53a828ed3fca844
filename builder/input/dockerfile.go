package input

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/builder/source"
	"github.com/cairn-build/cairn/layer/listing"
)

// maxDockerfile is the largest size of a Dockerfile, in bytes.
const maxDockerfile = 16 << 20

const (
	defaultName = "Dockerfile"
	// podmanName is the default name of podman and buildah. It is taken where there is no
	// file of Docker's name, with their name of the ignore file.
	podmanName   = "Containerfile"
	podmanIgnore = ".containerignore"
)

// definition is a Dockerfile that was found.
type definition struct {
	name string // in messages
	path string // on disk, if an ignore file may lie beside it
	more string // name of an ignore file in place of a missing .dockerignore, or ""
	read func() ([]byte, error)
}

// parse reads and parses the Dockerfile.
func (in *Inputs) parse(def definition, r Request) error {
	prefix := "["
	if r.Scope != "" {
		prefix += r.Scope + " "
	}
	in.Definition = in.sources.Progress.VertexOf(r.Scope, prefix+"internal] load build definition from "+filepath.Base(def.name))
	in.Definition.Start()
	text, err := def.read()
	if err == nil {
		in.File, err = dockerfile.ParseWith(def.name, text, r.Frontend)
	}
	in.Definition.Done(err)
	return err
}

// findDockerfile finds the Dockerfile. Its path is relative to the working directory
// if the context is a directory of the user's, otherwise to the context. bare has the
// files of the main context.
func (s *Sources) findDockerfile(ctx context.Context, r Request, main location, bare *source.Dir) (definition, error) {
	file := r.Dockerfile
	if file == "-" {
		if s.Stdin == nil {
			return definition{}, errors.New("there is no standard input to read the Dockerfile from")
		}
		stdin := interruptible(ctx, s.Stdin)
		return definition{name: defaultName, read: func() ([]byte, error) {
			return limited(stdin, "the Dockerfile on standard input")
		}}, nil
	}
	fetched := false
	switch main := main.(type) {
	case userDir:
		return inUserDir(main.path, bare, file), nil
	case singleFile:
		return inContext(bare, main.name, cmp.Or(file, defaultName)), nil // --file is only a name for messages
	case checkout:
		fetched = true
	case archive:
		fetched = main.fetched
	}
	switch {
	case file == "":
		name := defaultIn(bare)
		return inContext(bare, name, name), nil
	case fetched && filepath.IsAbs(file):
		return outside(file), nil
	}
	return inContext(bare, file, path.Clean(file)), nil
}

// inUserDir finds a Dockerfile whose context is a directory of the user's.
func inUserDir(dir string, bare *source.Dir, file string) definition {
	if file == "" {
		name := defaultIn(bare)
		def := inContextAt(bare, name, name, func(name string) string { return filepath.Join(dir, name) })
		if def.path = filepath.Join(dir, name); name == podmanName {
			def.more = podmanIgnore
		}
		read := def.read
		def.read = func() ([]byte, error) {
			text, err := read()
			if errors.As(err, new(*MissingError)) {
				err = &MissingError{Where: def.path, Similar: similarFiles(dir), written: true}
			}
			return text, err
		}
		return def
	}
	def := outside(file)
	if rel, ok := source.Below(dir, file); ok {
		def = inContextAt(bare, rel, file, func(name string) string { return name })
	}
	def.path = file
	return def
}

// defaultIn returns the name of the Dockerfile in a context if none is specified.
func defaultIn(d *source.Dir) string {
	for _, name := range []string{defaultName, strings.ToLower(defaultName)} {
		if _, err := d.Resolve(name, false); !missing(err) {
			return defaultName
		}
	}
	if f, err := d.Resolve(podmanName, true); err != nil || f.Type != listing.TypeFile {
		return defaultName
	}
	return podmanName
}

// inContext finds a Dockerfile in a context that is not a directory of the user's.
func inContext(d *source.Dir, file, name string) definition {
	return inContextAt(d, file, name, func(name string) string { return name + " in the build context" })
}

// inContextAt finds a Dockerfile among the files of a context. Symbolic links do not
// lead out of it. where turns its name into the text that errors show.
func inContextAt(d *source.Dir, file, name string, where func(name string) string) definition {
	f, err := d.Resolve(file, true)
	if missing(err) && path.Base(file) == defaultName {
		lower := strings.ToLower(defaultName)
		if g, lowerErr := d.Resolve(path.Join(path.Dir(file), lower), true); lowerErr == nil {
			f, err, name = g, nil, filepath.Join(filepath.Dir(name), lower)
		}
	}
	return definition{name: name, read: func() ([]byte, error) {
		if err != nil {
			return nil, notRead(where(name), err)
		}
		return readInContext(f, where(name))
	}}
}

// outside is a Dockerfile that is not in the context.
func outside(file string) definition {
	return definition{name: file, read: func() ([]byte, error) { return readFile(onDisk(file)) }}
}

func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// MissingError is the error for a Dockerfile that does not exist.
type MissingError struct {
	Where   string
	Similar []string // files that may be the one
	Flag    string   // that names another one; "" is --file
	written bool     // by default, not with --file
}

func (e *MissingError) Error() string {
	flag := cmp.Or(e.Flag, "--file")
	remedy := "write one, or name it with " + flag
	switch {
	case len(e.Similar) > 0:
		remedy = "to build from another file, write -f " + strings.Join(e.Similar, " or -f ")
	case e.written:
		remedy = fmt.Sprintf("cairn init %s writes one for a source tree (cairn help first-image has an example), or name it with %s", filepath.Dir(e.Where), flag)
	}
	return fmt.Sprintf("there is no Dockerfile at %s: %s", e.Where, remedy)
}

// similarFiles returns up to three files of a directory, or of usual directories in it,
// that have names of Dockerfiles.
func similarFiles(dir string) (found []string) {
	for _, sub := range []string{"", "docker", "build", ".docker", ".devcontainer"} {
		entries, err := os.ReadDir(filepath.Join(dir, sub))
		if err != nil {
			continue
		}
		for _, e := range entries {
			name := strings.ToLower(e.Name())
			if strings.HasSuffix(name, ".dockerignore") || strings.HasSuffix(name, podmanIgnore) || e.IsDir() || len(found) == 3 {
				continue
			}
			if stem := strings.SplitN(name, ".", 2)[0]; stem == "dockerfile" || stem == "containerfile" || strings.HasSuffix(name, ".dockerfile") || strings.HasSuffix(name, ".containerfile") {
				found = append(found, filepath.Join(dir, sub, e.Name()))
			}
		}
	}
	return found
}

func notRead(where string, err error) error {
	if missing(err) {
		return &MissingError{Where: where}
	}
	return fmt.Errorf("reading the Dockerfile: %w", err)
}

// readInContext reads a Dockerfile among the files of a context.
func readInContext(f source.File, where string) ([]byte, error) {
	switch f.Type {
	case listing.TypeFile:
	case listing.TypeDir:
		return nil, notDirectory(where)
	default:
		return nil, fmt.Errorf("%s is not a regular file: name the Dockerfile with --file", where)
	}
	in, err := f.Open()
	if err != nil {
		return nil, notRead(where, err)
	}
	defer in.Close()
	return limited(in, where)
}

func notDirectory(where string) error {
	return fmt.Errorf("%s is a directory, not a Dockerfile: name the file with --file", where)
}

// onDisk returns the path of the Dockerfile, in lower case if only that exists.
func onDisk(file string) string {
	if _, err := os.Lstat(file); missing(err) && filepath.Base(file) == defaultName {
		lower := filepath.Join(filepath.Dir(file), strings.ToLower(defaultName))
		if _, err := os.Lstat(lower); err == nil {
			return lower
		}
	}
	return file
}

// readFile reads a Dockerfile outside of the context.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, notRead(path, err)
	}
	defer f.Close()
	if fi, err := f.Stat(); err == nil && fi.IsDir() {
		return nil, notDirectory(path)
	}
	return limited(f, path)
}

// limited reads a Dockerfile of at most maxDockerfile bytes.
func limited(r io.Reader, name string) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxDockerfile+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	if len(text) > maxDockerfile {
		return nil, fmt.Errorf("%s is larger than %d bytes: it is not a Dockerfile", name, maxDockerfile)
	}
	return text, nil
}
