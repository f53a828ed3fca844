package git

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/builder/source"
)

// Checkout returns a folder with the files of a pinned request. The folder must not be
// changed. It is kept while the store is open.
func (s *Source) Checkout(ctx context.Context, r Request, p Pin, log io.Writer) (string, error) {
	clean, _, err := s.credentials(r.Remote)
	if err != nil {
		return "", err
	}
	key := "git checkout " + clean + " " + r.Key(p)
	if dir, ok := s.o.Store.Tree(key); ok {
		return dir, nil
	}
	unlock, err := s.o.Store.Lock(ctx, "git "+clean, nil)
	if err != nil {
		return "", err
	}
	defer unlock()
	if dir, ok := s.o.Store.Tree(key); ok {
		return dir, nil
	}
	c := &checkout{Source: s, r: r, p: p}
	dir, err := c.create(ctx, key, log)
	if err != nil {
		return "", fmt.Errorf("%s: %w", source.Redact(r.Remote), err)
	}
	return dir, nil
}

// checkout is a checkout in progress. The lock of its repository is held.
type checkout struct {
	*Source
	r    Request
	p    Pin
	git  *program
	bare *program // in the shared repository
}

func (c *checkout) create(ctx context.Context, key string, log io.Writer) (dir string, err error) {
	if c.git, err = c.program(ctx, c.r.Remote, log); err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, c.git.close()) }()
	if err := c.fetch(ctx); err != nil {
		return "", err
	}
	t, err := c.o.Store.NewTree()
	if err != nil {
		return "", err
	}
	defer t.Close()
	if c.r.Subdir == "" {
		err = c.fill(ctx, t.Dir)
	} else {
		err = c.part(ctx, t.Dir)
	}
	if err == nil && c.r.CommitTime {
		err = c.setTimes(ctx, t.Dir)
	}
	if err == nil {
		err = t.Commit(key)
	}
	return t.Dir, err
}

