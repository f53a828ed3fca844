package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// commands are the additional commands of scripts.
var commands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	// exits STATUS PROGRAM [ARG...] runs a program that must end with a status.
	// It prints the output with $WORK, $REGISTRY and $HUB in place of their values.
	"exits": cmdExits,
	// same KEY FILE checks that the file has the same content in all scripts and for all users.
	"same": cmdSame,
	// confined STATUS PROGRAM [ARG...] is exits where user namespaces can't be created.
	"confined": cmdConfined,
	// peak MEGABYTES STATUS PROGRAM [ARG...] is exits, and checks the peak of the memory.
	"peak": cmdPeak,
	// pod STATUS PROFILE PROGRAM [ARG...] is exits in a container with the rights of a pod.
	"pod": cmdPod,
	// start NAME PROGRAM [ARG...] runs a program in the background.
	"start": cmdStart,
	// terminal NAME PROGRAM [ARG...] does so on its own terminal.
	"terminal": cmdTerminal,
	// type NAME TEXT types on that terminal; \x03 is Ctrl-C.
	"type": cmdType,
	// resize NAME ROWS COLUMNS changes the size of that terminal.
	"resize": cmdResize,
	// cooked NAME yes|no waits until that terminal is as at first, or passes on all keys.
	"cooked": cmdCooked,
	// await NAME PATTERN waits until the program's output has the pattern.
	"await": cmdAwait,
	// send NAME SIGNAL sends the program a signal: INT, TERM, KILL.
	"send": cmdSend,
	// ends NAME STATUS waits for the program's end; 128 + n after signal n.
	"ends": cmdEnds,
	// registry start|stop|stall|auth|readable [USER PASSWORD] changes the script's registry.
	"registry": cmdRegistry,
	// clean checks that builds left nothing: no mount, process, temporary file.
	"clean": cmdClean,
	// cgroup make|empty|quota [VALUE] manages a cgroup of the script.
	"cgroup": cmdCgroup,
	// gone waits until no process of a killed build is left.
	"gone": cmdGone,
	// address NAME VARIABLE takes the address that a registry printed.
	"address": cmdAddress,
	// capture NAME puts the last standard output into a variable.
	"capture": cmdCapture,
	// inorder FILE PATTERN... checks that a file has all, in this order.
	"inorder": cmdInOrder,
	// web start DIR serves a directory at $WEB; web auth VALUE requires a header; web
	// challenge VALUE sets WWW-Authenticate; web log FILE writes the requests since the
	// last log.
	"web": cmdWeb,
	// actions 1|2 starts a fake GitHub cache service; actions drop PREFIX removes entries.
	"actions": cmdActions,
	"azure":   cmdAzure,
	"s3":      cmdS3,
	// repository DIR commits the files of a directory; with arguments it runs git there.
	"repository": cmdRepository,
	// each DIR [ARG...] builds from each file of a directory, and prints the output.
	"each": cmdEach,
	// lines FILE runs cairn with the arguments of each line, and prints the output.
	"lines": cmdLines,
	// own FILE... gives files made by the script to the user that runs cairn.
	"own": cmdOwn,
	// image DIR NAME CONFIG [LAYER...] creates an unusual image; see cmdImage.
	"image": cmdImage,
	// pack ARCHIVE LIST creates an unusual tar archive; see cmdPack.
	"pack": cmdPack,
}

func need(ts *testscript.TestScript, neg bool, args []string, n int, usage string) {
	if neg || len(args) < n {
		ts.Fatalf("usage: %s", usage)
	}
}

func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "exits STATUS PROGRAM [ARG...]")
	got, err := exitCode(ts.Exec(args[1], args[2:]...))
	ts.Check(err)
	named := strings.NewReplacer(ts.Getenv("WORK"), "$WORK", ts.Getenv("REGISTRY"), "$REGISTRY", ts.Getenv("HUB"), "$HUB", webAddress(ts), "$WEB")
	stdout, stderr := ts.ReadFile("stdout"), ts.ReadFile("stderr")
	if out, err := named.Replace(stdout), named.Replace(stderr); out != stdout || err != stderr {
		fmt.Fprint(ts.Stdout(), out)
		fmt.Fprint(ts.Stderr(), err)
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("%s ended with status %d, not %s", args[1], got, args[0])
	}
}

