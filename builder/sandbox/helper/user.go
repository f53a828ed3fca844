package helper

import (
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"
)

// maxUserFile bounds /etc/passwd and /etc/group, which belong to the image.
const maxUserFile = 10 << 20

// account is whom a command runs as.
type account struct {
	uid, gid int
	groups   []uint32 // the group itself first
	home     string
}

// lookUp finds the account that a user specification names inside a tree: nothing for
// root, a name or a number, or both with a group after a colon.
func lookUp(root int, spec string) (account, error) {
	uid, gid, ok := numbers(spec)
	if ok {
		if err := areIDs(uid, gid); err != nil {
			return account{}, fmt.Errorf("user %q: %w", spec, err)
		}
		return account{uid, gid, []uint32{uint32(gid)}, homeOf(root, uid)}, nil
	}
	found, err := find(root, spec)
	if err != nil {
		return account{}, err
	}
	if err := areIDs(append([]int{found.Uid, found.Gid}, found.Sgids...)...); err != nil {
		return account{}, fmt.Errorf("user %q, as /etc/passwd and /etc/group of the image say: %w", spec, err)
	}
	a := account{uid: found.Uid, gid: found.Gid, home: found.Home}
	for _, g := range found.Sgids {
		a.groups = append(a.groups, uint32(g))
	}
	if !slices.Contains(a.groups, uint32(a.gid)) {
		a.groups = append([]uint32{uint32(a.gid)}, a.groups...)
	}
	return a, nil
}

// areIDs refuses what the kernel would take for another id, that of root above all: it
// sees 32 bits of a number, and all of them set mean to stay who one is.
func areIDs(list ...int) error {
	for _, id := range list {
		if id < 0 || id >= math.MaxUint32 {
			return fmt.Errorf("%d is no id: these are between 0 and %d", id, uint32(math.MaxUint32-1))
		}
	}
	return nil
}

func find(root int, spec string) (*user.ExecUser, error) {
	name, unknown := spec, &user.ExecUser{Home: "/"}
	if name == "" {
		name = "0"
	}
	passwd, err := userFile(root, "etc/passwd")
	if err != nil {
		return nil, err
	}
	group, err := userFile(root, "etc/group")
	if err != nil {
		return nil, err
	}
	found, err := user.GetExecUser(name, unknown, strings.NewReader(passwd), strings.NewReader(group))
	if err != nil && spec == "" {
		return unknown, nil
	}
	return found, err
}

// numbers reads a user and a group given as numbers, or as root: these hold whatever
// the image says, and no further groups are looked up.
func numbers(spec string) (uid, gid int, ok bool) {
	u, g, ok := strings.Cut(spec, ":")
	uid, good := number(u)
	gid, alsoGood := number(g)
	return uid, gid, ok && good && alsoGood
}

func number(s string) (int, bool) {
	if s == "root" {
		return 0, true
	}
	n, err := strconv.ParseUint(s, 10, 32)
	return int(n), err == nil
}

func homeOf(root, uid int) string {
	if found, err := find(root, strconv.Itoa(uid)); err == nil {
		return found.Home
	}
	return "/"
}

// userFile reads a file of the tree that is regular and not too large; a missing one
// and one of another type are empty.
func userFile(root int, name string) (string, error) {
	fd, err := open(root, name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
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
		return "", fmt.Errorf("/%s of the image is larger than %d bytes", name, maxUserFile)
	}
	return string(text), nil
}
