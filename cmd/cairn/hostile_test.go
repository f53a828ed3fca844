package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Each attack of the list names existing tests, and the scripts hostile_* mention the
// number of the attack.
func TestHostileList(t *testing.T) {
	text, err := os.ReadFile("testdata/hostile.txt")
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		attack, tests, ok := strings.Cut(strings.TrimSpace(line), "|")
		if !ok {
			t.Fatalf("no tests in %q", line)
		}
		rows++
		number := strings.Fields(attack)[0]
		for name := range strings.SplitSeq(tests, ",") {
			kind, name, _ := strings.Cut(strings.TrimSpace(name), " ")
			switch kind {
			case "-":
			case "S":
				script, err := os.ReadFile("testdata/script/" + name + ".txtar")
				if err != nil {
					t.Errorf("%s: %v", number, err)
				}
				mention := regexp.MustCompile(regexp.QuoteMeta(number) + `\b`)
				if strings.HasPrefix(name, "hostile_") && !mention.Match(script) {
					t.Errorf("%s is not mentioned in the script %s", number, name)
				}
			default:
				if !declares(t, "../../"+kind, name) {
					t.Errorf("%s: %s has no %s", number, kind, name)
				}
			}
		}
	}
	if rows != 61 {
		t.Errorf("%d attacks, want 61", rows)
	}
}

func declares(t *testing.T, dir, name string) bool {
	files, err := filepath.Glob(dir + "/*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "func "+name+"(") {
			return true
		}
	}
	return false
}

// swap is a program for a step. It replaces the directory /c/dir, which other steps
// mount, by links that lead out, and back, until the file /c/end exists.
func swap() {
	fmt.Println("swapping")
	for n := 0; ; n++ {
		if _, err := os.Stat("/c/end"); err == nil {
			fmt.Println("swapped", n, "times")
			return
		}
		for _, link := range []string{"/c/absolute", "/c/dots", "/c/root"} {
			exchange := func() error { return unix.Renameat2(0, "/c/dir", 0, link, unix.RENAME_EXCHANGE) }
			err := errors.Join(exchange(), exchange())
			if err != nil {
				fmt.Println(err)
				os.Exit(1)
			}
		}
	}
}
