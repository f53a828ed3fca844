package builder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/cairn-build/cairn/builder/agent"
	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/builder/secret"
	"github.com/cairn-build/cairn/builder/source"
	"github.com/cairn-build/cairn/layer/index"
)

// maxDockerfile bounds what is read of a Dockerfile.
const maxDockerfile = 16 << 20

// parse finds the context, reads the Dockerfile and opens the context.
func (b *Builder) parse(ctx context.Context, o Options) (*job, error) {
	if err := o.defaults(); err != nil {
		return nil, err
	}
	secrets, err := secret.NewSet(o.Secrets, os.LookupEnv)
	if err != nil {
		return nil, err
	}
	agents, err := agent.NewSet(o.Agents, os.LookupEnv)
	if err != nil {
		return nil, err
	}
	j := &job{Builder: b, opt: o, secrets: secrets, agents: agents}
	if err := j.readContexts(ctx); err != nil {
		return nil, err
	}
	t, text, err := j.find(ctx)
	if err != nil {
		return nil, err
	}
	j.main = t
	bare, err := t.open() // the Dockerfile may be one of the files that are ignored
	if err != nil {
		return nil, err
	}
	def, err := j.locate(ctx, t, bare, text)
	if err == nil {
		err = j.define(def)
	}
	if err != nil {
		bare.Close()
		return nil, err
	}
	if !t.own {
		j.context = bare // as with BuildKit, ignore files are for directories
		return j, nil
	}
	bare.Close()
	return j, j.enter(def.path)
}

// definition is a Dockerfile that was found.
type definition struct {
	name string // for people
	path string // on disk, if it has an ignore file beside it
	read func() ([]byte, error)
}

// define reads and parses the Dockerfile.
func (j *job) define(def definition) error {
	v := j.Progress.Vertex("[internal] load build definition from " + filepath.Base(def.name))
	v.Start()
	text, err := def.read()
	if err == nil {
		j.file, err = dockerfile.ParseWith(def.name, text, j.opt.frontend())
	}
	v.Done(err)
	j.definition = v
	return err
}

const defaultName = "Dockerfile"

// locate finds the Dockerfile. Its name is relative to the working directory
// if the context is a directory there, else to the context.
func (j *job) locate(ctx context.Context, t tree, d *source.Dir, text []byte) (definition, error) {
	file := j.opt.Dockerfile
	switch {
	case text != nil:
		return definition{name: defaultName, read: func() ([]byte, error) { return text, nil }}, nil
	case file == "-" && j.opt.Stdin == nil:
		return definition{}, errors.New("there is no standard input to read the Dockerfile from")
	case file == "-":
		in := interruptible(ctx, j.opt.Stdin)
		return definition{name: defaultName, read: func() ([]byte, error) {
			return limited(in, "the Dockerfile on standard input")
		}}, nil
	case t.file != "" && t.unpacked == nil && file == "":
		return j.inContext(t, d, t.file, defaultName), nil
	case t.file != "":
		return definition{}, fmt.Errorf("%s is no archive but a Dockerfile, and --file names another one: leave out --file", source.Redact(j.opt.Context))
	case t.remote && filepath.IsAbs(file):
		return definition{name: file, read: func() ([]byte, error) { return readFile(onDisk(file)) }}, nil
	case file == "":
		return j.inContext(t, d, defaultName, defaultName), nil
	case !t.own:
		return j.inContext(t, d, file, path.Clean(file)), nil
	}
	if rel, ok := below(t.dir, file); ok {
		def := j.inContext(t, d, rel, file)
		def.path = file
		return def, nil
	}
	return definition{name: file, path: file, read: func() ([]byte, error) { return readFile(onDisk(file)) }}, nil
}

// below gives the path of a file relative to a directory that it is in.
func below(dir, file string) (string, bool) {
	dir, errDir := filepath.Abs(dir)
	file, errFile := filepath.Abs(file)
	rel, err := filepath.Rel(dir, file)
	return rel, errors.Join(errDir, errFile, err) == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

// inContext finds a Dockerfile in a context; symbolic links don't lead out.
func (j *job) inContext(t tree, d *source.Dir, file, name string) definition {
	f, err := d.Resolve(file, true)
	if missing(err) && path.Base(file) == defaultName {
		lower := strings.ToLower(defaultName)
		if g, lowerErr := d.Resolve(path.Join(path.Dir(file), lower), true); lowerErr == nil {
			f, err, name = g, nil, filepath.Join(filepath.Dir(name), lower)
		}
	}
	def := definition{name: name, path: filepath.Join(t.dir, file)}
	where := name + " in the build context"
	if t.own && j.opt.Dockerfile == "" {
		where = filepath.Join(t.dir, name)
	} else if t.own {
		where = name
	}
	def.read = func() ([]byte, error) {
		if err != nil {
			return nil, notRead(where, err)
		}
		return readDefinition(f, where)
	}
	return def
}

func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }

func notRead(where string, err error) error {
	if missing(err) {
		return fmt.Errorf("there is no Dockerfile at %s: write one, or name it with --file", where)
	}
	return fmt.Errorf("reading the Dockerfile: %w", err)
}

// readDefinition reads a Dockerfile among the files of a context.
func readDefinition(f source.File, where string) ([]byte, error) {
	switch f.Type {
	case index.TypeFile:
	case index.TypeDir:
		return nil, isDirectory(where)
	default:
		return nil, fmt.Errorf("%s is no regular file, so no Dockerfile: name the file with --file", where)
	}
	in, err := f.Open()
	if err != nil {
		return nil, notRead(where, err)
	}
	defer in.Close()
	return limited(in, where)
}

func isDirectory(where string) error {
	return fmt.Errorf("%s is a directory, not a Dockerfile: name the file with --file", where)
}

// onDisk gives the name in lower case if only that is there.
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
		return nil, isDirectory(path)
	}
	return limited(f, path)
}

func limited(r io.Reader, name string) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxDockerfile+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	if len(text) > maxDockerfile {
		return nil, fmt.Errorf("%s is larger than %d bytes: that is no Dockerfile", name, maxDockerfile)
	}
	return text, nil
}

// enter opens the build context behind its ignore file.
func (j *job) enter(dockerfilePath string) error {
	ignore, _, err := source.ReadIgnore(j.opt.Context, dockerfilePath)
	if err != nil {
		return err
	}
	j.context, err = source.OpenDir(j.opt.Context, ignore, j.Store)
	return err
}
