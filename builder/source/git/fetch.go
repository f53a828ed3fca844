package git

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// ownRef returns the ref of the shared repository for a completely fetched object.
func ownRef(object string) string { return "refs/cairn/" + object }

// fetch makes sure that the shared repository has the commit. It fetches the commit by its
// name if the server allows that, otherwise by its ref, otherwise everything.
func (c *checkout) fetch(ctx context.Context) (err error) {
	if c.bare, err = c.shared(ctx); err != nil {
		return err
	}
	if !c.has(ctx, ownRef(c.p.Object)) {
		if err := c.fetchAny(ctx); err != nil {
			return err
		}
	}
	return c.verify(ctx)
}

func (c *checkout) fetchAny(ctx context.Context) error {
	err := c.fetchSpec(ctx, c.p.Object+":"+ownRef(c.p.Object))
	if err == nil || c.r.FetchByCommit || !hasMessage(err, "not our ref", "unadvertised object", "find remote ref", "no such remote ref") {
		return err
	}
	if c.p.Ref != "" {
		if err := c.fetchSpec(ctx, "+"+c.p.Ref+":refs/cairn/last"); err != nil && !hasMessage(err, "find remote ref", "no such remote ref") {
			return err
		}
		if c.adopt(ctx) {
			return nil
		}
	}
	if err := c.fetchAll(ctx); err != nil {
		return err
	}
	if !c.adopt(ctx) {
		return fmt.Errorf("commit %s is not in the repository", c.p.Object)
	}
	return nil
}

// fetchSpec fetches one ref or commit without its history, or with it if the server does
// not support shallow fetches.
func (c *checkout) fetchSpec(ctx context.Context, spec string) error {
	_, err := c.bare.run(ctx, "fetch", "-q", "--no-tags", "--no-write-fetch-head", "--depth=1", "--", c.bare.remote, spec)
	if needsHistory(err) {
		_, err = c.bare.run(ctx, "fetch", "-q", "--no-tags", "--no-write-fetch-head", "--", c.bare.remote, spec)
	}
	return err
}

// needsHistory reports whether a server refused to send commits without their history, as
// one that serves a repository as static files ("dumb" HTTP).
func needsHistory(err error) bool { return hasMessage(err, "shallow", "--depth") }

func (c *checkout) fetchAll(ctx context.Context) error {
	args := []string{"fetch", "-q", "--no-tags", "--no-write-fetch-head"}
	_, err := os.Lstat(filepath.Join(c.bare.dir, "shallow"))
	if err == nil {
		args = append(args, "--unshallow")
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	_, err = c.bare.run(ctx, append(args, "--", c.bare.remote, "+refs/heads/*:refs/cairn/all/heads/*", "+refs/tags/*:refs/cairn/all/tags/*")...)
	return err
}

// adopt sets the ref of the object if it was fetched, and reports that.
func (c *checkout) adopt(ctx context.Context) bool {
	if !c.has(ctx, c.p.Object) {
		return false
	}
	_, err := c.bare.run(ctx, "update-ref", "--no-deref", ownRef(c.p.Object), c.p.Object)
	return err == nil
}

func (c *checkout) has(ctx context.Context, name string) bool {
	_, err := c.bare.run(ctx, "cat-file", "-e", name+"^{tree}")
	return err == nil
}

// verify checks the checksum. It is a prefix of the object's name or, for a tag, of the
// name of the tagged commit.
func (c *checkout) verify(ctx context.Context) error {
	sum := strings.ToLower(c.r.Checksum)
	if strings.HasPrefix(c.p.Object, sum) {
		return nil
	}
	out, err := c.bare.run(ctx, "rev-parse", "--verify", "--end-of-options", c.p.Object+"^{commit}")
	if err != nil {
		return err
	}
	if commit := strings.TrimSpace(out); !strings.HasPrefix(commit, sum) {
		return mismatch(c.r, Pin{Object: c.p.Object, Commit: commit})
	}
	return nil
}
