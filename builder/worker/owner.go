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
// its passwd entry. A name that the tree does not have stands for root, as with
// BuildKit, whatever the documentation of Dockerfiles says; warn tells of it.
func owner(v *index.View, spec string, warn func(format string, args ...any)) (uid, gid int, err error) {
	if uid, gid, err = unchecked(v, spec, warn); err != nil {
		return 0, 0, err
	}
	for _, id := range []int{uid, gid} {
		if id < 0 || int64(id) > index.MaxID {
			return 0, 0, fmt.Errorf("owner %q is %d:%d, but ids are between 0 and %d", spec, uid, gid, int64(index.MaxID))
		}
	}
	return uid, gid, nil
}

// unchecked is owner for an image whose files may say anything.
func unchecked(v *index.View, spec string, warn func(format string, args ...any)) (uid, gid int, err error) {
	u, g, _ := strings.Cut(spec, ":")
	if id, ok := number(u); ok {
		uid, gid = id, id
	} else if u != "" {
		if uid, gid, err = userByName(v, u, warn); err != nil {
			return 0, 0, err
		}
	}
	if g == "" {
		return uid, gid, nil
	}
	if id, ok := number(g); ok {
		return uid, id, nil
	}
	gid, err = groupByName(v, g, gid, warn)
	return uid, gid, err
}

// number reads an id. Root has none but 0, whatever a tree says; what is too
// large for BuildKit is a name.
func number(s string) (int, bool) {
	if s == "root" {
		return 0, true
	}
	n, err := strconv.ParseInt(s, 10, 32)
	return int(n), err == nil
}

func userByName(v *index.View, name string, warn func(string, ...any)) (uid, gid int, err error) {
	b, _ := v.ReadFile("etc/passwd")
	found, err := user.ParsePasswdFilter(bytes.NewReader(b), func(u user.User) bool { return u.Name == name })
	if err != nil {
		return 0, 0, fmt.Errorf("reading /etc/passwd of the image: %w", err)
	}
	if len(found) == 0 {
		warn("user %q is not in /etc/passwd of the image: root is taken for it", name)
		return 0, 0, nil
	}
	return found[0].Uid, found[0].Gid, nil
}

// groupByName gives the group of the user for a name that the tree does not have.
func groupByName(v *index.View, name string, otherwise int, warn func(string, ...any)) (int, error) {
	b, _ := v.ReadFile("etc/group")
	found, err := user.ParseGroupFilter(bytes.NewReader(b), func(g user.Group) bool { return g.Name == name })
	if err != nil {
		return 0, fmt.Errorf("reading /etc/group of the image: %w", err)
	}
	if len(found) == 0 {
		warn("group %q is not in /etc/group of the image: %d is taken for it", name, otherwise)
		return otherwise, nil
	}
	return found[0].Gid, nil
}