// part checks out the whole repository in another folder, and moves the entries of the
// subdirectory to dir.
func (c *checkout) part(ctx context.Context, dir string) error {
	whole, err := c.o.Store.NewTree()
	if err != nil {
		return err
	}
	defer whole.Close()
	if err := c.fill(ctx, whole.Dir); err != nil {
		return err
	}
	from, err := source.Folder(whole.Dir, c.r.Subdir, "repository")
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.Rename(filepath.Join(from, e.Name()), filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// fill checks out the commit and its submodules into an empty folder.
func (c *checkout) fill(ctx context.Context, dir string) error {
	dotGit := filepath.Join(dir, ".git")
	g := c.git.in(dotGit, dir)
	if _, err := g.run(ctx, "init", "-q", "--template=", "--object-format="+format(c.p.Object)); err != nil {
		return err
	}
	keep := c.r.KeepGitDir && c.r.Subdir == ""
	borrow := c.borrow
	if keep {
		borrow = c.clone
	}
	if err := borrow(ctx, g, dotGit); err != nil {
		return err
	}
	if _, err := g.run(ctx, "checkout", "-q", "--no-recurse-submodules", "--detach", c.p.Object); err != nil {
		return err
	}
	if err := c.submodules(ctx, g, dir); err != nil {
		return err
	}
	if keep {
		return c.tidy(ctx, g, dotGit)
	}
	return removeGit(dir)
}

// format returns the object format, that is, the hash function of an object name.
func format(object string) string {
	if len(object) == 64 {
		return "sha256"
	}
	return "sha1"
}

// borrow makes the objects of the shared repository available. It is for a repository whose
// .git is removed later.
func (c *checkout) borrow(ctx context.Context, g *program, dotGit string) error {
	info := filepath.Join(dotGit, "objects", "info")
	if err := os.MkdirAll(info, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(info, "alternates"), []byte(c.bare.dir+"/objects\n"), 0o644); err != nil {
		return err
	}
	shallow, err := os.ReadFile(filepath.Join(c.bare.dir, "shallow"))
	if err == nil {
		err = os.WriteFile(filepath.Join(dotGit, "shallow"), shallow, 0o644)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	_, err = g.run(ctx, "config", "remote.origin.url", c.git.remote) // URLs of submodules can be relative to it
	return err
}

// clone fetches the commit into an independent repository.
func (c *checkout) clone(ctx context.Context, g *program, _ string) error {
	local := *g
	local.env = append(g.env[:len(g.env):len(g.env)], "GIT_ALLOW_PROTOCOL=file")
	spec := c.p.Object
	if c.p.Ref != "" {
		spec += ":" + c.p.Ref
	}
	if _, err := local.run(ctx, "fetch", "-q", "-u", "--depth=1", "--no-tags", "--", "file://"+c.bare.dir, spec); err != nil {
		return err
	}
	_, err := g.run(ctx, "remote", "add", "origin", c.git.remote)
	return err
}

// submodules checks out the submodules, each at the commit that its parent names.
func (c *checkout) submodules(ctx context.Context, g *program, dir string) error {
	if c.r.SkipSubmodules {
		return nil
	}
	if fi, err := os.Lstat(filepath.Join(dir, ".gitmodules")); err != nil || !fi.Mode().IsRegular() {
		return nil
	}
	update := []string{"submodule", "-q", "update", "--init", "--recursive"}
	_, err := g.run(ctx, append(update, "--depth=1")...)
	if needsHistory(err) || hasMessage(err, "did not contain", "Direct fetching of that commit failed") {
		if err = c.dropSubmodules(ctx, g); err == nil {
			_, err = g.run(ctx, update...)
		}
	}
	if err != nil {
		return fmt.Errorf("check out submodules: %w", err)
	}
	return nil
}

// dropSubmodules removes the fetched submodules, which have no history.
func (c *checkout) dropSubmodules(ctx context.Context, g *program) error {
	if _, err := g.run(ctx, "submodule", "-q", "deinit", "--all", "--force"); err != nil {
		return err
	}
	return os.RemoveAll(filepath.Join(g.dir, "modules"))
}

// tidy removes traces of the time and place of the checkout from a kept .git.
func (c *checkout) tidy(ctx context.Context, g *program, dotGit string) error {
	for _, name := range []string{"FETCH_HEAD", "logs", "index", "COMMIT_EDITMSG"} {
		if err := os.RemoveAll(filepath.Join(dotGit, name)); err != nil {
			return err
		}
	}
	_, err := g.run(ctx, "read-tree", "HEAD") // an index without times and inodes
	return err
}

// removeGit removes .git, and the files of that name in submodules.
func removeGit(dir string) error {
	return filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != ".git" {
			return err
		}
		if err := os.RemoveAll(p); err != nil {
			return err
		}
		if d.IsDir() {
			return fs.SkipDir
		}
		return nil
	})
}

// setTimes gives all files the time of the commit.
func (c *checkout) setTimes(ctx context.Context, dir string) error {
	out, err := c.bare.run(ctx, "log", "-1", "--format=%ct", c.p.Object+"^{commit}", "--")
	if err != nil {
		return err
	}
	seconds, err := strconv.ParseInt(strings.TrimSpace(out), 10, 64)
	if err != nil {
		return fmt.Errorf("read the time of the commit: %w", err)
	}
	at, err := unix.TimeToTimespec(time.Unix(seconds, 0))
	if err != nil {
		return fmt.Errorf("read the time of the commit: %w", err)
	}
	// Setting the time of a file does not change the time of its folder.
	return filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW)
	})
}

// shared returns a program in the bare repository that all builds share.
func (c *checkout) shared(ctx context.Context) (*program, error) {
	key := "git repository " + format(c.p.Object) + " " + c.git.remote
	if dir, ok := c.o.Store.Tree(key); ok {
		// Locks of git are left from a killed process, as the lock of the repository is held.
		for _, name := range []string{"shallow.lock", "packed-refs.lock", "config.lock", "HEAD.lock", ownRef(c.p.Object) + ".lock"} {
			if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
		}
		return c.git.in(dir, ""), nil
	}
	t, err := c.o.Store.NewTree()
	if err != nil {
		return nil, err
	}
	defer t.Close()
	g := c.git.in(t.Dir, "")
	if _, err := g.run(ctx, "init", "-q", "--bare", "--template=", "--object-format="+format(c.p.Object)); err != nil {
		return nil, err
	}
	return g, t.Commit(key)
}
