package worker

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"github.com/cairn-build/cairn/layer/index"
	"github.com/moby/sys/user"
)

// owner resolves user[:group] of --chown or USER against the names of a tree.
// A numeric user alone is its own group too; a user by name brings the group of
// its passwd entry. A name that the tree does not have is an error, as the
// documentation of Dockerfiles says (BuildKit takes root for it); but root is
// root in any tree.
func owner(v *index.View, spec string) (uid, gid int, err error) {
	u, g, grouped := strings.Cut(spec, ":")
	if u != "" {
		if uid, err = strconv.Atoi(u); err == nil {
			gid = uid
		} else if uid, gid, err = userByName(v, u); err != nil {
			return 0, 0, err
		}
	}
	if !grouped || g == "" {
		return uid, gid, nil
	}
	if gid, err = strconv.Atoi(g); err != nil {
		gid, err = groupByName(v, g)
	}
	return uid, gid, err
}

const root = "root"

func userByName(v *index.View, name string) (uid, gid int, err error) {
	b, _ := v.ReadFile("etc/passwd")
	found, err := user.ParsePasswdFilter(bytes.NewReader(b), func(u user.User) bool { return u.Name == name })
	if err != nil {
		return 0, 0, fmt.Errorf("reading /etc/passwd of the image: %w", err)
	}
	if len(found) == 0 && name == root {
		return 0, 0, nil
	}
	if len(found) == 0 {
		return 0, 0, fmt.Errorf("user %q is not in /etc/passwd of the image: use its number, or add it in a step before", name)
	}
	return found[0].Uid, found[0].Gid, nil
}

func groupByName(v *index.View, name string) (int, error) {
	b, _ := v.ReadFile("etc/group")
	found, err := user.ParseGroupFilter(bytes.NewReader(b), func(g user.Group) bool { return g.Name == name })
	if err != nil {
		return 0, fmt.Errorf("reading /etc/group of the image: %w", err)
	}
	if len(found) == 0 && name == root {
		return 0, nil
	}
	if len(found) == 0 {
		return 0, fmt.Errorf("group %q is not in /etc/group of the image: use its number, or add it in a step before", name)
	}
	return found[0].Gid, nil
}
