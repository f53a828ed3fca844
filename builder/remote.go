package builder

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/cairn-build/cairn/builder/agent"
	"github.com/cairn-build/cairn/builder/plan"
	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/builder/source"
	"github.com/cairn-build/cairn/builder/source/git"
	web "github.com/cairn-build/cairn/builder/source/http"
	"github.com/cairn-build/cairn/builder/worker"
	"github.com/cairn-build/cairn/layer"
)

// errLocal says that a context is none of the network.
var errLocal = errors.New("on this machine")

func isURL(s string) bool {
	return strings.HasPrefix(s, "http://") || strings.HasPrefix(s, "https://")
}

func onThisMachine(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.IsDir()
}

func ignoring(err, what error) error {
	if errors.Is(err, what) {
		return nil
	}
	return err
}

// fromNetwork gets the main context if it is a git repository, an archive of a
// web server, or a Dockerfile there.
func (j *job) fromNetwork(ctx context.Context, at string) (tree, error) {
	if onThisMachine(at) {
		return tree{}, errLocal
	}
	ref, err := git.Parse(at)
	if err == nil {
		r := ref.Request(false)
		keep, err := strconv.ParseBool(j.opt.Args["BUILDKIT_CONTEXT_KEEP_GIT_DIR"])
		r.KeepGitDir = r.KeepGitDir || err == nil && keep
		dated := j.opt.Epoch != nil || j.opt.Args["SOURCE_DATE_EPOCH"] != ""
		r.CommitTime = r.CommitTime || ref.MTime == "" && dated
		return j.checkout(ctx, r, "[internal] load git source "+source.Redact(at))
	}
	if !errors.Is(err, git.ErrNotGit) {
		return tree{}, err
	}
	if !isURL(at) {
		return tree{}, errLocal
	}
	f, err := j.fetch(ctx, web.Request{URL: at}, loading)
	if err != nil {
		return tree{}, err
	}
	return j.downloaded(f, true)
}

// namedRemote gets one of --build-context. What is no repository is a file,
// whatever is in it.
func (j *job) namedRemote(ctx context.Context, at, shown string) (tree, error) {
	ref, err := git.Parse(at)
	switch {
	case err == nil && !onThisMachine(at):
		return j.checkout(ctx, ref.Request(false), shown)
	case !isURL(at):
		return tree{}, errLocal
	}
	f, err := j.fetch(ctx, web.Request{URL: at}, shown)
	if err != nil {
		return tree{}, err
	}
	return j.downloaded(f, false)
}

// checkout gets the files of a commit.
func (j *job) checkout(ctx context.Context, r git.Request, shown string) (t tree, err error) {
	v := j.Progress.Vertex(shown)
	v.Start()
	defer func() { v.Done(err) }()
	if j.repositories == nil {
		j.repositories = git.New(git.Options{Store: j.Store, Secrets: j.secrets, Agent: j.gitAgent()})
	}
	log := v.Writer(2)
	pin, err := j.repositories.Resolve(ctx, r, log)
	if err != nil {
		return t, err
	}
	t.remote = true
	if t.dir, err = j.repositories.Checkout(ctx, r, pin, log); err != nil {
		return t, err
	}
	if r.CommitTime { // which the folder itself has too
		fi, err := os.Lstat(t.dir)
		if err != nil {
			return t, err
		}
		at := fi.ModTime().Unix()
		t.modified = &at
	}
	t.dated = func(ctx context.Context) (tree, error) {
		r.CommitTime = true
		return j.checkout(ctx, r, shown)
	}
	return t, nil
}

// gitAgent lends git the build's default ssh agent; nil if there is none.
func (j *job) gitAgent() func(context.Context) (string, func() error, error) {
	if !j.agents.Has(agent.Default) {
		return nil
	}
	return func(context.Context) (string, func() error, error) {
		dir, remove, err := j.socketFolder()
		if err != nil {
			return "", nil, err
		}
		socket := filepath.Join(dir, "agent")
		l, err := net.Listen("unix", socket)
		if err != nil {
			return "", nil, errors.Join(err, remove())
		}
		go j.agents.Serve(agent.Default, l)
		return socket, func() error { return errors.Join(l.Close(), remove()) }, nil
	}
}

// fetch gets a file of a web server.
func (j *job) fetch(ctx context.Context, r web.Request, shown string) (f *web.File, err error) {
	v := j.Progress.Vertex(shown)
	v.Start()
	defer func() { v.Done(err) }()
	if j.web == nil {
		j.web = web.New(web.Options{Store: j.Store, Secrets: j.secrets, MaxBytes: j.Limits.MaxDownload()})
	}
	f, err = j.web.Get(ctx, r, shows(v, r.URL))
	return f, worker.AllowMore(err)
}

func shows(v *progress.Vertex, url string) func(done, total int64) {
	id := source.Redact(url)
	return func(done, total int64) {
		v.Status(id, done, total)
		if done == total {
			v.StatusDone(id)
		}
	}
}

// downloaded makes a directory of a file: of what an archive holds, or of the
// file itself, which BuildKit calls "context".
func (j *job) downloaded(f *web.File, unpack bool) (t tree, err error) {
	blob, err := j.Store.OpenVerified(f.Digest)
	if err != nil {
		return t, err
	}
	defer blob.Close()
	in := bufio.NewReaderSize(blob, 64<<10)
	head, err := in.Peek(source.ArchiveHead)
	if err != nil && !errors.Is(err, io.EOF) {
		return t, err
	}
	if unpack && source.IsArchive(head) {
		if t, err = j.unpack(in, "[internal] unpack build context"); err != nil {
			return t, err
		}
	} else {
		at := f.Modified
		if at.IsZero() {
			at = time.Unix(0, 0)
		}
		if t, err = j.alone("context", in, 0o600, at); err != nil {
			return t, err
		}
	}
	t.remote = true
	t.modified, err = j.fileTime(f)
	return t, err
}

// fileTime is when a file was last changed, as its server says or, if that says
// nothing, as an archive does. nil: not known.
func (j *job) fileTime(f *web.File) (*int64, error) {
	if !f.Modified.IsZero() {
		at := f.Modified.Unix()
		return &at, nil
	}
	blob, err := j.Store.OpenBlob(f.Digest)
	if err != nil {
		return nil, err
	}
	defer blob.Close()
	if at, ok := source.NewestIn(blob); ok {
		return &at, nil
	}
	return nil, nil
}

// remoteTime is the time of what an ADD gets from the network.
func (j *job) remoteTime(ctx context.Context, r *plan.Remote) (*int64, error) {
	const shown = "[internal] resolve SOURCE_DATE_EPOCH"
	ref, err := git.Parse(r.URL)
	if err == nil {
		if r.Checksum != "" {
			ref.Checksum = r.Checksum
		}
		q := ref.Request(r.KeepGitDir)
		q.CommitTime = true
		t, err := j.checkout(ctx, q, shown)
		return t.modified, err
	}
	if !errors.Is(err, git.ErrNotGit) {
		return nil, err
	}
	sum := layer.Digest(r.Checksum)
	if sum != "" {
		if err := sum.Validate(); err != nil {
			return nil, fmt.Errorf("--checksum: %w", err)
		}
	}
	f, err := j.fetch(ctx, web.Request{URL: r.URL, Digest: sum}, shown)
	if err != nil {
		return nil, err
	}
	return j.fileTime(f)
}
