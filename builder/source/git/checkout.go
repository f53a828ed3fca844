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

// Checkout gives the folder with what a pinned request asks for. Nobody may
// change it; it stays for as long as the store is open.
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
	dir, err := c.make(ctx, key, log)
	if err != nil {
		return "", fmt.Errorf("%s: %w", source.Redact(r.Remote), err)
	}
	return dir, nil
}

// checkout is one in the making, under the lock of its repository.
type checkout struct {
	*Source
	r    Request
	p    Pin
	git  *program
	bare *program // in the shared repository
}

func (c *checkout) make(ctx context.Context, key string, log io.Writer) (dir string, err error) {
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

// part checks all out beside dir, and moves the subdirectory's entries there.
func (c *checkout) part(ctx context.Context, dir string) error {
	whole, err := c.o.Store.NewTree()
	if err != nil {
		return err
	}
	defer whole.Close()
	if err := c.fill(ctx, whole.Dir); err != nil {
		return err
	}
	from, err := folder(whole.Dir, c.r.Subdir)
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

// folder gives a folder below root. Symbolic links are refused on the way: the
// repository's author made them.
func folder(root, subdir string) (string, error) {
	at := root
	for elem := range strings.SplitSeq(subdir, "/") {
		at = filepath.Join(at, elem)
		fi, err := os.Lstat(at)
		if errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("the repository has no folder %s", subdir)
		}
		if err != nil {
			return "", err
		}
		if elem == ".." || !fi.IsDir() {
			return "", fmt.Errorf("%s of the repository is not a folder, or leads through what is none", subdir)
		}
	}
	return at, nil
}

// fill checks the commit out into an empty folder, with its submodules.
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

// format is the kind of hash of an object's name.
func format(object string) string {
	if len(object) == 64 {
		return "sha256"
	}
	return "sha1"
}

// borrow uses the shared repository's objects in place, for .git goes away.
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
	_, err = g.run(ctx, "config", "remote.origin.url", c.git.remote) // submodules may be relative to it
	return err
}

// clone takes the commit over into a repository that stands alone.
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

// submodules fetches them, each at the commit that its parent names.
func (c *checkout) submodules(ctx context.Context, g *program, dir string) error {
	if c.r.SkipSubmodules {
		return nil
	}
	if fi, err := os.Lstat(filepath.Join(dir, ".gitmodules")); err != nil || !fi.Mode().IsRegular() {
		return nil
	}
	_, err := g.run(ctx, "submodule", "-q", "update", "--init", "--recursive", "--depth=1")
	if err != nil {
		return fmt.Errorf("its submodules: %w", err)
	}
	return nil
}

// tidy leaves no trace of where and when a kept .git was made.
func (c *checkout) tidy(ctx context.Context, g *program, dotGit string) error {
	for _, name := range []string{"FETCH_HEAD", "logs", "index", "COMMIT_EDITMSG"} {
		if err := os.RemoveAll(filepath.Join(dotGit, name)); err != nil {
			return err
		}
	}
	_, err := g.run(ctx, "read-tree", "HEAD") // an index without times and inodes
	return err
}

// removeGit removes .git, and the files of that name that submodules have.
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
		return fmt.Errorf("the time of the commit: %w", err)
	}
	at, err := unix.TimeToTimespec(time.Unix(seconds, 0))
	if err != nil {
		return fmt.Errorf("the time of the commit: %w", err)
	}
	// Children change their folder's time no more: only times are set.
	return filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW)
	})
}

// shared gives the bare repository that all builds share, as a program in it.
func (c *checkout) shared(ctx context.Context) (*program, error) {
	key := "git repository " + format(c.p.Object) + " " + c.git.remote
	if dir, ok := c.o.Store.Tree(key); ok {
		// What a killed process left: whoever has the lock of the repository is alone.
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
