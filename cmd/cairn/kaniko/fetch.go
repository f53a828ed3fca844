package kaniko

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/builder/cache/object/azblob"
	"github.com/cairn-build/cairn/builder/cache/object/gcs"
	"github.com/cairn-build/cairn/builder/cache/object/s3"
	"github.com/cairn-build/cairn/builder/limits"
	"github.com/cairn-build/cairn/builder/source"
	"github.com/cairn-build/cairn/builder/source/git"
)

// fetch returns the directory of the context. Contexts that are not directories are
// unpacked into the store's temporary directory, so that their ignore files count, as with
// kaniko.
func (e *Executor) fetch(ctx context.Context, s *builder.Session, c Context) (dir string, err error) {
	switch c.Kind {
	case Directory:
		dir, err = c.At, nil
		if _, statErr := os.Stat(dir); statErr != nil {
			return "", fmt.Errorf("build context: cannot read %s: there is no such directory: name one with --context", dir)
		}
		return filepath.Join(dir, c.Sub), nil
	case Repository:
		if _, err := exec.LookPath("git"); err != nil {
			return "", errNoGit
		}
		dir, err = s.Checkout(ctx, git.Request{Remote: c.At, Ref: c.Ref, KeepGitDir: true})
	default:
		dir, err = e.unpack(ctx, s, c)
	}
	if err != nil {
		return "", fmt.Errorf("build context: %w", err)
	}
	return below(dir, c.Sub)
}

// errNoGit is the error of a repository as context where git is not installed, as in the
// image.
var errNoGit = errors.New("build context: the program git is not installed: use an image that has it, or the archive that the forge serves, " +
	"as in --context https://HOST/ARCHIVE.tar.gz --context-sub-path DIR (cairn help from-kaniko)")

// below returns a directory below dir. Links do not lead out of it.
func below(dir, sub string) (string, error) {
	if sub == "" {
		return dir, nil
	}
	fail := fmt.Errorf("--context-sub-path %s: there is no such directory in the build context", sub)
	if !filepath.IsLocal(strings.TrimLeft(sub, "/")) {
		return "", fail
	}
	root, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", err
	}
	path, err := filepath.EvalSymlinks(filepath.Join(root, sub))
	if err != nil || path != root && !strings.HasPrefix(path, root+"/") {
		return "", fail
	}
	return path, nil
}

// unpack unpacks the archive of a context.
func (e *Executor) unpack(ctx context.Context, s *builder.Session, c Context) (dir string, err error) {
	v := e.Progress.Vertex("[internal] load build context from " + c.shown())
	v.Start()
	defer func() { v.Done(err) }()
	body, err := e.open(ctx, s, c)
	if err != nil {
		return "", err
	}
	defer body.Close()
	if dir, err = e.Store.TempDir("context"); err != nil {
		return "", err
	}
	_, err = source.Unpack(dir, body, e.Limits.Archive())
	return dir, limits.Explain(err)
}

// shown names a context for the progress display.
func (c *Context) shown() string {
	switch c.Kind {
	case Stdin:
		return "standard input"
	case S3:
		return "s3://" + c.Bucket + "/" + c.Key
	case GCS:
		return "gs://" + c.Bucket + "/" + c.Key
	case Azure:
		return c.At + "/" + c.Bucket + "/" + c.Key
	}
	return source.Redact(c.At)
}

// open opens the archive of a context.
func (e *Executor) open(ctx context.Context, s *builder.Session, c Context) (io.ReadCloser, error) {
	switch c.Kind {
	case Stdin:
		in := bufio.NewReader(e.Stdin)
		if _, err := in.Peek(1); errors.Is(err, io.EOF) {
			return nil, errors.New("standard input is empty: send a tar archive, as in tar -c . | executor --context tar://stdin")
		}
		return io.NopCloser(in), nil
	case Archive:
		return os.Open(c.At)
	case Web:
		body, err := s.Download(ctx, c.At)
		if err != nil {
			return nil, err
		}
		return body, nil
	case S3:
		path, _ := strconv.ParseBool(os.Getenv("S3_FORCE_PATH_STYLE"))
		client, err := s3.New(s3.Options{
			Bucket: c.Bucket, Region: cmp.Or(os.Getenv("AWS_REGION"), os.Getenv("AWS_DEFAULT_REGION"), "us-east-1"),
			Endpoint: os.Getenv("S3_ENDPOINT"), PathStyle: path,
		})
		if err != nil {
			return nil, err
		}
		body, _, err := client.Get(ctx, c.Key, "")
		return body, err
	case GCS:
		return gcs.New(c.Bucket).Get(ctx, c.Key)
	case Azure:
		client, err := azblob.New(azblob.Options{URL: c.At, Container: c.Bucket, Key: os.Getenv("AZURE_STORAGE_ACCESS_KEY")})
		if err != nil {
			return nil, err
		}
		body, _, err := client.Get(ctx, c.Key, "")
		return body, err
	}
	return nil, fmt.Errorf("no context of kind %s", c.Kind)
}
