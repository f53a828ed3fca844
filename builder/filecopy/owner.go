package filecopy

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"github.com/moby/sys/user"

	"github.com/cairn-build/cairn/layer/listing"
)

// Owner returns the ids of user[:group], from --chown or USER, in the tree of v. A
// numeric user alone is its own group too; a user by name has the group of its passwd
// entry. A name that the tree does not have means root, as with BuildKit and unlike the
// documentation of Dockerfiles, and gets a warning.
func Owner(v *listing.View, spec string, warn func(format string, args ...any)) (uid, gid int, err error) {
	if uid, gid, err = parseOwner(v, spec, warn); err != nil {
		return 0, 0, err
	}
	for _, id := range []int{uid, gid} {
		if id < 0 || int64(id) > listing.MaxID {
			return 0, 0, fmt.Errorf("owner %q is %d:%d, but ids are between 0 and %d", spec, uid, gid, int64(listing.MaxID))
		}
	}
	return uid, gid, nil
}

// parseOwner is Owner without the check of ids: the files of an image can contain any.
func parseOwner(v *listing.View, spec string, warn func(format string, args ...any)) (uid, gid int, err error) {
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

// number parses an id. Root is always 0. A number that is too large for BuildKit is a
// name.
func number(s string) (int, bool) {
	if s == "root" {
		return 0, true
	}
	n, err := strconv.ParseInt(s, 10, 32)
	return int(n), err == nil
}

func userByName(v *listing.View, name string, warn func(string, ...any)) (uid, gid int, err error) {
	b, _ := v.ReadFile("etc/passwd")
	found, err := user.ParsePasswdFilter(bytes.NewReader(b), func(u user.User) bool { return u.Name == name })
	if err != nil {
		return 0, 0, fmt.Errorf("reading /etc/passwd of the image: %w", err)
	}
	if len(found) == 0 {
		warn("user %q not found in the image's /etc/passwd; using root", name)
		return 0, 0, nil
	}
	return found[0].Uid, found[0].Gid, nil
}

// groupByName returns the group called name, or fallback if the tree has none.
func groupByName(v *listing.View, name string, fallback int, warn func(string, ...any)) (int, error) {
	b, _ := v.ReadFile("etc/group")
	found, err := user.ParseGroupFilter(bytes.NewReader(b), func(g user.Group) bool { return g.Name == name })
	if err != nil {
		return 0, fmt.Errorf("reading /etc/group of the image: %w", err)
	}
	if len(found) == 0 {
		warn("group %q not found in the image's /etc/group; using %d", name, fallback)
		return fallback, nil
	}
	return found[0].Gid, nil
}
