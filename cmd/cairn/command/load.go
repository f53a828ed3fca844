package command

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/cairn-build/cairn/builder/export"
	"github.com/cairn-build/cairn/builder/images"
	"github.com/cairn-build/cairn/builder/source"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/compress"
	"github.com/cairn-build/cairn/layer/store"
	"github.com/cairn-build/cairn/layer/tarball"
	"github.com/cairn-build/cairn/registry/reference"
)

// loadCommand is a run of cairn load.
type loadCommand struct {
	*Program
	file     string // "-" is standard input
	platform layer.Platform
	all      bool // --all-platforms
}

func newLoad(p *Program) *cobra.Command {
	l := &loadCommand{Program: p}
	c := &cobra.Command{
		Use:   "load [flags]",
		Short: "Load images from a tar archive or a directory",
		Long: `Load adds all images of an archive to the store, under their names in the archive,
and prints each with its digest. It reads archives of cairn save and docker save,
compressed or not, and OCI layouts as an archive or a directory.`,
		Example: `  cairn load -i app.tar
  docker save app | cairn load`,
		Args: exactArgs(),
	}
	c.RunE = p.action(func(ctx context.Context, _ []string) error { return l.run(ctx) })
	c.Flags().StringVarP(&l.file, "input", "i", "-", "Read from a `FILE` or directory; - is standard input")
	c.Flags().BoolP("quiet", "q", false, "No effect, for compatibility with docker load: load shows no progress")
	platformFlag(c.Flags(), &l.platform, "Load the image for this platform if a name has several (default: this machine's)")
	c.Flags().BoolVar(&l.all, "all-platforms", false, "Load the images for all platforms, with their index")
	_ = c.MarkFlagFilename("input")
	return c
}

