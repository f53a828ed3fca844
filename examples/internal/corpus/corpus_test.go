// Package corpus_test compares Cairn with BuildKit, case by case.
//
// Each testdata/*.txtar is a Dockerfile that shows one behavior, with its context. Cairn
// builds it through the command line. A description of the result must equal section
// "want", which describes BuildKit's result. "make golden" runs BuildKit and writes
// these sections; the tests themselves do not need it.
//
// Each sixth case with a RUN is also built in isolation mode gvisor, as root of the
// machine, and must give the same image as in mode namespaces: all of them with -gvisor 1,
// in pods with -pod restricted or -pod baseline. isolation.txtar has the differences.
//
// A case names the rows of rows.txt that it covers. Intended differences and their
// reasons are in differences.txtar.
package corpus_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/builder/sandbox"
	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

var (
	update    = flag.Bool("update", false, "rewrite each case with BuildKit's result and Cairn's errors")
	errorsToo = flag.Bool("errors", false, "write Cairn's errors into the cases that fail")
)

// epoch is the SOURCE_DATE_EPOCH of all cases without "no-epoch".
const epoch = 1700000000

func TestMain(m *testing.M) {
	sandbox.Hook()
	status := m.Run()
	if ids := withoutCase(); len(ids) > 0 { // shown in the log of a whole run
		fmt.Fprintf(os.Stderr, "ok   corpus: rows without a case: %s\n", strings.Join(ids, " "))
	}
	os.Exit(status)
}

func TestCorpus(t *testing.T) {
	needSandbox(t)
	l := newLab(t)
	diffs, gvisorDiffs := readDifferences(t, "differences.txtar"), readDifferences(t, "isolation.txtar")
	withRun := 0
	for _, path := range casePaths(t) {
		name := strings.TrimSuffix(filepath.Base(path), ".txtar")
		known := diffs[name]
		delete(diffs, name)
		knownOfGVisor, listed := gvisorDiffs[name]
		delete(gvisorDiffs, name)
		inGVisor := false
		if readCase(t, path).hasRun() && *gvisorEach > 0 && !*update {
			inGVisor = listed || withRun%*gvisorEach == 0
			withRun++
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := readCase(t, path)
			if *update {
				c.set("want", l.buildkitMakes(t, c))
				c.write(t)
			}
			made := l.cairnMakes(t, c, namespaces)
			got := c.checkError(t, made.text)
			want := c.section("want")
			compare(t, want, datedByClock(want, got), known)
			if inGVisor {
				t.Run("gvisor", func(t *testing.T) { l.compareGVisor(t, path, made, knownOfGVisor) })
			}
		})
	}
	for name := range diffs {
		t.Errorf("differences.txtar has %s, which is no case", name)
	}
	for name := range gvisorDiffs {
		t.Errorf("isolation.txtar has %s, which is no case", name)
	}
}

// needSandbox skips a test with the reason if RUN steps cannot run here.
func needSandbox(t *testing.T) {
	t.Helper()
	if _, err := os.Stat("/bin/busybox"); err != nil {
		t.Skip("needs busybox-static: ", err)
	}
	kind, err := sandbox.Isolation{Mode: sandbox.Namespaces}.ProbeSnapshot(t.TempDir())
	if os.Getuid() != 0 || kind != sandbox.Overlay {
		t.Skipf("needs root with namespaces and overlay; this is uid %d, snapshots %q: %v", os.Getuid(), kind, err)
	}
}

func casePaths(t *testing.T) []string {
	t.Helper()
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	return paths
}

// readDifferences returns the intended difference of each case in a file. The lines before
// the first - or + are the reason.
func readDifferences(t *testing.T, file string) map[string]string {
	t.Helper()
	ar, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, f := range ar.Files {
		reason := true
		var lines strings.Builder
		for line := range strings.Lines(string(f.Data)) {
			if reason = reason && line[0] != '-' && line[0] != '+'; !reason {
				lines.WriteString(line)
			}
		}
		if strings.HasPrefix(string(f.Data), "-") || strings.HasPrefix(string(f.Data), "+") {
			t.Errorf("%s gives no reason for %s", file, f.Name)
		}
		all[f.Name] = lines.String()
	}
	return all
}

// datedByClock removes from Cairn's result the times of directories that a source only
// implies. BuildKit gives these the current time; Cairn gives them their source's time,
// so that a layer does not depend on when it was built.
func datedByClock(want, got string) string {
	clock := map[string]bool{}
	for _, dir := range directory.FindAllStringSubmatch(want, -1) {
		clock[dir[1]] = dir[2] == "+0s"
	}
	return directory.ReplaceAllStringFunc(got, func(line string) string {
		dir := directory.FindStringSubmatch(line)
		if !clock[dir[1]] {
			return line
		}
		return strings.TrimSuffix(line, dir[2]) + "+0s"
	})
}

// directory matches the line of a directory up to its time.
var directory = regexp.MustCompile(`(?m)^(dir .* \d{4} \d+:\d+) (old|[+-]\d+s)`)

// compare checks that the difference is exactly the known one.
func compare(t *testing.T, want, got, known string) {
	t.Helper()
	if wantFails, gotFails := strings.HasPrefix(want, fails), strings.HasPrefix(got, fails); wantFails && !gotFails {
		got = "builds\n"
	} else if !wantFails && gotFails {
		want = "builds\n"
	}
	found := difference(want, got)
	switch {
	case found == known:
	case known == "":
		t.Errorf("BuildKit's result (-) is not Cairn's (+):\n%s", found)
	case found == "":
		t.Error("Cairn no longer differs from BuildKit: take the case out of differences.txtar")
	default:
		t.Errorf("another difference than in differences.txtar (-listed +found):\n%s", cmp.Diff(known, found))
	}
}

// difference returns the lines that only one of two texts has, in the order of each text.
func difference(want, got string) string {
	a, b := strings.SplitAfter(want, "\n"), strings.SplitAfter(got, "\n")
	common := longestCommon(a, b)
	var out strings.Builder
	for len(a)+len(b) > 0 {
		switch {
		case len(common) > 0 && len(a) > 0 && len(b) > 0 && a[0] == common[0] && b[0] == common[0]:
			a, b, common = a[1:], b[1:], common[1:]
		case len(a) > 0 && (len(common) == 0 || a[0] != common[0]):
			out.WriteString("-" + a[0])
			a = a[1:]
		default:
			out.WriteString("+" + b[0])
			b = b[1:]
		}
	}
	return out.String()
}

func longestCommon(a, b []string) []string {
	length := make([][]int, len(a)+1)
	for i := range length {
		length[i] = make([]int, len(b)+1)
	}
	for i, x := range slices.Backward(a) {
		for j, y := range slices.Backward(b) {
			if x == y {
				length[i][j] = length[i+1][j+1] + 1
			} else {
				length[i][j] = max(length[i+1][j], length[i][j+1])
			}
		}
	}
	var out []string
	for i, j := 0, 0; i < len(a) && j < len(b); {
		switch {
		case a[i] == b[j]:
			out, i, j = append(out, a[i]), i+1, j+1
		case length[i+1][j] >= length[i][j+1]:
			i++
		default:
			j++
		}
	}
	return out
}

func TestDifference(t *testing.T) {
	if got, want := difference("a\nb\nc\n", "a\nx\nc\nd\n"), "-b\n+x\n+d\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