// cmdConfined runs the program in a user namespace with all IDs, which allows no
// nested one.
func cmdConfined(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "confined STATUS PROGRAM [ARG...]")
	all := []syscall.SysProcIDMap{{Size: 1 << 16}}
	c := exec.Command("/bin/sh", append([]string{"-c", `echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"`, "sh"}, args[1:]...)...)
	c.Dir, c.Env = ts.MkAbs("."), environment(ts)
	c.Stdout, c.Stderr = ts.Stdout(), ts.Stderr()
	c.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER, UidMappings: all, GidMappings: all, GidMappingsEnableSetgroups: true,
	}
	got, err := exitCode(c.Run())
	ts.Check(err)
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("%s ended with status %d, not %s", args[1], got, args[0])
	}
}

// firsts has the content of the file of the first script, by key.
var firsts sync.Map

func cmdSame(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "same KEY FILE")
	got := ts.ReadFile(args[1])
	if want, ok := firsts.LoadOrStore(args[0], got); ok && got != want {
		ts.Fatalf("%s is %q, and was %q in another script", args[1], got, want)
	}
}

func cmdCapture(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, "capture NAME")
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
}

func cmdInOrder(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "inorder FILE PATTERN...")
	text := ts.ReadFile(args[0])
	for _, pattern := range args[1:] {
		at := regexp.MustCompile(`(?m)` + pattern).FindStringIndex(text)
		if at == nil {
			ts.Fatalf("%q is not in the rest of %s:\n%s", pattern, args[0], text)
		}
		text = text[at[1]:]
	}
}

func cmdOwn(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, "own FILE...")
	var st unix.Stat_t
	ts.Check(unix.Stat(ts.Getenv("HOME"), &st))
	for _, name := range args {
		ts.Check(filepath.Walk(ts.MkAbs(name), func(path string, _ os.FileInfo, err error) error {
			if err != nil {
				return err
			}
			return os.Lchown(path, int(st.Uid), int(st.Gid))
		}))
	}
}

// cmdClean fails if builds left mounts, processes or temporary files.
func cmdClean(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 0, "clean")
	root := ts.Getenv("CAIRN_ROOT")
	if list := mountsOf(root); len(list) > 0 {
		ts.Fatalf("mounts, or processes in them, are left: %s", list)
	}
	boots, err := filepath.Glob(root + "/trees/*/*/work")
	ts.Check(err)
	left := boots
	for _, pattern := range []string{"/tmp/*", "/trash/*"} {
		list, err := filepath.Glob(root + pattern)
		ts.Check(err)
		left = append(left, list...)
	}
	if len(left) > 0 {
		ts.Fatalf("temporary files are left: %s", left)
	}
	checkBlobs(ts, root)
}

// cmdGone waits until the kernel has ended the processes of a killed build.
func cmdGone(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 0, "gone")
	for len(mountsOf(ts.Getenv("CAIRN_ROOT"))) > 0 {
		time.Sleep(5 * time.Millisecond)
	}
}

func cmdAddress(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "address NAME VARIABLE")
	found := regexp.MustCompile(`http://(\S+)`).FindStringSubmatch(backgroundOf(ts, args[0]).out.String())
	if found == nil {
		ts.Fatalf("%s has printed no address", args[0])
	}
	ts.Setenv(args[1], found[1])
}

// mountsOf lists the processes that see a mount of something below dir.
func mountsOf(dir string) (found []string) {
	tables, _ := filepath.Glob("/proc/[0-9]*/mountinfo")
	for _, name := range tables {
		b, err := os.ReadFile(name)
		if err == nil && bytes.Contains(b, []byte(dir+"/")) {
			found = append(found, name)
		}
	}
	return found
}

// checkBlobs checks each blob against its digest.
func checkBlobs(ts *testscript.TestScript, root string) {
	list, err := filepath.Glob(root + "/blobs/sha256/*")
	ts.Check(err)
	for _, name := range list {
		f, err := os.Open(name)
		ts.Check(err)
		h := sha256.New()
		_, err = io.Copy(h, f)
		ts.Check(err)
		ts.Check(f.Close())
		if got := fmt.Sprintf("%x", h.Sum(nil)); got != filepath.Base(name) {
			ts.Fatalf("blob %s has digest %s", name, got)
		}
	}
}
