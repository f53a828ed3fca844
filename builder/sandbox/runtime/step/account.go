// Package step contains the parts of a step that do not depend on its isolation mode: the
// account and environment of its command, the search in $PATH, capabilities, control
// groups, and the running process.
package step

import (
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/cairn-build/cairn/builder/sandbox/runtime/inroot"
	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"
)

// maxUserFile is the maximum size in bytes of an image's /etc/passwd and /etc/group.
const maxUserFile = 10 << 20

// Account is the user and groups of a command.
type Account struct {
	UID, GID int
	Groups   []uint32 // supplementary groups; contains GID
	Home     string
}

// LookUp returns the account for a user specification in the tree at root: "" for root,
// a name or number, or either followed by a colon and the name or number of a group. The
// account has further groups, which are names or numbers too.
func LookUp(root int, spec string, groups ...string) (Account, error) {
	return LookUpIn(func(name string) (string, error) { return userFile(root, name) }, spec, groups...)
}

// LookUpIn is LookUp in a tree whose files read returns: etc/passwd and etc/group, as ""
// if they are missing or no regular files.
func LookUpIn(read func(name string) (string, error), spec string, groups ...string) (Account, error) {
	a, err := lookUpUser(read, spec)
	if err != nil || len(groups) == 0 {
		return a, err
	}
	more, err := lookUpGroups(read, groups)
	if err != nil {
		return Account{}, err
	}
	for _, gid := range more {
		if !slices.Contains(a.Groups, gid) {
			a.Groups = append(a.Groups, gid)
		}
	}
	return a, nil
}

// lookUpGroups returns the numbers of groups.
func lookUpGroups(read func(string) (string, error), groups []string) (ids []uint32, err error) {
	text, err := read("etc/group")
	if err != nil {
		return nil, err
	}
	known, err := user.ParseGroup(strings.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("read /etc/group of the image: %w", err)
	}
	for _, name := range groups {
		gid, isNumber := number(name)
		if i := slices.IndexFunc(known, func(g user.Group) bool { return g.Name == name }); i >= 0 {
			gid = known[i].Gid
		} else if !isNumber {
			return nil, fmt.Errorf("/etc/group of the image has no group %q", name)
		}
		if err := checkIDs(gid); err != nil {
			return nil, fmt.Errorf("group %q: %w", name, err)
		}
		ids = append(ids, uint32(gid))
	}
	return ids, nil
}

func lookUpUser(read func(string) (string, error), spec string) (Account, error) {
	uid, gid, ok := numbers(spec)
	if ok {
		if err := checkIDs(uid, gid); err != nil {
			return Account{}, fmt.Errorf("user %q: %w", spec, err)
		}
		return Account{uid, gid, []uint32{uint32(gid)}, homeOf(read, uid)}, nil
	}
	found, err := find(read, spec)
	if err != nil {
		return Account{}, err
	}
	if err := checkIDs(append([]int{found.Uid, found.Gid}, found.Sgids...)...); err != nil {
		return Account{}, fmt.Errorf("user %q in /etc/passwd and /etc/group of the image: %w", spec, err)
	}
	a := Account{UID: found.Uid, GID: found.Gid, Home: found.Home}
	for _, g := range found.Sgids {
		a.Groups = append(a.Groups, uint32(g))
	}
	if !slices.Contains(a.Groups, uint32(a.GID)) {
		a.Groups = append([]uint32{uint32(a.GID)}, a.Groups...)
	}
	return a, nil
}

// checkIDs returns an error for numbers that the kernel would take for another id, such
// as that of root: it uses the lower 32 bits, and all ones mean "no change".
func checkIDs(list ...int) error {
	for _, id := range list {
		if id < 0 || id >= math.MaxUint32 {
			return fmt.Errorf("invalid id %d: ids are between 0 and %d", id, uint32(math.MaxUint32-1))
		}
	}
	return nil
}

func find(read func(string) (string, error), spec string) (*user.ExecUser, error) {
	name, unknown := spec, &user.ExecUser{Home: "/"}
	if name == "" {
		name = "0"
	}
	passwd, err := read("etc/passwd")
	if err != nil {
		return nil, err
	}
	group, err := read("etc/group")
	if err != nil {
		return nil, err
	}
	found, err := user.GetExecUser(name, unknown, strings.NewReader(passwd), strings.NewReader(group))
	if err != nil && spec == "" {
		return unknown, nil
	}
	return found, err
}

// numbers parses a specification of a user and a group that are numbers or "root". Such
// a specification is valid whether or not the image has these ids, and gives the user no
// supplementary groups.
func numbers(spec string) (uid, gid int, ok bool) {
	u, g, ok := strings.Cut(spec, ":")
	uid, uidOK := number(u)
	gid, gidOK := number(g)
	return uid, gid, ok && uidOK && gidOK
}

func number(s string) (int, bool) {
	if s == "root" {
		return 0, true
	}
	n, err := strconv.ParseUint(s, 10, 32)
	return int(n), err == nil
}

func homeOf(read func(string) (string, error), uid int) string {
	if found, err := find(read, strconv.Itoa(uid)); err == nil {
		return found.Home
	}
	return "/"
}

// userFile returns the content of a regular file of the tree. It returns "" if the file
// is missing or of another type.
func userFile(root int, name string) (string, error) {
	fd, err := inroot.Open(root, name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return "", nil
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return "", nil
	}
	text, err := io.ReadAll(io.LimitReader(f, maxUserFile+1))
	if err != nil {
		return "", fmt.Errorf("read /%s: %w", name, err)
	}
	if len(text) > maxUserFile {
		return "", fmt.Errorf("read /%s of the image: it is larger than %d bytes", name, maxUserFile)
	}
	return string(text), nil
}
