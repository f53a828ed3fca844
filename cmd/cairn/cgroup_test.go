package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// cgroupRoots returns the directories in which cgroups with limits can be created, and
// the name of such a cgroup for --cgroup-parent. In version 2 the directory is the root
// of the hierarchy, which alone may have processes besides groups.
func cgroupRoots() (roots []string, prefix string) {
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		return []string{"/sys/fs/cgroup"}, "/"
	}
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, ""
	}
	for line := range strings.Lines(string(text)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		for _, controller := range strings.Split(f[1], ",") {
			if controller == "memory" || controller == "cpu" || controller == "pids" {
				roots = append(roots, "/sys/fs/cgroup/"+f[1]+f[2])
			}
		}
	}
	return roots, ""
}

// mayLimit reports whether a script may create cgroups for the user that runs cairn. In
// version 2 an ordinary user may move processes only to cgroups below their own.
func mayLimit(who player) bool {
	roots, prefix := cgroupRoots()
	for _, root := range roots {
		if unix.Access(root, unix.W_OK) != nil {
			return false
		}
	}
	return os.Getuid() == 0 && len(roots) > 0 && (prefix == "" || who.uid == 0)
}

// cmdCgroup manages the cgroup $PARENT of the script:
//
//	cgroup make         creates it, for the user that runs cairn
//	cgroup empty        checks that it has no cgroups
//	cgroup quota VALUE  checks that a cgroup in it has this CPU quota
func cmdCgroup(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, false, args, 1, "[!] cgroup make|empty|quota [VALUE]")
	roots, prefix := cgroupRoots()
	name := strings.TrimPrefix(ts.Getenv("PARENT"), "/")
	switch args[0] {
	case "make":
		name = fmt.Sprintf("cairn-test-%d-%s", os.Getpid(), filepath.Base(ts.Getenv("WORK"))+filepath.Base(filepath.Dir(ts.Getenv("WORK"))))
		ts.Setenv("PARENT", prefix+name)
		for _, root := range roots {
			makeCgroup(ts, root+"/"+name)
		}
	case "empty":
		var list []string
		for _, root := range roots {
			below, err := filepath.Glob(root + "/" + name + "/cairn-*")
			ts.Check(err)
			list = append(list, below...)
		}
		if neg != (len(list) > 0) {
			ts.Fatalf("the cgroup has %q", list)
		}
	case "quota":
		for _, root := range roots {
			files, err := filepath.Glob(root + "/" + name + "/cairn-step-*/cpu.*")
			ts.Check(err)
			for _, file := range files {
				text, err := os.ReadFile(file)
				base := filepath.Base(file)
				if err == nil && (base == "cpu.max" || base == "cpu.cfs_quota_us") && strings.Fields(string(text))[0] == args[1] {
					return
				}
			}
		}
		ts.Fatalf("no cgroup has the quota %s", args[1])
	}
}

func makeCgroup(ts *testscript.TestScript, dir string) {
	ts.Check(os.Mkdir(dir, 0o755))
	ts.Defer(func() {
		left, _ := filepath.Glob(dir + "/cairn-*")
		for _, group := range append(left, dir) {
			ts.Check(unix.Rmdir(group))
		}
	})
	var st unix.Stat_t
	ts.Check(unix.Stat(ts.Getenv("HOME"), &st))
	files, err := filepath.Glob(dir + "/*")
	ts.Check(err)
	for _, name := range append(files, dir) {
		ts.Check(os.Chown(name, int(st.Uid), int(st.Gid)))
	}
}
