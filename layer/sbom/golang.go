package sbom

import (
	"debug/buildinfo"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"regexp"
	"runtime/debug"
	"strings"
	"time"
)

const devel = "(devel)"

// isExecutable reports whether a file begins as an executable of Linux, Windows or macOS.
func isExecutable(b []byte) bool {
	if len(b) < 4 {
		return false
	}
	if string(b[:2]) == "MZ" || string(b[:4]) == "\x7fELF" {
		return true
	}
	switch binary.BigEndian.Uint32(b) {
	case 0xfeedface, 0xfeedfacf, 0xcefaedfe, 0xcffaedfe, 0xcafebabe:
		return true
	}
	return false
}

var errCompressedNames = errors.New("an ELF file with compressed section names")

// checkNames refuses an ELF file whose names of sections are compressed, since debug/elf
// would expand them without a limit. No linker compresses them.
func checkNames(r io.ReaderAt) error {
	var h [64]byte
	if _, err := r.ReadAt(h[:], 0); err != nil || string(h[:4]) != "\x7fELF" {
		return nil
	}
	var order binary.ByteOrder = binary.LittleEndian
	if h[5] == 2 {
		order = binary.BigEndian
	}
	var at, size, flags int64
	if h[4] == 2 {
		at = int64(order.Uint64(h[40:])) + int64(order.Uint16(h[62:]))*int64(order.Uint16(h[58:]))
		size, flags = 64, 8
	} else {
		at = int64(order.Uint32(h[32:])) + int64(order.Uint16(h[50:]))*int64(order.Uint16(h[46:]))
		size, flags = 40, 8
	}
	section := make([]byte, size)
	if at < 0 {
		return nil
	}
	if _, err := r.ReadAt(section, at); err != nil {
		return nil
	}
	if order.Uint32(section[flags:])&0x800 != 0 {
		return errCompressedNames
	}
	return nil
}

// parseGo lists the modules of an executable that Go's linker made. For other executables it
// returns nothing.
func parseGo(r io.ReaderAt) (all []Package, err error) {
	defer func() {
		if p := recover(); p != nil { // the parsers of debug are not made for hostile files
			all, err = nil, fmt.Errorf("read the build information: %v", p)
		}
	}()
	if err := checkNames(r); err != nil {
		return nil, err
	}
	info, err := buildinfo.Read(r)
	if err != nil {
		return nil, nil
	}
	return modules(info)
}

// modules returns the packages of a program's build information.
func modules(info *debug.BuildInfo) (all []Package, err error) {
	main, deps := mainModule(info)
	list := []*debug.Module{}
	if main.Path != "" {
		if main.Version == devel {
			main.Version = develVersion(info, main.Path)
		}
		list = append(list, &main)
	}
	for _, m := range append(list, deps...) {
		path := m.Path
		if m.Replace != nil {
			if !strings.HasPrefix(m.Replace.Path, ".") && !strings.HasPrefix(m.Replace.Path, "/") {
				path = m.Replace.Path
			}
			m = m.Replace
		}
		p := Package{Type: Golang, Name: path, Version: m.Version}
		if p.Version == devel {
			p.Version = ""
		}
		if p.Name == "" {
			continue
		}
		if all, err = add(all, p); err != nil {
			return nil, err
		}
	}
	version, _, _ := strings.Cut(info.GoVersion, " ")
	version = strings.TrimPrefix(version, "go")
	if strings.ContainsAny(version, "0123456789") {
		all, err = add(all, Package{Type: Golang, Name: "stdlib", Version: version, License: "BSD-3-Clause"})
	}
	return all, err
}

// mainModule returns the main module and the others. A program that was built from files, not
// from a package, names no main module.
func mainModule(info *debug.BuildInfo) (main debug.Module, deps []*debug.Module) {
	main = info.Main
	missing := main == (debug.Module{}) && info.Path != "" || main == debug.Module{Path: "command-line-arguments"}
	var candidate *debug.Module
	found := 0
	for _, m := range info.Deps {
		if m != nil && m.Version == devel {
			candidate = m
			found++
		}
	}
	if missing {
		main = debug.Module{Path: info.Path, Version: devel}
		if found == 1 {
			main = *candidate
		}
	}
	for _, m := range info.Deps {
		if m == nil || missing && found == 1 && m == candidate || m.Path == main.Path && m.Version == main.Version && m.Sum == main.Sum {
			continue
		}
		deps = append(deps, m)
	}
	return main, deps
}

// The variables in which programs keep their version.
var (
	versionVariable = regexp.MustCompile(`\.[a-zA-Z0-9]*(?:[rR]elease)?(?:[gG]it)?(?:[bB]uild)?[vV]er(?:sion)?=(?:\S+/)*(v?\d+.\d+.\d+[-\w]*(?:\.[-\w]+)*)`)
	tagVariable     = regexp.MustCompile(`\.[a-zA-Z0-9]*[tT]ag=(?:\S+/)*(v?\d+.\d+.\d+[-\w]*(?:\.[-\w]+)*)`)
)

// develVersion returns the version of a main module without one: that in the linker's flags,
// or else a pseudo-version of the commit.
func develVersion(info *debug.BuildInfo, path string) string {
	set := map[string]string{}
	for _, s := range info.Settings {
		set[s.Key] = s.Value
	}
	if flags := set["-ldflags"]; len(flags) <= 16*maxField {
		for _, variable := range []*regexp.Regexp{versionVariable, tagVariable} {
			for field := range strings.FieldsSeq(flags) {
				field = strings.Trim(field, `'"`)
				if !strings.HasPrefix(field, "main.") && !strings.HasPrefix(field, path+"/") {
					continue
				}
				if m := variable.FindStringSubmatch(field); m != nil {
					return "v" + strings.TrimPrefix(m[1], "v")
				}
			}
		}
	}
	commit, when := set["vcs.revision"], set["vcs.time"]
	if commit == "" || when == "" {
		return ""
	}
	at, _ := time.Parse(time.RFC3339, when)
	return "v0.0.0-" + at.UTC().Format("20060102150405") + "-" + commit[:min(len(commit), 12)]
}