func (l *loadCommand) run(ctx context.Context) error {
	if l.all && l.platform.OS != "" {
		return usagef("--all-platforms and --platform contradict each other")
	}
	return l.withStore(func(env *environment) error {
		path, remove, err := l.archive(ctx, env)
		if err != nil {
			return err
		}
		defer remove()
		load := func() ([]images.Loaded, error) { return env.Load(ctx, path, l.platform) }
		if l.all {
			load = func() ([]images.Loaded, error) { return env.LoadAll(ctx, path) }
		}
		all, err := load()
		if errors.Is(err, images.ErrNotArchive) {
			return fmt.Errorf("loading %s: %w", archiveName(l.file), err)
		}
		if err != nil {
			return cause(ctx, withArchiveName(err, path, l.file))
		}
		for _, one := range all {
			for _, name := range one.Names {
				if name != export.Untagged(one.Digest()) {
					name = reference.Familiar(name) + "@" + string(one.Digest())
				}
				if _, err := fmt.Fprintln(l.Stdout, name); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// archive returns the path of the archive to load, without compression. remove removes
// temporary files.
func (l *loadCommand) archive(ctx context.Context, env *environment) (path string, remove func(), err error) {
	if err := checkExists("loading", l.file); err != nil {
		return "", nil, err
	}
	path, remove, err = archiveFile(ctx, l.Stdin, env.Store, l.file)
	if err != nil {
		return "", nil, err
	}
	size, head, err := beginning(path)
	switch {
	case err != nil || len(head) == 0:
		return path, remove, nil // a directory, or an error that loading it explains
	case compress.Detect(head) != "":
		defer remove()
		most := cmp.Or(env.Limits.Layer(layer.Descriptor{Size: size}).MaxBytes, tarball.DefaultBytes)
		return keepArchive(ctx, env.Store, "decompressing "+archiveName(l.file), func() (io.ReadCloser, error) {
			return decompressFile(path, most)
		})
	case !source.IsArchive(head) && bytes.ContainsFunc(head, func(r rune) bool { return r != 0 }):
		remove()
		return "", nil, fmt.Errorf("%s is not a tar archive: want one of images, as from cairn save", archiveName(l.file))
	}
	return path, remove, nil
}

// beginning returns the size of a regular file and its first bytes.
func beginning(path string) (size int64, head []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil || !fi.Mode().IsRegular() {
		return 0, nil, err
	}
	head, err = io.ReadAll(io.LimitReader(f, source.ArchiveHead))
	return fi.Size(), head, err
}

// decompressFile opens a compressed file. Reading more than the given number of bytes is
// an error.
func decompressFile(path string, most int64) (io.ReadCloser, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	r, err := compress.NewReader(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &limitedFile{r, f, most}, nil
}

// limitedFile is a compressed file with a limited number of bytes left to read.
type limitedFile struct {
	io.ReadCloser
	file *os.File
	left int64
}

func (l *limitedFile) Read(p []byte) (int, error) {
	n, err := l.ReadCloser.Read(p)
	if l.left -= int64(n); l.left < 0 {
		return n, errors.New("it has too many bytes: decompress it first, and load the result")
	}
	return n, err
}

func (l *limitedFile) Close() error { return errors.Join(l.ReadCloser.Close(), l.file.Close()) }

// archiveFile returns the path of an archive. It copies standard input and pipes to a
// temporary file of the store, since the parts of an archive are in any order. remove
// removes the file.
func archiveFile(ctx context.Context, stdin *os.File, s *store.Store, file string) (path string, remove func(), err error) {
	open := func() (io.ReadCloser, error) { return os.Open(file) }
	if file == "-" {
		if term.IsTerminal(int(stdin.Fd())) {
			return "", nil, usagef("standard input is a terminal: specify a file, or pipe an archive in")
		}
		open = func() (io.ReadCloser, error) { return io.NopCloser(stdin), nil }
	} else if fi, err := os.Stat(file); err != nil || fi.Mode().IsRegular() || fi.IsDir() {
		return file, func() {}, nil
	}
	return keepArchive(ctx, s, "reading "+archiveName(file), open)
}

// checkExists returns an error with the attempted action if a file does not exist. "-" is
// standard input.
func checkExists(action, file string) error {
	if file == "-" {
		return nil
	}
	if _, err := os.Stat(file); err != nil {
		return fmt.Errorf("%s %s: %w", action, file, withoutPath(err))
	}
	return nil
}

// keepArchive copies an archive to a temporary file of the store. remove removes the
// file.
func keepArchive(ctx context.Context, s *store.Store, attempt string, open func() (io.ReadCloser, error)) (path string, remove func(), err error) {
	dir, err := s.TempDir("load-")
	if err != nil {
		return "", nil, err
	}
	remove = func() { _ = os.RemoveAll(dir) } // or the store does
	f, err := os.Create(dir + "/archive")
	if err != nil {
		remove()
		return "", nil, s.Explain("keep the archive", err)
	}
	_, err = interruptibleRead(ctx, func() (string, error) {
		in, err := open()
		if err != nil {
			return "", err
		}
		defer in.Close()
		_, err = io.Copy(f, in)
		return "", err
	})
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		remove()
		return "", nil, fmt.Errorf("%s: %w", attempt, s.Explain("keep the archive", err))
	}
	return f.Name(), remove, nil
}

// archiveName returns the name of the archive in messages.
func archiveName(file string) string {
	return cmp.Or(strings.TrimPrefix(file, "-"), "standard input")
}

// archiveError is an error about a temporary file with the content of an archive. Its
// text names the archive.
type archiveError struct {
	err        error
	path, name string
}

func (e *archiveError) Error() string { return strings.ReplaceAll(e.err.Error(), e.path, e.name) }
func (e *archiveError) Unwrap() error { return e.err }

// withArchiveName names the archive in an error about the file that archiveFile returned
// for it.
func withArchiveName(err error, path, file string) error {
	if err == nil || path == file {
		return err
	}
	return &archiveError{err, path, archiveName(file)}
}
