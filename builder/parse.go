package builder

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/builder/secret"
	"github.com/cairn-build/cairn/builder/source"
)

// maxDockerfile bounds what is read of a Dockerfile.
const maxDockerfile = 16 << 20

// parse reads the Dockerfile and opens the context.
func (b *Builder) parse(o Options) (*job, error) {
	if err := o.defaults(); err != nil {
		return nil, err
	}
	secrets, err := secret.NewSet(o.Secrets, os.LookupEnv)
	if err != nil {
		return nil, err
	}
	j := &job{Builder: b, opt: o, secrets: secrets}
	name, path, err := o.locate()
	if err != nil {
		return nil, err
	}
	v := b.Progress.Vertex("[internal] load build definition from " + filepath.Base(name))
	v.Start()
	text, err := o.read(path)
	if err == nil {
		j.file, err = dockerfile.ParseWith(name, text, o.frontend())
	}
	v.Done(err)
	if err != nil {
		return nil, err
	}
	j.definition = v
	return j, j.enter(path)
}

// locate finds the Dockerfile: its name for people and its path, "" for stdin.
func (o *Options) locate() (name, path string, err error) {
	if fi, err := os.Stat(o.Context); err != nil {
		return "", "", fmt.Errorf("build context: %w", err)
	} else if !fi.IsDir() {
		return "", "", fmt.Errorf("build context %s is not a directory: other kinds of context are not supported yet", o.Context)
	}
	switch o.Dockerfile {
	case "-":
		return "Dockerfile", "", nil
	case "":
		path = filepath.Join(o.Context, "Dockerfile")
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			if lower := filepath.Join(o.Context, "dockerfile"); exists(lower) {
				path = lower
			}
		}
		return filepath.Base(path), path, nil
	}
	return o.Dockerfile, o.Dockerfile, nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func (o *Options) read(path string) ([]byte, error) {
	if path == "" {
		if o.Stdin == nil {
			return nil, errors.New("there is no standard input to read the Dockerfile from")
		}
		return limited(o.Stdin, "the Dockerfile on standard input")
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no Dockerfile at %s: write one, or name it with --file", path)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the Dockerfile: %w", err)
	}
	defer f.Close()
	if fi, err := f.Stat(); err == nil && fi.IsDir() {
		return nil, fmt.Errorf("%s is a directory, not a Dockerfile: name the file with --file", path)
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
